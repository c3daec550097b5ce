"""Errors of two kinds: what this package says of a wrong value, and what Keras, Python or torch raise for it.

Programs that were written for Keras catch either.
"""

from __future__ import annotations


class WrongTypeError(ValueError, TypeError):
    """A value of a type that cannot be meant."""


class OutOfRangeError(ValueError, IndexError):
    """A number that nothing belongs to: a class, an entry of a table, an axis."""


class MissingFileError(FileNotFoundError, ValueError):
    """A file that is to be read and is not there."""


class NotIterableError(NotImplementedError, TypeError):
    """A symbolic tensor where something to iterate over is needed: `iter(x)` raises a TypeError for all other objects."""
