"""Nests of list, tuple, named tuple, dict, OrderedDict, defaultdict and deque: a fallback for torch's private pytree."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

Flatten = Callable[[Any], tuple[Iterable[Any], Any]]
Unflatten = Callable[[Iterable[Any], Any], Any]
IsLeaf = Callable[[Any], bool] | None

DICTS = (dict, OrderedDict, defaultdict)


# structure of a nest: its kind, auxiliary data, and the structures of its children; kind None is a leaf
Spec = tuple[Any, Any, tuple[Any, ...]]
LEAF: Spec = (None, None, ())
_named = object()  # kind of all named tuples
_structs = object()  # and of torch's named results

_nodes: dict[Any, tuple[Flatten, Unflatten]] = {
    # functions to flatten a nest to children and auxiliary data, and to rebuild it
    list: (lambda node: (node, None), lambda items, _: list(items)),
    tuple: (lambda node: (node, None), lambda items, _: tuple(items)),
    dict: (lambda node: (node.values(), list(node)), lambda items, keys: dict(zip(keys, items))),
    OrderedDict: (lambda node: (node.values(), list(node)), lambda items, keys: OrderedDict(zip(keys, items))),
    defaultdict: (
        lambda node: (node.values(), (node.default_factory, list(node))),
        lambda items, context: defaultdict(context[0], zip(context[1], items)),
    ),
    deque: (lambda node: (node, node.maxlen), lambda items, maxlen: deque(items, maxlen)),
    torch.Size: (lambda node: (node, None), lambda items, _: tuple(items)),
    _named: (lambda node: (node, type(node)), lambda items, kind: kind(*items)),
    _structs: (lambda node: (node, type(node)), lambda items, kind: kind(items)),
}


def register_pytree_node(kind: type, flatten: Flatten, unflatten: Unflatten, **_: Any) -> None:
    """Registers a class as a kind of nest.

    Args:
        kind: The class, without subclasses.
        flatten: Returns the children of an object, and the auxiliary data for `unflatten`.
        unflatten: Rebuilds an object from them.
    """
    _nodes[kind] = (flatten, unflatten)


def _kind(node: Any) -> Any:
    """Returns the key in `_nodes`; None for a leaf."""
    kind = type(node)
    if kind in _nodes:
        return kind
    if isinstance(node, tuple):
        if isinstance(getattr(kind, "_fields", None), tuple):
            return _named
        if hasattr(kind, "n_sequence_fields"):
            return _structs
    return None


def tree_is_leaf(node: Any) -> bool:
    """Returns whether an object is not a nest."""
    return _kind(node) is None


def tree_flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], Spec]:
    """Returns the leaves and the structure of a nest.

    Args:
        tree: The nest.
        is_leaf: Returns whether an object is to be treated as a leaf.
    """
    leaves: list[Any] = []
    spec = _flattened(tree, leaves, is_leaf)
    return leaves, spec


def _flattened(node: Any, leaves: list[Any], is_leaf: IsLeaf) -> Spec:
    """Returns the structure of a nest, and appends its leaves to a list."""
    kind = _kind(node)
    if kind is None or (is_leaf is not None and is_leaf(node)):
        leaves.append(node)
        return LEAF
    children, context = _nodes[kind][0](node)
    return kind, context, tuple([_flattened(child, leaves, is_leaf) for child in children])


def tree_leaves(tree: Any) -> list[Any]:
    """Returns the leaves of a nest."""
    return tree_flatten(tree)[0]


def tree_structure(tree: Any) -> Spec:
    """Returns the structure of a nest, which can be compared."""
    return tree_flatten(tree)[1]


def tree_unflatten(leaves: Iterable[Any], spec: Spec) -> Any:
    """Builds the nest of a structure with these leaves.

    Raises: ValueError: if the number of leaves is wrong.
    """
    given = [*leaves]
    if len(given) != _count(spec):
        raise ValueError(f"The nest has {_count(spec)} leaves; got {len(given)}.")
    return _built(spec, iter(given))


def _built(spec: Spec, left: Iterator[Any]) -> Any:
    """Builds the nest of a structure with the next leaves."""
    kind, context, children = spec
    return next(left) if kind is None else _nodes[kind][1]([_built(child, left) for child in children], context)


def _count(spec: Spec) -> int:
    return 1 if spec[0] is None else sum(map(_count, spec[2]))


def tree_map(func: Callable[..., Any], tree: Any, *others: Any, is_leaf: IsLeaf = None) -> Any:
    """Returns the nest of `func` of each leaf and its counterparts in the other nests.

    Raises: ValueError: if another nest is not as deep.
    """
    leaves, spec = tree_flatten(tree, is_leaf)
    columns = [[*_up_to(spec, other)] for other in others]
    return tree_unflatten([*map(func, leaves, *columns)], spec)


def _up_to(spec: Spec, node: Any) -> Iterator[Any]:
    """Yields the parts of a nest at the leaves of a structure."""
    expected, expected_context, forms = spec
    if expected is None:
        yield node
        return
    kind = _kind(node)
    if expected in DICTS and kind in DICTS:  # in any order
        keys = expected_context[1] if expected is defaultdict else expected_context
        if node.keys() != {*keys}:
            raise ValueError(f"Dicts must have the same keys; expected {keys}, got {list(node)}.")
        children = [node[key] for key in keys]
    else:
        if kind is not expected:
            raise ValueError(f"Nests must have the same structure; expected {expected!r}, got {type(node)!r}.")
        found, context = _nodes[kind][0](node)
        children = [*found]
        if len(children) != len(forms) or (kind is not deque and context != expected_context):
            raise ValueError(f"Nests must have the same structure; {node!r} has {len(children)} items.")
    for child, below in zip(children, forms):
        yield from _up_to(below, child)
