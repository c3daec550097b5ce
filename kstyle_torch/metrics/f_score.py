"""F-scores: weighted harmonic means of precision and recall."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.initializers import as_dtype
from kstyle_torch.losses.base import same_rank
from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.metrics.reduction import fitting, pair
from kstyle_torch.ops.operation import as_tensor
from kstyle_torch.variables import Variable

AVERAGES = (None, "micro", "macro", "weighted")


@registry.register()
class FBetaScore(Metric):
    """`(1 + b) * precision * recall / (b * precision + recall)`, with `b = beta ** 2`.

    Args:
        average: None for one score for each class; `"micro"` counts over all classes; `"macro"` averages over classes,
            `"weighted"` with the number of true samples as weights.
        beta: How many times recall matters more than precision; a positive float.
        threshold: Scores above it are positive, in (0, 1]; None for the largest of each row.
        name: The key in logs and history.
        dtype: Dtype of the state.
    Raises: ValueError: for arguments out of their range.

    Example:
        >>> metric = FBetaScore(beta=2.0, threshold=0.5)
        >>> metric(torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[0.2, 0.6, 0.7], [0.2, 0.6, 0.4]]))
        tensor([0.0000, 0.8333, 1.0000])
    """

    rowwise = True
    direction = "up"
    true_positives: Variable
    false_positives: Variable
    false_negatives: Variable
    intermediate_weights: Variable

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        cls = type(self).__name__
        if average not in AVERAGES:
            raise ValueError(f"{cls}: average must be one of {', '.join(map(repr, AVERAGES))}; got {average!r}.")
        if not isinstance(beta, float) or beta <= 0:
            raise ValueError(f"{cls}: beta must be a positive float; got {beta!r}.")
        if threshold is not None and not (isinstance(threshold, float) and 0 < threshold <= 1):
            raise ValueError(f"{cls}: threshold must be None or a float in (0, 1]; got {threshold!r}.")
        self.average, self.beta, self.threshold = average, beta, threshold

    def _build(self, num_classes: int) -> None:
        shape = () if self.average == "micro" else (num_classes,)
        for name in ("true_positives", "false_positives", "false_negatives", "intermediate_weights"):
            setattr(self, name, self.add_variable(shape, "zeros", dtype=self.dtype, name=name))

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Updates the state with a batch.

        Args:
            y_true: 0 or 1, (batch, classes).
            y_pred: Scores, (batch, classes).
            sample_weight: (batch,).
        Raises: ValueError: if the shapes do not fit.
        """
        y_true, y_pred = same_rank(*pair(y_true, y_pred))
        if y_pred.ndim != 2 or y_true.shape != y_pred.shape:
            raise ValueError(
                f"Metric {self.name!r} needs targets and predictions of shape (batch, classes), the targets one-hot; got "
                f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        if not self._variables:
            self._build(y_pred.shape[1])
        dtype = as_dtype(self.dtype)
        y_true, positive = y_true.to(dtype), self._positive(y_pred.to(dtype)).to(dtype)
        weight = None
        if sample_weight is not None:
            weight = as_tensor(sample_weight, device=y_pred.device).to(y_pred.device, dtype)
            weight = fitting(weight.unsqueeze(1) if weight.ndim == 1 else weight, y_true)
        self.true_positives.assign_add(self._total(positive * y_true, weight))
        self.false_positives.assign_add(self._total(positive * (1 - y_true), weight))
        self.false_negatives.assign_add(self._total((1 - positive) * y_true, weight))
        self.intermediate_weights.assign_add(self._total(y_true, weight))

    def _positive(self, y_pred: Tensor) -> Tensor:
        if self.threshold is not None:
            return y_pred > self.threshold
        return (y_pred >= y_pred.amax(-1, keepdim=True)) & (y_pred.abs() > 1e-9)  # rows of zeros have no class

    def _total(self, values: Tensor, weight: Tensor | None) -> Tensor:
        values = values if weight is None else values * weight
        return values.sum() if self.average == "micro" else values.sum(0)

    def result(self) -> Tensor:
        """Returns the score so far, (classes,) without an average; 0 before the first batch."""
        if not self._variables:
            return torch.zeros((), device=config.device())
        epsilon = config.epsilon()
        hits, support = self.true_positives.value, self.intermediate_weights.value
        precision = hits / (hits + self.false_positives.value + epsilon)
        recall = hits / (hits + self.false_negatives.value + epsilon)
        factor = self.beta**2
        score = precision * recall / (factor * precision + recall + epsilon) * (1 + factor)
        if self.average == "weighted":
            return (score * support / (support.sum() + epsilon)).sum()
        return score if self.average is None else score.mean()


@registry.register()
class F1Score(FBetaScore):
    """`2 * precision * recall / (precision + recall)`: FBetaScore with `beta=1.0`.

    Args:
        average: See `FBetaScore`.
        threshold: See `FBetaScore`.
        name: The key in logs and history.
        dtype: Dtype of the state.
    Raises: ValueError: for arguments out of their range.

    Example:
        >>> metric = F1Score(threshold=0.5)
        >>> metric(torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[0.2, 0.6, 0.7], [0.2, 0.6, 0.4]]))
        tensor([0.0000, 0.6667, 1.0000])
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average=average, threshold=threshold, name=name, dtype=dtype)
