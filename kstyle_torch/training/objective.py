"""Objective, the result of `compile`: losses and metrics by output, the optimizer, and state of an epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kstyle_torch import optimizers, tree
from kstyle_torch.losses.base import Loss
from kstyle_torch.losses.lookup import to_loss
from kstyle_torch.metrics.accuracy import resolve_accuracy
from kstyle_torch.metrics.base import Metric
from kstyle_torch.metrics.lookup import is_accuracy, to_metric
from kstyle_torch.metrics.reduction import Mean
from kstyle_torch.metrics.torch_metric import TorchMetric, no_weights
from kstyle_torch.training.output_spec import Outputs, each
from kstyle_torch.variables import Variable

BY_SHAPE = ("crossentropy", "ce")  # like accuracy, resolved from the shapes of targets and outputs


class OutputLoss(NamedTuple):
    """The loss of one output."""

    output: int
    loss: Loss
    weight: float | Tensor | None
    tracker: Mean | None


class OutputMetric(NamedTuple):
    """A metric of one output."""

    key: str
    output: int
    metric: Any
    weighted: bool


class CompiledLoss:
    """The losses of all outputs.

    Args:
        loss: The argument of `compile(loss=...)`: one for all outputs, or a list, dict or nest by output.
        weights: `loss_weights`: a number, or a list, dict or nest by output.
    Raises: ValueError: for an unknown name, or weights that are not numbers. TypeError: for an object that is not a loss.
    """

    def __init__(self, loss: Any, weights: Any):
        self.given = loss
        self.spec = each(lambda item: item if item is None or item in BY_SHAPE else to_loss(item), loss)
        self.weights = weights
        self.entries: list[OutputLoss] = []
        each(_check_weight, weights)

    def trained(self, outputs: Outputs) -> list[bool]:
        """Returns which outputs have a loss.

        Raises: ValueError: if the losses do not match the outputs.
        """
        specs = outputs.spread(self.spec, "loss")
        return [any(part is not None for part in tree.flatten(specs.get(place))) for place in range(len(outputs))]

    def build(self, outputs: Outputs, y_true: list[Any], y_pred: list[Tensor]) -> None:
        """Assigns a loss to each output, now that the outputs are known.

        Raises: ValueError: if losses and weights do not match the outputs or each other.
        """
        specs = outputs.spread(self.spec, "loss")
        weights = outputs.spread(self.weights, "loss_weights") if self.weights is not None else {}
        entries: list[tuple[int, Loss, Any]] = []
        for place, spec in specs.items():
            parts = [*spec] if isinstance(spec, (list, tuple)) else [spec]
            share = weights.get(place)
            shares = [*share] if isinstance(share, (list, tuple)) else [share] * len(parts)
            if len(shares) != len(parts):
                raise ValueError(f"loss_weights must match the losses: {len(parts)} loss(es), {len(shares)} weight(s).")
            for part, factor in zip(parts, shares):
                if part in BY_SHAPE and part is not None:
                    part = to_loss(_crossentropy(y_true[place], y_pred[place]), part)
                if part is not None:
                    entries.append((place, part, factor))
        several = len(entries) > 1
        self.entries = [
            OutputLoss(place, loss, share, Mean(name=f"{outputs.label(place, loss.name)}_loss") if several else None)
            for place, loss, share in entries
        ]

    def __call__(self, y_true: list[Any], y_pred: list[Tensor], weights: list[Any]) -> Tensor | None:
        total = None
        for index, loss, share, tracker in self.entries:
            if y_true[index] is None:
                raise ValueError(needs_targets(loss.name))
            value = loss(y_true[index], y_pred[index], weights[index])
            if tracker is not None:
                tracker.update_state(value, y_pred[index].shape[0])
            if share is not None:
                value = value * share
            total = value if total is None else total + value
        return total


def update(entries: list[OutputMetric], y_true: list[Any], y_pred: list[Tensor], weights: list[Any]) -> None:
    """Updates metrics with a batch; outputs without targets are skipped."""
    for _, index, metric, weighted in entries:
        if y_true[index] is not None:
            if weighted:
                metric.update_state(y_true[index], y_pred[index], weights[index])
            else:
                metric.update_state(y_true[index], y_pred[index])


class CompiledMetrics(Metric):
    """The metrics of all outputs as one metric, whose `result()` is a dict.

    Args:
        metrics: The argument of `compile(metrics=...)`: a list for a single output, else a list or dict by output.
        weighted: `weighted_metrics`, likewise.
    Raises: ValueError: for an unknown name.
    """

    def __init__(self, metrics: Any, weighted: Any):
        super().__init__(name="compile_metrics")
        self.spec = each(_metric, metrics)
        self.weighted_spec = each(_weighted_metric, weighted)
        self.given = metrics is not None or weighted is not None
        self.entries: list[OutputMetric] = []
        self.built = False
        self.outputs: Outputs | None = None

    def build(self, outputs: Outputs, y_true: list[Any], y_pred: list[Tensor]) -> None:
        """Assigns metrics to each output, now that the outputs are known.

        Raises: ValueError: if the metrics do not match the outputs.
        """
        self.outputs = outputs
        used: dict[str, int] = {}
        self.entries = []
        for spec, weighted in ((self.spec, False), (self.weighted_spec, True)):
            for place, group in sorted(self._groups(spec, weighted).items()):
                prefix = f"{outputs.prefix(place)}_" if outputs.prefix(place) else ""
                for item in tree.flatten(group):
                    if item is None:
                        continue
                    metric = resolve_accuracy(item, y_true[place], y_pred[place]) if isinstance(item, str) else item
                    key = _free_key(prefix, metric.name, used, weighted)
                    self.entries.append(OutputMetric(key, place, metric, weighted))
        self.built = True

    def _groups(self, spec: Any, weighted: bool) -> dict[int, Any]:
        assert self.outputs is not None
        if not spec:
            return {}
        if len(self.outputs) == 1:
            return {0: spec}
        return self.outputs.spread(spec, "weighted_metrics" if weighted else "metrics")

    @property
    def metrics(self) -> list[Any]:
        """The metric objects."""
        return [entry.metric for entry in self.entries]

    @property
    def variables(self) -> list[Any]:
        """The state of all metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch to the state."""
        if self.outputs is None:
            outputs = Outputs(y_pred)
            self.build(outputs, outputs.align(y_true, "y"), outputs.flat(y_pred))
        assert self.outputs is not None
        weights = self.outputs.align(sample_weight, "sample_weight")
        self.update(self.outputs.align(y_true, "y"), self.outputs.flat(y_pred), weights)

    def update(self, y_true: list[Any], y_pred: list[Tensor], weights: list[Any]) -> None:
        """Adds a batch to the state, given by output."""
        update(self.entries, y_true, y_pred, weights)

    def result(self) -> dict[str, Any]:
        """Returns `{key: value so far}`."""
        return {entry.key: entry.metric.result() for entry in self.entries}

    def reset_state(self) -> None:
        """Resets the state."""
        for metric in self.metrics:
            metric.reset_state()

    def to(self, device: Any) -> None:
        """Moves the state to a device."""
        for metric in self.metrics:
            metric.to(device)


class Objective:
    """Objects made from the arguments of `compile`. None of them is a child module of the model.

    Args:
        optimizer: Name, config, object or class, of Keras' or torch's optimizers.
        loss: See `CompiledLoss`.
        loss_weights: See there.
        metrics: See `CompiledMetrics`.
        weighted_metrics: See there.
    Raises: ValueError: for an unknown name. TypeError: for an object of the wrong kind.
    """

    def __init__(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any):
        for what, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, (list, tuple, dict)):
                raise ValueError(f"{what} must be a list or dict, such as {what}=['accuracy']; got {value!r}.")
        self.optimizer = optimizers.get(optimizer)
        self.loss = CompiledLoss(loss, loss_weights)
        self.metrics = CompiledMetrics(metrics, weighted_metrics)
        self.loss_tracker = Mean(name="loss")
        self.views: list[Any] = []  # of the trained weights
        self.parameters: list[Any] = []
        self.output_shapes: list[torch.Size] = []  # of an arbitrary batch
        self.outputs: Any = None  # Outputs, once they are known
        self.has_loss: list[bool] | None = None  # by output
        self.head: Any = None  # fused crossentropy, if it applies; see losses/fused_crossentropy.py

    def build(self, names: list[str] | None, y_true: Any, y_pred: Any) -> None:
        """Assigns losses and metrics to outputs; only the first call has an effect.

        Args:
            names: Names of the layers that compute the outputs, if known.
            y_true: Targets of some samples.
            y_pred: Outputs for them.
        Raises: ValueError: if losses, metrics or targets do not match the outputs.
        """
        if self.outputs is not None:
            return
        outputs = Outputs(y_pred, names)
        has_loss = self.loss.trained(outputs)
        targets, flat = outputs.align(y_true, "y", has_loss), outputs.flat(y_pred)
        self.loss.build(outputs, targets, flat)
        if not self.metrics.built:
            self.metrics.build(outputs, targets, flat)
        self.outputs, self.has_loss = outputs, has_loss

    def compute_loss(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Tensor | None:
        """Returns the loss of a batch; None if no output has one."""
        return self.loss(*self.by_output(y_true, y_pred, sample_weight))

    def by_output(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[list[Any], list[Tensor], list[Any]]:
        """Returns targets, outputs and weights as lists with an entry for each output."""
        if isinstance(y_pred, Tensor) and not tree.is_nested(y_true) and not tree.is_nested(sample_weight):
            return [y_true], [y_pred], [sample_weight]
        if self.outputs is None:
            self.build(None, y_true, y_pred)
        outputs = self.outputs
        targets = self.targets(y_true)
        return targets, outputs.flat(y_pred), outputs.align(sample_weight, "sample_weight", self.has_loss)

    def targets(self, y_true: Any) -> list[Any]:
        """Returns the targets as a list with an entry for each output."""
        aligned: list[Any] = self.outputs.align(y_true, "y", self.has_loss)
        return aligned

    def with_own_metrics(self) -> Objective:
        """Returns a copy whose metrics have their own state."""
        other = copy.copy(self)
        other.metrics, other.loss = copy.copy(self.metrics), copy.copy(self.loss)
        other.loss_tracker = copy.deepcopy(self.loss_tracker)
        other.metrics.entries = [each._replace(metric=copy.deepcopy(each.metric)) for each in self.metrics.entries]
        other.loss.entries = [each._replace(tracker=copy.deepcopy(each.tracker)) for each in self.loss.entries]
        return other

    @property
    def trackers(self) -> list[Mean]:
        """The means of the individual losses, if there are several."""
        return [entry.tracker for entry in self.loss.entries if entry.tracker is not None]


def needs_targets(name: str) -> str:
    """Returns the error message for a loss without targets."""
    return f"Loss {name!r} needs targets, but there is no y for it."


def _check_weight(weight: Any) -> None:
    if weight is not None and not isinstance(weight, (Real, Tensor, Variable)):
        hint = (
            f" The third argument of compile() is loss_weights; write metrics=[{weight!r}]."
            if isinstance(weight, str)
            else ""
        )
        raise ValueError(f"loss_weights must be numbers, or a list or dict of them by output; got {weight!r}.{hint}")


def _weighted_metric(item: Any) -> Any:
    metric = _metric(item)
    if isinstance(metric, TorchMetric):
        raise ValueError(no_weights(metric.name))
    return metric


def _metric(item: Any) -> Any:
    return item if item is None or is_accuracy(item) else to_metric(item)


def _crossentropy(y_true: Any, y_pred: Tensor) -> str:
    if y_pred.shape[-1] == 1:
        return "binary_crossentropy"
    sparse = y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1
    return "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"


def _free_key(prefix: str, name: str, used: dict[str, int], weighted: bool) -> str:
    key = f"{prefix}{name}"
    if weighted and key in used:
        key = f"{prefix}weighted_{name}"
    number = used.get(key, 0)
    used[key] = number + 1
    return f"{key}_{number}" if number else key


def read(values: dict[str, Any]) -> dict[str, Any]:
    """Converts logs to floats, and to arrays those with several numbers, in one transfer from the device.

    Keys are sorted; a nested dict is replaced by its items at the position of its key.
    """
    flat = dict(_leaves(values))
    tensors = {key: value.detach() for key, value in flat.items() if isinstance(value, Tensor)}
    if tensors:
        parts = [value.reshape(-1).to(torch.float32) for value in tensors.values()]
        joined = torch.cat(parts).cpu().numpy()  # host waits for the device here
        start = 0
        for key, value in tensors.items():
            numbers = joined[start : start + value.numel()]
            flat[key] = numbers.reshape(value.shape) if len(numbers) != 1 else float(numbers[0])
            start += value.numel()
    return {key: _number(value) for key, value in flat.items()}


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _leaves(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in sorted(values):
        value = values[key]
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield key, value.value if isinstance(value, Variable) else value
