"""Requirements of a layer on its input, stated once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstyle_torch import tree
from kstyle_torch.initializers import as_dtype
from kstyle_torch.serialization import Configurable


class InputSpec(Configurable):
    """Rank, shape and sizes that an input must have. A layer checks `self.input_spec` when it is built.

    Args:
        dtype: Dtype, after floats are cast to that of the layer; None for any.
        shape: Whole shape; None for sizes that vary.
        ndim: Number of axes.
        max_ndim: Largest number of axes.
        min_ndim: Smallest number of axes.
        axes: Axis -> its size.
        allow_last_axis_squeeze: Whether the last axis may be missing or additional if its size is 1.
        name: Name of the input.
        optional: Whether None may be passed.

    Example:
        >>> InputSpec(min_ndim=2, axes={-1: 8}).min_ndim
        2
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype, self.name, self.optional = dtype, name, optional
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze

    def other_dtype(self, dtype: Any) -> str | None:
        """Returns what is wrong with an input of this dtype; None if nothing is."""
        if self.dtype is None or as_dtype(self.dtype) == as_dtype(dtype):
            return None
        return f"expected dtype {self.dtype}"

    def problem(self, shape: tuple[int | None, ...]) -> str | None:
        """Returns the mismatch of an input of this shape, for a message; None if it fits."""
        if self.shape is not None and self.allow_last_axis_squeeze and len(shape) != len(self.shape):
            shape = shape[:-1] if len(shape) > len(self.shape) and shape[-1] == 1 else shape
            shape = (*shape, 1) if len(shape) == len(self.shape) - 1 and self.shape[-1] == 1 else shape
        if self.ndim is not None and len(shape) != self.ndim:
            return f"expected {self.ndim} axes"
        if self.max_ndim is not None and len(shape) > self.max_ndim:
            return f"expected at most {self.max_ndim} axes"
        if self.min_ndim is not None and len(shape) < self.min_ndim:
            return f"expected at least {self.min_ndim} axes"
        wanted = dict(enumerate(self.shape or ())) | self.axes
        for axis, size in wanted.items():
            if size is not None and shape[axis] not in (size, None):
                return f"expected size {size} on axis {axis}"
        return None


def check_inputs(specs: Any, inputs: Any, layer_name: str) -> None:
    """Raises a ValueError if inputs do not meet a layer's `input_spec`.

    Args:
        specs: An InputSpec, or a nest of them.
        inputs: A tensor, symbolic or not, or a nest of them.
        layer_name: Of the layer, for the message.
    """
    wanted, given = tree.flatten(specs), tree.flatten(inputs)
    if isinstance(inputs, dict) and all(isinstance(spec, InputSpec) and spec.name in inputs for spec in wanted):
        given = [inputs[spec.name] for spec in wanted]
    if len(given) != len(wanted):
        raise ValueError(f"{layer_name} takes {len(wanted)} inputs, says its input_spec; got {len(given)}.")
    for spec, x in zip(wanted, given, strict=True):
        if not isinstance(spec, InputSpec) or (x is None and spec.optional):
            continue
        if not hasattr(x, "shape"):
            raise ValueError(f"{layer_name}: inputs must be tensors or arrays; got {x!r} of type {type(x).__name__}.")
        if problem := spec.problem(tuple(x.shape)) or spec.other_dtype(x.dtype):
            raise ValueError(f"{layer_name}: {problem}; got an input of shape {tuple(x.shape)} and dtype {x.dtype}.")
