"""Shape of tensors: order of axes, new axes, padding, diagonals.

`x` is a tensor or convertible to one; negative axes count from the end. Results are views where possible.

Example:
    >>> ops.expand_dims(torch.ones(2, 3), axis=(0, -1)).shape
    torch.Size([1, 2, 3, 1])
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch.errors import OutOfRangeError
from kstyle_torch.ops.operation import Nest, Operand, TensorLike, as_tensor, operation
from kstyle_torch.symbolic.tensor import sizes_of_reshape

Axes = int | Sequence[int]


@operation
def reshape(x: TensorLike, newshape: Axes) -> Tensor:
    """Reshapes a tensor; one size may be -1, or None, which `ops.shape` returns for a batch axis."""
    return torch.reshape(x, (newshape,) if isinstance(newshape, int) else sizes_of_reshape(newshape))


@operation
def ravel(x: TensorLike) -> Tensor:
    """Returns the flattened tensor."""
    return torch.ravel(x)


@operation
def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """Permutes the axes: axis `i` of the result is axis `axes[i]`; reverses them if None."""
    return torch.permute(x, tuple(range(x.ndim - 1, -1, -1)) if axes is None else tuple(axes))


@operation
def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Returns two axes exchanged."""
    return torch.swapaxes(x, axis1, axis2)


@operation
def moveaxis(x: TensorLike, source: Axes, destination: Axes) -> Tensor:
    """Moves axes from `source` to `destination`; the others keep their order."""
    return torch.moveaxis(x, source, destination)  # type: ignore[arg-type]


@operation
def expand_dims(x: TensorLike, axis: Axes) -> Tensor:
    """Adds axes of size 1 at the positions `axis` of the result."""
    if isinstance(axis, int):
        try:
            return torch.unsqueeze(x, axis)
        except IndexError as error:
            ndim = x.ndim + 1
            raise OutOfRangeError(f"expand_dims: the result has {ndim} axes; got axis={axis}.") from error
    ndim = x.ndim + len(axis)
    for each in sorted(each % ndim for each in axis):
        x = torch.unsqueeze(x, each)
    return x


@operation
def squeeze(x: TensorLike, axis: Axes | None = None) -> Tensor:
    """Removes axes of size 1: those of `axis`, or all of them if None."""
    return torch.squeeze(x) if axis is None else torch.squeeze(x, axis if isinstance(axis, int) else tuple(axis))


@operation
def broadcast_to(x: TensorLike, shape: Sequence[int]) -> Tensor:
    """Broadcasts to `shape`: repeats along axes of size 1, and along new leading axes."""
    return torch.broadcast_to(x, tuple(shape))


@operation
def flip(x: TensorLike, axis: Axes | None = None) -> Tensor:
    """Reverses the order along `axis`, or along all axes if None."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    return torch.flip(x, axes)


@operation
def fliplr(x: TensorLike) -> Tensor:
    """Reverses the columns (axis 1)."""
    return torch.fliplr(x)


@operation
def flipud(x: TensorLike) -> Tensor:
    """Reverses the rows (axis 0)."""
    return torch.flipud(x)


@operation
def rot90(array: TensorLike, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """Rotates by `k` quarter turns, from the first of `axes` to the second.

    Raises: ValueError: if `axes` are not two different axes of the tensor.
    """
    if array.ndim < 2 or len(axes) != 2 or axes[0] % array.ndim == axes[1] % array.ndim:
        raise ValueError(
            f"rot90: expected two different axes of a tensor; got axes={axes}, shape {tuple(array.shape)}."
        )
    return torch.rot90(array, k, tuple(axes))


@operation
def rearrange(tensor: TensorLike, pattern: str, **axes_lengths: int) -> Tensor:
    """Splits, reorders and merges axes, in einops' notation.

    Args:
        tensor: Tensor.
        pattern: Axes before and after, such as `"b (h h1) w c -> b h w (h1 c)"`; parentheses group axes that form one.
        axes_lengths: Sizes of axes in groups; one in each group may be omitted.
    Raises: ValueError: if the pattern does not fit the tensor, or its sides name different axes.

    Example:
        >>> ops.rearrange(torch.ones(2, 6, 3), "b (h1 h) c -> (b h1) h c", h1=2).shape
        torch.Size([4, 3, 3])
    """
    before, _, after = pattern.partition("->")
    groups, new_groups = _axis_groups(before), _axis_groups(after)
    names = [name for group in groups for name in group]
    new_names = [name for group in new_groups for name in group]
    if len(groups) != tensor.ndim or sorted(names) != sorted(new_names):
        raise ValueError(f"rearrange: the pattern {pattern!r} does not fit a tensor of shape {tuple(tensor.shape)}.")
    sizes = dict(axes_lengths)
    for group, size in zip(groups, tensor.shape):
        known = math.prod([sizes[name] for name in group if name in sizes])
        sizes.update({name: size // known for name in group if name not in sizes})
    tensor = tensor.reshape([sizes[name] for name in names]).permute([names.index(name) for name in new_names])
    return tensor.reshape([math.prod([sizes[name] for name in group]) for group in new_groups])


def _axis_groups(side: str) -> list[list[str]]:
    return [found.strip("()").split() for found in re.findall(r"\w+|\(.*?\)", side)]


@operation
def roll(x: TensorLike, shift: Axes, axis: Axes | None = None) -> Tensor:
    """Shifts the elements cyclically by `shift` along `axis`; in the flattened tensor if None."""
    return torch.roll(x, shift, axis)  # type: ignore[arg-type]


@operation
def repeat(x: TensorLike, repeats: Nest, axis: int | None = None) -> Tensor:
    """Repeats each element.

    Args:
        x: Tensor.
        repeats: Number of repeats, an int for all or one for each element along `axis`.
        axis: Along which axis; the flat tensor if None.
    """
    x, axis = (x.flatten(), 0) if axis is None else (x, axis % x.ndim)
    if isinstance(repeats, Tensor) and repeats.numel() > 1:
        return torch.repeat_interleave(x, repeats, dim=axis)
    if isinstance(repeats, (list, tuple)) and len(repeats) > 1:
        return torch.repeat_interleave(x, torch.tensor(repeats, device=x.device), dim=axis, output_size=sum(repeats))
    count = int(repeats[0] if isinstance(repeats, (list, tuple)) else repeats)
    repeated = x.unsqueeze(axis + 1).expand(*x.shape[: axis + 1], count, *x.shape[axis + 1 :])
    return repeated.flatten(axis, axis + 1)  # torch.export cannot infer the shape of repeat_interleave


@operation
def tile(x: TensorLike, repeats: Any) -> Tensor:
    """Repeats the whole tensor along each axis; `repeats` is an int or one for each of the last axes."""
    repeats = repeats.tolist() if hasattr(repeats, "tolist") else repeats
    return torch.tile(x, (repeats,) if isinstance(repeats, int) else tuple(repeats))


@operation
def pad(x: TensorLike, pad_width: Any, mode: str = "constant", constant_values: Operand = None) -> Tensor:
    """Pads a tensor at the ends of each axis.

    Args:
        x: Tensor.
        pad_width: Widths before and after: an int or one pair for all axes, or a pair for each.
        mode: `"constant"`; `"edge"`, the last element; `"reflect"`, the mirror image without the last element;
            `"symmetric"`, with it; `"wrap"` or `"circular"`, the elements at the other end.
        constant_values: The constant; 0 if None.
    Raises: ValueError: for another mode, a wrong number of pairs, or a constant that is not used.
    """
    if mode != "constant" and constant_values is not None:
        raise ValueError(f"pad: constant_values needs mode='constant'; got mode={mode!r}.")
    widths = _pad_widths(pad_width, x.ndim)
    if mode == "constant":
        value = 0 if constant_values is None else constant_values
        return F.pad(x, [width for pair in reversed(widths) for width in pair], value=value)
    if mode not in SOURCES:
        raise ValueError(f"pad: unknown mode {mode!r}; expected 'constant', {', '.join(map(repr, SOURCES))}.")
    for axis, (before, after) in enumerate(widths):
        if before or after:
            places = torch.arange(-before, x.shape[axis] + after, device=x.device)
            x = torch.index_select(x, axis, SOURCES[mode](places, x.shape[axis]))
    return x


def _pad_widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, int):
        pad_width = (pad_width,)
    if isinstance(pad_width[0], int):
        pad_width = (pad_width,)
    pairs = [(pair[0], pair[-1]) for pair in pad_width]
    pairs = pairs * ndim if len(pairs) == 1 else pairs
    if len(pairs) != ndim:
        raise ValueError(f"pad: pad_width has {len(pairs)} pairs, but the tensor has {ndim} axes; got {pad_width}.")
    return pairs


def _reflected(places: Tensor, size: int) -> Tensor:
    period = max(2 * (size - 1), 1)
    places = places % period
    return torch.where(places >= size, period - places, places)


def _symmetric(places: Tensor, size: int) -> Tensor:
    places = places % (2 * size)
    return torch.where(places >= size, 2 * size - 1 - places, places)


SOURCES: dict[str, Callable[[Tensor, int], Tensor]] = {  # maps a position outside to an element
    "edge": lambda places, size: places.clamp(0, size - 1),
    "reflect": _reflected,
    "symmetric": _symmetric,
    "wrap": lambda places, size: places % size,
    "circular": lambda places, size: places % size,
}


@operation
def diag(x: TensorLike, k: int = 0) -> Tensor:
    """Returns a matrix with a vector on its diagonal `k`, or the diagonal `k` of a matrix."""
    return torch.diag(x, k)


@operation
def diagflat(x: TensorLike, k: int = 0) -> Tensor:
    """Returns a matrix with all elements on its diagonal `k`."""
    return torch.diagflat(x, k)


@operation
def diagonal(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Returns a diagonal, as the last axis.

    Args:
        x: Tensor of two axes or more.
        offset: Position above the main diagonal; negative below.
        axis1: Axis of the rows.
        axis2: Axis of the columns.
    """
    return torch.diagonal(x, offset, axis1, axis2)


@operation
def tril(x: TensorLike, k: int = 0) -> Tensor:
    """Returns the matrices with 0 above diagonal `k`."""
    return torch.tril(x, k)


@operation
def triu(x: TensorLike, k: int = 0) -> Tensor:
    """Returns the matrices with 0 below diagonal `k`."""
    return torch.triu(x, k)


def ndim(x: TensorLike) -> int:
    """Returns the number of axes."""
    return len(_shape_of(x))


def size(x: TensorLike) -> int | None:
    """Returns the number of elements; None if it is unknown, as for symbolic tensors."""
    count: int | None = 1
    for each in _shape_of(x):
        count = None if count is None or each is None else count * each
    return count


def _shape_of(x: Any) -> Sequence[int | None]:
    return x.shape if hasattr(x, "shape") else as_tensor(x).shape
