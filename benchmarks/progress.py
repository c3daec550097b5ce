"""What the progress bar costs: `fit` to a terminal with verbose=1 against verbose=0, CPU time, alternating.

python benchmarks/progress.py --repetitions 9
"""

import argparse
import os
import pty
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import kstyle_torch as ks
from kstyle_torch import layers

ROWS, EPOCHS = 32 * 500, 4


def train(verbose):
    """CPU seconds of a fit of the tutorial's network."""
    ks.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 10)).astype("float32")
    y = (x.sum(1) > 0).astype("float32")
    model = ks.Sequential(
        [ks.Input((10,)), layers.Dense(64, activation="relu"), layers.Dense(32, activation="relu"), layers.Dense(1)]
    )
    model.compile("adam", ks.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    began = time.process_time()
    model.fit(x, y, batch_size=32, epochs=EPOCHS, verbose=verbose)
    return time.process_time() - began


def measure(repetitions, out):
    """The ratios of all pairs, written to the file descriptor `out`; standard output is a terminal here."""
    torch.set_num_threads(1)
    train(0), train(1)
    pairs = [(train(0), train(1)) for _ in range(repetitions)]
    ratios = sorted(shown / silent for silent, shown in pairs)
    step = min(silent for silent, _ in pairs) / (EPOCHS * ROWS / 32) * 1e6
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    text = f"{step:.0f} us a step; verbose=1 / verbose=0: median {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})\n"
    os.write(out, text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    reading, writing = os.pipe()
    process, terminal = pty.fork()  # standard output of the child is a terminal
    if process == 0:
        measure(arguments.repetitions, writing)
        os._exit(0)
    os.close(writing)
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:  # the child has ended
        pass
    sys.stdout.write(os.read(reading, 65536).decode())
