"""A count of the changes of layers, by which recorded and compiled code knows that it may not hold any more."""

from __future__ import annotations


class Changes:
    """Counts how often an attribute of any layer, but its mode, was set: what was derived may not hold any more."""

    count = 0


changes = Changes()
