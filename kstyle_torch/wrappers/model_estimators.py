"""Keras' estimators: scikit-learn's methods around a model of the user's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import type_of_target

from kstyle_torch.models.model import Model
from kstyle_torch.registry import did_you_mean
from kstyle_torch.wrappers.base import Estimator, checked_weights
from kstyle_torch.wrappers.cloning import compiled_clone
from kstyle_torch.wrappers.outputs import is_sparse, probabilities, threshold
from kstyle_torch.wrappers.targets import Labels, Numbers, check_partial_fit, with_class_weight

# What `fit` hands on to `Model.fit`, for scikit-learn's metadata routing.
ROUTED = (
    "batch_size epochs verbose callbacks validation_split validation_data shuffle class_weight initial_epoch".split()
)
PREFIXES = {"model__": "model_kwargs", "fit__": "fit_kwargs"}  # of parameters in searches


class ModelEstimator(Estimator):
    """Base class of the estimators around a model."""

    __metadata_request__fit = dict.fromkeys(ROUTED)

    _targets: Any

    def __init__(
        self,
        model: Any,
        warm_start: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        fit_kwargs: dict[str, Any] | None = None,
        *,
        random_state: Any = None,
    ):
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the arguments of the constructor; with `deep`, those in its dicts too, as `model__name` and `fit__name`."""
        params = super().get_params(deep=deep)
        if deep:
            given = [(prefix, params[name]) for prefix, name in PREFIXES.items() if isinstance(params[name], dict)]
            params |= {prefix + key: value for prefix, kwargs in given for key, value in kwargs.items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """Sets arguments of the constructor; `model__name` one of `model_kwargs`, and `fit__name` one of `fit_kwargs`.

        Raises: ValueError: for one that the constructor, the function `model` or `Model.fit` does not have.
        """
        inner = {name: value for name, value in params.items() if name.startswith(tuple(PREFIXES))}
        super().set_params(**{name: value for name, value in params.items() if name not in inner})
        for name, value in inner.items():
            prefix, key = f"{name.partition('__')[0]}__", name.partition("__")[2]
            _check_argument(self.model if prefix == "model__" else Model.fit, key, name)
            setattr(self, PREFIXES[prefix], {**(getattr(self, PREFIXES[prefix]) or {}), key: value})
        return self

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Trains a new model; with `warm_start`, the last one further.

        Args:
            X: Array, DataFrame or sparse matrix (samples, features), or an array of more axes.
            y: Targets: labels (samples,) for a classifier, else (samples,) or (samples, outputs).
            sample_weight: A weight for each row.
            kwargs: Of `Model.fit`, before those in `fit_kwargs`.
        Raises: ValueError: for data that does not go together or does not fit the model. RuntimeError: if the model is not
            compiled with a loss.
        """
        return self._fit(X, y, sample_weight, {**(self.fit_kwargs or {}), **kwargs}, resume=self._resumes())

    def _settings_of_one_epoch(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**(self.fit_kwargs or {}), "epochs": 1, "initial_epoch": 0, **kwargs}

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, settings: dict[str, Any], *, resume: bool, classes: Any = None
    ) -> Any:
        X, y = self._validated_targets(X, y, reset=not resume)
        of_settings = settings.pop("sample_weight", None)
        weights = checked_weights(of_settings if sample_weight is None else sample_weight, X)
        targets = self._targets if resume else self._new_targets(y, classes)
        coded = targets.encode(y)
        self._check_weights(targets, coded, None if resume or classes is not None else weights)
        settings, weights = self._weighed(settings, y, weights)
        with self._random(resume):
            model = self.model_ if resume else self._new_model(X, self._for_model(targets, coded))
            trained = self._for_loss(model, targets, X, coded)
            settings = self._with_encoded_validation(settings, model, targets)
            history = model.fit(X, trained, sample_weight=weights, **settings)
        self.model_, self.history_, self._targets = model, history, targets
        return self

    # Steps of `_fit` that classifiers override.

    def _validated_targets(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        return self._validated(X, y, reset=reset, multi_output=True, y_numeric=True)

    def _new_targets(self, y: np.ndarray, classes: Any) -> Any:
        return Numbers(y)

    def _check_weights(self, targets: Any, coded: np.ndarray, weights: np.ndarray | None) -> None:
        """Checks that rows of positive weight suffice to learn from."""

    def _weighed(self, settings: dict[str, Any], y: Any, weights: Any) -> tuple[dict[str, Any], Any]:
        """Returns the settings, and sample weights that include their `class_weight`."""
        return settings, weights

    def _for_model(self, targets: Any, coded: np.ndarray) -> np.ndarray:
        """Returns what the function `model` is given as y."""
        return coded

    def _for_loss(self, model: Model, targets: Any, X: Any, coded: np.ndarray) -> np.ndarray:
        """Returns what the model is trained with as y."""
        return coded

    def _with_encoded_validation(self, settings: dict[str, Any], model: Model, targets: Any) -> dict[str, Any]:
        return settings

    # The same for all.

    def _new_model(self, X: Any, y: np.ndarray) -> Model:
        """Returns a clone of the model, the model itself where its weights are to be kept, or what the function makes.

        Raises: TypeError: for anything but a model. RuntimeError: for one that is not compiled with a loss.
        """
        model = self.model
        if not isinstance(model, Model):
            if not callable(model):
                raise TypeError(f"model must be a Model, or a function f(X, y) that returns one; got {model!r}.")
            model = model(X=X, y=y, **(self.model_kwargs or {}))
            if not isinstance(model, Model):
                raise TypeError(f"The function {self.model!r} must return a Model; got {type(model).__name__}.")
        if not model.compiled or not model.loss or not model.optimizer:
            raise RuntimeError(f"{model.name} must be compiled with an optimizer and a loss, model.compile(...).")
        return compiled_clone(model) if model is self.model and not self.warm_start else model

    def predict(self, X: Any) -> Any:
        """Returns the model's outputs in the shape in which `fit` got the targets."""
        outputs = self._outputs(X)
        return self._targets.decode(outputs)

    def _checks(self) -> dict[str, Any]:
        return {**super()._checks(), "allow_nd": True}

    def _outputs(self, X: Any) -> Any:
        X = self._validated_for_prediction(X)
        return self.model_.predict(X, verbose=0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.input_tags.three_d_array = True
        return tags


class SKLearnClassifier(ClassifierMixin, ModelEstimator):
    """A classifier around a model that has an output for each class, or a single one for two classes.

    The function `model` gets the labels one-hot encoded. The model is trained with them in the form that its loss takes:
    one-hot, as class numbers for a sparse loss, or as a column of 0 and 1 for a single output.

    Args:
        model: A compiled model, which is cloned with new weights; or a function of `X`, `y` and `model_kwargs` that returns
            one.
        warm_start: Whether `fit` continues from the current weights: those of the last `fit`, or at first those of `model`,
            which is then not cloned.
        model_kwargs: Further arguments of the function; searches set them as `model__name`.
        fit_kwargs: Arguments of `Model.fit`; those of `fit` take precedence. Searches set them as `fit__name`.
            `class_weight` is `{label: weight}` or "balanced".
        random_state: Int or `RandomState` for the same result each time, which leaves all other random numbers alone;
            None to draw from those of the process.

    Attributes:
        classes_: The labels, sorted.
        model_: The fitted model.
        history_: The `History` of the last `fit` or `partial_fit`.

    Example:
        >>> def network(X, y, units=8):
        ...     model = Sequential([Input(X.shape[1:]), layers.Dense(units, "relu"), layers.Dense(y.shape[1], "softmax")])
        ...     model.compile("adam", "categorical_crossentropy")
        ...     return model
        >>> classifier = SKLearnClassifier(network, fit_kwargs={"epochs": 2, "verbose": 0}, random_state=0)
        >>> classifier.fit(np.eye(3), ["b", "a", "c"]).predict_proba(np.eye(3)).shape
        (3, 3)
    """

    classes_: np.ndarray

    def partial_fit(self, X: Any, y: Any, classes: Any = None, *, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Trains the model for one epoch; the first call makes it.

        Args:
            X: As for `fit`.
            y: As for `fit`.
            classes: All labels that there will be; for the first call.
            sample_weight: As for `fit`.
            kwargs: As for `fit`.
        Raises: ValueError: as for `fit`; without `classes` in the first call, or with others than in the first.
        """
        resume, settings = hasattr(self, "model_"), self._settings_of_one_epoch(kwargs)
        check_partial_fit(self, classes, settings.get("class_weight"))
        return self._fit(X, y, sample_weight, settings, resume=resume, classes=classes)

    def decision_function(self, X: Any) -> np.ndarray:
        """Returns the model's outputs (samples, classes); for two classes one number a row, positive for the second.

        That is the difference of two outputs, and what a single one is above its threshold.
        """
        outputs = self._outputs(X)
        if outputs.shape[1] == 1:
            return outputs[:, 0] - threshold(self.model_.loss)
        return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Returns the label of the largest output, or the second one where a single output is above its threshold."""
        outputs = self._outputs(X)
        is_single = outputs.shape[1] == 1
        numbers = (outputs[:, 0] > threshold(self.model_.loss)).astype(int) if is_single else outputs.argmax(axis=1)
        return self.classes_[numbers]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns probabilities (samples, classes): the outputs with sum 1, or those of logits.

        Raises: ValueError: if the outputs are not probabilities, and the loss does not say `from_logits=True`.
        """
        outputs = self._outputs(X)
        return probabilities(outputs, self.model_.loss)

    def _fit(self, *args: Any, **kwargs: Any) -> Any:
        super()._fit(*args, **kwargs)
        self.classes_ = self._targets.classes
        return self

    def _validated_targets(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        X, y = self._validated(X, y, reset=reset)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise ValueError(f"y must hold a label for each row (binary or multiclass); got {kind} targets.")
        return X, y

    def _new_targets(self, y: np.ndarray, classes: Any) -> Labels:
        return Labels(y if classes is None else classes)

    def _check_weights(self, targets: Labels, coded: np.ndarray, weights: np.ndarray | None) -> None:
        targets.check_weights(coded, weights)

    def _weighed(self, settings: dict[str, Any], y: Any, weights: Any) -> tuple[dict[str, Any], Any]:
        settings = {**settings}
        return settings, with_class_weight(settings.pop("class_weight", None), y, weights)

    def _for_model(self, targets: Labels, coded: np.ndarray) -> np.ndarray:
        return targets.one_hot(coded)

    def _for_loss(self, model: Model, targets: Labels, X: Any, coded: np.ndarray) -> np.ndarray:
        shape = model.compute_output_shape((None, *X.shape[1:]))
        if shape == (None, 1) and len(targets.classes) == 2:
            return coded.reshape(-1, 1)
        if shape != (None, len(targets.classes)):
            raise ValueError(
                f"{model.name} must have one output of shape (None, {len(targets.classes)}), a column for each class; "
                f"got {shape}. The y that the function `model` is given has as many columns."
            )
        return coded if is_sparse(model.loss) else targets.one_hot(coded)

    def _with_encoded_validation(self, settings: dict[str, Any], model: Model, targets: Labels) -> dict[str, Any]:
        """Returns the settings with labels of validation data encoded as those that are trained on."""
        data = settings.get("validation_data")
        if not isinstance(data, (tuple, list)) or len(data) < 2 or np.ndim(data[1]) != 1:
            return settings
        X, coded = np.asarray(data[0]), targets.encode(np.asarray(data[1]))
        return {**settings, "validation_data": (X, self._for_loss(model, targets, X, coded), *data[2:])}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # it depends on the model
        return tags


class SKLearnRegressor(RegressorMixin, ModelEstimator):
    """A regressor around a model that has an output for each column of targets.

    Args:
        model: A compiled model, which is cloned with new weights; or a function of `X`, `y` and `model_kwargs` that returns
            one. The function gets targets as columns.
        warm_start: Whether `fit` continues from the current weights: those of the last `fit`, or at first those of `model`,
            which is then not cloned.
        model_kwargs: Further arguments of the function; searches set them as `model__name`.
        fit_kwargs: Arguments of `Model.fit`; those of `fit` take precedence. Searches set them as `fit__name`.
        random_state: Int or `RandomState` for the same result each time, which leaves all other random numbers alone;
            None to draw from those of the process.

    Attributes:
        model_: The fitted model.
        history_: The `History` of the last `fit` or `partial_fit`.

    Example:
        >>> model = Sequential([Input((2,)), layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> regressor = SKLearnRegressor(model, fit_kwargs={"verbose": 0})
        >>> regressor.fit(np.eye(2), [1.0, 2.0]).predict(np.eye(2)).shape
        (2,)
    """

    def partial_fit(self, X: Any, y: Any, *, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Trains the model for one epoch; the first call makes it.

        Args: X, y, sample_weight, kwargs: As for `fit`.
        Raises: ValueError: as for `fit`.
        """
        return self._fit(X, y, sample_weight, self._settings_of_one_epoch(kwargs), resume=hasattr(self, "model_"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True  # it depends on the model
        return tags


class SKLearnTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ModelEstimator):
    """A transformer, in scikit-learn's sense, around a model: its outputs are the new features.

    Args:
        model: A compiled model, which is cloned with new weights; or a function of `X`, `y` and `model_kwargs` that returns
            one. The function gets targets as columns.
        warm_start: Whether `fit` continues from the current weights: those of the last `fit`, or at first those of `model`,
            which is then not cloned.
        model_kwargs: Further arguments of the function; searches set them as `model__name`.
        fit_kwargs: Arguments of `Model.fit`; those of `fit` take precedence. Searches set them as `fit__name`.
        random_state: Int or `RandomState` for the same result each time, which leaves all other random numbers alone;
            None to draw from those of the process.

    Attributes:
        model_: The fitted model.
        history_: The `History` of the last `fit` or `partial_fit`.

    Example:
        >>> model = Sequential([Input((4,)), layers.Dense(2), layers.Dense(4)])
        >>> model.compile("adam", "mse")
        >>> transformer = SKLearnTransformer(model, fit_kwargs={"verbose": 0})
        >>> transformer.fit_transform(np.eye(4)).shape
        (4, 4)
    """

    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Trains a new model; with `warm_start`, the last one further.

        Args:
            X: Array, DataFrame or sparse matrix (samples, features), or an array of more axes.
            y: Targets, (samples,) or (samples, outputs); X itself if None.
            sample_weight: A weight for each row.
            kwargs: Of `Model.fit`, before those in `fit_kwargs`.
        Raises: ValueError: for data that does not go together or does not fit the model. RuntimeError: if the model is not
            compiled with a loss.
        """
        return super().fit(X, y, sample_weight=sample_weight, **kwargs)

    def partial_fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Trains the model for one epoch; the first call makes it.

        Args: X, y, sample_weight, kwargs: As for `fit`.
        Raises: ValueError: as for `fit`.
        """
        return self._fit(X, y, sample_weight, self._settings_of_one_epoch(kwargs), resume=hasattr(self, "model_"))

    def transform(self, X: Any) -> Any:
        """Returns the model's outputs."""
        return self._outputs(X)

    def _validated_targets(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        if y is not None:
            return super()._validated_targets(X, y, reset=reset)
        X = self._validated(X, None, reset=reset)
        return X, X.toarray() if hasattr(X, "toarray") else X

    @property
    def _n_features_out(self) -> int:
        """The number of columns that `transform` gives, for scikit-learn's names of them."""
        return int(self.model_.output_shape[-1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_argument(function: Any, name: str, parameter: str) -> None:
    """Raises a ValueError if a function cannot be given an argument by this name."""
    if isinstance(function, Model):
        raise ValueError(f"Invalid parameter {parameter!r}: model is a Model; only a function takes arguments.")
    known = inspect.signature(function).parameters
    if name not in known and not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        raise ValueError(
            f"Invalid parameter {parameter!r}: {function} has no argument {name!r}.{did_you_mean(name, known)}"
        )
