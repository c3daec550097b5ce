"""Adapter of torch's losses, called as `(prediction, target)`: modules, and functions of `torch.nn.functional`."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch.data.checks import check_labels
from kstyle_torch.losses.base import Loss, mismatch, object_name, reduce_weighted, same_rank

ELEMENTWISE: set[Any] = {nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss}
ELEMENTWISE |= {F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss}
ELEMENTWISE |= {F.binary_cross_entropy, F.binary_cross_entropy_with_logits}
OF_CLASSES = {nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, F.cross_entropy, F.nll_loss, F.multi_margin_loss}
OF_LABEL_SETS = {nn.MultiLabelMarginLoss, F.multilabel_margin_loss}
KERAS_ORDER = ("y_true", "target", "targets", "label", "labels", "true")  # first parameters that are the target


class TorchLoss(Loss):
    """Adapter of a torch loss, which may apply weights and reduction itself.

    It is called as `(prediction, target)`, unless the first parameter of a user-defined module is named `y_true`,
    `target(s)`, `label(s)` or `true`.

    With class numbers as targets, the classes may be the last axis of predictions, as in Keras, or the second, as in torch.

    Args:
        module: `nn.BCELoss()`, `nn.CrossEntropyLoss(weight=...)`, `F.mse_loss` and so on.
        name: Name of the loss; the module's in snake case if None.

    Example:
        >>> TorchLoss(torch.nn.L1Loss())([[1.0], [2.0]], torch.tensor([[1.0], [4.0]]))
        tensor(1.)
    """

    def __init__(self, module: Callable[..., Tensor], name: str | None = None):
        super().__init__(name=name or object_name(_bare(module)))
        self.module = module
        self.kind = type(module) if isinstance(module, nn.Module) else _bare(module)
        self.sparse = self.kind in OF_CLASSES
        self.swapped = isinstance(module, nn.Module) and _first_parameter(module) in KERAS_ORDER

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Returns the loss of a batch; see `Loss.__call__`.

        Raises: ValueError: if the target does not fit, or for weights or masks if the module returns a reduced loss.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        target, y_pred = self._fitted(torch.as_tensor(y_true).to(y_pred.device), y_pred)
        if isinstance(self.module, nn.Module) and next(self.module.buffers(), y_pred).device != y_pred.device:
            self.module.to(y_pred.device)
        if sample_weight is None and mask is None:
            value = self._run(self.module, y_pred, target)
            return value if value.ndim == 0 else value.mean()
        values = self._run(self._unreduced(), y_pred, target)
        if values.ndim == 0:
            raise ValueError(
                f"Loss {self.name!r} returns one number for the whole batch, so samples cannot be weighted or masked; "
                "give it an attribute reduction, and return a value for each sample if that is 'none'."
            )
        return reduce_weighted(values, sample_weight, mask, self.reduction)

    def check_targets(self, y_true: Tensor, output: torch.Size) -> None:
        if self.sparse and tuple(y_true.shape[1:]) != tuple(output[1:]):
            classes = 1 if len(output) > 2 and y_true.shape[1:] == output[2:] else -1
            check_labels(y_true, output[classes], self.name, getattr(self.module, "ignore_index", -100))

    def _run(self, module: Any, y_pred: Tensor, target: Tensor) -> Tensor:
        return module(target, y_pred) if self.swapped else module(y_pred, target)

    def _unreduced(self) -> Any:
        if not isinstance(self.module, nn.Module):
            return functools.partial(self.module, reduction="none")
        module: Any = copy.copy(self.module)
        module.reduction = "none"
        return module

    def _fitted(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind in OF_LABEL_SETS:
            return y_true.long(), y_pred
        if self.sparse and y_true.shape != y_pred.shape:
            y_true = y_true.squeeze(-1) if y_true.ndim == y_pred.ndim else y_true
            if y_pred.ndim > 2 and y_true.shape == y_pred.shape[:-1]:
                y_pred = y_pred.movedim(-1, 1).contiguous()  # torch's backward kernel fails for views
            return y_true.long(), y_pred
        aligned, shaped = same_rank(y_true, y_pred)
        if aligned.shape == shaped.shape:
            return y_true.reshape(y_pred.shape).to(y_pred.dtype), y_pred
        if self.kind in ELEMENTWISE:  # torch would broadcast
            raise ValueError(mismatch(self.name, y_true.shape, y_pred.shape))
        return y_true, y_pred


def is_torch_loss(obj: Any) -> bool:
    """Returns whether it is a module, a torch function, or a function with the parameters `(input, target)` as in torch."""
    bare = _bare(obj)
    if isinstance(obj, nn.Module) or getattr(F, getattr(bare, "__name__", ""), None) is bare:
        return True
    if not inspect.isfunction(bare):
        return False
    names = [name.removesuffix("s") for name in list(inspect.signature(bare).parameters)[:2]]
    return names == ["input", "target"]


def _bare(obj: Any) -> Any:
    return obj.func if isinstance(obj, functools.partial) else obj


def _first_parameter(module: nn.Module) -> str:
    return next(iter(inspect.signature(module.forward).parameters), "")
