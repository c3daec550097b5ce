"""`KerasClassifier` and `KerasRegressor` of Keras 2: estimators around a function that makes a compiled model.

Today's are `SKLearnClassifier` and `SKLearnRegressor`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from kstyle_torch.compat import keras2
from kstyle_torch.models.model import Model
from kstyle_torch.registry import did_you_mean
from kstyle_torch.utils.numeric import to_categorical

__all__ = ["KerasClassifier", "KerasRegressor"]

METHODS = (Model.fit, Model.predict, Model.evaluate)
OLDER = {"nb_epoch": "epochs"}


def _names(function: Any) -> set[str]:
    return {*inspect.signature(function).parameters}


class FunctionEstimator(BaseEstimator):
    """Base class of the two estimators.

    Args:
        build_fn: Function that returns a compiled model; a subclass may define `__call__` instead.
        sk_params: Arguments of `build_fn`, and of the model's `fit`, `predict` and `evaluate`.
    Raises: ValueError: for an argument that none of them takes.
    """

    def __init__(self, build_fn: Callable[..., Any] | None = None, **sk_params: Any):
        keras2.tell(f"keras.wrappers.scikit_learn.{type(self).__name__}", f"keras.wrappers.{self._today}")
        self.build_fn = build_fn
        self.sk_params = {OLDER.get(name, name): value for name, value in sk_params.items()}
        self._check(self.sk_params)

    _today = ""

    def _maker(self) -> Callable[..., Any]:
        made: Any = self if self.build_fn is None else self.build_fn
        if not callable(made):
            raise ValueError(f"{type(self).__name__}: build_fn must be a function that returns a model; got {made!r}.")
        return made

    def _check(self, params: dict[str, Any]) -> None:
        known = set().union(_names(self._maker()), *map(_names, METHODS)) - {"self", "x", "y"}
        for name in params.keys() - known:
            raise ValueError(f"{type(self).__name__}: nothing takes {name!r}.{did_you_mean(name, sorted(known))}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**copy.deepcopy(self.sk_params), "build_fn": self.build_fn}

    def set_params(self, **params: Any) -> Any:
        """Sets arguments of the constructor.

        Raises: ValueError: for one that neither `build_fn` nor the model takes.
        """
        params = {OLDER.get(name, name): value for name, value in params.items()}
        self._check({name: value for name, value in params.items() if name != "build_fn"})
        self.build_fn = params.pop("build_fn", self.build_fn)
        self.sk_params.update(params)
        return self

    def _arguments(self, function: Any, given: dict[str, Any]) -> dict[str, Any]:
        names = _names(function)
        found = {name: value for name, value in self.sk_params.items() if name in names}
        return {**found, **{OLDER.get(name, name): value for name, value in given.items()}}

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Trains a new model. Returns: Its `History`."""
        maker = self._maker()
        self.model = maker(**self._arguments(maker, {}))
        loss = self.model.loss
        if getattr(loss, "__name__", loss) == "categorical_crossentropy" and np.ndim(y) != 2:
            y = to_categorical(y)
        return self.model.fit(x, y, **self._arguments(Model.fit, kwargs))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model")


class KerasClassifier(ClassifierMixin, FunctionEstimator):
    """Classifier around a function that makes a compiled model.

    Args:
        build_fn: Function that returns a compiled model.
        sk_params: Arguments of `build_fn`, and of the model's `fit`, `predict` and `evaluate`.
    """

    _today = "SKLearnClassifier"

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Trains a new model on labels (samples,) or one-hot rows. Returns: Its `History`."""
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] > 1:
            self.classes_ = np.arange(y.shape[1])
        elif y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
            self.classes_ = np.unique(y)
            y = np.searchsorted(self.classes_, y)
        else:
            raise ValueError(
                f"{type(self).__name__}: labels must have shape (samples,) or (samples, classes); got {y.shape}."
            )
        return super().fit(x, y, **kwargs)

    def predict_proba(self, x: Any, **kwargs: Any) -> Any:
        """Returns the probability of each class, (samples, classes)."""
        found = self.model.predict(x, **self._arguments(Model.predict, kwargs))
        return np.hstack([1 - found, found]) if found.shape[1] == 1 else found

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Returns the label of each sample."""
        return self.classes_[self.predict_proba(x, **kwargs).argmax(-1)]

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """Returns the accuracy."""
        labels = np.asarray(y)
        labels = self.classes_[labels.argmax(-1)] if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
        return float(np.mean(self.predict(x, **kwargs) == labels))


class KerasRegressor(RegressorMixin, FunctionEstimator):
    """Regressor around a function that makes a compiled model.

    Args:
        build_fn: Function that returns a compiled model.
        sk_params: Arguments of `build_fn`, and of the model's `fit`, `predict` and `evaluate`.
    """

    _today = "SKLearnRegressor"

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Returns the prediction for each sample, (samples,) where there is one output."""
        return np.squeeze(self.model.predict(x, **self._arguments(Model.predict, kwargs)), -1)

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """Returns the loss with its sign changed, as Keras 2 did."""
        found = self.model.evaluate(x, y, **self._arguments(Model.evaluate, kwargs))
        return -float(found[0] if isinstance(found, (list, tuple)) else found)
