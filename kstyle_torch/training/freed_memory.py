"""Advice to the C library to keep freed memory between training steps."""

from __future__ import annotations

import functools

import torch

from kstyle_torch import config

LARGEST = 2**25 - 2**16  # bytes; glibc takes note of blocks up to 2^25, what it writes in front of them included


@functools.cache
def keep_for_the_next_step() -> None:
    """Lets the heap keep freed memory, up to 64 MiB, for what is allocated next.

    Given back to the system after a step, every page of it costs a fault in the next one: up to a third of the time of a
    small convolutional network. How much is kept is twice the largest block that a program has freed so far, if glibc is
    the C library; so one of the largest that count is freed, of which no page was ever touched. Elsewhere it does nothing.

    It holds for the whole process; `config.set_keeps_freed_memory(False)`, before the first `fit`, leaves the heap alone.

    Source: the dynamic threshold of mallopt(3).
    """
    if config.keeps_freed_memory():
        torch.empty(LARGEST, dtype=torch.uint8, device="cpu")
