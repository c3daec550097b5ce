"""Compilation of functions to one graph: the arguments of `torch.compile`, by device."""

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
MAX_COMPILED = 4  # versions of one model, as changes to it make them, that are compiled before it stays uncompiled
LOOP = "torch.ops.higher_order.while_loop"  # whose graphs torch keeps in its cache only where they are said to hold no state


def is_asked(how: Any) -> bool:
    """Returns whether `jit_compile` asks for the compiler."""
    return how not in (None, False, "auto", "record")


def is_default(how: Any) -> bool:
    """Returns whether `jit_compile` leaves to us how torch compiles."""
    return how in (True, "default") or (isinstance(how, dict) and not {"mode", "options", "backend"} & {*how})


def graph_options(how: Any, device: str, loops: bool = False) -> dict[str, Any]:
    """Returns the arguments of `torch.compile` for a graph of which the caller knows that it still holds.

    By default the calls around the kernels are C++ on a CPU, and CUDA graphs on CUDA; what the user says is taken as it is.

    Args:
        how: `jit_compile`: True, a mode of `torch.compile`, or a dict of its arguments.
        device: Its type.
        loops: Whether there is a loop in it, which CUDA graphs cannot hold.
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
    """Returns whether these arguments of `torch.compile` make CUDA graphs, which use their memory again and again."""
    mode, options = arguments.get("mode"), arguments.get("options") or {}
    return device == "cuda" and (mode in ("reduce-overhead", "max-autotune") or bool(options.get("triton.cudagraphs")))


@contextlib.contextmanager
def compiler() -> Iterator[bool]:
    """Takes torch's tracer and compiler, of which a process has one; gives whether no other thread has them."""
    taken = _compiler.acquire(blocking=False)
    try:
        yield taken
    finally:
        if taken:
            _compiler.release()


def compiler_is_taken() -> bool:
    """Returns whether a thread traces or compiles: compiled code of others may fail meanwhile."""
    return _compiler.locked()


def one_graph(function: Any, arguments: dict[str, Any]) -> Any:
    """Returns the function compiled for tensors of one layout, without a break."""
    return torch.compile(with_own_code(function), fullgraph=True, dynamic=False, **arguments)


def with_own_code(function: Any) -> Callable[..., Any]:
    """Returns a function with a copy of its code: torch compiles the same code only a few times, counting all models."""
    plain = getattr(function, "__func__", function)
    copy = FunctionType(
        plain.__code__.replace(), plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    return copy if plain is function else MethodType(copy, function.__self__)


def keep_in_place(tensors: Iterable[Tensor]) -> None:
    """Tells torch that these stay where they are, so that a CUDA graph reads and changes them there."""
    mark_static_address = load_static_address_marker()
    for tensor in tensors:
        mark_static_address(tensor, guard=False)


def _no_guards(guards: Any) -> list[bool]:
    """Returns which conditions torch is to look at before a call: none, the caller has looked."""
    return [False for _ in guards]
