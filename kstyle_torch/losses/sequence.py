"""Connectionist temporal classification: the loss of sequences with unknown alignment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import ops
from kstyle_torch.data.checks import check_labels
from kstyle_torch.losses.base import PlainLoss, registry, rowwise, same_values_as, tensors

register = registry.register


@register()
@rowwise
def ctc(y_true: Any, y_pred: Any) -> Tensor:
    """Returns the negative log probability of the targets, summed over all alignments with the outputs.

    Args:
        y_true: Class numbers from 1, padded with 0, (batch, longest target).
        y_pred: Logits, (batch, time, classes), where class 0 is the blank.
    Returns: (batch,).
    Raises: ValueError: for other ranks, or if the batch sizes differ.
    Source: Graves et al. 2006.
    """
    y_true, y_pred = tensors(y_true, y_pred)
    if y_true.ndim != 2 or y_pred.ndim != 3 or len(y_true) != len(y_pred):
        raise ValueError(
            "Loss 'ctc' needs targets of shape (batch, longest target) and logits of shape (batch, time, classes); got "
            f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    lengths = torch.full((len(y_pred),), y_pred.shape[1], device=y_pred.device)
    return ops.ctc_loss(y_true.long(), y_pred, (y_true != 0).sum(-1), lengths, mask_index=0)


@register()
@same_values_as(ctc)
class CTC(PlainLoss):
    """Connectionist temporal classification; see `losses.ctc`. Source: Graves et al. 2006.

    Args:
        reduction: See `Loss`.
        name: Name of the loss.
        dtype: See `Loss`.

    Example:
        >>> CTC()(torch.tensor([[1, 2]]), torch.zeros(1, 2, 3))
        tensor(2.1972)
    """

    sparse = True

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "ctc", dtype: Any = None):
        super().__init__(name, reduction, dtype)

    def check_targets(self, y_true: Tensor, output: torch.Size) -> None:
        if y_true.ndim != 2 or len(output) != 3:
            return
        check_labels(y_true, output[-1], self.name)
        longest = int((y_true != 0).sum(-1).max()) if y_true.numel() and y_true.device.type == "cpu" else 0
        if longest > output[1]:
            raise ValueError(f"Loss {self.name!r}: a target of {longest} letters does not fit into {output[1]} steps.")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return ctc(y_true, y_pred).to(y_pred.dtype)
