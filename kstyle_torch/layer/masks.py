"""Masks of sequences: True for real time steps, False for padding.

A mask is an attribute of its tensor: `x.mask` of a symbolic tensor, `x._keras_mask` of a real one.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.symbolic.tensor import SymbolicTensor, mask_on


def mask(leaf: Any) -> Any:
    """Returns the mask of a tensor, symbolic or not; None if it has none."""
    return leaf.mask if isinstance(leaf, SymbolicTensor) else getattr(leaf, "_keras_mask", None)


def masks_of(structure: Any) -> Any:
    """Returns the nest of masks of a nest of tensors."""
    return mask(structure) if isinstance(structure, (Tensor, SymbolicTensor)) else tree.map_structure(mask, structure)


def any_mask(*structures: Any) -> bool:
    """Returns whether a tensor in the nests has a mask."""
    return any(mask(leaf) is not None for leaf in tree.flatten(structures))


def fill_masks(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any], lists: bool = False) -> list[str]:
    """Passes the masks of a call's tensors to its mask parameters, and returns the names of those it filled.

    The parameter is `mask` for a single tensor argument, and `<argument>_mask` for each of several.

    Args:
        names: The parameters of `call`, in order.
        lists: Whether a nest of tensors that have no masks gets a nest of None.
    """
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    tensors = {name: value for name, value in given.items() if "mask" not in name and _holds_tensors(value)}
    alone = len(tensors) == 1
    wanted = {"mask" if alone else f"{name}_mask": value for name, value in tensors.items()}
    filled = [
        name
        for name, value in wanted.items()
        if name in names and given.get(name) is None and (any_mask(value) or (lists and tree.is_nested(value)))
    ]
    kwargs.update((name, masks_of(wanted[name])) for name in filled)
    return filled


def without_masks_of_none(names: tuple[str, ...], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the positional arguments without trailing masks of None, so that `fill_masks` can set them."""
    while 1 < len(args) <= len(names) and args[-1] is None and "mask" in names[len(args) - 1]:
        args = args[:-1]
    return args


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, (Tensor, SymbolicTensor)) for leaf in tree.flatten(value))


def put_masks(outputs: Any, layer: Any, inputs: Any, previous: Any) -> None:
    """Sets the masks that a layer computes on its outputs that have none yet."""
    leaves = tree.flatten(outputs)
    if all(mask(leaf) is not None for leaf in leaves):
        return
    masks = layer.compute_mask(inputs, previous)
    flat = [masks] if isinstance(masks, (Tensor, SymbolicTensor)) else tree.flatten(masks)
    for output, value in zip(leaves, flat, strict=False):
        if value is None or mask(output) is not None:
            continue
        if isinstance(output, SymbolicTensor):
            output.mask = value
        elif isinstance(output, Tensor):
            output._keras_mask = value  # type: ignore[attr-defined]


def warn_of_lost_mask(layer: Any, outputs: Any) -> None:
    """Warns that a layer does not hand on the mask of its input, where an output has none."""
    if all(mask(leaf) is not None for leaf in tree.flatten(outputs)):
        return
    warnings.warn(
        f"{layer.name} ({type(layer).__name__}) got an input with a mask, and does not hand it on: layers behind it see no "
        "mask. Set self.supports_masking = True in a layer that keeps the steps as they are.",
        stacklevel=2,
    )


def take_recorded_masks(outputs: Any) -> None:
    """Sets the masks of symbolic outputs if the call sets masks on its real outputs."""
    for output in tree.flatten(outputs):
        if isinstance(output, SymbolicTensor) and output.mask_axes is not None and output.mask is None:
            output.mask = mask_on(output, output.mask_axes)
