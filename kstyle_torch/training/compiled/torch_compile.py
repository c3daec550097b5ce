"""Compilation of functions to one graph: arguments of `torch.compile` by device, and a lock on the compiler."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import load_static_address_marker

_compiler = threading.Lock()
MAX_COMPILED = 4  # recompilations of one model after changes to it; then it stays uncompiled
LOOP = "torch.ops.higher_order.while_loop"  # torch caches graphs with it only if it is marked as stateless


def is_default(how: Any) -> bool:
    """Returns whether `jit_compile` leaves to us how torch compiles."""
    return how in (True, "default") or (isinstance(how, dict) and not {"mode", "options", "backend"} & {*how})


def graph_options(how: Any, device: str, loops: bool = False) -> dict[str, Any]:
    """Returns the arguments of `torch.compile` for a graph whose validity the caller checks, so that it needs no guards.

    By default the code around the kernels is C++ on the CPU, and CUDA graphs on CUDA. A mode, options or backend that the
    user gives replaces these defaults.

    Args:
        how: `jit_compile`: True, a mode of `torch.compile`, or a dict of its arguments.
        device: Device type, such as `"cpu"`.
        loops: Whether the graph has a loop, which CUDA graphs do not support.
    """
    given = how if isinstance(how, dict) else {} if how in (True, "default") else {"mode": how}
    given = {name: value for name, value in given.items() if name not in ("dynamic", "fullgraph")}
    if {"mode", "options", "backend"} & {*given}:
        return given
    options: dict[str, Any] = {"guard_filter_fn": _no_guards}
    if device == "cpu":
        options |= {"cpp_wrapper": True, "size_asserts": False}
    if loops:
        options["unsafe_marked_cacheable_functions"] = {LOOP: torch.__version__}
    elif device == "cuda" and how != "default":
        options["triton.cudagraphs"] = True
    return {**given, "options": options}


def has_cuda_graphs(arguments: dict[str, Any], device: str) -> bool:
    """Returns whether `torch.compile` makes CUDA graphs with these arguments; each call reuses the memory of the last."""
    mode, options = arguments.get("mode"), arguments.get("options") or {}
    return device == "cuda" and (mode in ("reduce-overhead", "max-autotune") or bool(options.get("triton.cudagraphs")))


@contextlib.contextmanager
def compiler() -> Iterator[bool]:
    """Acquires torch's tracer and compiler, which only one thread can use. Yields: Whether they were free."""
    taken = _compiler.acquire(blocking=False)
    try:
        yield taken
    finally:
        if taken:
            _compiler.release()


def compiler_is_taken() -> bool:
    """Returns whether a thread is tracing or compiling, during which compiled code in other threads may fail."""
    return _compiler.locked()


def one_graph(function: Any, arguments: dict[str, Any]) -> Any:
    """Returns the function compiled for tensors of one layout, without graph breaks."""
    return torch.compile(with_own_code(function), fullgraph=True, dynamic=False, **arguments)


def with_own_code(function: Any) -> Callable[..., Any]:
    """Returns a function with a copy of its code object: torch limits recompilations per code object, across models."""
    plain = getattr(function, "__func__", function)
    copy = FunctionType(
        plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    return copy if plain is function else MethodType(copy, function.__self__)


def keep_in_place(tensors: Iterable[Tensor]) -> None:
    """Marks tensors as static, so that CUDA graphs read and change them in place."""
    mark_static_address = load_static_address_marker()
    for tensor in tensors:
        mark_static_address(tensor, guard=False)


def _no_guards(guards: Any) -> list[bool]:
    """Filters out all of torch's guards: the caller checks validity."""
    return [False for _ in guards]
