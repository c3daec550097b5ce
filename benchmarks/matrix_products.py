"""Matrix products of dense layers on one core: torch's default against oneDNN, forward and both products of the backward pass.

Prints CPU time and the ratio for a grid of sizes, and whether `config.set_matmul("auto")` takes oneDNN on this processor.
Run: `taskset -c 0 python benchmarks/matrix_products.py [--repetitions 7]`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from reference import print_table

from kstyle_torch import dense_product
from kstyle_torch._torch import onednn_linear

ROWS, INPUTS, UNITS = (32, 128, 512, 2048), (64, 128, 256, 784, 1024), (64, 128, 512, 1024)
SECONDS = 0.02  # that each measurement takes


def products(rows: int, inputs: int, units: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Returns the factors, as `x @ weight.T`, of the three products that a training step computes."""
    x, weight, gradient = torch.randn(rows, inputs), torch.randn(units, inputs), torch.randn(rows, units)
    return {"forward": (x, weight), "dx": (gradient, weight.t()), "dW": (gradient.t(), x.t())}


def onednn(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns the product by oneDNN."""
    return onednn_linear(x, weight, None, "none", [], "")


def cpu_us(run: Callable[..., object], *factors: torch.Tensor) -> float:
    """Returns the CPU time of a call."""
    run(*factors)
    started = time.process_time()
    run(*factors)
    number = max(1, int(SECONDS / max(time.process_time() - started, 1e-6)))
    started = time.process_time()
    for _ in range(number):
        run(*factors)
    return (time.process_time() - started) / number * 1e6


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rows = []
    for sizes in itertools.product(ROWS, INPUTS, UNITS):
        for name, (x, weight) in products(*sizes).items():
            pairs = [(cpu_us(F.linear, x, weight), cpu_us(onednn, x, weight)) for _ in range(repetitions)]
            default, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(second / first for first, second in pairs)
            taken = min(*sizes) >= dense_product.SHORTEST
            rows.append([f"{sizes} {name}", f"{default:.0f}", f"{ours:.0f}", f"{ratio:.2f}", "yes" if taken else ""])
    print(f"auto takes oneDNN on this processor: {dense_product.is_faster()}")
    print_table(["rows, inputs, units", "torch", "oneDNN", "ratio", "long enough"], rows)


if __name__ == "__main__":
    main()
