"""Branches, loops and maps over the first axis.

Values may be nests (lists, tuples, dicts) of tensors. User functions get real tensors, in a symbolic graph too; a model
that is to be pickled needs named functions.

Example:
    >>> ops.fori_loop(0, 3, lambda i, total: total + i, 10)
    13
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.ops.operation import Nest, as_tensor, operation
from kstyle_torch.symbolic.infer import probing
from kstyle_torch.symbolic.tensor import is_symbolic


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """Returns the result of `true_fn()` if `pred` is true, else that of `false_fn()`.

    Args:
        pred: Bool or tensor of one bool. For a symbolic tensor both functions run, and the result is selected at run time.
        true_fn: Function without arguments.
        false_fn: Function without arguments, whose result is of the same nest, shapes and dtypes.
    """
    if is_symbolic(pred):
        return tree.map_structure(lambda *results: torch.where(pred, *results), true_fn(), false_fn())
    return true_fn() if pred else false_fn()  # host waits for the device here, if `pred` is there


@operation
def switch(index: Nest, branches: Any, *operands: Nest) -> Any:
    """Returns the result of `branches[index](*operands)`.

    Args:
        index: Index of the branch, clipped to the valid range.
        branches: Functions.
        operands: Arguments of the branch.
    """
    return branches[min(max(int(index), 0), len(branches) - 1)](*operands)


@operation
def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Nest, maximum_iterations: int | None = None
) -> Any:
    """Repeats `loop_vars = body(*loop_vars)` while `cond(*loop_vars)` is true. Returns: The last `loop_vars`.

    Args:
        cond: Returns a bool.
        body: Returns the next values.
        loop_vars: First values, a tuple or list or a single one.
        maximum_iterations: Largest number of iterations.
    """
    single = not isinstance(loop_vars, (list, tuple))
    values = tree.map_structure(as_tensor, (loop_vars,) if single else tuple(loop_vars))
    count = 0
    if probing.active and _keeps_form(values, after := _as_tuple(body(*values))):
        return after[0] if single else after  # for the zeros of shape inference `cond` may stay true forever
    while (maximum_iterations is None or count < maximum_iterations) and cond(*values):
        values = _as_tuple(body(*values))
        count += 1
    return values[0] if single else values


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)


def _keeps_form(before: Any, after: Any) -> bool:
    """Returns whether two nests hold tensors of the same shapes and dtypes."""
    pairs = ([as_tensor(leaf) for leaf in tree.flatten(values)] for values in (before, after))
    return [(leaf.shape, leaf.dtype) for leaf in next(pairs)] == [(leaf.shape, leaf.dtype) for leaf in next(pairs)]


@operation
def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Nest) -> Any:
    """Repeats `value = body_fun(i, value)` for `i` from `lower` to `upper - 1`. Returns: The last value.

    Args:
        lower: First `i`.
        upper: End of the range, exclusive.
        body_fun: Returns the next value.
        init_val: First value.
    """
    for i in range(int(lower), int(upper)):
        before, init_val = init_val, body_fun(i, init_val)
        if probing.active and _keeps_form(before, init_val):
            break  # the remaining iterations would not change the shapes
    return init_val


@operation
def map(f: Callable[[Any], Any], xs: Nest) -> Any:
    """Returns the stacked results of `f` for each slice along the first axis."""
    return _stacked([f(_at(xs, i)) for i in range(_length(xs))])


@operation
def vectorized_map(function: Callable[[Any], Any], elements: Nest) -> Any:
    """Returns the results of `function` for each slice along the first axis, vectorized by `torch.vmap`."""
    return torch.vmap(function)(elements)


@operation
def scan(
    f: Callable[[Any, Any], Any],
    init: Nest,
    xs: Nest = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,  # noqa: ARG001
) -> tuple[Any, Any]:
    """Runs a loop over slices that carries a value from one to the next.

    Args:
        f: `f(carry, x)` returns `(carry, y)`: the next carry, and the output of this step.
        init: First carry.
        xs: Tensors to iterate over along the first axis; None for `length` steps in which `x` is None.
        length: Number of steps; the length of `xs` if None.
        reverse: Whether to run from the last slice to the first; each `y` keeps the place of its slice.
        unroll: Accepted for compatibility with Keras; has no effect.
    Returns: The last carry, and the stacked `y`s.
    Raises: ValueError: if neither `xs` nor `length` is given.
    """
    if xs is None and length is None:
        raise ValueError("scan: needs xs or length; got neither.")
    carry = tree.map_structure(as_tensor, init)
    steps = range(_length(xs) if length is None else int(length))
    kept = []
    for i in reversed(steps) if reverse else steps:
        carry, y = f(carry, None if xs is None else _at(xs, i))
        kept.append(tree.map_structure(torch.zeros_like, carry) if y is None else y)
    return carry, _stacked(kept[::-1] if reverse else kept)


@operation
def associative_scan(f: Callable[[Any, Any], Any], elems: Nest, reverse: bool = False, axis: int = 0) -> Any:
    """Returns all partial results of a fold, `[a, f(a, b), f(f(a, b), c), ...]`, in log2(n) calls of `f`.

    Args:
        f: Associative function of two nests like `elems`, applied to many slices at once.
        elems: Tensor or nest of tensors with equal lengths along `axis`.
        reverse: Whether to start at the end.
        axis: Along which axis.
    Raises: ValueError: if the lengths differ.
    Source: Hillis & Steele 1986, Data parallel algorithms.
    """
    leaves = [as_tensor(leaf) for leaf in tree.flatten(elems)]
    lengths = {leaf.shape[axis] for leaf in leaves}
    if len(lengths) > 1:
        raise ValueError(
            f"associative_scan: all tensors must have the same length along axis {axis}; got {sorted(lengths)}."
        )
    leaves = [leaf.flip(axis) for leaf in leaves] if reverse else leaves
    (length,) = lengths
    shift = 1
    while shift < length:  # each element now holds the fold of the `shift` elements up to it
        before = tree.pack_sequence_as(elems, [leaf.narrow(axis, 0, length - shift) for leaf in leaves])
        after = tree.pack_sequence_as(elems, [leaf.narrow(axis, shift, length - shift) for leaf in leaves])
        folded = tree.flatten(f(before, after))
        leaves = [torch.cat([leaf.narrow(axis, 0, shift), new], axis) for leaf, new in zip(leaves, folded)]
        shift *= 2
    return tree.pack_sequence_as(elems, [leaf.flip(axis) for leaf in leaves] if reverse else leaves)


def vectorize(pyfunc: Callable[..., Any], *, excluded: Any = None, signature: str | None = None) -> Callable[..., Any]:
    """Vectorizes a function of single elements (or of vectors, matrices, ...) by `torch.vmap`.

    Args:
        pyfunc: Function.
        excluded: Positions and names of arguments that are passed on unchanged.
        signature: Core shapes of arguments and result, as in `"(n),(m,n)->(m)"`; single elements if None.
    Raises: ValueError: if `pyfunc` cannot be called.

    Example:
        >>> ops.vectorize(torch.dot, signature="(n),(n)->()")(torch.ones(5, 3), torch.ones(3))
        tensor([3., 3., 3., 3., 3.])
    """
    if not callable(pyfunc):
        raise ValueError(f"vectorize: pyfunc must be a function; got {pyfunc!r}.")
    return _Vectorized(pyfunc, frozenset(excluded or ()), signature)


class _Vectorized:
    """Vectorized function: broadcasts the loop axes, and maps over each of them."""

    def __init__(self, function: Callable[..., Any], excluded: frozenset[Any], signature: str | None):
        self.function, self.excluded = function, excluded
        parts = [] if signature is None else signature.split("->")[0].strip()[1:-1].split("),(")
        self.num_core_axes = [len(part.split(",")) if part.strip() else 0 for part in parts]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        places = [place for place, arg in enumerate(args) if place not in self.excluded and arg is not None]
        tensors = [as_tensor(args[place]) for place in places]
        cores = [0] * len(tensors)
        if self.num_core_axes:
            cores = [self.num_core_axes[place] for place in places]
        loops = [tensor.shape[: tensor.ndim - core] for tensor, core in zip(tensors, cores)]
        loop = torch.broadcast_shapes(*loops)

        def call(*mapped: Tensor) -> Any:
            filled = list(args)
            for place, tensor in zip(places, mapped):
                filled[place] = tensor
            return self.function(*filled, **kwargs)

        for _ in loop:
            call = torch.vmap(call)
        shapes = [(*loop, *tensor.shape[tensor.ndim - core :]) for tensor, core in zip(tensors, cores)]
        return call(*[tensor.expand(shape) for tensor, shape in zip(tensors, shapes)])


def _length(xs: Any) -> int:
    return len(tree.flatten(xs)[0])


def _at(xs: Any, i: int) -> Any:
    return tree.map_structure(lambda x: x[i], xs)


def _stacked(results: list[Any]) -> Any:
    return tree.map_structure(lambda *leaves: torch.stack([as_tensor(leaf) for leaf in leaves]), *results)
