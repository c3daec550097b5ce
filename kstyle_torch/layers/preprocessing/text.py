"""Base of text layers. torch cannot hold text, so it stays in lists and arrays until it is encoded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.layers.preprocessing.data_layer import DataLayer, as_array
from kstyle_torch.symbolic.tensor import is_symbolic, is_text


class Texts(NamedTuple):
    """Flattened strings and their original shape."""

    flat: list[str]
    shape: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Returns the strings as an array of their shape."""
        return np.array(self.flat, dtype=str).reshape(self.shape)


class TextLayer(DataLayer):
    """A layer that is called on text: a list, an array or a pandas Series of strings, or an `Input` of dtype "string"."""

    _takes_text = True
    _builds_weights = False  # it builds an empty buffer for the device, not a weight
    integer_inputs = True
    _autocast = False

    def build(self, input_shape: Any) -> None:
        # empty: it moves with the model, so that results are on the device of the weights
        self.register_buffer("place", torch.empty(0, device=config.device()), persistent=False)

    def _symbolic_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = self._first_argument(args, kwargs)
        if not is_text(first) or getattr(self, "invert", False):
            got = f"of dtype {first.dtype}" if is_symbolic(first) else f"in a {type(first).__name__}"
            raise TypeError(
                f"{self.name} works on text; got a symbolic tensor {got}. In a model it is called on text, "
                'Input((1,), dtype="string"), and returns numbers (invert=True is for data outside of models).'
            )
        return super()._symbolic_call(args, kwargs)

    def _to_tensor(self, leaf: Any) -> Any:
        return leaf


def as_texts(data: Any, encoding: str, layer: Any) -> Texts:
    """Returns the strings of a string, list, array or Series; bytes are decoded.

    Raises: TypeError: if anything else is among them.
    """
    if isinstance(data, Tensor):
        raise TypeError(f"{layer.name} works on text; got a tensor of {data.dtype}.")
    array = as_array(data)
    flat = array.ravel().tolist()
    kinds = {*map(type, flat)}
    if bytes in kinds:
        flat = [text.decode(encoding) if isinstance(text, bytes) else text for text in flat]
        kinds = kinds - {bytes} | {str}
    if not all(issubclass(kind, str) for kind in kinds):
        wrong = next(text for text in flat if not isinstance(text, str))
        raise TypeError(
            f"{layer.name} works on text; got {wrong!r} of type {type(wrong).__name__}. Convert numbers to text with "
            "x.astype(str); texts in a list must be nested evenly."
        )
    return Texts(flat, array.shape)
