"""Gain of each optimisation of training: `python benchmarks/ablation.py [--workloads small convnet] [--tricks ...]`.

Each trick is switched off in a fresh process; a round has one for each, after one in which all are on. A figure is
the CPU time without the trick over the time with all of them, the median over the rounds: 1.05 says that training takes
5 % longer without it. Three figures a workload: `fit` as it comes, `fit` without recording, `evaluate`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reference import print_table
from workloads import WORKLOADS

FIGURES = ("fit", "not recorded", "evaluate")
RARE_OPTIMIZERS = ("Adadelta", "Adamax", "Ftrl", "Nadam", "RMSprop", "ScheduleFreeAdamW")
TURNS = 7  # of a process; the first is not counted


def replace(path: str, value: Any) -> None:
    """Replaces an attribute of a module of the package, `module.name` or `module.Class.name`."""
    parts = path.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module("kstyle_torch." + ".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        owner = functools.reduce(getattr, parts[split:-1], owner)
        getattr(owner, parts[-1])  # an AttributeError if the trick has moved
        setattr(owner, parts[-1], value)
        return
    raise ModuleNotFoundError(path)


def without_memory_keeping() -> None:
    """Leaves freed memory to the C library."""
    import kstyle_torch

    kstyle_torch.config.set_keeps_freed_memory(False)


def without_packs() -> None:
    """Steps of optimizers take each variable by itself."""
    replace("optimizers.parameter_group.Part._packed", lambda part: None)


def without_fused_kernels() -> None:
    """Adam and SGD by calls that torch makes public."""
    for name in ("adam.has_fused_adam", "sgd.has_fused_sgd", "parameter_group.has_fused_sgd", "packing.has_fused_sgd"):
        replace("optimizers." + name, lambda device, dtype: False)


def without_joined_metrics() -> None:
    """Every metric is updated after every batch."""

    def rowwise(metric: Any) -> bool:  # noqa: ARG001
        return False

    for name in ("metrics.base.Metric", "metrics.reduction.MeanMetricWrapper", "metrics.reduction.Mean"):
        replace(name + ".rowwise", property(rowwise, lambda metric, value: None))


TRICKS: dict[str, Callable[[], None]] = {
    "recording": lambda: replace("training.recorded.engine.RecordedStep.begin", lambda *args, **kwargs: None),
    "inner loops without calls of modules": lambda: replace("models.model.Model.straight_run", lambda *args: None),
    "cropped inputs": lambda: replace("graph_passes.straight_runs.crops", lambda graph: []),
    "relu after pool": lambda: replace("graph_passes.straight_runs.relu_after_pooling", lambda graph: {}),
    "fused crossentropy": lambda: replace("training.step.head_of", lambda loss: None),
    "shorter recordings": lambda: replace("training.recorded.engine.shortened", lambda calls: calls),
    "metrics of many batches at once": without_joined_metrics,
    "loss of many batches at once": lambda: replace("training.step.late_loss", lambda model: None),
    "gathering into kept memory": lambda: replace("data.gather.holders_of", None),
    "kept memory": without_memory_keeping,
    "fused kernels of optimizers": without_fused_kernels,
    "packed small variables": without_packs,
}


def measure(workload: str, trick: str, optimizer: str) -> dict[str, float]:
    """Returns the CPU microseconds per step of each figure, in this process."""
    import torch

    import kstyle_torch

    torch.set_num_threads(1)
    if trick:
        TRICKS[trick]()
    chosen = WORKLOADS[workload]
    x, y = chosen.data()
    models = {}
    for figure, arguments in zip(FIGURES, ({}, {"jit_compile": False}), strict=False):
        kstyle_torch.utils.set_random_seed(0)
        models[figure] = chosen.keras_model(kstyle_torch, **arguments)
        if optimizer:
            models[figure].compile(optimizer, chosen.loss, metrics=["accuracy"], **arguments)
    functions: dict[str, Callable[[], Any]] = {
        figure: functools.partial(model.fit, x, y, batch_size=chosen.batch_size, epochs=chosen.epochs, verbose=0)
        for figure, model in models.items()
    }
    evaluated = models[FIGURES[1]]
    functions[FIGURES[2]] = lambda: [
        evaluated.evaluate(x, y, batch_size=chosen.batch_size, verbose=0) for _ in range(chosen.epochs)
    ]
    times: dict[str, list[float]] = {figure: [] for figure in functions}
    for _ in range(TURNS):
        for figure, function in functions.items():
            start = time.process_time()
            function()
            times[figure].append((time.process_time() - start) / (chosen.steps * chosen.epochs) * 1e6)
    return {figure: statistics.median(turns[1:]) for figure, turns in times.items()}


def run(*arguments: str) -> dict[str, float]:
    """Returns the figures of a fresh process on one core."""
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    here = Path(__file__).resolve()
    command = [sys.executable, str(here), "--worker", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=here.parents[1], check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def gains(workload: str, tricks: list[str], rounds: int, optimizer: str = "") -> dict[str, list[str]]:
    """Returns, by trick, the median over the rounds of the time without it over the time with all."""
    ratios: dict[str, list[dict[str, float]]] = {trick: [] for trick in tricks}
    for number in range(rounds):
        print(f"round {number + 1}: {workload} {optimizer}", file=sys.stderr)
        full = run(workload, "", optimizer)
        for trick in tricks:
            less = run(workload, trick, optimizer)
            ratios[trick].append({figure: less[figure] / full[figure] for figure in FIGURES})
    return {
        trick: [f"{statistics.median(each[figure] for each in found):.2f}" for figure in FIGURES]
        for trick, found in ratios.items()
    }


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=[*WORKLOADS], choices=[*WORKLOADS])
    parser.add_argument("--tricks", nargs="+", default=[*TRICKS], choices=[*TRICKS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--optimizers", action="store_true", help="what packs gain on each of the rarer optimizers")
    parser.add_argument("--worker", nargs=3, metavar=("WORKLOAD", "TRICK", "OPTIMIZER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(*arguments.worker)))
        return
    if arguments.optimizers:
        found = {name: gains("small", ["packed small variables"], arguments.rounds, name) for name in RARE_OPTIMIZERS}
        rows = [[name, *table["packed small variables"]] for name, table in found.items()]
        print_table(["packed small variables, small", *FIGURES], rows)
        return
    columns = [gains(workload, arguments.tricks, arguments.rounds) for workload in arguments.workloads]
    rows = [[trick, *(" / ".join(column[trick]) for column in columns)] for trick in arguments.tricks]
    print(f"CPU time without a trick over that with all: {' / '.join(FIGURES)}; medians of {arguments.rounds} rounds\n")
    print_table(["without", *arguments.workloads], rows)


if __name__ == "__main__":
    main()
