"""The symbolic tensor: a shape, a dtype and the call that made it. Operations on it are traced, not computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.arrays import from_array
from kstyle_torch.dtype_policies import STRING, DTypeName, dtype_name, in_torch_dtypes
from kstyle_torch.errors import NotIterableError
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.symbolic.infer import Spec, describe, infer, refuse_text

Shape = tuple[int | None, ...]
# attributes of tensors that need values, or counts of elements and bytes, which unknown sizes leave undefined
NEEDS_VALUES = frozenset(
    "numpy tolist item data_ptr storage untyped_storage numel nelement nbytes stride storage_offset".split()
)
AS_A_LAYER = "put what needs them into a layer's call()."


class Node:
    """One traced call: target, arguments and outputs.

    Args:
        target: The `nn.Module` or function that was called.
        args: Its positional arguments, symbolic tensors among them.
        kwargs: Its keyword arguments, likewise.
        tags: Argument -> the mask to set on it (`_keras_mask`) before the call.
        filled: Names of the mask arguments that were filled in rather than passed by the caller.
    """

    __slots__ = ("_outputs", "args", "declared", "filled", "kwargs", "tags", "target")

    def __init__(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tags: dict[SymbolicTensor, SymbolicTensor] | None = None,
        filled: Sequence[str] = (),
    ):
        self.target, self.args, self.kwargs = target, args, kwargs
        self.tags, self.filled = tags or {}, tuple(filled)
        self.declared = False  # whether its target declared the outputs without a run
        self._outputs: Any = None

    @property
    def outputs(self) -> Any:
        """The nest of symbolic tensors that the call returned.

        They refer to the node, which refers to layers. The node refers to them weakly, so that unused models are freed;
        a tensor that has been freed is created again.
        """
        return tree.map_structure(lambda leaf: leaf.tensor(self) if isinstance(leaf, _Output) else leaf, self._outputs)

    @outputs.setter
    def outputs(self, value: Any) -> None:
        self._outputs = tree.map_structure(lambda leaf: _Output(leaf) if is_symbolic(leaf) else leaf, value)


class KerasTensor:
    """A tensor without values. Layers, torch functions, operators and tensor methods can be called on it.

    Args:
        shape: Sizes; None if unknown.
        dtype: torch dtype or its name.
        sparse: Accepted for compatibility with Keras, as are the next two; computations are dense.
        ragged: Not with `sparse`.
        record_history: Likewise.
        name: Name; generated if None.
        kwargs: `ragged_rank` and `row_splits_dtype`, likewise; `node`, the call that returned it.
    Raises: ValueError: for an invalid shape. TypeError: for another argument.

    Example:
        >>> x = KerasTensor((None, 4))
        >>> (x.reshape((-1, 2, 2)) + 1).shape
        (None, 2, 2)
    """

    __hash__ = object.__hash__
    __array_priority__ = 1000  # makes NumPy's scalars defer to the operators here

    def __init__(
        self,
        shape: Any,
        dtype: DType = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        self.node: Node | None = kwargs.pop("node", None)
        self._ragged_rank, self._row_splits_dtype = (
            kwargs.pop("ragged_rank", None),
            kwargs.pop("row_splits_dtype", None),
        )
        if kwargs:
            raise TypeError(f"KerasTensor has no argument {next(iter(kwargs))!r}.")
        if sparse and ragged:
            raise ValueError("A KerasTensor cannot be both sparse and ragged.")
        self._shape = _standardized(shape)
        self.torch_dtype = symbolic_dtype(dtype)
        self._sparse, self._ragged, self.record_history = bool(sparse), bool(ragged), record_history
        self.name = name or unique_name(snake_case(type(self).__name__))
        self._mask: SymbolicTensor | None = None
        # number of axes, and the mask while it is referenced elsewhere
        self._own_mask: tuple[int, weakref.ref[SymbolicTensor]] | None = None
        self.mask_axes: int | None = None  # axes of the mask that the call set
        self.source: Any = None  # the InputLayer of a graph's input

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            raise TypeError(f"A symbolic tensor cannot be changed in place; use {name[:-1]} instead of {name}.")
        if name in NEEDS_VALUES:
            raise TypeError(f"A symbolic tensor has no values, so {name} cannot be called on it; {AS_A_LAYER}")
        return record(function, *in_torch_dtypes((args, kwargs or {})))

    def __getattr__(self, name: str) -> Any:
        attribute = None if name.startswith("_") else getattr(Tensor, name, None)
        if attribute is None:
            raise AttributeError(f"A symbolic tensor has no attribute {name!r}.")
        if name in NEEDS_VALUES:
            raise AttributeError(f"A symbolic tensor has no values, and so no attribute {name!r}; {AS_A_LAYER}")
        if name.endswith("_"):
            raise TypeError(f"A symbolic tensor cannot be changed in place; write `x = x.{name[:-1]}(...)`.")
        if not callable(attribute):  # a property such as .mT
            return record(getattr, (self, name), {})
        return lambda *args, **kwargs: record(attribute, *in_torch_dtypes(((self, *args), kwargs)))

    @property
    def shape(self) -> Shape:
        """The sizes; None if unknown."""
        return self._shape

    @property
    def sparse(self) -> bool:
        """The constructor's argument."""
        return self._sparse

    @property
    def ragged(self) -> bool:
        """The constructor's argument."""
        return self._ragged

    @property
    def ragged_rank(self) -> Any:
        """The constructor's argument."""
        return self._ragged_rank

    @property
    def row_splits_dtype(self) -> Any:
        """The constructor's argument."""
        return self._row_splits_dtype

    @property
    def dtype(self) -> DTypeName:
        """The dtype's name, as in Keras (`"float32"`); it compares equal to the torch dtype too."""
        return dtype_name(self.torch_dtype)

    @property
    def mask(self) -> SymbolicTensor | None:
        """The mask of real time steps, for layers that take `mask`."""
        if self._own_mask is None:
            return self._mask
        axes, known = self._own_mask
        return known() or mask_on(self, axes)

    @mask.setter
    def mask(self, value: SymbolicTensor | None) -> None:
        self._mask, self._own_mask = value, None
        if value is not None and value.node is not None and value.node.target is mask_of and value.node.args[0] is self:
            self._mask, self._own_mask = None, (value.ndim, weakref.ref(value))  # it refers to this tensor

    @property
    def _keras_mask(self) -> SymbolicTensor:
        """The mask, under the attribute name of real tensors; missing if there is none."""
        if self.mask is None:
            raise AttributeError("_keras_mask")
        return self.mask

    @_keras_mask.setter
    def _keras_mask(self, value: SymbolicTensor | None) -> None:
        self.mask = value

    @property
    def ndim(self) -> int:
        """The number of axes, including the batch."""
        return len(self.shape)

    def dim(self) -> int:
        """Returns the same as `ndim`."""
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """Returns the sizes, or that of axis `dim`."""
        return self.shape if dim is None else self.shape[dim]

    def reshape(self, newshape: Any, *more: Any) -> Any:
        """Reshapes the tensor, including the batch; one size may be -1 or None."""
        sizes = (newshape, *more) if more or isinstance(newshape, int) else newshape
        return record(Tensor.reshape, (self, sizes_of_reshape(sizes)), {})

    def squeeze(self, axis: Any = None, **kwargs: Any) -> Any:
        """Removes axes of size 1: `axis`, or all."""
        axes = () if axis is None else (axis,)
        return record(Tensor.squeeze, (self, *axes), kwargs)

    def __round__(self, ndigits: int | None = None) -> Any:
        return record(torch.round, (self,), {"decimals": ndigits} if ndigits else {})

    def __getitem__(self, index: Any) -> Any:
        return record(Tensor.__getitem__, (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("A symbolic tensor cannot be changed in place; use torch.where or torch.cat.")

    def __eq__(self, other: Any) -> Any:
        return _compared(Tensor.__eq__, self, other)

    def __ne__(self, other: Any) -> Any:
        return _compared(Tensor.__ne__, self, other)

    def __bool__(self) -> bool:
        """Returns the truth of `a == b` and `a != b` of symbolic tensors by identity, which list operations need."""
        node = self.node
        if node is not None and node.target in (Tensor.__eq__, Tensor.__ne__) and all(map(is_symbolic, node.args)):
            return (node.args[0] is node.args[1]) is (node.target is Tensor.__eq__)
        raise TypeError(
            "A symbolic tensor has no value, so it cannot decide an `if` or `while`. Use torch.where, or put the "
            "decision into a layer's call()."
        )

    def __len__(self) -> int:
        raise TypeError("A symbolic tensor has no length; its sizes are in .shape.")

    def __iter__(self) -> Iterator[Any]:
        raise NotIterableError("A symbolic tensor cannot be iterated; index it, or use torch.unbind.")

    def __int__(self) -> int:
        raise ValueError(
            "A symbolic tensor has no value, so it is not an int. Put what needs one into a layer's call()."
        )

    def __float__(self) -> float:
        raise ValueError(
            "A symbolic tensor has no value, so it is not a float. Put what needs one into a layer's call()."
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise ValueError(
            "A symbolic tensor has no values for NumPy. Use the torch function of the same name, or a Lambda layer."
        )

    def __repr__(self) -> str:
        return (
            f"<KerasTensor shape={self.shape}, dtype={self.dtype}, sparse={self.sparse}, ragged={self.ragged}, "
            f"name={self.name}>"
        )


SymbolicTensor = KerasTensor  # name inside the package


def _standardized(shape: Any) -> Shape:
    """Returns a shape as a tuple of ints and None.

    Raises: ValueError: if it is not a shape.
    """
    if type(shape) is torch.Size:
        return tuple(shape)
    if not hasattr(shape, "__iter__") or isinstance(shape, str):
        raise ValueError(f"A shape must be a tuple of ints and None; got {shape!r}.")
    sizes = tuple(shape)
    for size in sizes:
        if size is not None and (not hasattr(size, "__index__") or size < 0):
            raise ValueError(f"A shape must be a tuple of ints that are not negative, and None; got {sizes}.")
    return tuple(None if size is None else int(size) for size in sizes)


def sizes_of_reshape(newshape: Sequence[int | None]) -> tuple[int, ...]:
    """Returns the sizes for `torch.reshape`, with -1 for an unknown size.

    Raises: ValueError: if several are unknown.
    """
    sizes = tuple(newshape)
    open_axes = [axis for axis, size in enumerate(sizes) if size is None or size == -1]
    if len(open_axes) > 1 and None in sizes:
        raise ValueError(
            f"reshape: only one size may be unknown; got {sizes}. Pass -1 for one and known sizes for the others, or reshape "
            "in the call() of a layer, where all sizes are known."
        )
    return tuple(-1 if size is None else size for size in sizes)


class RecordedCall:
    """Weak references to the symbolic input and output of a layer's call, which refer to the layer.

    Args:
        inputs: Nest of symbolic tensors.
        outputs: Likewise.
    """

    __slots__ = ("_ends",)

    def __init__(self, inputs: Any, outputs: Any):
        self._ends = tree.map_structure(
            lambda leaf: weakref.ref(leaf) if is_symbolic(leaf) else leaf, {"input": inputs, "output": outputs}
        )

    def ends(self) -> dict[str, Any] | None:
        """Returns both by name; None if one of the tensors has been freed."""
        ends = tree.map_structure(lambda leaf: leaf() if isinstance(leaf, weakref.ref) else leaf, self._ends)
        gone = [
            leaf
            for leaf, known in zip(tree.flatten(ends), tree.flatten(self._ends), strict=True)
            if leaf is None and known is not None
        ]
        return None if gone else ends


class _Output:
    """A weak reference to one output of a node, with the data to recreate it.

    Args:
        tensor: The output.
    """

    __slots__ = ("_known", "_spec")

    def __init__(self, tensor: SymbolicTensor):
        self._known, self._spec = weakref.ref(tensor), Spec(tensor.shape, tensor.torch_dtype, tensor.mask_axes)

    def tensor(self, node: Node) -> SymbolicTensor:
        """Returns the output of `node`."""
        tensor = self._known()
        if tensor is None:
            tensor = _given_by(node, self._spec)
            self._known = weakref.ref(tensor)
        return tensor


def symbolic_dtype(dtype: Any) -> Any:
    """Returns what `as_dtype` does, and `STRING` for text."""
    return STRING if dtype is STRING or dtype in ("string", str) else as_dtype(dtype)


def is_text(x: Any) -> bool:
    """Returns whether `x` is symbolic text."""
    return isinstance(x, SymbolicTensor) and x.torch_dtype is STRING


def is_symbolic(x: Any) -> bool:
    """Returns whether `x` is a symbolic tensor."""
    return isinstance(x, SymbolicTensor)


def any_symbolic(*structures: Any) -> bool:
    """Returns whether a leaf of the nests is a symbolic tensor."""
    return any(map(is_symbolic, tree.flatten(structures)))


def record(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tags: dict[SymbolicTensor, SymbolicTensor] | None = None,
    filled: Sequence[str] = (),
) -> Any:
    """Traces the call `target(*args, **kwargs)` and returns its symbolic outputs.

    Raises: ValueError: if the call fails on tensors of the arguments' shapes, or takes a parameter that no layer owns.
    """
    node = _node(target, args, kwargs, tags, filled)
    leaves, nest = infer(target, args, kwargs, is_symbolic, node.tags)
    outputs = tree.pack_sequence_as(nest, [_given_by(node, leaf) for leaf in leaves])
    node.outputs = outputs
    return outputs


def record_declared(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    declared: Any,
    tags: dict[SymbolicTensor, SymbolicTensor] | None = None,
    filled: Sequence[str] = (),
) -> Any:
    """Records the call `target(*args, **kwargs)` without running it, and returns its symbolic outputs.

    Args:
        declared: Nest of symbolic tensors with the outputs' shapes and dtypes.
    Raises: ValueError: if the call takes a parameter that no layer owns.
    """
    refuse_text(target, filter(is_symbolic, tree.flatten((args, kwargs))))
    node = _node(target, args, kwargs, tags, filled)
    node.declared = True

    def output(leaf: Any) -> Any:
        if not is_symbolic(leaf):
            return leaf
        tensor = SymbolicTensor(leaf.shape, leaf.torch_dtype, node=node)
        tensor.mask = leaf.mask
        return tensor

    node.outputs = outputs = tree.map_structure(output, declared)
    return outputs


def symbolic_outputs(leaves: Sequence[Any], nest: Any) -> Any:
    """Converts the result of `infer` to a nest of symbolic tensors without a call."""
    flat = [SymbolicTensor(leaf.shape, leaf.dtype) if isinstance(leaf, Spec) else leaf for leaf in leaves]
    return tree.pack_sequence_as(nest, flat)


def _node(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tags: dict[SymbolicTensor, SymbolicTensor] | None,
    filled: Sequence[str],
) -> Node:
    for leaf in tree.flatten((args, kwargs)):
        if isinstance(leaf, Tensor) and leaf.requires_grad:
            raise ValueError(f"{describe(target)}: {_untrainable(leaf)}")
    return Node(target, args, kwargs, tags, filled)


def _untrainable(leaf: Tensor) -> str:
    if isinstance(leaf, nn.Parameter):
        return (
            "a Parameter was used on a symbolic tensor, so no layer of the model would own it. Call its module instead, "
            "or make it in a Layer with add_weight()."
        )
    return (
        f"a tensor of shape {tuple(leaf.shape)} that was computed from weights was used on a symbolic tensor; the model "
        "would keep its current value and never train those weights. Compute it in the call() of a Layer, or detach() it "
        "to use it as a constant."
    )


def _given_by(node: Node, leaf: Any) -> Any:
    if not isinstance(leaf, Spec):
        return leaf
    tensor = SymbolicTensor(leaf.shape, leaf.dtype, node=node)
    tensor.mask_axes = leaf.mask_axes
    return tensor


def mask_of(x: Any) -> Any:
    """Returns the mask on a tensor."""
    return x._keras_mask


def mask_on(x: SymbolicTensor, num_axes: int) -> SymbolicTensor:
    """Returns the mask of `x` when the graph runs."""
    node = Node(mask_of, (x,), {})
    mask = SymbolicTensor(x.shape[:num_axes], torch.bool, node=node)
    node.outputs = mask
    return mask


def _operand(value: Any) -> Any:
    """Returns the other operand of an operator: arrays become tensors; variables stay, and are read when the graph runs."""
    return from_array(value) if isinstance(value, np.ndarray) else value


def _operator(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)
    return lambda self, *others: record(method, (self, *map(_operand, others)), {})


class _Unlike:
    """Comparison of text, or of symbolic tensors whose shapes do not broadcast: a truth value, for lists, without elements.

    Args:
        truth: Result of the comparison.
    """

    def __init__(self, truth: bool):
        self._truth = truth

    def __bool__(self) -> bool:
        return self._truth


def _compared(method: Callable[..., Any], tensor: SymbolicTensor, other: Any) -> Any:
    try:
        return record(method, (tensor, _operand(other)), {})
    except ValueError:
        if not is_symbolic(other):
            raise
        return _Unlike((tensor is other) is (method is Tensor.__eq__))


def _logical(name: str) -> Callable[..., Any]:
    """Returns an operator that is logical in Keras, while torch's is bitwise."""
    function = getattr(torch, f"logical_{name}")

    def operate(self: SymbolicTensor, other: Any) -> Any:
        other = _operand(other)
        number = isinstance(other, (bool, int, float, np.generic))
        return record(function, (self, torch.as_tensor(other) if number else other), {})

    return operate


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul neg abs lt le "
    "gt ge"
).split():
    setattr(SymbolicTensor, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("and", "or", "xor"):
    setattr(SymbolicTensor, f"__{_name}__", _logical(_name))
    setattr(SymbolicTensor, f"__r{_name}__", _logical(_name))
setattr(SymbolicTensor, "__invert__", lambda self: record(torch.logical_not, (self,), {}))  # noqa: B010
