"""Copies from host to device that overlap with computation: pinned memory, a separate stream, one piece ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Parcel = tuple[list[Tensor], Any]  # tensors being copied, and the event of their completion


class Carrier:
    """Copier of lists of tensors to a device, for which the host does not wait.

    Args:
        device: Target device.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.pins = _works(lambda: torch.empty(1).pin_memory())
        self.stream = _side_stream(device)

    def send(self, tensors: list[Tensor]) -> Parcel:
        """Starts the copies."""
        if self.stream is None:
            return [self._moved(tensor) for tensor in tensors], None
        with self.stream:
            moved = [self._moved(tensor) for tensor in tensors]
        return moved, self.stream.record_event()

    def receive(self, parcel: Parcel) -> list[Tensor]:
        """Returns the tensors for use on the current stream, which waits for the copies; the host does not."""
        tensors, event = parcel
        if event is not None:
            current = torch.accelerator.current_stream(self.device)
            current.wait_event(event)
            for tensor in tensors:
                tensor.record_stream(current)  # keeps its memory from being reused before that stream is done with it
        return tensors

    def _moved(self, tensor: Tensor) -> Tensor:
        if tensor.device == self.device:
            return tensor
        if self.pins and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def carried(pieces: Iterable[list[Tensor]], carrier: Carrier) -> Iterator[list[Tensor]]:
    """Yields the pieces on the device in order; the next one is copied while one is used."""
    parcel = None
    for piece in pieces:
        before, parcel = parcel, carrier.send(piece)
        if before is not None:
            yield carrier.receive(before)
    if parcel is not None:
        yield carrier.receive(parcel)


def read_ahead(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yields the results of jobs in order; a thread runs the next job while a result is used."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="kstyle_torch-data")
    try:
        waiting = None
        for job in jobs:
            before, waiting = waiting, pool.submit(job)
            if before is not None:
                yield before.result()
        if waiting is not None:
            yield waiting.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _side_stream(device: torch.device) -> Any:
    """Returns a stream for copies; None if the device does not support this."""
    if device.type == "cpu":
        return None
    try:
        stream = torch.Stream(device=device)
        stream.record_event()
        torch.empty(1, device=device).record_stream(stream)
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    return stream


def _works(function: Callable[[], Any]) -> bool:
    try:
        function()
    except (RuntimeError, NotImplementedError):
        return False
    return True
