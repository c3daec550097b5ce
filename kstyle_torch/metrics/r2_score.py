"""The coefficient of determination."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.initializers import as_dtype
from kstyle_torch.losses.base import same_rank
from kstyle_torch.metrics.base import Metric, registry
from kstyle_torch.metrics.reduction import fitting, pair
from kstyle_torch.ops.operation import as_tensor
from kstyle_torch.variables import Variable

AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")


@registry.register()
class R2Score(Metric):
    """Share of the targets' variance that predictions explain: `1 - residuals / sum((y_true - mean)**2)`.

    Args:
        class_aggregation: `"uniform_average"` or `"variance_weighted_average"` over the columns; None for one score each.
        num_regressors: How many regressors the adjusted score allows for; 0 for the plain score.
        name: The key in logs and history.
        dtype: Compute dtype; the state is of `config.floatx()`, as in Keras.
    Raises: ValueError: for arguments out of their range.

    Example:
        >>> round(float(R2Score()(torch.tensor([[1.0], [4.0], [3.0]]), torch.tensor([[2.0], [4.0], [4.0]]))), 4)
        0.5714
    """

    rowwise = True
    direction = "up"
    squared_sum: Variable
    sum: Variable
    total_mse: Variable
    count: Variable

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in AGGREGATIONS:
            known = ", ".join(map(repr, AGGREGATIONS))
            raise ValueError(f"R2Score: class_aggregation must be one of {known}; got {class_aggregation!r}.")
        if num_regressors < 0:
            raise ValueError(f"R2Score: num_regressors must not be negative; got {num_regressors!r}.")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self.num_samples = self.add_variable((), "zeros", name="num_samples")

    def _build(self, num_columns: int) -> None:
        self.squared_sum = self.add_variable((num_columns,), "zeros", name="squared_sum")
        self.sum = self.add_variable((num_columns,), "zeros", name="sum")
        self.total_mse = self.add_variable((num_columns,), "zeros", name="residual")
        self.count = self.add_variable((num_columns,), "zeros", name="count")

    @torch.no_grad()
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Updates the state with a batch.

        Args:
            y_true: Numbers, (batch, columns).
            y_pred: Likewise.
            sample_weight: (batch,), or one for each value.
        Raises: ValueError: if the shapes do not fit.
        """
        y_true, y_pred = pair(y_true, y_pred)
        dtype = as_dtype(self.dtype)
        y_true, y_pred = same_rank(y_true.to(dtype), y_pred.to(dtype))
        if y_true.ndim == 1:
            y_true, y_pred = y_true.unsqueeze(1), y_pred.unsqueeze(1)
        if y_pred.ndim != 2 or y_true.shape != y_pred.shape:
            raise ValueError(
                f"Metric {self.name!r} needs targets and predictions of the same shape, (batch, columns); got "
                f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        if len(self._variables) == 1:
            self._build(y_pred.shape[1])
        weight = torch.ones_like(y_true)
        if sample_weight is not None:
            given = as_tensor(sample_weight, device=y_true.device).to(y_true.device, dtype)
            weight = fitting(given.unsqueeze(1) if given.ndim == 1 else given, y_true)
        self.sum.assign_add((y_true * weight).sum(0))
        self.squared_sum.assign_add((y_true * y_true * weight).sum(0))
        self.total_mse.assign_add(((y_true - y_pred) ** 2 * weight).sum(0))
        self.count.assign_add(weight.sum(0))
        self.num_samples.assign_add(torch.full((), y_true.numel(), device=y_true.device))

    def result(self) -> Tensor:
        """Returns the score so far, (columns,) without an aggregation; 0 before the first batch."""
        if len(self._variables) == 1:
            return torch.zeros_like(self.num_samples.value)
        total = self.squared_sum.value - self.sum.value * (self.sum.value / self.count.value)
        scores = 1 - self.total_mse.value / total
        scores = scores.where(~scores.isinf(), 0)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (total * scores).sum() / total.sum()
        return self._adjusted(scores) if self.num_regressors else scores

    def _adjusted(self, score: Tensor) -> Tensor:
        samples = float(self.num_samples.value)  # the host waits for the device here
        if self.num_regressors >= samples - 1:
            warnings.warn(
                f"Metric {self.name!r}: {self.num_regressors} regressors are too many for {samples:.0f} values; the plain "
                "score is returned instead of the adjusted one.",
                stacklevel=3,
            )
            return score
        return 1 - (1 - score) * (samples - 1) / (samples - self.num_regressors - 1)
