"""Large models: CPU seconds to build, show, copy, save and load 1,000 and 2,000 layers, here and in Keras on torch.

Prints, for a chain of Dense layers as Sequential and as a functional model, both times, their ratio, and the ratio to Keras.
Run: `taskset -c 0 python benchmarks/scale.py [--layers 1000]`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from reference import print_table

import kstyle_torch


def sequential(library: Any, layers: int) -> Any:
    """Returns a chain of layers as a Sequential."""
    return library.Sequential([library.Input((8,)), *(library.layers.Dense(8) for _ in range(layers))])


def functional(library: Any, layers: int) -> Any:
    """Returns a chain of layers as a functional model."""
    x = inputs = library.Input((8,))
    for _ in range(layers):
        x = library.layers.Dense(8)(x)
    return library.Model(inputs, x)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the CPU seconds of a call, and its result."""
    gc.collect()
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def seconds_of(library: Any, make: Callable[[Any, int], Any], layers: int, folder: str) -> dict[str, float]:
    """Returns the CPU seconds of each operation on a model of so many layers."""
    path = Path(folder, f"{library.__name__}.keras")
    found = {}
    found["build"], model = timed(lambda: make(library, layers))
    with contextlib.redirect_stdout(io.StringIO()):
        found["summary"], _ = timed(model.summary)
    found["clone"], _ = timed(lambda: library.models.clone_model(model))
    found["save"], _ = timed(lambda: model.save(path))
    found["load"], _ = timed(lambda: library.saving.load_model(path))
    return found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=1000)
    layers = parser.parse_args().layers
    torch.set_num_threads(1)
    sys.setrecursionlimit(10**6)  # Keras recurses through the layers and fails at about 1,000
    with tempfile.TemporaryDirectory() as folder:
        for make in (sequential, functional):
            ours = [seconds_of(kstyle_torch, make, number, folder) for number in (layers, 2 * layers)]
            theirs = seconds_of(keras, make, 2 * layers, folder)
            print(f"\n**{make.__name__}**\n")
            print_table(
                ["", f"{layers} layers, s", f"{2 * layers} layers, s", "ratio", "Keras, s", "ours / Keras"],
                [
                    [
                        name,
                        *(f"{each[name]:.2f}" for each in ours),
                        f"{ours[1][name] / ours[0][name]:.2f}",
                        f"{theirs[name]:.2f}",
                        f"{ours[1][name] / theirs[name]:.2f}",
                    ]
                    for name in theirs
                ],
            )


if __name__ == "__main__":
    main()
