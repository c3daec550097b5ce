"""Checks of the arguments of `compile` and `fit` that control how steps run, made before any state changes."""

from __future__ import annotations

from typing import Any

from kstyle_torch.errors import WrongTypeError
from kstyle_torch.registry import did_you_mean

MODES = ("auto", "record", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def check_epochs(**given: Any) -> None:
    """Raises a ValueError for an argument that is not an int, such as a number of epochs."""
    for name, number in given.items():
        if not hasattr(number, "__index__") or isinstance(number, bool):
            raise WrongTypeError(f"{name} must be an int; got {number!r}.")


def check_validation_freq(frequency: Any) -> None:
    """Raises a ValueError for what is neither a number of epochs nor a list of epochs."""
    if isinstance(frequency, int) and frequency >= 1:
        return
    if not isinstance(frequency, (list, tuple, set, range)):
        raise ValueError(f"validation_freq must be a positive int, or a list of epochs; got {frequency!r}.")


def check_switches(jit_compile: Any, steps_per_execution: Any) -> None:
    """Checks `jit_compile` and `steps_per_execution`.

    Raises: ValueError: for an unknown mode, or a number of steps that is not positive. TypeError: for a `jit_compile` that is
        neither a mode nor a dict of arguments for `torch.compile`.
    """
    if isinstance(jit_compile, str):
        if jit_compile not in MODES:
            raise ValueError(f"Unknown jit_compile {jit_compile!r}.{did_you_mean(jit_compile, [*MODES])}")
    elif jit_compile is not None and not isinstance(jit_compile, (bool, dict)):
        raise TypeError(
            f"jit_compile must be a bool, one of {', '.join(map(repr, MODES))}, or a dict of arguments for torch.compile; "
            f"got {jit_compile!r}."
        )
    if isinstance(steps_per_execution, str):
        if steps_per_execution != "epoch":
            raise ValueError(f'steps_per_execution must be a positive int or "epoch"; got {steps_per_execution!r}.')
        if jit_compile in (None, False, "auto", "record"):
            raise ValueError(f'steps_per_execution="epoch" needs jit_compile=True; got jit_compile={jit_compile!r}.')
        return
    whole = hasattr(steps_per_execution, "__index__") and not isinstance(steps_per_execution, bool)
    if not whole or int(steps_per_execution) < 1:
        raise ValueError(f'steps_per_execution must be a positive int or "epoch"; got {steps_per_execution!r}.')
