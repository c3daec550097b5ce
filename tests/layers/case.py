"""What a row of the layer cases says."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch

from tests.oracle import integers, uniform

IMAGE = (2, 7, 6, 4)
CHANNELS_FIRST = (2, 4, 7, 6)


class Case(NamedTuple):
    """How to make a layer and what to call it on.

    Args:
        id: Name of the row.
        layer: Name of the class in `kstyle_torch.layers`.
        arguments: Of the constructor; or a function that makes them, called with `kstyle_torch` and with `keras`, where
            they are layers themselves.
        shapes: Whole batch shapes of the inputs; more than one means that the layer is called on a list.
        high: First whole number that an integer input does not have; inputs are floats without it.
        training: Mode of the call.
        has_config: False where an argument (a bare module) cannot be written down.
        keras_layer: Where Keras calls it something else.
        spread: Whether several inputs are several positional arguments instead of a list.
        call: Makes the keyword arguments of the call (a mask, an initial state).
        low: Smallest float of the inputs.
        random: Whether a call in training mode is random, so that only the other mode can be compared.
        inputs: Makes the positional arguments of the call, where they are no tensors of random numbers (text, say).
        oracle: False where Keras' layer needs TensorFlow, so that there is nothing to compare with.
        exempt: Why it cannot be compiled, exported or called on symbolic tensors (it works on strings, say).
        weights: Smallest and largest of the random weights; variances must be positive, gates must not saturate.
        rtol, atol: Tolerance against Keras.
    """

    id: str
    layer: str
    arguments: dict[str, Any] | Callable[[ModuleType], dict[str, Any]] = {}
    shapes: tuple[tuple[int, ...], ...] = ()
    high: int | None = None
    training: bool = False
    has_config: bool = True
    keras_layer: str = ""
    spread: bool = False
    call: Callable[[], dict[str, Any]] = dict
    low: float = -1.0
    random: bool = False
    inputs: Callable[[], tuple[Any, ...]] | None = None
    oracle: bool = True
    exempt: str = ""
    weights: tuple[float, float] = (0.5, 1.5)
    rtol: float = 1e-5
    atol: float = 1e-6

    def arguments_for(self, library: ModuleType) -> dict[str, Any]:
        """The constructor's arguments, fresh, in the library's own objects."""
        return self.arguments(library) if callable(self.arguments) else dict(self.arguments)

    def args(self) -> tuple[Any, ...]:
        """The positional arguments of the call."""
        if self.inputs is not None:
            return self.inputs()
        made = [self._input(shape, seed) for seed, shape in enumerate(self.shapes)]
        return tuple(made) if self.spread or len(made) == 1 else (made,)

    def _input(self, shape: tuple[int, ...], seed: int) -> torch.Tensor:
        if self.high is not None:
            return integers(*shape, high=self.high, seed=seed)
        return uniform(*shape, low=self.low, seed=seed)
