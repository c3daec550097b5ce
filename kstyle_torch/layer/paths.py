"""Prefixes of weight paths: layers that are built while another one is called or built carry its names in front."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kstyle_torch.layer.module_walk import set_unnoticed

_above: list[str] = []  # paths of the layers inside which others are being built


def take_path(layer: Any) -> None:
    """Puts a layer that is about to be built where it belongs."""
    if _above and not layer._path_above:
        set_unnoticed(layer, _path_above=_above[-1])
    if layer._policy_map is not None:
        layer._take_policy_of("/".join(filter(None, (layer._path_above, layer.name))))


@contextlib.contextmanager
def building_inside(layer: Any) -> Iterator[None]:
    """Puts the names of what is built in this block behind that of `layer`."""
    _above.append("/".join(filter(None, (layer._path_above, layer.name))))
    try:
        yield
    finally:
        _above.pop()
