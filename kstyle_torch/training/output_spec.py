"""Outputs of a model, and how losses, weights, metrics and targets are matched to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.registry import did_you_mean


class Outputs:
    """The tensors of a model's output, each with an index and possibly a name.

    Args:
        y_pred: Output for any batch: a tensor, or a nest of them.
        layer_names: The names of the layers that computed the tensors, if known.
    """

    def __init__(self, y_pred: Any, layer_names: list[str] | None = None):
        self.paths = [path for path, _ in tree.flatten_with_path(y_pred)]
        self.nest = tree.pack_sequence_as(y_pred, list(range(len(self))))
        flat_dict = isinstance(self.nest, dict) and all(len(path) == 1 for path in self.paths)
        self.keys = [path[0] for path in self.paths] if flat_dict else None
        known = layer_names if layer_names and len(layer_names) == len(self) else None
        self.layer_names: list[Any] = [*known] if known else [None for _ in self.paths]
        self.names: list[Any] = self.keys or self.layer_names

    def __len__(self) -> int:
        return len(self.paths)

    def label(self, index: int, loss_name: str) -> str:
        """Returns the name of an output's loss: its path, with the layer's name in place of an index."""
        *path, last = self.paths[index] or (0,)
        name = self.layer_names[index] or loss_name
        return "/".join(map(str, [*path, name if isinstance(last, int) else last]))

    def prefix(self, index: int) -> str | None:
        """Returns the prefix of an output's metric names; None if it has no name or is the only output."""
        return self.names[index] if len(self) > 1 else None

    def flat(self, y_pred: Any) -> list[Tensor]:
        """Returns the tensors in order."""
        if isinstance(y_pred, Tensor):
            return [y_pred]
        if self.keys is not None and isinstance(y_pred, dict):
            return [y_pred[key] for key in self.keys]
        return tree.flatten(y_pred)

    def spread(self, given: Any, what: str) -> dict[int, Any]:
        """Returns a value for all outputs, or a list, dict or nest of values by output, as a dict by index in the given order.

        Raises: ValueError: if it does not match the outputs.
        """
        return dict(self._spread(given, self.nest, what))

    def _spread(self, given: Any, nest: Any, what: str) -> Iterator[tuple[int, Any]]:
        if isinstance(given, dict) and not is_config(given):
            yield from self._spread_dict(given, nest, what)
        elif isinstance(nest, int):
            yield nest, given
        elif isinstance(given, (list, tuple)):
            if len(given) == len(nest) and not isinstance(nest, dict):
                for part, below in zip(given, nest):
                    yield from self._spread(part, below, what)
            elif nest is self.nest and len(given) == len(self):
                yield from enumerate(given)
            elif len(self) == 1:
                yield 0, given
            else:
                raise ValueError(
                    f"{what} has {len(given)} entries for {self._described()}; give one for each, or a dict by output name."
                )
        else:
            for _, index in tree.flatten_with_path(nest):
                yield index, given

    def _spread_dict(self, given: dict[Any, Any], nest: Any, what: str) -> Iterator[tuple[int, Any]]:
        if isinstance(nest, dict) and given.keys() <= nest.keys():
            for key, part in given.items():
                yield from self._spread(part, nest[key], what)
        elif given.keys() <= {*self.layer_names}:
            yield from [(index, given[name]) for index, name in enumerate(self.layer_names) if name in given]
        elif len(self) == len(given) == 1 and self.names == [None]:
            yield 0, next(iter(given.values()))
        else:
            expected = list(nest) if isinstance(nest, dict) else self.names
            raise ValueError(f"Expected keys {expected} in the {what} dict, but found {list(given)}.")

    def align(self, given: Any, what: str, trained: list[bool] | None = None) -> list[Any]:
        """Returns targets or weights as a list by output, with None for missing ones.

        Args:
            given: A nest like that of the outputs; a list; a dict by name; or one tensor.
            what: "y" or "sample_weight", for messages. A single weight tensor applies to all outputs.
            trained: For each output, whether it has a loss; targets may leave out the others.
        Raises: ValueError: if it does not match the outputs.
        """
        count = len(self)
        if given is None:
            return [None] * count
        if isinstance(given, dict):
            return self._align_dict(given, what)
        if isinstance(given, Tensor) and (count == 1 or what != "y"):
            return [given] * count
        flat = tree.flatten(given)
        if len(flat) == count:
            return flat
        if trained is not None and len(flat) == sum(trained):
            rest = iter(flat)
            return [next(rest) if has_loss else None for has_loss in trained]
        raise ValueError(f"{what} has {len(flat)} array(s), but there are {self._described()}.")

    def _align_dict(self, given: dict[Any, Any], what: str) -> list[Any]:
        if isinstance(self.nest, dict) and given.keys() <= self.nest.keys():
            flat: list[Any] = [None] * len(self)
            for key, part in given.items():
                places = tree.flatten(self.nest[key])
                parts = tree.flatten(part)
                if len(parts) != len(places):
                    raise ValueError(f"{what}[{key!r}] has {len(parts)} array(s) for {len(places)} output(s).")
                for place, leaf in zip(places, parts):
                    flat[place] = leaf
            return flat
        if given.keys() <= {*self.layer_names}:
            return [given.get(name) for name in self.layer_names]
        if len(given) == len(self) and self.names == [None] * len(self):
            return tree.flatten(list(given.values()))
        names = [*self.nest] if isinstance(self.nest, dict) else self.names
        unknown = next(key for key in given if key not in names)
        raise ValueError(f"{what} has no output {unknown!r}.{did_you_mean(str(unknown), map(str, names))}")

    def _described(self) -> str:
        names = f" ({', '.join(map(str, self.names))})" if None not in self.names else ""
        return f"{len(self)} output{'s' if len(self) > 1 else ''}{names}"


def is_config(given: Any) -> bool:
    """Returns whether a dict is a serialized object rather than a mapping by output."""
    return isinstance(given, dict) and {"class_name", "config"} <= given.keys()


def each(function: Callable[[Any], Any], given: Any) -> Any:
    """Applies `function` to each item in a user's lists and dicts by output."""
    if isinstance(given, dict) and not is_config(given):
        return {key: each(function, item) for key, item in given.items()}
    if isinstance(given, (list, tuple)):
        return [each(function, item) for item in given]
    return function(given)
