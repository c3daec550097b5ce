"""Estimators that need no model: a network of dense layers whose ends fit the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from kstyle_torch import config, optimizers
from kstyle_torch.callbacks import EarlyStopping
from kstyle_torch.layers import Dense, Dropout, Input, Normalization
from kstyle_torch.models.sequential import Sequential
from kstyle_torch.regularizers import L2
from kstyle_torch.wrappers.base import Estimator, checked_weights
from kstyle_torch.wrappers.targets import (
    Labels,
    LabelSets,
    Numbers,
    check_partial_fit,
    with_class_weight,
)

PREDICTED_AT_ONCE = 1024  # rows
SCIKIT_LEARNS = {"identity": "linear", "logistic": "sigmoid"}  # names of activations


class NetworkEstimator(Estimator):
    """Base class of `KStyleClassifier` and `KStyleRegressor`, and the constructor of the latter."""

    _targets: Any

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Any = "relu",
        *,
        dropout: float = 0.0,
        alpha: float = 0.0,
        standardize: bool = True,
        optimizer: Any = "adam",
        learning_rate: Any = None,
        batch_size: int = 32,
        epochs: int = 100,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        dtype: str | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: Any = 0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.alpha = alpha
        self.standardize = standardize
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.dtype = dtype
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def _checks(self) -> dict[str, Any]:
        return {**super()._checks(), "dtype": self.dtype or [np.float64, np.float32]}

    def _train(
        self, X: Any, y: np.ndarray, weights: np.ndarray | None, *, resume: bool, stratify: Any = None, **settings: Any
    ) -> None:
        """Trains the network, which is made first unless training resumes.

        Args:
            X: Features.
            y: Targets as the network takes them.
            weights: Sample weights, or None.
            resume: Whether to train `model_` further.
            stratify: Class numbers by which validation data is split off, or None.
            settings: Of `Model.fit`, besides those of the constructor.
        """
        if weights is not None:  # their mean is 1, so that only their ratios count, as in scikit-learn
            weights = weights / weights.mean()
        with self._random(resume):
            model = self.model_ if resume else self._network(X, weights)
            if self.early_stopping and not settings:  # not in `partial_fit`, whose epochs are the caller's
                rows = np.arange(X.shape[0])
                train, held_out = train_test_split(rows, test_size=self.validation_fraction, stratify=stratify)
                parts = (X, y) if weights is None else (X, y, weights)
                settings["validation_data"] = tuple(part[held_out] for part in parts)
                settings["callbacks"] = [
                    EarlyStopping(min_delta=self.tol, patience=self.n_iter_no_change, restore_best_weights=True)
                ]
                X, y, weights = X[train], y[train], None if weights is None else weights[train]
            settings = {"epochs": self.epochs, "batch_size": self.batch_size, "shuffle": self.shuffle, **settings}
            history = model.fit(X, y, sample_weight=weights, verbose=self.verbose, **settings)
        self.model_, self.history_ = model, history

    def _network(self, X: Any, weights: np.ndarray | None) -> Sequential:
        """Returns a compiled network for features and `self._targets`."""
        dtype = self.dtype or ("float32" if config.device().type == "mps" else X.dtype.name)  # mps has no float64
        layers: list[Any] = [Input((X.shape[1],), dtype=dtype)]
        if self.standardize:
            scaler = StandardScaler(with_mean=isinstance(X, np.ndarray)).fit(X, sample_weight=weights)
            layers.append(Normalization(mean=scaler.mean_, variance=scaler.scale_**2, dtype=dtype))
        activation = self.activation
        if isinstance(activation, str):
            activation = SCIKIT_LEARNS.get(activation, activation)
        for units in np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist():
            penalty = L2(self.alpha) if self.alpha else None
            layers.append(Dense(units, activation, kernel_regularizer=penalty, dtype=dtype))
            if self.dropout:
                layers.append(Dropout(self.dropout, dtype=dtype))
        model = Sequential([*layers, Dense(self._targets.units, dtype=dtype)], dtype=dtype)
        model.compile(self._new_optimizer(), self._targets.loss(dtype))
        return model

    def _new_optimizer(self) -> Any:
        optimizer = optimizers.get(self.optimizer)
        if optimizer is self.optimizer:  # an object, which may be used more than once
            optimizer = type(optimizer).from_config(optimizer.get_config())
        if self.learning_rate is not None:
            optimizer.learning_rate = self.learning_rate
        return optimizer

    def _outputs(self, X: Any) -> np.ndarray:
        X = self._validated_for_prediction(X)
        return self.model_.predict(X, batch_size=PREDICTED_AT_ONCE, verbose=0)


class KStyleClassifier(ClassifierMixin, NetworkEstimator):
    """A classifier: dense layers, and crossentropy for two classes, several, or sets of labels.

    The first layer standardizes the features. `model_` gives logits: one for two classes or for each label of a set, else
    one for each class.

    Args:
        hidden_layer_sizes: Units of each hidden layer.
        activation: Of the hidden layers, in Keras' or scikit-learn's names.
        dropout: Share of each hidden layer's outputs that training drops.
        alpha: Factor of the squared weights that are added to the loss.
        standardize: Whether features are standardized, by means and variances of the first data seen.
        optimizer: Name or object.
        learning_rate: That of the optimizer if None.
        batch_size: Rows a step.
        epochs: How often `fit` goes through the data; at most, with `early_stopping`.
        shuffle: Whether each epoch has its own order.
        early_stopping: Whether training ends when the loss on held-out data no longer falls; the best weights are kept.
        validation_fraction: Share of the data that is held out then.
        n_iter_no_change: How many epochs it may fail to fall.
        tol: By how much it must fall to count.
        dtype: Of the network; that of X if None. "float32" is faster than "float64".
        class_weight: `{label: weight}`, "balanced", or None.
        random_state: Int or `RandomState` for the same result each time, which leaves all other random numbers alone;
            None to draw from those of the process.
        warm_start: Whether `fit` trains `model_` further.
        verbose: As for `Model.fit`.

    Attributes:
        classes_: The labels, sorted; for sets of labels, the numbers of their columns.
        model_: The network.
        history_: The `History` of the last `fit` or `partial_fit`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> classifier = KStyleClassifier((16,), learning_rate=0.01, epochs=20, random_state=0)
        >>> classifier.fit(X, y).score(X, y) > 0.9
        True
    """

    classes_: np.ndarray

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Any = "relu",
        *,
        dropout: float = 0.0,
        alpha: float = 0.0,
        standardize: bool = True,
        optimizer: Any = "adam",
        learning_rate: Any = None,
        batch_size: int = 32,
        epochs: int = 100,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        dtype: str | None = None,
        class_weight: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: Any = 0,
    ):
        super().__init__(
            hidden_layer_sizes,
            activation,
            dropout=dropout,
            alpha=alpha,
            standardize=standardize,
            optimizer=optimizer,
            learning_rate=learning_rate,
            batch_size=batch_size,
            epochs=epochs,
            shuffle=shuffle,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            dtype=dtype,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KStyleClassifier:
        """Trains a new network; with `warm_start`, the last one further.

        Args:
            X: Array, DataFrame or sparse matrix (samples, features).
            y: Labels (samples,), or columns of 0 and 1 for sets of labels (samples, labels).
            sample_weight: A weight for each row; only their ratios count.
        Raises: ValueError: for data that does not go together, only one class, or labels that the last fit did not have.
        """
        return self._fit(X, y, sample_weight, resume=self._resumes())

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> KStyleClassifier:
        """Trains the network for one epoch; the first call makes it.

        Args:
            X: As for `fit`.
            y: As for `fit`.
            classes: All labels that there will be: for the first call, unless y holds sets of labels.
            sample_weight: As for `fit`.
        Raises: ValueError: as for `fit`; without `classes` in the first call, or with others than in the first.
        """
        resume = hasattr(self, "model_")
        if not type_of_target(y).startswith("multilabel"):
            check_partial_fit(self, classes, self.class_weight)
        return self._fit(X, y, sample_weight, resume=resume, classes=classes, epochs=1)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, *, resume: bool, classes: Any = None, **settings: Any
    ) -> KStyleClassifier:
        X, y = self._validated(X, y, reset=not resume, multi_output=True)
        weights = checked_weights(sample_weight, X)
        y = _labels(y)
        targets = (
            self._targets if resume else LabelSets(y) if y.ndim == 2 else Labels(y if classes is None else classes)
        )
        coded = targets.encode(y)
        if isinstance(targets, Labels) and classes is None and not resume:
            targets.check_weights(coded, weights)
        weights = with_class_weight(self.class_weight, y, weights)
        self._targets, self.classes_ = targets, targets.classes
        self._train(X, coded, weights, resume=resume, stratify=coded if y.ndim == 1 else None, **settings)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Returns the likeliest label of each row, or a 1 for each label that is more likely than not."""
        logits = self._outputs(X)
        return self._targets.decode(logits)

    def decision_function(self, X: Any) -> np.ndarray:
        """Returns logits: (samples,) for two classes, else (samples, classes) or (samples, labels)."""
        logits = self._outputs(X)
        return self._targets.decision(logits)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns probabilities: (samples, classes), or (samples, labels) for sets of labels."""
        logits = self._outputs(X)
        return self._targets.probabilities(logits)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Returns the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class KStyleRegressor(RegressorMixin, NetworkEstimator):
    """A regressor: dense layers, and the mean squared error of one or several numbers.

    The first layer standardizes the features. The targets are standardized, too: `predict` gives them in their own units,
    `model_` in standard deviations from the mean.

    Args:
        hidden_layer_sizes: Units of each hidden layer.
        activation: Of the hidden layers, in Keras' or scikit-learn's names.
        dropout: Share of each hidden layer's outputs that training drops.
        alpha: Factor of the squared weights that are added to the loss.
        standardize: Whether features and targets are standardized, by means and variances of the first data seen.
        optimizer: Name or object.
        learning_rate: That of the optimizer if None.
        batch_size: Rows a step.
        epochs: How often `fit` goes through the data; at most, with `early_stopping`.
        shuffle: Whether each epoch has its own order.
        early_stopping: Whether training ends when the loss on held-out data no longer falls; the best weights are kept.
        validation_fraction: Share of the data that is held out then.
        n_iter_no_change: How many epochs it may fail to fall.
        tol: By how much it must fall to count.
        dtype: Of the network; that of X if None. "float32" is faster than "float64".
        random_state: Int or `RandomState` for the same result each time, which leaves all other random numbers alone;
            None to draw from those of the process.
        warm_start: Whether `fit` trains `model_` further.
        verbose: As for `Model.fit`.

    Attributes:
        model_: The network.
        history_: The `History` of the last `fit` or `partial_fit`; its losses are of standardized targets.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> regressor = KStyleRegressor((16,), learning_rate=0.01, epochs=20, random_state=0)
        >>> regressor.fit(X, y).score(X, y) > 0.4
        True
    """

    _scaler: StandardScaler

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KStyleRegressor:
        """Trains a new network; with `warm_start`, the last one further.

        Args:
            X: Array, DataFrame or sparse matrix (samples, features).
            y: Targets, (samples,) or (samples, outputs).
            sample_weight: A weight for each row; only their ratios count.
        Raises: ValueError: for data that does not go together.
        """
        return self._fit(X, y, sample_weight, resume=self._resumes())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> KStyleRegressor:
        """Trains the network for one epoch; the first call makes it.

        Args: X, y, sample_weight: As for `fit`.
        Raises: ValueError: as for `fit`.
        """
        return self._fit(X, y, sample_weight, resume=hasattr(self, "model_"), epochs=1)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, resume: bool, **settings: Any) -> KStyleRegressor:
        X, y = self._validated(X, y, reset=not resume, multi_output=True, y_numeric=True)
        weights = checked_weights(sample_weight, X)
        targets = self._targets if resume else Numbers(y)
        columns = targets.encode(y)
        if not resume:
            self._targets = targets
            self._scaler = StandardScaler(with_mean=self.standardize, with_std=self.standardize)
            self._scaler.fit(columns, sample_weight=weights)
        self._train(X, self._scaler.transform(columns), weights, resume=resume, **settings)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Returns the predicted targets, in the shape in which `fit` got them."""
        outputs = self._outputs(X)
        return self._targets.decode(self._scaler.inverse_transform(outputs))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _labels(y: Any) -> np.ndarray:
    """Returns labels (samples,), or columns of 0 and 1 for sets of labels.

    Raises: ValueError: for numbers that are not labels, and several columns of labels.
    """
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind == "multilabel-indicator":
        return y.toarray() if hasattr(y, "toarray") else y
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"y must be a label for each row, or columns of 0 and 1; got several columns of labels ({kind})."
        )
    return column_or_1d(y, warn=True)
