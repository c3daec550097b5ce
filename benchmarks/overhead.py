"""What a training step costs: the tutorial's 10-64-32-1 network, batch 32, on one CPU thread.

Ours, two loops in raw PyTorch, and Keras on torch where it is installed, all in this process, taking turns. Figures are
medians of CPU time. Run: `python benchmarks/overhead.py [--repetitions 15] [--epochs 10] [--no-keras]`.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import numpy as np
import torch
from reference import Task, hand_tuned_loop, plain_loop, print_table
from torch import Tensor, nn
from torch.nn import functional as F

import kstyle_torch

SAMPLES, FEATURES, BATCH_SIZE = 1024, 10, 32
Fit = Callable[[int], tuple[float, float]]  # epochs -> loss and accuracy of the last one


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """The tutorial's data, standardised: x (N, 10), y (N,)."""
    random = np.random.default_rng(0)
    x = random.standard_normal((SAMPLES, FEATURES), dtype=np.float32)
    y = x[:, :5].sum(axis=1) > x[:, 5:].sum(axis=1) + 0.3 * random.standard_normal(SAMPLES)
    return x, y.astype(np.float32)


def keras_style(keras, x: np.ndarray, y: np.ndarray, more: bool, **switches: bool) -> Fit:
    """The same program for both libraries, with accuracy, a callback of the user's and History on.

    With `more`, AUC, precision and recall are tracked too. `switches` are those of `compile`.
    """

    class LossLog(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.losses: list[float] = []

        def on_epoch_end(self, epoch, logs=None) -> None:
            self.losses.append(logs["loss"])

    model = keras.Sequential(
        [
            keras.Input(shape=(FEATURES,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    further = [keras.metrics.AUC(), keras.metrics.Precision(), keras.metrics.Recall()] if more else []
    optimizer = keras.optimizers.Adam(0.001)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy", *further], **switches)

    def fit(epochs: int) -> tuple[float, float]:
        history = model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0, callbacks=[LossLog()]).history
        return history["loss"][-1], history["accuracy"][-1]

    return fit


def torch_task(x: np.ndarray, y: np.ndarray, logits: bool) -> Task:
    """The network in raw PyTorch: a sigmoid and BCELoss, or the faster loss of logits."""
    layers = [nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)]
    model = nn.Sequential(*layers, *([] if logits else [nn.Sigmoid()]))
    threshold = 0.0 if logits else 0.5

    def count_correct(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs > threshold) == (targets > 0.5)).sum()

    loss = F.binary_cross_entropy_with_logits if logits else nn.BCELoss()
    return Task(model, torch.from_numpy(x), torch.from_numpy(y)[:, None], loss, count_correct, BATCH_SIZE)


def measure(contenders: dict[str, Fit], repetitions: int, epochs: int) -> tuple[dict, dict]:
    """CPU microseconds per step of every repetition, and the last loss and accuracy, by contender."""
    steps = epochs * -(-SAMPLES // BATCH_SIZE)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results = {name: fit(2) for name, fit in contenders.items()}  # warm-up
    for _ in range(repetitions):
        for name, fit in contenders.items():
            gc.collect()
            start = time.process_time()
            results[name] = fit(epochs)
            times[name].append((time.process_time() - start) / steps * 1e6)
    return times, results


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15, help="turns that each contender gets")
    parser.add_argument("--epochs", type=int, default=10, help="epochs in a turn, of 32 steps each")
    parser.add_argument("--no-keras", action="store_true", help="leave Keras out, though it is installed")
    parser.add_argument("--more-metrics", action="store_true", help="AUC, precision and recall beside accuracy in fit")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    kstyle_torch.config.set_device("cpu")
    x, y = make_data()
    baseline = "PyTorch, hand-tuned loop"
    contenders = {
        "kstyle_torch, fit": keras_style(kstyle_torch, x, y, arguments.more_metrics),
        "kstyle_torch, fit, not recorded": keras_style(kstyle_torch, x, y, arguments.more_metrics, jit_compile=False),
        baseline: hand_tuned_loop(torch_task(x, y, logits=True)),
        "PyTorch, DataLoader loop": plain_loop(torch_task(x, y, logits=False)),
    }
    if not arguments.no_keras and find_spec("keras"):
        import keras

        contenders[f"Keras {keras.__version__} on torch, fit"] = keras_style(keras, x, y, arguments.more_metrics)

    times, results = measure(contenders, arguments.repetitions, arguments.epochs)
    print(f"10-64-32-1, batch {BATCH_SIZE}, loss and accuracy tracked; CPU microseconds per step, one thread,")
    print(f"medians of {arguments.repetitions} turns of {arguments.epochs} epochs; ", end="")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}\n")
    base = statistics.median(times[baseline])
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        loss, accuracy = results[name]
        rows.append([name, f"{median:.0f}", f"{median / base:.2f}", f"{loss:.3f}", f"{accuracy:.3f}"])
    print_table(["", "us per step", "ratio", "last loss", "last accuracy"], rows)


if __name__ == "__main__":
    main()
