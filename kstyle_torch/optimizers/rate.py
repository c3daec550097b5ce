"""The learning rate: a number that may be set, a schedule, or a function."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from kstyle_torch import config
from kstyle_torch.errors import WrongTypeError
from kstyle_torch.optimizers.schedules import LearningRateSchedule
from kstyle_torch.optimizers.variables import HostNumber
from kstyle_torch.serialization import deserialize_keras_object
from kstyle_torch.variables import Variable


def learning_rate_of(value: Any, owner: str) -> Any:
    """Converts a learning rate from the user to a variable or a callable.

    Raises: TypeError: if it is neither. ValueError: if it is not finite.
    """
    if isinstance(value, dict):
        value = deserialize_keras_object(value)
    if isinstance(value, type):
        raise WrongTypeError(f"learning_rate got the class {value.__name__}; pass an instance: {value.__name__}(...).")
    if isinstance(value, LearningRateSchedule) or (callable(value) and not isinstance(value, (Tensor, Variable))):
        return value
    return HostNumber(_number(value), config.floatx(), "learning_rate", f"{owner}/learning_rate")


def _number(value: Any) -> float:
    if isinstance(value, (str, bool)) or value is None:
        raise WrongTypeError(f"learning_rate must be a number, a LearningRateSchedule or a function; got {value!r}.")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"learning_rate must be finite; got {number!r}.")
    return number


def replaced_rate(present: Any, value: Any, owner: str) -> Any:
    """Returns the learning rate after `optimizer.learning_rate = value`.

    Raises: TypeError: if a schedule would be replaced by a number.
    """
    given = learning_rate_of(value, owner)
    if not isinstance(given, HostNumber) or not isinstance(present, (HostNumber, LearningRateSchedule)):
        return given
    if isinstance(present, LearningRateSchedule):
        raise TypeError(
            f"The learning rate follows a {type(present).__name__} and cannot be set to a number; make the optimizer "
            "with a number to be able to, or set another schedule."
        )
    return present.assign(given.number)


def current_rate(rate: Any, iterations: HostNumber) -> float:
    """Returns the learning rate of the next step."""
    if type(rate) is HostNumber:
        return rate.number
    return rate.at(iterations.number) if isinstance(rate, LearningRateSchedule) else float(rate())
