"""Layers that merge several tensors into one."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.shapes import Shape

register = layer_registry.register


class BaseMerge(Layer):
    """Base of the layers called on a list of tensors."""

    supports_masking = True

    def build(self, input_shape: list[Shape]) -> None:
        if not input_shape or not all(isinstance(shape, tuple) for shape in input_shape):
            raise ValueError(f"{self.name}: expected a list of tensors; got {input_shape}.")


class ElementwiseMerge(BaseMerge):
    """Base of elementwise merging layers.

    Tensors of lower rank get axes after the batch, and sizes of 1 are broadcast. Subclasses define `_combine`.
    """

    def build(self, input_shape: list[Shape]) -> None:
        super().build(input_shape)
        _check_batch(self, input_shape)
        sizes: list[int | None] = []
        for shape in input_shape:
            behind = [*reversed(shape[1:])]
            for mine, other in zip(sizes, behind, strict=False):
                if None not in (mine, other) and 1 not in (mine, other) and mine != other:
                    raise ValueError(
                        f"{self.name}: shapes must agree, or be 1; got {', '.join(map(str, input_shape))}."
                    )
            sizes = [*map(_broadcast, itertools.zip_longest(sizes, behind, fillvalue=1))]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return self._combine(_aligned(inputs))

    def _combine(self, xs: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None or any(mask is None for mask in mask):
            return None
        return functools.reduce(operator.or_, mask)


def _broadcast(sizes: tuple[int | None, int | None]) -> int | None:
    known = [size for size in sizes if size not in (None, 1)]
    return known[0] if known else None if None in sizes else 1


def _aligned(xs: Sequence[Tensor]) -> list[Tensor]:
    rank = max(x.ndim for x in xs)
    return [x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:]) if x.ndim < rank else x for x in xs]


class MaskedMerge(ElementwiseMerge):
    """Base of layers that must skip masked steps, since no value is neutral for them."""

    def forward(self, inputs: Sequence[Tensor], *, mask: Sequence[Tensor | None] | None = None) -> Tensor:
        if mask is None or len({x.ndim for x in inputs}) > 1:
            return self._combine(_aligned(inputs))
        pairs = zip(inputs, mask, strict=True)
        return self._combine_masked([*inputs], [None if m is None else m.unsqueeze(-1).expand_as(x) for x, m in pairs])

    def _combine_masked(self, xs: list[Tensor], masks: list[Tensor | None]) -> Tensor:
        """Combines two tensors; where one of them is masked, the other one is returned."""
        merged, merged_mask = xs[0], masks[0]
        for x, mask in zip(xs[1:], masks[1:], strict=True):
            if mask is not None:
                x = torch.where(mask, x, merged)
            if merged_mask is not None:
                merged = torch.where(merged_mask, merged, x)
            merged = self._combine([merged, x])
            merged_mask = None if mask is None or merged_mask is None else merged_mask | mask
        return merged


@register()
class Add(ElementwiseMerge):
    """The sum of tensors of the same shape.

    Example:
        >>> Add()([torch.ones(1, 2), torch.ones(1, 2)])
        tensor([[2., 2.]])
    """

    def _combine(self, xs: list[Tensor]) -> Tensor:
        return functools.reduce(operator.add, xs)


@register()
class Subtract(ElementwiseMerge):
    """The first of two tensors minus the second.

    Example:
        >>> Subtract()([torch.ones(1, 2), torch.ones(1, 2)])
        tensor([[0., 0.]])
    """

    def build(self, input_shape: list[Shape]) -> None:
        super().build(input_shape)
        _check_two(self, input_shape)

    def _combine(self, xs: list[Tensor]) -> Tensor:
        return xs[0] - xs[1]


@register()
class Multiply(MaskedMerge):
    """The product of tensors of the same shape.

    Example:
        >>> Multiply()([torch.full((1, 2), 3.0), torch.full((1, 2), 2.0)])
        tensor([[6., 6.]])
    """

    def _combine(self, xs: list[Tensor]) -> Tensor:
        return functools.reduce(operator.mul, xs)

    def _combine_masked(self, xs: list[Tensor], masks: list[Tensor | None]) -> Tensor:
        product = self._combine([x if m is None else torch.where(m, x, 1) for x, m in zip(xs, masks, strict=True)])
        present = [mask for mask in masks if mask is not None]
        if len(present) < len(masks):
            return product
        return torch.where(functools.reduce(operator.or_, present), product, 0)


@register()
class Average(ElementwiseMerge):
    """The mean of tensors of the same shape.

    Example:
        >>> Average()([torch.full((1, 2), 3.0), torch.full((1, 2), 2.0)])
        tensor([[2.5000, 2.5000]])
    """

    def _combine(self, xs: list[Tensor]) -> Tensor:
        return functools.reduce(operator.add, xs) / len(xs)


@register()
class Maximum(MaskedMerge):
    """The elementwise maximum of tensors of the same shape.

    Example:
        >>> Maximum()([torch.full((1, 2), 3.0), torch.full((1, 2), 2.0)])
        tensor([[3., 3.]])
    """

    def _combine(self, xs: list[Tensor]) -> Tensor:
        return functools.reduce(torch.maximum, xs)


@register()
class Minimum(MaskedMerge):
    """The elementwise minimum of tensors of the same shape.

    Example:
        >>> Minimum()([torch.full((1, 2), 3.0), torch.full((1, 2), 2.0)])
        tensor([[2., 2.]])
    """

    def _combine(self, xs: list[Tensor]) -> Tensor:
        return functools.reduce(torch.minimum, xs)


@register()
class Dot(BaseMerge):
    """The dot products of two tensors, along an axis of each.

    Args:
        axes: The axis of both, or one for each; not the batch.
        normalize: Whether to normalize the vectors to length 1, so that the result is the cosine similarity.
    Output shape: (batch, other axes of the first, other axes of the second); (batch, 1) where there are no others.
    Raises: ValueError: if `axes` is neither of the two, or the sizes along them differ.

    Example:
        >>> Dot(axes=(1, 2))([torch.ones(2, 3, 5), torch.ones(2, 10, 3)]).shape
        torch.Size([2, 5, 10])
    """

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(axes, (int, list, tuple)):
            raise TypeError(f"{self.name}: axes must be an int or two of them; got {axes!r}.")
        pair = (axes, axes) if isinstance(axes, int) else tuple(axes)
        if len(pair) != 2 or not all(isinstance(axis, int) for axis in pair):
            raise ValueError(f"{self.name}: axes must be an int or two of them; got {axes!r}.")
        self.axes, self.normalize, self._pair = axes, normalize, pair

    def build(self, input_shape: list[Shape]) -> None:
        super().build(input_shape)
        _check_two(self, input_shape)
        _check_batch(self, input_shape)
        for axis, shape in zip(self._pair, input_shape, strict=True):
            if not -len(shape) < axis < len(shape) or axis == 0:
                raise ValueError(f"{self.name}: {axis} is not an axis after the batch axis of shape {shape}.")
        sizes = [shape[axis] for axis, shape in zip(self._pair, input_shape, strict=True)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise ValueError(
                f"{self.name}: sizes must agree along axes {self._pair}; got {input_shape[0]} and {input_shape[1]}."
            )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        x, y = (value.movedim(axis, -1) for value, axis in zip(inputs, self._pair, strict=True))
        if self.normalize:
            x, y = self._unit_length(x), self._unit_length(y)
        products = (
            x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1),
            y.flatten(1, -2) if y.ndim > 2 else y.unsqueeze(1),
        )
        shape = (x.shape[0], *x.shape[1:-1], *y.shape[1:-1])
        return torch.bmm(products[0], products[1].mT).reshape(shape if len(shape) > 1 else (*shape, 1))

    def _unit_length(self, x: Tensor) -> Tensor:
        """Returns `x` divided by its length along the last axis, which is at least Keras' epsilon."""
        x = x.to(self._compute_dtype) if x.dtype in INTEGERS else x
        return F.normalize(x, dim=-1, eps=config.epsilon())

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None


def _check_batch(layer: Layer, shapes: list[Shape]) -> None:
    if len({shape[0] for shape in shapes} - {None}) > 1:
        raise ValueError(f"{layer.name}: expected tensors with the same batch size; got {', '.join(map(str, shapes))}.")


def _check_two(layer: Layer, shapes: list[Shape]) -> None:
    if len(shapes) != 2:
        raise ValueError(f"{layer.name}: expected two tensors; got {len(shapes)}.")


@register()
class Concatenate(BaseMerge):
    """Concatenation of tensors along an axis.

    Args:
        axis: The axis; the shapes must agree in all others.

    Example:
        >>> Concatenate()([torch.ones(1, 2), torch.ones(1, 3)]).shape
        torch.Size([1, 5])
    """

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: list[Shape]) -> None:
        super().build(input_shape)
        ranks = {len(shape) for shape in input_shape}
        sizes = [shape[: self.axis % len(shape)] + shape[self.axis % len(shape) + 1 :] for shape in input_shape]
        differing = [len({size for size in axis if size is not None}) > 1 for axis in zip(*sizes, strict=False)]
        if len(ranks) > 1 or any(differing):
            raise ValueError(
                f"{self.name}: shapes must agree in all axes but {self.axis}; got {', '.join(map(str, input_shape))}."
            )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(inputs), dim=self.axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None or all(mask is None for mask in mask):
            return None
        masks = [_full_mask(x, mask) for x, mask in zip(inputs, mask, strict=True)]
        return torch.cat(masks, dim=self.axis).any(-1)


def _full_mask(x: Any, mask: Any) -> Any:
    """Returns a mask of the shape of `x`."""
    whole = torch.ones_like(x, dtype=torch.bool)
    return whole if mask is None else whole & (mask if mask.ndim == x.ndim else mask.unsqueeze(-1))


def add(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the sum of tensors of the same shape; the same as `Add(**kwargs)(inputs)`."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the first of two tensors minus the second; the same as `Subtract(**kwargs)(inputs)`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the product of tensors of the same shape; the same as `Multiply(**kwargs)(inputs)`."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the mean of tensors of the same shape; the same as `Average(**kwargs)(inputs)`."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the elementwise maximum of tensors; the same as `Maximum(**kwargs)(inputs)`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the elementwise minimum of tensors; the same as `Minimum(**kwargs)(inputs)`."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """Concatenates tensors along `axis`; the same as `Concatenate(axis, **kwargs)(inputs)`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Sequence[Any], axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """Returns the dot products of two tensors along `axes`; the same as `Dot(axes, **kwargs)(inputs)`."""
    return Dot(axes=axes, **kwargs)(inputs)
