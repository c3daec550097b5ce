"""What a training step costs on a GPU: an MLP and a convnet over batch sizes, in float32 and bfloat16.

Ours and two loops in raw PyTorch, in this process, taking turns after a warm-up, timed between CUDA events. Figures
are medians. Run: `python benchmarks/gpu.py [--repetitions 5] [--steps 200] [--batch-sizes 32 512 4096]`.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Callable

import torch
from reference import Task, hand_tuned_loop, plain_loop, print_table
from torch import Tensor, nn
from torch.nn import functional as F

import kstyle_torch as keras

CLASSES = 10
EPOCH_STEPS = 20
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
OURS, HAND_TUNED, PLAIN = "kstyle_torch, fit", "hand-tuned loop", "DataLoader loop"


def keras_layers(network: str) -> list:
    """The network in Keras' words."""
    if network == "MLP":
        return [
            keras.Input(shape=(784,)),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    return [
        keras.Input(shape=(28, 28, 1)),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(CLASSES, activation="softmax"),
    ]


def torch_model(network: str) -> nn.Module:
    """The network in raw PyTorch, without the softmax: the loss takes logits."""
    if network == "MLP":
        layers = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)]
        return nn.Sequential(*layers).cuda()
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1600, CLASSES),
    ).cuda()


def ours(network: str, x: Tensor, y: Tensor, batch_size: int, dtype: torch.dtype | None) -> Callable:
    """`fit`, with accuracy and History on. x: (N, 784) or (N, 28, 28, 1)."""
    model = keras.Sequential(keras_layers(network))
    model.compile(optimizer=keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    def fit(epochs: int) -> None:
        # No cache: it is emptied only at the end of the block, and weights change in it.
        autocast = torch.autocast("cuda", dtype=dtype, cache_enabled=False) if dtype else contextlib.nullcontext()
        with autocast:
            model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)

    return fit


def contenders(network: str, batch_size: int, dtype: torch.dtype | None) -> dict[str, Callable]:
    """All three, on the same random data, which lies on the GPU but for the DataLoader."""
    samples = EPOCH_STEPS * batch_size
    x = torch.randn(samples, 784, device="cuda")
    y = torch.randint(CLASSES, (samples,), device="cuda")
    images = network == "convnet"

    def task() -> Task:
        return Task(
            torch_model(network),
            x.view(-1, 1, 28, 28) if images else x,
            y,
            F.cross_entropy,
            lambda outputs, targets: (outputs.argmax(-1) == targets).sum(),
            batch_size,
            torch.autocast("cuda", dtype=dtype) if dtype else None,
        )

    return {
        OURS: ours(network, x.view(-1, 28, 28, 1) if images else x, y, batch_size, dtype),
        HAND_TUNED: hand_tuned_loop(task()),
        PLAIN: plain_loop(task()),
    }


def measure(fits: dict[str, Callable], repetitions: int, epochs: int) -> dict[str, float]:
    """Median microseconds per step, by contender."""
    times: dict[str, list[float]] = {name: [] for name in fits}
    for fit in fits.values():
        fit(2)  # warm-up: kernels are chosen and loaded, memory is taken
    for _ in range(repetitions):
        for name, fit in fits.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            fit(epochs)
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end) * 1e3 / (epochs * EPOCH_STEPS))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="turns that each contender gets")
    parser.add_argument("--steps", type=int, default=200, help="steps in a turn")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 512, 1024, 4096])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA device: torch.cuda.is_available() is False, so there is nothing to measure.")
        sys.exit(0)

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32, for all alike
    epochs = max(1, arguments.steps // EPOCH_STEPS)
    rows = []
    for network in ("MLP", "convnet"):
        for precision, dtype in PRECISIONS.items():
            for batch_size in arguments.batch_sizes:
                medians = measure(contenders(network, batch_size, dtype), arguments.repetitions, epochs)
                figures = [f"{medians[name]:.0f}" for name in (OURS, HAND_TUNED, PLAIN)]
                ratio = f"{medians[OURS] / medians[HAND_TUNED]:.2f}"
                rows.append([network, precision, str(batch_size), *figures, ratio])
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, TF32 on; microseconds per step, ", end="")
    print(f"medians of {arguments.repetitions} turns of {epochs * EPOCH_STEPS} steps; ratio to the hand-tuned loop\n")
    print_table(["network", "precision", "batch", OURS, HAND_TUNED, PLAIN, "ratio"], rows)


if __name__ == "__main__":
    main()
