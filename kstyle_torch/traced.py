"""Whether code is being turned into a graph: what would look at values, or leave notes on tensors, does not then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_here = False


def is_traced() -> bool:
    """Whether torch's compiler, or a trace of our own, is following the calls."""
    return _here or torch.compiler.is_compiling()


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """The length of a trace of our own."""
    global _here
    before, _here = _here, True
    try:
        yield
    finally:
        _here = before
