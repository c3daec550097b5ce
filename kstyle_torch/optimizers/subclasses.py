"""Methods of optimizers that users define in subclasses, or set on our classes: `update`, or Keras' `update_step`."""

from __future__ import annotations

from typing import Any

UPDATE_STEPS: set[Any] = set()  # `update_step` of the package's classes, as they are made


class Forgotten:
    """An attribute that `__init__` sets, for a subclass that forgets to call it."""

    def __get__(self, optimizer: Any, owner: type) -> Any:
        if optimizer is None:
            return self
        raise RuntimeError(f"{owner.__name__}.__init__() must call super().__init__() first.")


def goes_by_variable(optimizer: Any, root: type) -> bool:
    """Returns whether the weights are updated one by one, by an `update_step` of the user's.

    It is a user's that stands before `update` along the MRO, or beside it on a class of the package.

    Args:
        optimizer: The optimizer.
        root: The base class of optimizers, whose `update_step` the others replace in Keras.
    """
    cls = type(optimizer)
    if "update_step" in vars(optimizer):
        return True
    if cls.update_step in UPDATE_STEPS:
        return False
    place, other = _defined_in(cls, "update_step"), _defined_in(cls, "update")
    home = cls.__mro__[place]
    return place < other or (place == other and home is not root and home.__module__.startswith("kstyle_torch."))


def has_users_update(cls: type) -> bool:
    """Returns whether a class has an `update` other than that whose small weights may be packed."""
    return _defined_in(cls, "update") < _defined_in(cls, "packs")


def _defined_in(cls: type, method: str) -> int:
    """Returns the position in the MRO of the class that defines a method."""
    return next(place for place, base in enumerate(cls.__mro__) if method in vars(base))
