"""Tensors, their masks and shapes, and numbers from losses, metrics and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config, tree
from kstyle_torch.arrays import tensor_of
from kstyle_torch.compat.internals.arguments import standardize_reduction
from kstyle_torch.data.weights import class_weigher
from kstyle_torch.dtype_policies import standardize_dtype
from kstyle_torch.initializers import as_dtype
from kstyle_torch.layer.masks import mask
from kstyle_torch.losses import base
from kstyle_torch.metrics.reduction import of_samples
from kstyle_torch.random import SeedGenerator
from kstyle_torch.symbolic.infer import Spec, infer
from kstyle_torch.symbolic.tensor import KerasTensor, any_symbolic, is_symbolic

YES, NO = True, False  # what the backend supports


def get_keras_mask(x: Any) -> Any:
    """Returns the mask of a tensor, symbolic or not; None if it has none."""
    return mask(x)


def set_keras_mask(x: Any, mask: Any) -> None:
    """Sets the mask of a tensor; None takes it away."""
    if is_symbolic(x):
        x.mask = mask
    elif mask is not None:
        x._keras_mask = mask
    elif hasattr(x, "_keras_mask"):
        del x._keras_mask


def set_tensor_attr(tensor: Any, attr: str, value: Any) -> None:
    """Sets an attribute of a tensor; None takes it away."""
    if attr == "_keras_mask":
        set_keras_mask(tensor, value)
    elif value is not None:
        setattr(tensor, attr, value)
    elif hasattr(tensor, attr):
        delattr(tensor, attr)


def get_tensor_attr(tensor: Any, attr: str) -> Any:
    """Returns an attribute of a tensor; None where it has none."""
    return getattr(tensor, attr, None)


def any_symbolic_tensors(args: Any = None, kwargs: Any = None) -> bool:
    """Returns whether a symbolic tensor is among the arguments."""
    return any_symbolic(args or (), kwargs or {})


def compute_output_spec(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Returns symbolic tensors of the shapes and dtypes that a function gives, from a run on zeros."""
    leaves, nest = infer(fn, args, kwargs, is_symbolic)
    specs = [KerasTensor(leaf.shape, leaf.dtype) if isinstance(leaf, Spec) else leaf for leaf in leaves]
    return tree.pack_sequence_as(nest, specs)


def standardize_shape(shape: Any) -> tuple[int | None, ...]:
    """Returns a shape as a tuple of ints and None.

    Raises: ValueError: if it is not a shape.
    """
    return KerasTensor(shape).shape


def shape_equal(a_shape: Sequence[Any], b_shape: Sequence[Any]) -> bool:
    """Returns whether two shapes may be the same: None fits any size."""
    return len(a_shape) == len(b_shape) and all(a == b or None in (a, b) for a, b in zip(a_shape, b_shape, strict=True))


def canonicalize_axis(axis: int, num_dims: int) -> int:
    """Returns an axis counted from the front.

    Raises: ValueError: if the axis does not exist.
    """
    if not -num_dims <= axis < num_dims:
        raise ValueError(f"axis {axis} is out of bounds for {num_dims} axes.")
    return int(axis) % num_dims


def canonicalize_axes(axis: Any, num_dims: int) -> tuple[int, ...]:
    """Returns axes counted from the front."""
    return tuple(canonicalize_axis(each, num_dims) for each in (axis if isinstance(axis, (tuple, list)) else [axis]))


def standardize_axis_for_numpy(axis: Any) -> Any:
    """Returns axes as NumPy takes them."""
    return tuple(axis) if isinstance(axis, list) else axis


def to_tuple_or_list(value: Any) -> Any:
    """Returns a tuple or list as it is, None too, and anything else as a tuple of one."""
    return value if value is None or isinstance(value, (tuple, list)) else (value,)


def broadcast_shapes(shape1: Sequence[int | None], shape2: Sequence[int | None]) -> list[int | None]:
    """Returns the shape to which two broadcast; None where a size is unknown.

    Raises: ValueError: if they do not.
    """
    rank = max(len(shape1), len(shape2))
    padded = [[*[1] * (rank - len(shape)), *shape] for shape in (shape1, shape2)]
    found: list[int | None] = []
    for a, b in zip(*padded, strict=True):
        if 1 not in (a, b) and None not in (a, b) and a != b:
            raise ValueError(f"Shapes {tuple(shape1)} and {tuple(shape2)} do not broadcast.")
        found.append(b if a == 1 or (a is None and b not in (1, None)) else a)
    return found


def reduce_shape(shape: Sequence[int | None], axis: Any = None, keepdims: bool = False) -> tuple[int | None, ...]:
    """Returns the shape after a reduction over axes, or over all."""
    axes = range(len(shape)) if axis is None else canonicalize_axes(axis, len(shape))
    sizes = [1 if i in axes else size for i, size in enumerate(shape) if keepdims or i not in axes]
    return tuple(sizes)


def compute_reshape_output_shape(
    input_shape: Sequence[int | None], newshape: Sequence[int], newshape_arg_name: str = "newshape"
) -> tuple[int | None, ...]:
    """Returns a target shape with its -1 replaced by the size that it means; None where that is unknown.

    Raises: ValueError: if the numbers of elements differ.
    """
    shape = tuple(newshape)
    if None in input_shape:
        return tuple(None if size == -1 else size for size in shape)
    count = math.prod(size for size in input_shape if size is not None)
    known = math.prod(size for size in shape if size != -1)
    if (-1 not in shape and known != count) or (-1 in shape and (not known or count % known)):
        raise ValueError(f"{newshape_arg_name}={shape} has not as many elements as {tuple(input_shape)}.")
    return tuple(count // known if size == -1 else size for size in shape)


def get_device() -> str:
    """Returns the kind of device that tensors are made on."""
    return config.device().type


def to_torch_dtype(dtype: Any) -> torch.dtype:
    """Returns a dtype of Keras as one of torch."""
    return as_dtype(standardize_dtype(dtype))


def reduce_weighted_values(
    values: Any, reduction: Any = "sum_over_batch_size", sample_weight: Any = None, mask: Any = None, dtype: Any = None
) -> Tensor:
    """Returns a loss from the values of its samples: weighted, without what the mask hides, and reduced."""
    standardize_reduction(reduction)
    values = tensor_of(values)
    values = values.to(to_torch_dtype(dtype)) if dtype is not None else values
    return base.reduce_weighted(values, sample_weight, mask, reduction)


def reduce_to_samplewise_values(
    values: Any, sample_weight: Any, reduce_fn: Callable[..., Any], dtype: Any
) -> tuple[Tensor, Tensor | None]:
    """Returns the value of each sample and its weight."""
    return of_samples(values, sample_weight, lambda x, axes: reduce_fn(x, axis=axes), to_torch_dtype(dtype))


def convert_binary_labels_to_hinge(y_true: Any) -> Any:
    """Returns labels of 0 and 1 as -1 and 1, and labels that are so already as they are."""
    labels = tensor_of(y_true)
    return torch.where(((labels == 0) | (labels == 1)).all(), 2 * labels - 1, labels)


def draw_seed(seed: Any) -> Any:
    """Returns the next state of a seed generator, or a seed as a tensor.

    Raises: ValueError: if it is not a seed.
    """
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, int):
        return torch.tensor([seed, 0])
    if seed is None:
        return SeedGenerator().next()
    raise ValueError(f"seed must be an int, a SeedGenerator or None; got {seed!r}.")


def make_default_seed() -> int:
    """Returns a random seed."""
    return int(torch.randint(1, 10**9, (), device="cpu"))


def class_weight_to_sample_weights(y: Any, class_weight: dict[int, float]) -> Any:
    """Returns an array with the weight of each sample's class; `y` holds class numbers or one-hot rows."""
    weigh = class_weigher(class_weight)
    return None if weigh is None else weigh(tensor_of(y), None).cpu().numpy()
