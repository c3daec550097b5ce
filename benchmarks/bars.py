"""What `peers.py --check` holds us to: our figure over another's, and the most that it may be.

A bar is met when the median ratio over the rounds is at most its limit, missed when the whole bootstrap interval (95 %)
lies above it, and open in between, which counts as missed: more rounds tell.
"""

from __future__ import annotations

import random
import statistics
from typing import NamedTuple

from contenders import HAND_TUNED, OURS

BOOTSTRAP_DRAWS = 2000


class Bar(NamedTuple):
    """`figure` of `ours` over that of `theirs` on a workload; against the limit itself where `theirs` is empty."""

    title: str
    limit: float
    workload: str
    ours: str
    theirs: str
    figure: str = "train_cpu_us"


RECORDED, COMPILED = f"{OURS}, recorded", f"{OURS}, compiled"
BARS = (
    Bar("small MLP, default tier / hand-tuned loop", 0.55, "small", OURS, HAND_TUNED),
    Bar("small MLP, recorded / hand-tuned loop", 0.40, "small", RECORDED, HAND_TUNED),
    Bar("small MLP, default tier / Keras on torch", 0.10, "small", OURS, "Keras on torch"),
    Bar("small MLP, whole epoch compiled / JAX, scanned epoch", 2.0, "small", COMPILED, "JAX, scanned epoch"),
    Bar("large MLP / hand-tuned loop", 0.95, "large", OURS, HAND_TUNED),
    Bar("convnet / hand-tuned loop", 0.80, "convnet", OURS, HAND_TUNED),
    Bar("convnet / Keras on TensorFlow", 1.0, "convnet", OURS, "Keras on TensorFlow"),
    Bar("LSTM / hand-tuned loop", 1.0, "lstm", OURS, HAND_TUNED),
    Bar("transformer / hand-tuned loop", 1.0, "transformer", OURS, HAND_TUNED),
    Bar("predict, small MLP / hand-tuned loop", 1.0, "small", OURS, HAND_TUNED, "predict_cpu_us"),
    Bar("predict, convnet / hand-tuned loop", 1.0, "convnet", OURS, HAND_TUNED, "predict_cpu_us"),
    Bar("evaluate, small MLP / hand-tuned loop", 1.0, "small", OURS, HAND_TUNED, "evaluate_cpu_us"),
    Bar("evaluate, convnet / hand-tuned loop", 1.0, "convnet", OURS, HAND_TUNED, "evaluate_cpu_us"),
    Bar("one-row predict / Keras on torch", 0.05, "small", OURS, "Keras on torch", "predict_one_cpu_us"),
    Bar("import beyond `import torch`, CPU seconds", 0.1, "small", OURS, "", "import_s"),
    Bar("peak memory, small MLP / hand-tuned loop", 1.0, "small", OURS, HAND_TUNED, "peak_mb"),
    Bar("peak memory, large MLP / hand-tuned loop", 1.0, "large", OURS, HAND_TUNED, "peak_mb"),
    Bar("verbose=1 to a terminal / verbose=0", 1.05, "small", f"{OURS}, verbose=1", OURS),
    Bar("20,000 steps: CPU of the last quarter / the second", 1.05, "long", "quarter_3_cpu_us", "quarter_1_cpu_us"),
    Bar("20,000 steps: memory after the last quarter / the second", 1.02, "long", "quarter_3_mb", "quarter_1_mb"),
)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Median, and the bounds of its bootstrap 95 % interval."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAP_DRAWS))
    low, high = medians[int(0.025 * BOOTSTRAP_DRAWS)], medians[int(0.975 * BOOTSTRAP_DRAWS) - 1]
    return statistics.median(ratios), low, high


def verdict(limit: float, median: float, low: float) -> str:
    """`met`, `open` or `missed`."""
    if median <= limit:
        return "met"
    return "open" if low <= limit else "missed"
