"""Logs of a batch that are read from the device on first access."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from kstyle_torch.layer.module_walk import OwnDict


class Logs(OwnDict):
    """Dict of the running metrics, read from the device on first access.

    Args:
        look: Reads them.
    """

    def __init__(self, look: Callable[[], dict[str, Any]]):
        super().__init__()
        self._look: Callable[[], dict[str, Any]] | None = look

    def _filled(self) -> None:
        if self._look is not None:
            look, self._look = self._look, None
            for key, value in look().items():
                dict.setdefault(self, key, value)

    def __getitem__(self, key: str) -> Any:
        self._filled()
        return dict.__getitem__(self, key)

    def __iter__(self) -> Iterator[str]:
        self._filled()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._filled()
        return dict.__len__(self)

    def __contains__(self, key: object) -> bool:
        self._filled()
        return dict.__contains__(self, key)

    def __eq__(self, other: object) -> bool:
        self._filled()
        return dict.__eq__(self, other)

    def __repr__(self) -> str:
        self._filled()
        return dict.__repr__(self)

    def __bool__(self) -> bool:
        return len(self) > 0

    def get(self, key: str, default: Any = None) -> Any:
        self._filled()
        return dict.get(self, key, default)

    def keys(self) -> Any:
        self._filled()
        return dict.keys(self)

    def values(self) -> Any:
        self._filled()
        return dict.values(self)

    def items(self) -> Any:
        self._filled()
        return dict.items(self)

    def copy(self) -> dict[str, Any]:
        self._filled()
        return dict(dict.items(self))


def is_nan(logs: dict[str, Any]) -> bool:
    """Returns whether the loss is NaN or infinite."""
    loss = logs.get("loss")
    return isinstance(loss, float) and not math.isfinite(loss)
