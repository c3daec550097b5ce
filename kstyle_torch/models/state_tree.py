"""The state tree of a model: values of weights, optimizer and metrics as nested dicts by their paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

KINDS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
FORMATS = ("backend_tensor", "numpy_array")


def tree_of(model: Any, value_format: str) -> dict[str, Any]:
    """Returns `{kind: nested dict}`; see `Model.get_state_tree`."""
    if value_format not in FORMATS:
        raise ValueError(f"value_format must be one of {', '.join(map(repr, FORMATS))}; got {value_format!r}.")
    return {kind: _nested(_variables(model, kind), value_format == "numpy_array") for kind in KINDS}


def set_state_tree(model: Any, tree: dict[str, Any]) -> None:
    """Sets the variables whose paths are in a state tree; see `Model.set_state_tree`."""
    unknown = next((kind for kind in tree if kind not in KINDS), None)
    if unknown is not None:
        raise ValueError(f"A state tree has the keys {', '.join(KINDS)}; got {unknown!r}.")
    for kind, nest in tree.items():
        by_path = {variable.path: variable for variable in _variables(model, kind)}
        for path, value in _leaves(nest):
            if path in by_path:
                by_path[path].assign(value)


def _variables(model: Any, kind: str) -> Sequence[Any]:
    if kind != "optimizer_variables":
        found: Sequence[Any] = getattr(model, kind)
        return found
    return getattr(model.optimizer, "variables", ())


def _nested(variables: Sequence[Any], as_arrays: bool) -> dict[str, Any]:
    """Raises a ValueError if two variables have the same path."""
    nest: dict[str, Any] = {}
    paths = set()
    for variable in variables:
        if variable.path in paths:
            raise ValueError(f"Two variables have the path {variable.path!r}; give the layers different names.")
        paths.add(variable.path)
        *above, name = variable.path.split("/")
        place = nest
        for part in above:
            place = place.setdefault(part, {})
        place[name] = variable.numpy().copy() if as_arrays else variable.value
    return nest


def _leaves(nest: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nest.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value
