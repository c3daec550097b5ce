"""Decorator of operations: converts arrays and weight views, and records calls on symbolic tensors.

The annotation of a parameter determines what the body gets: for `TensorLike` a tensor, for `Operand` a tensor or a Python
number, for `TensorList` a list of tensors, for `Nest` a nest with arrays converted to tensors; other arguments unchanged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import config, tree
from kstyle_torch.arrays import shown
from kstyle_torch.errors import WrongTypeError
from kstyle_torch.ops.dtypes import WIDER, floatx
from kstyle_torch.symbolic.tensor import is_symbolic, record
from kstyle_torch.variables import Variable

F = TypeVar("F", bound=Callable[..., Any])

TensorLike = Any  # tensor, array, number, list, weight view or symbolic tensor
Operand = Any
TensorList = Any
Nest = Any

NUMBERS = (bool, int, float, complex, torch.SymInt, torch.SymFloat)
READY_TENSORS = frozenset({Tensor, nn.Parameter})
READY_OPERANDS = READY_TENSORS | {int, float, bool, type(None)}
LISTS = frozenset({list, tuple})
READY = {"TensorLike": READY_TENSORS, "Operand": READY_OPERANDS, "TensorList": LISTS, "Nest": READY_OPERANDS}


def operation(function: F) -> F:
    """Decorates a function over tensors.

    On symbolic tensors, its call becomes one node of the graph; shapes come from running it, so the body gets real
    tensors only.

    For plain tensors the overhead is a check of their types. If no parameter has one of these annotations, every argument
    is treated as a `Nest`.
    """
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    annotations = function.__annotations__
    kinds = {name: kind for name, kind in annotations.items() if kind in READY} or dict.fromkeys(names, "Nest")
    variadic = code.co_varnames[len(names)] if code.co_flags & 4 else None  # the name of `*operands`
    positional = tuple(kinds.get(name, "") for name in names[: code.co_argcount])
    rest = kinds.get(variadic or "", "")
    num_checked = max((place + 1 for place, kind in enumerate(positional) if kind), default=0)
    accepted = tuple(READY.get(kind) for kind in positional[:num_checked])

    @functools.wraps(function)
    def operate(*args: Any, **kwargs: Any) -> Any:
        for argument, ready in zip(args, accepted):
            if ready is LISTS:
                if not _all_ready(argument):
                    break
            elif ready is not None and type(argument) not in ready and not isinstance(argument, Tensor):
                break
        else:
            for name in kwargs:
                if name in kinds:
                    break
            else:
                if not rest:
                    return function(*args, **kwargs)
        leaves = _leaves(args, kwargs)
        if any(map(is_symbolic, leaves)):
            return record(operate, args, kwargs)
        device = _device_of(leaves)
        kind_of = positional + (rest,) * (len(args) - len(positional))
        args = tuple([_convert(kind, argument, device) for kind, argument in zip(kind_of, args)])
        return function(*args, **{name: _convert(kinds.get(name, ""), kwargs[name], device) for name in kwargs})

    return operate  # type: ignore[return-value]


def _all_ready(argument: Any) -> bool:
    if type(argument) not in LISTS:
        return False
    for item in argument:  # noqa: SIM110, a generator would call once an item
        if type(item) not in READY_TENSORS:
            return False
    return True


def _leaves(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    leaves = []
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, tree.NESTS):
            leaves.extend(tree.flatten(argument))
        else:
            leaves.append(argument)
    return leaves


def _device_of(leaves: list[Any]) -> torch.device:
    """Returns the device of the first tensor, to which converted arguments go."""
    for leaf in leaves:
        if isinstance(leaf, (Tensor, Variable)):
            return leaf.device
    return config.device()


def _convert(kind: str, argument: Any, device: torch.device) -> Any:
    if argument is None or not kind:
        return argument
    if kind == "TensorList":
        return [as_tensor(item, device=device) for item in argument]
    if kind == "Nest":
        return tree.map_structure(lambda leaf: _with_tensor(leaf, device), argument)
    if kind == "Operand" and type(argument) in READY_OPERANDS:
        return argument
    return as_tensor(argument, device=device)


def _with_tensor(leaf: Any, device: torch.device) -> Any:
    arrays = (Variable, np.ndarray, np.generic)
    return as_tensor(leaf, device=device) if isinstance(leaf, arrays) else leaf


def as_tensor(x: Any, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    """Converts an argument to a tensor: a number, a list, an array, a weight view or a tensor.

    Python numbers become int32 and `config.floatx()`; arrays keep their dtype.

    Args:
        x: The argument.
        dtype: Dtype of the result; that of `x` if None.
        device: Device of the result, unless `x` is a tensor; `config.device()` if None.
    """
    if isinstance(x, Variable):
        x = x.read()
    if isinstance(x, Tensor):
        return x if dtype is None else x.to(dtype)
    device = device or config.device()
    if isinstance(x, NUMBERS):  # filled on the device: a copy from the host would wait for it
        return torch.full((), x, dtype=dtype or _dtype_of_number(x), device=device)  # type: ignore[arg-type]
    if isinstance(x, (list, tuple)) and any(isinstance(item, (Tensor, Variable)) for item in tree.flatten(x)):
        x = torch.stack([as_tensor(item, device=device) for item in x])
        return x if dtype is None else x.to(dtype)
    return _of_array(x, dtype, device)


def _dtype_of_number(x: Any) -> torch.dtype:
    if isinstance(x, (float, torch.SymFloat)):
        return floatx()
    if isinstance(x, (bool, complex)):
        return torch.bool if isinstance(x, bool) else torch.complex64
    return torch.int32 if isinstance(x, torch.SymInt) or -(2**31) <= x < 2**31 else torch.int64


def _of_array(x: Any, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    array = np.asarray(x)
    if array.dtype.kind in "OSU":
        raise WrongTypeError(f"A tensor holds numbers or bools; got {shown(x)} of type {array.dtype.name}.")
    if dtype is None and isinstance(x, (list, tuple)):
        dtype = {"float64": floatx(), "int64": torch.int32, "complex128": torch.complex64}.get(array.dtype.name)
    if array.dtype.name == "bfloat16":  # from ml_dtypes; torch.from_numpy does not accept it
        array, dtype = array.astype("float32"), dtype or torch.bfloat16
    if array.dtype.name in WIDER:
        array = array.astype("int64")
        dtype = dtype or WIDER[np.asarray(x).dtype.name]
    return torch.as_tensor(np.require(array, requirements=["C", "W"]), dtype=dtype, device=device)
