"""Nests of shapes: of tensors, from JSON, and from the older arguments of layers."""

from __future__ import annotations

from typing import Any

import torch

from kstyle_torch import tree

Shape = tuple[int | None, ...]


def open_shapes(structure: Any) -> Any:
    """Returns the shapes of a nest of tensors with None for the batch."""
    return tree.map_structure(lambda leaf: (None, *leaf.shape[1:]) if hasattr(leaf, "shape") else None, structure)


class ShapeLeaf:
    """A shape, as one leaf of a nest."""

    def __init__(self, sizes: Shape):
        self.sizes = sizes


def as_leaves(shape: Any) -> Any:
    """Returns a nest of shapes with every shape as one leaf."""
    if isinstance(shape, dict):
        return {key: as_leaves(item) for key, item in shape.items()}
    if all(size is None or hasattr(size, "__index__") for size in shape):
        return ShapeLeaf(tuple(shape))
    return [as_leaves(item) for item in shape]


def as_shape(nest: Any) -> Any:
    """Converts a nest of shapes read from JSON: shapes become tuples."""
    if isinstance(nest, dict):
        return {key: as_shape(item) for key, item in nest.items()}
    if not isinstance(nest, (list, tuple)):
        return nest
    is_shape = all(size is None or isinstance(size, int) for size in nest)
    return tuple(nest) if is_shape else [as_shape(item) for item in nest]


def shapes_of(structure: Any) -> Any:
    """Returns the shapes of a nest of tensors; a size of 0, from a run for shapes, becomes None."""

    def shape(leaf: Any) -> Any:
        return tuple(size or None for size in leaf.shape) if hasattr(leaf, "shape") else None

    return tree.map_structure(shape, structure)


def declared_shape(layer: Any, kwargs: dict[str, Any]) -> Shape | None:
    """Returns the batch shape from Keras' older arguments, which it removes from `kwargs`."""
    whole = kwargs.pop("batch_input_shape", kwargs.pop("batch_shape", None))
    sample = kwargs.pop("input_shape", None)
    features = kwargs.pop("input_dim", None)
    batch_size = kwargs.pop("batch_size", None)
    if features is not None:
        sample = (features,)
    if sample is not None and not isinstance(sample, (tuple, list, torch.Size)):
        raise ValueError(f"{type(layer).__name__}: input_shape must be a tuple, such as ({sample},); got {sample!r}.")
    if whole is None and sample is None:
        return None
    return tuple(whole) if whole is not None else (batch_size, *(sample or ()))
