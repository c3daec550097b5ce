"""One contender, one workload, one process: `python benchmarks/peer_worker.py CONTENDER WORKLOAD [options]` prints JSON.

Every figure is of this process: CPU and wall microseconds per step, seconds of import and first step, peak memory.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SINGLE_ROWS = 50  # calls of predict on one row


class Clock:
    """CPU and wall time of a call; on a GPU the wall time is that between two CUDA events."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"

    def time(self, function: Callable[[], Any]) -> tuple[float, float, Any]:
        """CPU microseconds, wall microseconds, and what the call gave."""
        gc.collect()
        if self.cuda:
            import torch

            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            cpu = time.process_time()
            start.record()
            result = function()
            end.record()
            cpu = time.process_time() - cpu
            torch.cuda.synchronize()
            return cpu * 1e6, start.elapsed_time(end) * 1e3, result
        cpu, wall = time.process_time(), time.perf_counter()
        result = function()
        return (time.process_time() - cpu) * 1e6, (time.perf_counter() - wall) * 1e6, result


def peak_megabytes() -> float:
    """The largest resident set of this process so far."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Runs one contender and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender")
    parser.add_argument("workload")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--long", type=int, default=0, help="only train for so many steps; time and memory by quarter")
    parser.add_argument("--terminal", action="store_true", help="only compare verbose=1 on a terminal with verbose=0")
    arguments = parser.parse_args()

    from contenders import CONTENDERS
    from workloads import WORKLOADS

    workload = WORKLOADS[arguments.workload]
    make, _ = CONTENDERS[arguments.contender]
    contender = make(workload, arguments.device)
    figures: dict[str, float] = {}
    start = time.process_time()
    contender.load()
    figures["import_s"] = time.process_time() - start
    start = time.perf_counter()
    contender.prepare()
    contender.fit(1)
    figures["first_epoch_s"] = time.perf_counter() - start
    clock = Clock(arguments.device)
    if arguments.terminal:
        figures |= terminal_run(contender, clock, arguments.turns)
    elif arguments.long:
        figures |= long_run(contender, workload, clock, arguments.long)
    else:
        contender.fit(2)
        figures |= short_run(contender, workload, clock, arguments.turns)
    figures["peak_mb"] = peak_megabytes()
    json.dump(figures, sys.stdout)


def short_run(contender: Any, workload: Any, clock: Clock, turns: int) -> dict[str, float]:
    """Training, evaluation and prediction: the median turn, per step."""
    calls = {"train": (lambda: contender.fit(workload.epochs), workload.epochs * workload.steps)}
    for name in ("evaluate", "predict"):
        if getattr(contender, name) is not None:
            calls[name] = getattr(contender, name), workload.steps
    if contender.predict_one is not None:
        calls["predict_one"] = lambda: [contender.predict_one() for _ in range(SINGLE_ROWS)], SINGLE_ROWS
    figures: dict[str, float] = {}
    for name, (call, count) in calls.items():
        if name != "train":
            call()
        times = [clock.time(call) for _ in range(turns)]
        figures[f"{name}_cpu_us"] = statistics.median(cpu for cpu, _, _ in times) / count
        figures[f"{name}_wall_us"] = statistics.median(wall for _, wall, _ in times) / count
        if name == "train":
            figures["loss"], figures["accuracy"] = times[-1][2]
    return figures


def terminal_run(contender: Any, clock: Clock, turns: int) -> dict[str, float]:
    """CPU time of `fit(verbose=1)` on a pseudo-terminal over that of `verbose=0`, taking turns; a `cat` reads what is drawn."""
    import pty

    master, slave = pty.openpty()
    epochs = contender.workload.epochs
    ratios = []
    with (
        subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL) as reader,
        os.fdopen(slave, "w") as terminal,
    ):
        for _ in range(turns):
            silent, _, _ = clock.time(lambda: contender.fit(epochs))
            with contextlib.redirect_stdout(terminal):
                drawn, _, _ = clock.time(lambda: contender.fit(epochs, verbose=1))
            ratios.append(drawn / silent)
        reader.terminate()
    return {"terminal_ratio": statistics.median(ratios)}


def long_run(contender: Any, workload: Any, clock: Clock, steps: int) -> dict[str, float]:
    """CPU time per step and peak memory after each quarter of a long training."""
    figures: dict[str, float] = {}
    epochs = max(1, steps // 4 // workload.steps)
    for quarter in range(4):
        cpu, _, _ = clock.time(lambda: contender.fit(epochs))
        figures[f"quarter_{quarter}_cpu_us"] = cpu / (epochs * workload.steps)
        figures[f"quarter_{quarter}_mb"] = peak_megabytes()
    return figures


if __name__ == "__main__":
    main()
