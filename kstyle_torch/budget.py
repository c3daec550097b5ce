"""A limit on what a file or config may make its reader allocate and run: a few bytes can ask for any number of weights.

One object counts all of it: tensors and torch calls as they are made, and what code outside of torch says with `take`
before it makes arrays, lists or strings whose size the config decides.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kstyle_torch._torch import COPY_CHECK, storage_address

__all__ = ["Budget", "TooLargeError", "in_force", "raise_limits", "take"]

FREE_SIZE = 1 << 28  # bytes of one object that are allowed beside a file, however small that is
FREE_TOTAL = 1 << 30
SIZE_ALONE = 1 << 30  # bytes of one object, where a config comes without a file of weights to measure it by
TOTAL_ALONE = 1 << 32
FREE_STEPS = 40_000  # calls of torch, about a second
KERNEL_STEPS_A_CALL = 20  # of a recurrent kernel
STEPS_A_BYTE = 0.6  # of a config as it is stored: ten times what 2,000 layers, two million bytes, take
BYTES_A_STEP = 1 << 10  # that a recurrent kernel keeps for each step, measured
BYTES_A_PIECE = 1 << 10  # of a tensor object
IN_DOUBT = 1 << 26  # numbers; calls that can give so many are tried on the meta device first
SMALL = 1 << 20  # bytes; smaller ones are not worth adding up

_times: ContextVar[float] = ContextVar("budget_times", default=1.0)
_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextlib.contextmanager
def raise_limits(times: float = math.inf) -> Iterator[None]:
    """Multiplies the limits for what is loaded inside the block: for large models of trusted origin.

    The block holds for the thread that enters it, not for threads that are started inside it, which begin with a context
    of their own: enter a block in each, or start them with `contextvars.copy_context().run`.

    Args:
        times: By how much, at least 1; infinity lifts the limits.
    Raises: TypeError: for what is not a number. ValueError: for a number below 1, or NaN.

    Example:
        >>> with raise_limits(4):
        ...     Budget(None).of_one == 4 * SIZE_ALONE
        True
    """
    if isinstance(times, bool) or not isinstance(times, (int, float)):
        raise TypeError(f"times must be a number; got {times!r}.")
    if not times >= 1:
        raise ValueError(f"times must be 1 or more; got {times!r}.")
    token = _times.set(_times.get() * times)
    try:
        yield
    finally:
        _times.reset(token)


def times() -> float:
    """Returns by how much `raise_limits` multiplies limits here."""
    return _times.get()


class TooLargeError(ValueError):
    """A file or config asks for more than its reader allows."""


class Budget(TorchFunctionMode):
    """Limit on what a model may take while it is made from a config, in proportion to the size of its file.

    Args:
        stored: Bytes of weights in the file; None for a config without one.
        config: Bytes of the config; None where weights alone are read, which takes as many steps as there are weights.
    Raises: TooLargeError: (of the call) for an object that is too large, or when all together are, or take too long.
    """

    def __init__(self, stored: int | None, config: int | None = None):
        super().__init__()
        self.beside = "a config alone" if stored is None else f"a file with {stored} bytes of weights"
        self.of_one: float = max(FREE_SIZE, 4 * stored) if stored is not None else SIZE_ALONE
        self.left: float = max(FREE_TOTAL, 16 * stored) if stored is not None else TOTAL_ALONE
        self.steps: float = math.inf if config is None else FREE_STEPS + STEPS_A_BYTE * config
        self.of_one, self.left, self.steps = (each * _times.get() for each in (self.of_one, self.left, self.steps))

    def __enter__(self) -> Budget:
        self._token = _current.set(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _current.reset(self._token)
        super().__exit__(*error)

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        # in place nothing is made; and what puts a setting back, such as `_set_grad_enabled`, must not fail
        is_in_place = name.endswith("_") and not name.endswith("__")
        if name not in PROPORTIONAL and not is_in_place and not name.startswith(("_set_", "set_")):
            self._check(name, function, args, kwargs)
        for each in args:  # a copy of an expanded tensor is larger than what it was expanded from
            if isinstance(each, Tensor) and each.numel() * each.element_size() > IN_DOUBT and 0 in each.stride():
                self.take(each.numel() * each.element_size(), "a tensor", adds=False)
        return function(*args, **kwargs)

    def _check(self, name: str, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
        self.run(1)
        if name in RECURRENT:
            steps = max(args[0].shape[:2])
            self.run(steps / KERNEL_STEPS_A_CALL)
            self.take(steps * BYTES_A_STEP, "a recurrent layer")
            return
        if name in CUTTING:
            pieces = _pieces(name, args, kwargs)
            self.run(pieces)
            self.take(pieces * BYTES_A_PIECE, "a list of tensors")
            return
        if name in FACTORIES:
            self.take(FACTORIES[name](args, kwargs) * _bytes_of_one(kwargs), "a tensor")
            return
        tensors, numbers = _operands((args, kwargs))
        if name == "interpolate":  # may be told a factor, which need not be whole
            numbers += [math.ceil(each) for each in _floats(kwargs.get("scale_factor"))]
        if _most(name, tensors, numbers) < IN_DOUBT:
            return
        size = _size_on_meta(function, args, kwargs)
        if size is None:  # only the call itself can tell: `bincount(x, minlength=...)`
            size = 4 * max(numbers, default=0)
        self.take(size, "a tensor", adds=not tensors or name.endswith("_like"))

    def take(self, size: float, what: str, adds: bool = True) -> None:
        """Counts what is about to be allocated; see the function `take`.

        Args:
            adds: Whether it is there to stay.
        """
        if not size <= self.of_one:
            raise TooLargeError(
                f"it asks for {what} of {size:.3g} bytes; {self.beside} may ask for {self.of_one:.3g}. {ADVICE}"
            )
        if adds and size > SMALL:
            self.left -= size
        if self.left < 0:
            raise TooLargeError(f"it asks for far more memory than {self.beside} may. {ADVICE}")

    def run(self, steps: float) -> None:
        """Counts what is about to be run.

        Raises: TooLargeError: if it is too much.
        """
        self.steps -= steps
        if self.steps < 0:
            raise TooLargeError(f"it asks for more steps than any model of its length takes. {ADVICE}")


ADVICE = "If you trust it, load it inside `with kstyle_torch.saving.raise_limits():`."


def take(size: float, what: str) -> None:
    """Counts bytes that a file or config asks for, before they are allocated; does nothing outside of a reader.

    Args:
        size: How many.
        what: Stands before "of ... bytes" in the message.
    Raises: TooLargeError: if it is more than the reader allows.
    """
    budget = _current.get()
    if budget is not None:
        budget.take(size, what)


@contextlib.contextmanager
def in_force(config: Any) -> Iterator[None]:
    """Puts a budget in force for a config that comes without a file, unless there is one."""
    if _current.get() is not None or not isinstance(config, (dict, list)):
        yield
        return
    with Budget(None, len(str(config))):
        yield


# ---------------------------------------------------------------------------------------------------- sizes of tensors

# called all the time, and give no more than they were given
PROPORTIONAL = {
    *"__get__ __set__ __len__ __bool__ __format__ __repr__ size dim numel stride type item tolist numpy to cpu clone".split(),
    *"detach contiguous view reshape flatten transpose permute movedim swapaxes squeeze unsqueeze t tensor".split(),
    *"as_tensor from_numpy asarray is_floating_point is_complex result_type float double half bfloat16 int long bool".split(),
    COPY_CHECK,
    *"data_ptr untyped_storage element_size get_device type_as __reduce_ex__ __deepcopy__".split(),
}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
CONTRACTING = {  # n times m numbers of none, which others cannot make
    *"matmul mm bmm addmm addbmm baddbmm __matmul__ __rmatmul__ einsum tensordot inner chain_matmul multi_dot".split(),
    *"bilinear cov corrcoef".split(),
}
# whose numbers are values, not sizes
ELEMENTWISE = {
    *"add radd sub rsub mul rmul div rdiv truediv rtruediv true_divide floordiv rfloordiv floor_divide pow rpow mod".split(),
    *"rmod remainder fmod eq ne lt le gt ge clamp clamp_min clamp_max where masked_fill maximum minimum and or xor".split(),
}
SQUARING = {"tril_indices", "triu_indices", "vander", "combinations"}
CUTTING = {"unbind", "split", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "split_with_sizes", "unsafe_chunk"}


def _product(sizes: Any) -> float:
    flat = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list, torch.Size)) else sizes
    return float(math.prod(abs(size) for size in flat if isinstance(size, int)))


def _filled(args: Any, kwargs: dict[str, Any]) -> float:
    return _product(args if args else (kwargs.get("size", ()),))


def _drawn_or_full(args: Any, kwargs: dict[str, Any]) -> float:
    sizes = [arg for arg in args if isinstance(arg, (tuple, list, torch.Size))] + [kwargs.get("size", ())]
    return _product((sizes[0],))


def _square(args: Any, kwargs: dict[str, Any]) -> float:
    sizes = [size for size in (*args, kwargs.get("n"), kwargs.get("m")) if isinstance(size, int)]
    return _product(sizes[:1] * 2) if len(sizes) < 2 else _product(sizes[:2])


def _range(args: Any, kwargs: dict[str, Any]) -> float:
    numbers = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, (int, float)) and not isinstance(arg, bool)]
    step = abs(numbers[2]) if len(numbers) > 2 and numbers[2] else 1
    return max(map(abs, numbers), default=0.0) / step


def _steps(args: Any, kwargs: dict[str, Any]) -> float:
    steps = kwargs.get("steps", args[2] if len(args) > 2 else 0)
    return float(abs(steps)) if isinstance(steps, (int, float)) else 0.0


def _of_size(args: Any, kwargs: dict[str, Any]) -> float:
    return _product(
        args[1:2] if len(args) > 1 and isinstance(args[1], (tuple, list)) else args[1:] or (kwargs["size"],)
    )


# numbers that a call makes, quickly; `_size_on_meta` can tell of all others
FACTORIES: dict[str, Callable[[Any, dict[str, Any]], float]] = {
    **dict.fromkeys(("empty", "zeros", "ones", "rand", "randn"), _filled),
    **dict.fromkeys((f"{window}_window" for window in "bartlett blackman hamming hann kaiser".split()), _filled),
    **dict.fromkeys(("full", "randint", "normal", "empty_strided"), _drawn_or_full),
    **dict.fromkeys(("new_empty", "new_zeros", "new_ones", "new_full"), _of_size),
    **dict.fromkeys(("linspace", "logspace"), _steps),
    **{"eye": _square, "arange": _range},
}


def _bytes_of_one(kwargs: dict[str, Any]) -> int:
    return kwargs["dtype"].itemsize if isinstance(kwargs.get("dtype"), torch.dtype) else 4


def _most(name: str, tensors: list[Tensor], numbers: list[int]) -> float:
    """Returns more numbers than nearly any call can make: quick, and on the safe side.

    A run for shapes has no rows, and what is made of nothing is nothing, or as large as the numbers beside it say.
    """
    if name.strip("_") in ELEMENTWISE:
        numbers = []
    made = math.prod(numbers) ** (2 if name in SQUARING else 1)
    if name in CONTRACTING or all(tensor.numel() for tensor in tensors):
        made *= math.prod(max(size, 1) for tensor in tensors for size in tensor.shape)
    return made


def _pieces(name: str, args: Any, kwargs: dict[str, Any]) -> float:
    """Returns an upper bound of the tensors that a function cuts one into."""
    x, given = args[0], args[1] if len(args) > 1 else next(iter(kwargs.values()), 0)  # a size, a number, or several
    if name == "unbind":
        return x.shape[given] if x.ndim else 0
    if isinstance(given, (list, tuple)):
        return len(given) + 1
    if not isinstance(given, int):
        return 0
    return max(x.shape, default=0) / max(given, 1) if name == "split" else given


def _operands(nest: Any) -> tuple[list[Tensor], list[int]]:
    """Returns the tensors and the whole numbers among arguments."""
    tensors: list[Tensor] = []
    numbers: list[int] = []
    stack = [nest]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            tensors.append(item)
        elif isinstance(item, int) and not isinstance(item, bool) and abs(item) > 1:
            numbers.append(abs(item))
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
    return tensors, numbers


def _floats(factor: Any) -> list[float]:
    given = factor if isinstance(factor, (list, tuple)) else [factor]
    return [abs(each) for each in given if isinstance(each, float) and math.isfinite(each)]


class _SymbolicError(Exception):
    """An argument stands for a tensor; the call on real ones comes later."""


def _size_on_meta(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> float | None:
    """Returns the bytes that a call would allocate for its result; None if only the call itself can tell."""
    storages: set[int] = set()

    def on_meta(item: Any) -> Any:
        if isinstance(item, Tensor):
            copy = torch.empty_strided(item.size(), item.stride(), dtype=item.dtype, device="meta")
            storages.add(storage_address(copy.untyped_storage()))
            return copy
        if hasattr(item, "__torch_function__") and not isinstance(item, type):
            raise _SymbolicError
        return type(item)(map(on_meta, item)) if type(item) in (list, tuple) else item

    try:
        args = on_meta(tuple(args))
        kwargs = {key: on_meta(item) for key, item in kwargs.items() if key not in ("device", "out", "generator")}
        result = function(*args, **kwargs) if storages else function(*args, **kwargs, device="meta")
    except _SymbolicError:
        return 0.0
    except Exception:  # whatever torch raises where the result depends on values, or the call is wrong  # noqa: BLE001
        return None
    made = {storage_address(each.untyped_storage()): each.untyped_storage().nbytes() for each in _operands(result)[0]}
    return float(sum(size for storage, size in made.items() if storage not in storages))
