"""What an optimizer's step costs, the gradients given: ours, and torch's own of the same name, on one CPU thread.

Figures are medians of CPU time. Run: `python benchmarks/optimizers.py [--network mlp] [--repetitions 7] [--steps 1000]`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from reference import print_table
from torch import nn

from kstyle_torch import optimizers

NETWORKS = {
    "mlp": [(64, 10), (64,), (32, 64), (32,), (1, 32), (1,)],
    "convnet": [(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,), (10, 1600), (10,)],
}
MOMENTUM = {"momentum": 0.9}
OURS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", MOMENTUM),
    ("SGD", {**MOMENTUM, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {**MOMENTUM, "centered": True}),
    *((name, {}) for name in "Nadam Adamax Adagrad Adadelta Adafactor Ftrl Lion Lamb Muon ScheduleFreeAdamW".split()),
    ("Adam", {"clipnorm": 1.0}),
    ("Adam", {"global_clipnorm": 1.0}),
    ("Adam", {"use_ema": True}),
]
TORCH = {"as it is": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
TORCH_NAMES = {"Nadam": "NAdam"}


def step_of_ours(name: str, arguments: dict[str, Any], shapes: list[tuple[int, ...]]) -> Callable[[], None]:
    """A step of one of ours, as `fit` takes it."""
    weights, gradients = _tensors(shapes)
    optimizer = getattr(optimizers, name)(**arguments)
    optimizer.track(weights)
    return lambda: optimizer.step(gradients)


def step_of_torch(name: str, arguments: dict[str, Any], shapes: list[tuple[int, ...]]) -> Callable[[], None] | None:
    """A step of torch's optimizer of that name; None if there is none, or not with such arguments or shapes."""
    weights, gradients = _tensors(shapes)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    try:
        step = getattr(torch.optim, TORCH_NAMES.get(name, name))(weights, lr=0.001, **arguments).step
        step()
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None
    return step


def _tensors(shapes: list[tuple[int, ...]]) -> tuple[list[nn.Parameter], list[torch.Tensor]]:
    torch.manual_seed(0)
    return [nn.Parameter(0.1 * torch.randn(shape)) for shape in shapes], [0.01 * torch.randn(s) for s in shapes]


def microseconds(step: Callable[[], Any] | None, repetitions: int, steps: int) -> str:
    """The median over the repetitions."""
    if step is None:
        return ""
    times = []
    for _ in range(repetitions + 1):
        start = time.process_time()
        for _ in range(steps):
            step()
        times.append((time.process_time() - start) / steps * 1e6)
    return f"{statistics.median(times[1:]):.0f}"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*NETWORKS], default="mlp")
    parser.add_argument("--repetitions", type=int, default=7, help="turns that each contender gets")
    parser.add_argument("--steps", type=int, default=1000, help="steps in a turn")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    shapes, size = NETWORKS[arguments.network], (arguments.repetitions, arguments.steps)
    rows = []
    for name, options in OURS:
        contenders = [step_of_ours(name, options, shapes)]
        contenders += [step_of_torch(name, {**options, **how}, shapes) for how in TORCH.values()]
        text = ", ".join(key if value is True else f"{key}={value}" for key, value in options.items())
        rows.append([f"{name} {text}".strip(), *(microseconds(step, *size) for step in contenders)])
    print(
        f"{arguments.network}, CPU microseconds per step, one thread, medians of {arguments.repetitions} turns of ",
        end="",
    )
    print(f"{arguments.steps} steps; torch {torch.__version__}, Python {platform.python_version()}\n")
    print_table(["", "kstyle_torch", *(f"torch.optim, {how}" for how in TORCH)], rows)


if __name__ == "__main__":
    main()
