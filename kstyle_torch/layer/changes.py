"""Counter of changes to layers, used to invalidate recorded and compiled code."""

from __future__ import annotations


class Changes:
    """Counter of assignments to attributes of any layer, except `training`; caches compare it with an older value."""

    count = 0


changes = Changes()
