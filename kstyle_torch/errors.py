"""Exceptions of two kinds at once: the one that this package raises, and the one of Keras, Python or torch.

Programs that were written for Keras may catch either.
"""

from __future__ import annotations


class WrongTypeError(ValueError, TypeError):
    """A value of an unsupported type."""


class OutOfRangeError(ValueError, IndexError):
    """An index out of range: of a class, a row of a table, an axis."""


class MissingFileError(FileNotFoundError, ValueError):
    """A file to be read that does not exist."""


class NotIterableError(NotImplementedError, TypeError):
    """A symbolic tensor where something to iterate over is needed: `iter(x)` raises a TypeError for all other objects."""
