"""Spatial layers: position of channels and `padding="same"`, for sequences, images and volumes.

Users' images are channels_last. Permuted to channels_first, they are a view in torch's channels_last memory format, so
nothing is copied.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from kstyle_torch import config
from kstyle_torch.compat import keras2
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.ops.padding import flat_pads, pad_same, same_padding, to_channels_first, to_channels_last

__all__ = [
    "SpatialLayer",
    "check_data_format",
    "check_padding",
    "defaults",
    "flat_pads",
    "pad_same",
    "same_padding",
    "sizes",
    "to_channels_first",
    "to_channels_last",
]

AXES = {1: ("steps",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class SpatialLayer(Layer):
    """Base of the layers over `rank` axes between the batch and the channels.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    """

    rank: ClassVar[int]

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format, self)
        self._permutes = self.data_format == "channels_last"
        self._first_axis = 1 if self._permutes else 2
        self._to_first = (0, self.rank + 1, *range(1, self.rank + 1))  # precomputed for the calls
        self._to_last = (0, *range(2, self.rank + 2), 1)

    def build(self, input_shape: Shape) -> None:
        self._check_rank(input_shape)

    def _check_rank(self, shape: Sequence[int | None]) -> None:
        if len(shape) != self.rank + 2:
            axes = AXES[self.rank]
            layout = (*axes, "channels") if self._permutes else ("channels", *axes)
            raise ValueError(
                f"{self.name}: expected an input of shape (batch, {', '.join(layout)}); got shape {tuple(shape)}. "
                "Reshape the data or put a Reshape layer in front."
            )

    def _check_window(self, shape: Shape, window: Sequence[int], what: str) -> None:
        """Raises a ValueError if a window does not fit into an input of known size without padding."""
        spatial = shape[self._first_axis : self._first_axis + self.rank]
        if any(size is not None and size < length for size, length in zip(spatial, window)):
            raise ValueError(
                f"{self.name}: {what} {tuple(window)} is larger than the input, {tuple(spatial)} of shape "
                f"{tuple(shape)}. Take a smaller one, or padding='same'."
            )


def defaults(**values: Any) -> Callable[[type], type]:
    """Returns a class decorator: the constructor of the base class, with other defaults.

    Keras' defaults differ by rank, `strides=(1, 1)` for images; they are part of the signature and of the config.

    Args:
        values: The defaults by name.
    """

    def change(cls: type) -> type:
        init: Any = inspect.unwrap(cls.__init__)  # type: ignore[misc]
        parameters = inspect.signature(init).parameters.values()
        chosen = [
            values.get(p.name, p.default) for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        own = types.FunctionType(init.__code__, init.__globals__, "__init__", None, init.__closure__)
        own.__defaults__ = tuple(value for value in chosen if value is not inspect.Parameter.empty)
        own.__kwdefaults__, own.__annotations__ = init.__kwdefaults__, init.__annotations__
        own.__qualname__, own.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
        older = keras2.table_of(cls)
        cls.__init__ = keras2.takes_older(cls.__name__, older)(own) if older else own  # type: ignore[misc]
        return cls

    return change


def check_data_format(data_format: str | None, layer: Any) -> str:
    """Returns the data format; `config.image_data_format()` for None.

    Raises: ValueError: if it is neither `"channels_last"` nor `"channels_first"`.
    """
    data_format = config.image_data_format() if data_format is None else str(data_format).lower()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"{type(layer).__name__}: data_format must be 'channels_last' or 'channels_first'; got {data_format!r}."
        )
    return data_format


def check_padding(padding: str, layer: Any, allowed: tuple[str, ...] = ("valid", "same")) -> str:
    """Returns the padding, in lower case.

    Raises: ValueError: if it is not one of `allowed`.
    """
    if str(padding).lower() not in allowed:
        raise ValueError(f"{type(layer).__name__}: padding must be one of {allowed}; got {padding!r}.")
    return padding.lower()


def sizes(value: int | Sequence[int], rank: int, name: str, layer: Any, minimum: int = 1) -> tuple[int, ...]:
    """Returns an int for each axis, from a single int or a sequence.

    Raises: ValueError: if there are not `rank` of them, or one is less than `minimum`.
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,) * rank
    if len(values) != rank or any(not hasattr(n, "__index__") or n < minimum for n in values):
        raise ValueError(
            f"{type(layer).__name__}: {name} must be an int or {rank} of them, at least {minimum}; got {value!r}."
        )
    return tuple(map(int, values))
