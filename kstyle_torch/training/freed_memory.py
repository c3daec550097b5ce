"""Allocator setting: glibc keeps freed memory between training steps."""

from __future__ import annotations

import functools

import torch

from kstyle_torch import config

LARGEST = 2**25 - 2**16  # bytes; glibc adapts to blocks of up to 2^25, including its own header


@functools.cache
def keep_for_the_next_step() -> None:
    """Makes glibc keep up to 64 MiB of freed memory for later allocations.

    Memory that is returned to the system after a step costs a page fault for each page in the next step: up to a third of
    the time of a small convolutional network. glibc keeps twice the size of the largest block freed so far, so this frees
    one block of the largest size that counts, without touching its pages. No effect with other C libraries.

    Applies to the whole process. Call `config.set_keeps_freed_memory(False)` before the first `fit` to prevent it.

    Source: the dynamic threshold of mallopt(3).
    """
    if config.keeps_freed_memory():
        torch.empty(LARGEST, dtype=torch.uint8, device="cpu")
