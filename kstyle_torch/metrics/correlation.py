"""Correlation of predicted and true values along an axis."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch import config
from kstyle_torch.losses.base import rowwise
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.reduction import FUNCTIONS, MeanMetricWrapper, aligned
from kstyle_torch.ops.normalization import normalize


def _floats(y_true: Any, y_pred: Any, name: str) -> tuple[Tensor, Tensor]:
    y_true, y_pred = aligned(y_true, y_pred, name)
    y_pred = y_pred if y_pred.is_floating_point() else y_pred.float()
    return y_true.to(y_pred.dtype), y_pred


@rowwise
def pearson_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Tensor:
    """Returns Pearson's correlation coefficient along `axis`; NaN where targets or predictions are constant."""
    standardised = []
    for values in _floats(y_true, y_pred, "pearson_correlation"):
        centred = values - values.mean(axis, keepdim=True)
        standardised.append(centred / centred.std(axis, correction=0, keepdim=True))
    return (standardised[0] * standardised[1]).mean(axis)


@rowwise
def concordance_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Tensor:
    """Returns the concordance correlation coefficient along `axis`: agreement of targets and predictions. Source: Lin 1989."""
    y_true, y_pred = _floats(y_true, y_pred, "concordance_correlation")
    mean_true, mean_pred = y_true.mean(axis, keepdim=True), y_pred.mean(axis, keepdim=True)
    spread = y_true.var(axis, correction=0, keepdim=True) + y_pred.var(axis, correction=0, keepdim=True)
    covariance = (y_true - mean_pred) * (y_pred - mean_pred)  # any constant may be subtracted from y_true
    return (2 * covariance / (spread + (mean_true - mean_pred) ** 2 + config.epsilon())).mean(axis)


@rowwise
def cosine_similarity(y_true: Any, y_pred: Any, axis: Any = -1) -> Tensor:
    """Returns the cosine of the angle between targets and predictions along `axis`; 0 where one of them is 0."""
    y_true, y_pred = _floats(y_true, y_pred, "cosine_similarity")
    return (normalize(y_true, axis) * normalize(y_pred, axis)).sum(axis)


FUNCTIONS.update({function.__name__: function for function in (pearson_correlation, concordance_correlation)})


@registry.register()
class PearsonCorrelation(MeanMetricWrapper):
    """The mean of Pearson's correlation coefficient of each sample.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        axis: Axis or axes of the values.

    Example:
        >>> round(float(PearsonCorrelation()([[0, 1, 0.5], [1, 1, 0.2]], [[0.1, 0.9, 0.5], [1, 0.9, 0.2]])), 4)
        0.9967
    """

    direction = "up"

    def __init__(self, name: str | None = "pearson_correlation", dtype: Any = None, axis: Any = -1):
        super().__init__(pearson_correlation, name, dtype, axis=axis)
        self.axis = axis


@registry.register()
class ConcordanceCorrelation(MeanMetricWrapper):
    """The mean of the concordance correlation coefficient of each sample.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        axis: Axis or axes of the values.
    Source: Lin 1989.

    Example:
        >>> round(float(ConcordanceCorrelation()([[0, 1, 0.5], [1, 1, 0.2]], [[0.1, 0.9, 0.5], [1, 0.9, 0.2]])), 4)
        0.9816
    """

    direction = "up"

    def __init__(self, name: str | None = "concordance_correlation", dtype: Any = None, axis: Any = -1):
        super().__init__(concordance_correlation, name, dtype, axis=axis)
        self.axis = axis


@registry.register()
class CosineSimilarity(MeanMetricWrapper):
    """The mean cosine of the angle between targets and predictions.

    Args:
        name: The key in logs and history.
        dtype: Dtype of the state.
        axis: Axis of the vectors.

    Example:
        >>> round(float(CosineSimilarity(axis=1)([[0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]])), 4)
        0.5
    """

    direction = "up"

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: Any = -1):
        super().__init__(cosine_similarity, name, dtype, axis=axis)
        self.axis = axis
