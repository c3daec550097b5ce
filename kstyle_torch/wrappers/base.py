"""Base class of the estimators: validation, random numbers, and the model that was fitted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from kstyle_torch.callbacks import History
from kstyle_torch.draws import isolated_seed
from kstyle_torch.models.model import Model


class Estimator(BaseEstimator):
    """A model with scikit-learn's methods; subclasses set `model_` and `history_` in `fit`.

    Attributes:
        model_: The fitted model.
        history_: The `History` of the last `fit` or `partial_fit`.
    """

    random_state: Any
    warm_start: bool
    model_: Model
    history_: History

    @property
    def epoch_(self) -> int:
        """The number of epochs that the last `fit` took; 0 before."""
        return len(self.history_.epoch) if hasattr(self, "history_") else 0

    def _resumes(self) -> bool:
        """Returns whether `fit` continues where the last one ended."""
        return self.warm_start and hasattr(self, "model_")

    def _checks(self) -> dict[str, Any]:
        """Returns arguments of scikit-learn's `check_array` for X."""
        return {"accept_sparse": "csr"}

    def _validated(self, X: Any, y: Any, *, reset: bool, **checks: Any) -> tuple[Any, Any]:
        return validate_data(self, X, y, reset=reset, **self._checks(), **checks)

    def _validated_for_prediction(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, **self._checks())

    @contextlib.contextmanager
    def _random(self, resume: bool) -> Iterator[None]:
        """Draws the random numbers of a block from `random_state`, and leaves the process's random state unchanged.

        With `random_state=None` it draws from the random state of the process. When training resumes, the numbers go on,
        so that `partial_fit` does not shuffle every epoch alike.
        """
        if self.random_state is None:
            yield
            return
        if not resume or not hasattr(self, "_seeds"):
            self._seeds = check_random_state(self.random_state)
        with isolated_seed(int(self._seeds.randint(2**31 - 1))):
            yield

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def checked_weights(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Returns sample weights as an array with a finite float for each row; None where there are none.

    Raises: ValueError: for another shape, negative weights, or only zeros.
    """
    if sample_weight is None:
        return None
    weights = check_array(sample_weight, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name="sample_weight")
    if weights.ndim != 1:
        raise ValueError(f"sample_weight must have a weight for each row of X; got shape {weights.shape}.")
    check_consistent_length(X, weights)
    if (weights < 0).any():
        raise ValueError(f"sample_weight must not be negative; got {weights.min()}.")
    if not weights.any():
        raise ValueError("sample_weight must not be zero for all rows.")
    return weights
