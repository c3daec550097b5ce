"""Prefixes of weight paths: the path of the layer in whose call or build a layer is built, and the open name scopes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.scopes import opened, path_of

# of the layers inside which others are being built: the path, and how many name scopes were open around it
_above: list[tuple[str, int]] = []
_building: list[Any] = []  # these layers


def take_path(layer: Any) -> None:
    """Sets the path prefix of a layer that is about to be built."""
    if (_above or opened.names) and not layer._path_above and layer._path is None:  # it is taken once
        set_unnoticed(layer, _path_above=path_of("", *(_above[-1] if _above else ("", 0))).rstrip("/"))
    set_unnoticed(layer, _path="/".join(filter(None, (layer._path_above, layer.name))))
    if layer._policy_map is not None:
        layer._take_policy_of("/".join(filter(None, (layer._path_above, layer.name))))


@contextlib.contextmanager
def building_inside(layer: Any) -> Iterator[None]:
    """Makes the path of `layer` the prefix of layers that are built in the block."""
    _above.append(("/".join(filter(None, (layer._path_above, layer.name))), len(opened.names)))
    _building.append(layer)
    try:
        yield
    finally:
        _above.pop()
        _building.pop()


def is_building(layer: Any) -> bool:
    """Returns whether the build of a layer, or the call that built it, is running."""
    return any(each is layer for each in [*_building])
