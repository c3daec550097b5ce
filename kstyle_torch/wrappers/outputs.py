"""Outputs of a classifier's model: as its loss takes them, they are probabilities or logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from kstyle_torch.wrappers.targets import both_sides, sigmoid_of, softmax_of

SLACK = 1e-5  # by which rounding may lead out of [0, 1]


def is_sparse(loss: Any) -> bool:
    """Returns whether a loss takes class numbers instead of one-hot columns."""
    return "sparse" in _name(loss).lower()


def takes_logits(loss: Any) -> bool:
    """Returns whether a loss, or torch loss, takes logits."""
    return bool(getattr(loss, "from_logits", isinstance(loss, (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss))))


def threshold(loss: Any) -> float:
    """Returns the value above which a single output means the second class."""
    return 0.0 if takes_logits(loss) else 0.5


def probabilities(outputs: np.ndarray, loss: Any) -> np.ndarray:
    """Returns probabilities (samples, classes) for outputs (samples, classes), or (samples, 1) for two classes.

    Raises: ValueError: if the outputs are neither probabilities nor, by their loss, logits.
    """
    if takes_logits(loss):
        by_itself = outputs.shape[1] == 1 or "binary" in _name(loss).lower() or isinstance(loss, nn.BCEWithLogitsLoss)
        outputs = sigmoid_of(outputs) if by_itself else softmax_of(outputs)
    if outputs.size and not (outputs.min() >= -SLACK and outputs.max() <= 1 + SLACK):
        raise ValueError(
            f"predict_proba() needs outputs from 0 to 1, such as those of a softmax; got {outputs.min()} to {outputs.max()}. "
            "If they are logits, compile the model with a loss that has from_logits=True."
        )
    if outputs.shape[1] == 1:
        return both_sides(outputs[:, 0])
    total = outputs.sum(axis=1, keepdims=True)
    return np.where(total > 0, outputs / np.where(total > 0, total, 1), 1 / outputs.shape[1]).astype(outputs.dtype)


def _name(loss: Any) -> str:
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
