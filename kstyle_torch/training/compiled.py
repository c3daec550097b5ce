"""What `compile` makes: losses and metrics by output, the optimizer, and what an epoch remembers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kstyle_torch import optimizers, tree
from kstyle_torch.losses.base import Loss
from kstyle_torch.losses.identify import to_loss
from kstyle_torch.metrics.accuracy import resolve_accuracy
from kstyle_torch.metrics.base import Metric
from kstyle_torch.metrics.identifiers import is_accuracy, to_metric
from kstyle_torch.metrics.reduction import Mean
from kstyle_torch.registry import did_you_mean

BY_SHAPE = ("crossentropy", "ce")  # like accuracy, a name whose meaning the shapes decide


class OutputLoss(NamedTuple):
    """The loss of one output."""

    output: int
    loss: Loss
    weight: float | None
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
        loss: What `compile(loss=...)` got: one for all outputs, or a list or dict by output.
        weights: `loss_weights`: a number, or a list or dict by output.
    Raises: ValueError: for an unknown name.
    """

    def __init__(self, loss: Any, weights: Any):
        self.spec = _map(lambda item: item if item is None or item in BY_SHAPE else to_loss(item), loss)
        self.weights = weights
        self.entries: list[OutputLoss] = []
        self.built = False

    def build(self, names: list[str | None], y_true: list[Any], y_pred: list[Tensor]) -> None:
        """Gives each output its loss, now that the outputs are known.

        Raises: ValueError: if the losses do not go with the outputs.
        """
        specs = by_output(self.spec, names, "loss")
        weights = by_output(self.weights, names, "loss_weights") if self.weights is not None else [None] * len(names)
        entries: list[tuple[int, Loss, Any]] = []
        for index, (spec, weight) in enumerate(zip(specs, weights, strict=True)):
            parts = spec if isinstance(spec, (list, tuple)) else [spec]
            shares = weight if isinstance(weight, (list, tuple)) else [weight] * len(parts)
            for part, share in zip(parts, shares, strict=True):
                if part in BY_SHAPE and part is not None:
                    part = to_loss(_crossentropy(y_true[index], y_pred[index]), part)
                if part is not None:
                    entries.append((index, part, share))
        several = len(entries) > 1
        self.entries = [
            OutputLoss(index, loss, share, Mean(name=f"{names[index] or loss.name}_loss") if several else None)
            for index, loss, share in entries
        ]
        self.built = True

    def __call__(self, y_true: list[Any], y_pred: list[Tensor], weights: list[Any]) -> Tensor | None:
        total = None
        for index, loss, share, tracker in self.entries:
            if y_true[index] is None:
                raise ValueError(f"Loss {loss.name!r} needs targets, but there is no y for it.")
            value = loss(y_true[index], y_pred[index], weights[index])
            if tracker is not None:
                tracker.update_state(value, y_pred[index].shape[0])
            if share is not None:
                value = value * share
            total = value if total is None else total + value
        return total


class CompiledMetrics(Metric):
    """The metrics of all outputs, as one: `result()` is a dict.

    Args:
        metrics: What `compile(metrics=...)` got: a list for a single output, else a list or dict by output.
        weighted: `weighted_metrics`, likewise.
    Raises: ValueError: for an unknown name.
    """

    def __init__(self, metrics: Any, weighted: Any):
        super().__init__(name="compile_metrics")
        self.spec = _map(_metric, metrics)
        self.weighted_spec = _map(_metric, weighted)
        self.entries: list[OutputMetric] = []
        self.built = False
        self.names: list[str | None] = [None]

    def build(self, names: list[str | None], y_true: list[Any], y_pred: list[Tensor]) -> None:
        """Gives each output its metrics, now that the outputs are known.

        Raises: ValueError: if the metrics do not go with the outputs.
        """
        self.names = names
        used: dict[str, int] = {}
        self.entries = []
        for spec, weighted in ((self.spec, False), (self.weighted_spec, True)):
            if not spec:
                continue
            per_output = by_output(spec, names, "weighted_metrics" if weighted else "metrics")
            for index, group in enumerate(per_output):
                for item in tree.flatten(group) if group is not None else []:
                    if item is None:
                        continue
                    metric = resolve_accuracy(item, y_true[index], y_pred[index]) if isinstance(item, str) else item
                    prefix = f"{names[index]}_" if len(names) > 1 and names[index] else ""
                    key = _free_key(prefix, metric.name, used, weighted)
                    self.entries.append(OutputMetric(key, index, metric, weighted))
        self.built = True

    @property
    def metrics(self) -> list[Any]:
        """The metric objects."""
        return [entry.metric for entry in self.entries]

    @property
    def variables(self) -> list[Any]:
        """The state of all."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch in."""
        outputs = flat_outputs(y_pred, self.names)
        names: list[str | None] = self.names if len(self.names) == len(outputs) else [None for _ in outputs]
        targets = align(y_true, names, "y")
        if not self.built:
            self.build(names, targets, outputs)
        self.update(targets, outputs, align(sample_weight, names, "sample_weight"))

    def update(self, y_true: list[Any], y_pred: list[Tensor], weights: list[Any]) -> None:
        """Takes a batch in, by output."""
        for _, index, metric, weighted in self.entries:
            if y_true[index] is not None:
                if weighted:
                    metric.update_state(y_true[index], y_pred[index], weights[index])
                else:
                    metric.update_state(y_true[index], y_pred[index])

    def result(self) -> dict[str, Any]:
        """`{key: value so far}`."""
        return {entry.key: entry.metric.result() for entry in self.entries}

    def reset_state(self) -> None:
        """Forgets all batches."""
        for metric in self.metrics:
            metric.reset_state()

    def to(self, device: Any) -> None:
        """Moves the state to a device."""
        for metric in self.metrics:
            metric.to(device)


class Compiled:
    """All that `compile` was told, made into objects; nothing of it is a child module.

    Args:
        optimizer: Name, config, object, class; torch's too.
        loss: See `CompiledLoss`.
        loss_weights: See there.
        metrics: See `CompiledMetrics`.
        weighted_metrics: See there.
    Raises: ValueError: for an unknown name. TypeError: for what cannot be meant.
    """

    def __init__(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any):
        for what, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, (list, tuple, dict)):
                raise ValueError(f"{what} must be a list or dict, such as {what}=['accuracy']; got {value!r}.")
        self.optimizer = optimizers.get(optimizer)
        self.loss = CompiledLoss(loss, loss_weights)
        self.metrics = CompiledMetrics(metrics, weighted_metrics)
        self.loss_tracker = Mean(name="loss")
        self.parameters: list[Any] = []
        self.output_shapes: list[torch.Size] = []  # of some batch
        self.names: list[str | None] = [None]

    def build(self, names: list[str] | None, y_true: Any, y_pred: Any) -> None:
        """Fits losses and metrics to the outputs; once.

        Args:
            names: Of the outputs, if the model gives them names.
            y_true: Targets of some samples.
            y_pred: Outputs for them.
        """
        if self.loss.built and self.metrics.built:
            return
        if isinstance(y_pred, dict) and (not names or set(names) != set(y_pred)):
            names = list(y_pred)
        outputs = flat_outputs(y_pred, names)
        known = bool(names) and len(names or ()) == len(outputs)
        self.names = [*names] if known and names else [None for _ in outputs]
        targets = align(y_true, self.names, "y", self._trained_outputs())
        self.loss.build(self.names, targets, outputs)
        self.metrics.build(self.names, targets, outputs)

    def _trained_outputs(self) -> list[bool] | None:
        spec = self.loss.spec
        return [item is not None for item in spec] if isinstance(spec, (list, tuple)) else None

    def compute_loss(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Tensor | None:
        """The loss of a batch; None if no output has one."""
        return self.loss(*self.by_output(y_true, y_pred, sample_weight))

    def by_output(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[list[Any], list[Tensor], list[Any]]:
        """Targets, outputs and weights as lists with an entry for each output."""
        if isinstance(y_pred, Tensor) and not tree.is_nested(y_true) and not tree.is_nested(sample_weight):
            return [y_true], [y_pred], [sample_weight]
        if not self.loss.built:
            self.build(None, y_true, y_pred)
        outputs = flat_outputs(y_pred, self.names)
        targets = align(y_true, self.names, "y", self._trained_outputs())
        return targets, outputs, align(sample_weight, self.names, "sample_weight")

    @property
    def trackers(self) -> list[Mean]:
        """The means of the outputs' losses, where there are several."""
        return [entry.tracker for entry in self.loss.entries if entry.tracker is not None]


def by_output(spec: Any, names: list[Any], what: str) -> list[Any]:
    """What the user gave for all outputs, or by output as list or dict, as a list by output.

    Raises: ValueError: if it does not go with the outputs.
    """
    if isinstance(spec, dict):
        unknown = [key for key in spec if key not in names]
        if unknown and not (len(names) == 1 and len(spec) == 1):
            raise ValueError(f"Expected keys {names} in the {what} dict, but found {list(spec)}.")
        return [next(iter(spec.values()))] if len(names) == 1 else [spec.get(name) for name in names]
    if len(names) == 1:
        return [spec]
    if isinstance(spec, (list, tuple)):
        if len(spec) != len(names):
            raise ValueError(
                f"{what} has {len(spec)} entries for {len(names)} outputs ({', '.join(map(str, names))}); give one for "
                "each, or a dict by output name."
            )
        return list(spec)
    return [spec] * len(names)


def align(values: Any, names: list[Any], what: str, trained: list[bool] | None = None) -> list[Any]:
    """Targets or weights as a list with an entry for each output; None where there is none.

    Raises: ValueError: if they do not go with the outputs.
    """
    count = len(names)
    if values is None:
        return [None] * count
    if isinstance(values, dict):
        unknown = [key for key in values if key not in names]
        if unknown and any(names) and not (count == 1 and len(values) == 1):
            raise ValueError(f"{what} has no output {unknown[0]!r}.{did_you_mean(str(unknown[0]), names)}")
        return list(values.values()) if not any(names) or count == 1 else [values.get(name) for name in names]
    if not isinstance(values, (list, tuple)):
        return [values] if count == 1 or what == "y" else [values] * count
    flat = tree.flatten(values)
    if len(flat) == count:
        return flat
    if trained is not None and len(flat) == sum(trained):
        rest = iter(flat)
        return [next(rest) if used else None for used in trained]
    raise ValueError(f"{what} has {len(flat)} arrays, but the model has {count} outputs.")


def flat_outputs(y_pred: Any, names: Any) -> list[Tensor]:
    """The outputs in the order of their names."""
    if isinstance(y_pred, Tensor):
        return [y_pred]
    if isinstance(y_pred, dict) and names and set(names) == set(y_pred):
        return [y_pred[name] for name in names]
    return tree.flatten(y_pred)


def _metric(item: Any) -> Any:
    return item if item is None or is_accuracy(item) else to_metric(item)


def _map(function: Any, spec: Any) -> Any:
    if isinstance(spec, dict):
        return {key: _map(function, item) for key, item in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [_map(function, item) for item in spec]
    return function(spec)


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


def iterate_views(model: Any) -> Iterator[Any]:
    """The views of all weights that training changes and a penalty is on."""
    return (view for view in model.trainable_weights if view.regularizer is not None)


def read(values: dict[str, Any]) -> dict[str, float]:
    """Scalars on a device -> floats, in one transfer."""
    tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
    numbers = {key: float(value) for key, value in values.items() if key not in tensors}
    if tensors:
        flat = torch.stack([value.detach().reshape(()).to(torch.float32) for value in tensors.values()])
        numbers.update(zip(tensors, flat.tolist(), strict=True))  # host waits for the device here
    return {key: numbers[key] for key in sorted(values)}
