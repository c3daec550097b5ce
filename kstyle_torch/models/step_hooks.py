"""Hooks of training: the methods of a model that a subclass may override, and the functions of a step."""

from __future__ import annotations

from typing import Any

from kstyle_torch.data.split import unpack
from kstyle_torch.models.fit_attributes import FitAttribute
from kstyle_torch.training import step
from kstyle_torch.training.fit_state import StepFunction
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.run import within_run
from kstyle_torch.variables import holding_values


class StepHooks(Trainable):
    """Base of `Trainer` with steps, step functions, loss and metrics."""

    train_function = FitAttribute(
        "train_function", "Function of `[batch]` that `fit` and `train_on_batch` call for a step, if it is not None."
    )
    test_function = FitAttribute("test_function", "Likewise for `evaluate` and `test_on_batch`.")
    predict_function = FitAttribute("predict_function", "Likewise for `predict` and `predict_on_batch`.")

    def train_step(self, data: Any) -> dict[str, Any]:
        """Runs one training step; override it for custom training.

        Args:
            data: `(x, y)` or `(x, y, sample_weight)`, on the device.
        Returns: `{name: value}` for the logs.
        """
        x, y, weight = unpack(data)
        with within_run(self, "training") as model:
            if model._compiled is not None and model._compiled.views is not model._fit.trained:
                step.prepare(model)
            loss, y_pred = step.train_step(model, x, y, weight)
            return step.noted(model, loss, y_pred, x, y, weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Runs one step of `evaluate`; see `train_step`."""
        x, y, weight = unpack(data)
        with within_run(self, "evaluating") as model:
            loss, y_pred = step.test_step(model, x, y, weight)
            return step.noted(model, loss, y_pred, x, y, weight)

    def predict_step(self, data: Any) -> Any:
        """Runs one step of `predict`. Returns: The outputs for `data`, `(x,)`."""
        x, _, _ = unpack(data)
        with within_run(self, "predicting") as model:
            return step.predict_step(model, x)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the loss of a batch: the compiled loss, penalties on weights, and losses added by layers."""
        return step.compute_loss(self, y, y_pred, sample_weight)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Updates the metrics with a batch. Returns: Their values so far."""
        assert self._compiled is not None
        if y_pred is not None or self._compiled.metrics.given:
            self._compiled.metrics.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def stateless_compute_loss(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        metrics_variables: Any,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tuple[Any, tuple[Any, list[Any], list[Any]]]:
        """Returns the loss of a batch for given values of the variables; the model's own are not changed.

        Gradients reach `y_pred` and, through the penalties on weights, `trainable_variables`, but not through weights of
        the model that an overridden `compute_loss` reads.

        Args:
            trainable_variables: A value for each of `trainable_variables`.
            non_trainable_variables: Likewise for `non_trainable_variables`.
            metrics_variables: Likewise for `metrics_variables`.
            x: As for `compute_loss`, like all others.
        Returns: The loss, and the values of the three kinds of variables after it.
        Raises: ValueError: if there are not as many values as variables.
        """
        groups = {
            name: getattr(self, name)
            for name in ("trainable_variables", "non_trainable_variables", "metrics_variables")
        }
        given = trainable_variables, non_trainable_variables, metrics_variables
        with holding_values(groups, given) as read:
            loss = step.told_loss(self, x, y, y_pred, sample_weight, training)
            for variable, value in zip(groups["trainable_variables"], trainable_variables, strict=True):
                penalty = variable.regularizer
                if penalty is not None:  # the same number, but with a gradient for the given value
                    loss = loss + (penalty(value) - penalty(variable.read()))
            _, others, metrics = read()
        return loss, (trainable_variables, others, metrics)

    def make_train_function(self, force: bool = False) -> Any:
        """Creates `train_function` if it is None; `fit` and `train_on_batch` call an overridden one.

        Args:
            force: Whether to replace an existing one.
        Returns: The function: of `[batch]`, it returns the logs.
        """
        return self._made_function("train", force)

    def make_test_function(self, force: bool = False) -> Any:
        """Creates `test_function`; see `make_train_function`."""
        return self._made_function("test", force)

    def make_predict_function(self, force: bool = False) -> Any:
        """Creates `predict_function`; see `make_train_function`."""
        return self._made_function("predict", force)

    def _made_function(self, kind: str, force: bool) -> Any:
        name = f"{kind}_function"
        if force or getattr(self._fit, name) is None:
            setattr(self._fit, name, StepFunction(self, kind))
        return getattr(self._fit, name)
