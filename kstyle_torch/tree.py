"""Nested lists, tuples and dicts of leaves, over torch's pytree.

Nests are list, tuple, named tuple, dict, OrderedDict, defaultdict and deque; all else, including None, is a leaf. Dicts are
read in the order of their sorted keys, OrderedDicts in their own.

Example:
    >>> tree.flatten({"b": [1, 2], "a": 3})
    [3, 1, 2]
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kstyle_torch._torch import pytree

__all__ = [
    "MAP_TO_NONE",
    "assert_same_paths",
    "assert_same_structure",
    "flatten",
    "flatten_with_path",
    "is_nested",
    "lists_to_tuples",
    "map_shape_structure",
    "map_structure",
    "map_structure_up_to",
    "pack_sequence_as",
    "traverse",
]


NESTS = (list, tuple, dict, deque)
FLAT = (list, tuple)


class MAP_TO_NONE:  # noqa: N801, Keras' name
    """Result of a function by which `traverse` replaces a subtree with None."""


def is_nested(structure: Any) -> bool:
    """Returns whether `structure` is a nest rather than a leaf."""
    return isinstance(structure, NESTS) and not pytree.tree_is_leaf(structure)


def flatten(structure: Any) -> list[Any]:
    """Returns the leaves, in order."""
    if not isinstance(structure, NESTS):
        return [structure]
    if type(structure) in FLAT and not any(isinstance(item, NESTS) for item in structure):
        return [*structure]  # fast path of the usual nest
    return pytree.tree_leaves(_ordered(structure))


def flatten_with_path(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns the leaves, each with its path of indices and keys."""
    return [*_with_path(structure, ())]


def _with_path(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    # A nested function that calls itself is a reference cycle, which would keep the leaves that it has found.
    if not is_nested(node):
        yield path, node
    for key, child in _children(node):
        yield from _with_path(child, (*path, key))


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """Returns `func` of every leaf (of all structures side by side), in the same nest.

    Args:
        func: Takes as many leaves as there are structures.
        structures: Nests with the same structure.
        none_is_leaf: Whether `func` is called on None too; if not, None stays None.
    Raises: ValueError: if the nests differ, or none is given.
    """
    if not structures:
        raise ValueError("map_structure: needs at least one structure.")
    if not isinstance(structures[0], NESTS) and len(structures) == 1:
        return func(structures[0]) if none_is_leaf or structures[0] is not None else None
    if none_is_leaf:
        return pytree.tree_map(func, *structures)
    return pytree.tree_map(lambda *leaves: None if leaves[0] is None else func(*leaves), *structures)


def map_structure_up_to(shallow_structure: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """Returns `func` of the parts of each structure at the leaves of `shallow_structure`.

    Raises: ValueError: if a structure is shallower, or none is given.
    """
    if not structures:
        raise ValueError("map_structure_up_to: needs at least one structure.")
    return pytree.tree_map(lambda _, *subtrees: func(*subtrees), shallow_structure, *structures)


def map_shape_structure(func: Callable[[Any], Any], structure: Any) -> Any:
    """Returns `map_structure` for which a list or tuple of ints and None, a shape, is a leaf."""
    return pytree.tree_map(func, structure, is_leaf=_is_shape)


def _is_shape(node: Any) -> bool:
    return isinstance(node, (list, tuple)) and all(size is None or isinstance(size, int) for size in node)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """Arranges the leaves `flat_sequence` in the nest of `structure`.

    Raises: ValueError: if the number of leaves is wrong.
    """
    if not isinstance(structure, NESTS) and len(flat_sequence) == 1:
        return flat_sequence[0]
    return pytree.tree_unflatten(flat_sequence, pytree.tree_structure(_ordered(structure)))


def refilled(structure: Any, leaves: Iterable[Any]) -> Any:
    """Returns the nest with other leaves, in the order of `flatten`, in the places of those that are not None."""
    left = iter(leaves)
    return pack_sequence_as(structure, [None if leaf is None else next(left) for leaf in flatten(structure)])


def assert_same_structure(a: Any, b: Any, check_types: bool | None = None) -> None:
    """Checks that two nests differ in their leaves only.

    Args:
        a: Nest.
        b: Nest.
        check_types: Without effect, and deprecated: `assert_same_paths` is the looser check.
    Raises: ValueError: if they do not.
    """
    if check_types is not None:
        warnings.warn("check_types has no effect; use assert_same_paths not to compare types.", DeprecationWarning, 2)
    first, second = (pytree.tree_structure(_ordered(structure)) for structure in (a, b))
    if first != second:
        raise ValueError(f"The two structures do not have the same nested structure: {first} and {second}.")


def assert_same_paths(a: Any, b: Any) -> None:
    """Checks that two nests have leaves under the same indices and keys, whatever holds them.

    Raises: ValueError: if they do not; it names the paths that only one of them has.
    """
    first, second = ({path for path, _ in flatten_with_path(structure)} for structure in (a, b))
    if first != second:
        raise ValueError(
            f"`a` and `b` do not have the same paths: only in a {first - second}, only in b {second - first}."
        )


def traverse(func: Callable[[Any], Any], structure: Any, top_down: bool = True) -> Any:
    """Returns `func` of every nest within `structure` and of every leaf.

    Args:
        func: Returns the replacement of its argument, None to keep it (and, from the top, to descend into it), or
            `MAP_TO_NONE`.
        structure: Nest.
        top_down: Whether a nest comes before what is in it.
    Raises: TypeError: if `func` is not a function.
    """
    if not callable(func):
        raise TypeError(f"traverse: func must be a function; got {func!r}.")
    return _visited(func, _ordered(structure), top_down)


def _visited(func: Callable[[Any], Any], node: Any, top_down: bool) -> Any:
    if not top_down:
        node = _with_children(node, lambda child: _visited(func, child, top_down))
    new = func(node)
    if new is None:
        return _with_children(node, lambda child: _visited(func, child, top_down)) if top_down else node
    return None if new is MAP_TO_NONE else new


def lists_to_tuples(structure: Any) -> Any:
    """Converts all lists in a nest to tuples."""
    return traverse(lambda node: tuple(node) if isinstance(node, list) else None, structure, top_down=False)


def _ordered(structure: Any) -> Any:
    """Returns the nest with the keys of its dicts sorted."""
    kind = type(structure)
    if kind is dict or kind is defaultdict:
        items = {key: _ordered(structure[key]) for key in sorted(structure)}
        return items if kind is dict else defaultdict(structure.default_factory, items)
    if kind is OrderedDict:
        return OrderedDict((key, _ordered(item)) for key, item in structure.items())
    if kind is list or kind is tuple:
        return kind(map(_ordered, structure))
    return _with_children(structure, _ordered) if is_nested(structure) else structure


def _with_children(node: Any, func: Callable[[Any], Any]) -> Any:
    """Applies `func` to the children of a nest; a leaf is returned unchanged."""
    if not is_nested(node):
        return node
    children, form = _one_level(node)
    return pytree.tree_unflatten([func(child) for child in children], form)


def _children(node: Any) -> list[tuple[Any, Any]]:
    if isinstance(node, dict):
        return [(key, node[key]) for key in (node if isinstance(node, OrderedDict) else sorted(node))]
    if not is_nested(node):
        return []
    return list(enumerate(_one_level(node)[0]))


def _one_level(node: Any) -> tuple[list[Any], Any]:
    """Returns the children of a nest, and its structure."""
    # torch's `tree_flatten` leaves a reference cycle that holds `is_leaf`, which therefore must not hold the nest.
    nest = [node]
    try:
        flat: tuple[list[Any], Any] = pytree.tree_flatten(node, is_leaf=lambda child: child is not nest[0])
    finally:
        nest.clear()
    return flat
