"""The names of a model's inputs in data, by which inputs and targets in one dict are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstyle_torch import tree
from kstyle_torch.data.labelled import Naming, check_is_no_collection, is_table
from kstyle_torch.training import step
from kstyle_torch.training.protocols import Trainable


class NamedData(Trainable):
    """Base of models: takes targets out of data that holds inputs and targets under names."""

    _takes_one_input = False  # before there is a graph

    def _with_targets(self, x: Any, y: Any, needs_targets: bool = True) -> tuple[Any, Any]:
        """Returns inputs and targets; takes both from x if it is a dict with `labels` or a data set of `datasets`.

        Args:
            x: The user's data.
            y: Targets of the user, which come before those in x.
            needs_targets: Whether the data is for a loss.
        """
        if isinstance(x, Mapping):
            check_is_no_collection(x)
            naming = self._naming(needs_targets) if y is None else None
            return (x, y) if naming is None else naming.split(x)
        if is_table(x):
            x, own = Naming(self._is_input, self._choose_inputs).split_table(x)
            return x, own if y is None else y
        return x, y

    def _naming(self, needs_targets: bool) -> Naming | None:
        """Returns how a dict is split; None if all of it is input, as in Keras.

        It is split only where nothing can be lost: where a loss would have no targets otherwise, and in `predict` where the
        names of all inputs are known.
        """
        if needs_targets:
            losses = [] if self._compiled is None else tree.flatten(self._compiled.loss.spec)
            own_step = step.owns_step(self, "train", "compute_loss")
            splits = not own_step and any(spec is not None for spec in losses)
        else:
            splits = self._knows_inputs
        return Naming(self._is_input, self._choose_inputs) if splits else None

    @property
    def _knows_inputs(self) -> bool:
        """Tells whether the names of all inputs are known."""
        return self.graph is not None

    def _is_input(self, name: str) -> bool:
        """Returns whether the model is known to have an input of this name."""
        return name in self._input_keys

    def _choose_inputs(self, named: dict[str, Any]) -> Any:
        """Returns the inputs among named data: a dict, or the data of a single input, whatever its name is."""
        keys = self._input_keys
        if keys and keys <= named.keys():
            return {name: value for name, value in named.items() if name in keys}
        takes_one = self._takes_one_input if self.graph is None else tree.is_nested(self.graph.inputs) is False
        return next(iter(named.values())) if takes_one and len(named) == 1 else named

    @property
    def _input_keys(self) -> set[str]:
        """The names under which data is given, those of the graph's dict or of its inputs."""
        if self.graph is None:
            return set()
        if isinstance(self.graph.inputs, dict) and self.graph.inputs.keys():
            return {str(path[0]) for path, _ in tree.flatten_with_path(self.graph.inputs)}
        return {source.name for source in self.graph.sources}
