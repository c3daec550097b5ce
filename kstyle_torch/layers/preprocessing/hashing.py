"""Hashing of strings and integers into bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layers.preprocessing.data_layer import DataLayer, as_array
from kstyle_torch.layers.preprocessing.encoding import check_output_mode, encode, refuse_sparse
from kstyle_torch.layers.preprocessing.fingerprint import hash_text
from kstyle_torch.layers.preprocessing.lookup import as_salt

register = layer_registry.register


class HashLayer(DataLayer):
    """A layer that hashes on the host: strings, which torch cannot hold, and integers as decimal digits."""

    _builds_weights = False  # it builds an empty buffer for the device, not a weight
    integer_inputs = True
    _autocast = False

    def build(self, input_shape: Any) -> None:
        self.register_buffer("place", torch.empty(0, device=config.device()), persistent=False)

    def _to_tensor(self, leaf: Any) -> Any:
        return leaf

    def _device_for(self, x: Any) -> torch.device:
        return x.device if isinstance(x, Tensor) else self.place.device


@register()
class Hashing(HashLayer):
    """Hashing of strings or integers into bins, by FarmHash64 or, with a salt, SipHash.

    The bins are those of Keras. It works in a model (on integers), but is not compiled.

    Args:
        num_bins: Number of bins, including that of `mask_value`.
        mask_value: Value for bin 0, which is not used otherwise then.
        salt: One or two ints, the secret key of the hash.
        output_mode: `"int"`, or vectors as `CategoryEncoding` makes them: `"one_hot"`, `"multi_hot"` or `"count"`.
        sparse: Not supported.
        dtype: Of the output; int64 in mode "int" if None.
    Output shape: that of the input in mode "int"; else as in `CategoryEncoding`.
    Raises: ValueError: if `num_bins` is not a positive int, or `dtype` is not an integer dtype in mode "int".
    Source: github.com/google/farmhash; Aumasson & Bernstein 2012 (SipHash).

    Example:
        >>> Hashing(num_bins=3)([["A"], ["B"], ["C"]])
        tensor([[1],
                [0],
                [1]])
    """

    def __init__(
        self,
        num_bins: int,
        mask_value: Any = None,
        salt: int | Sequence[int] | None = None,
        output_mode: str = "int",
        sparse: bool = False,
        **kwargs: Any,
    ):
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = "int64" if output_mode == "int" else config.floatx()
        super().__init__(**kwargs)
        self.num_bins = positive_int(num_bins, "num_bins", self)
        self.output_mode = check_output_mode(output_mode, self)
        if output_mode == "int" and self._dtype not in (torch.int32, torch.int64):
            raise ValueError(f"Hashing: dtype must be 'int32' or 'int64' in output_mode 'int'; got {self.dtype!r}.")
        refuse_sparse(sparse, self)
        self.mask_value, self.salt = mask_value, as_salt(salt, self)

    def forward(self, inputs: Any) -> Tensor:
        values = hashable(inputs, self)
        masked = self.mask_value is not None and self.num_bins > 1
        bins = (hash_text(_digits(values), self.salt) % np.uint64(self.num_bins - masked)).astype("int64")
        if masked:
            bins = np.where(values.ravel() == self.mask_value, 0, bins + 1)
        indices = torch.from_numpy(bins.reshape(values.shape)).to(self._device_for(inputs))
        return encode(indices, self.output_mode, self.num_bins, self._dtype)


def hashable(x: Any, layer: Any) -> np.ndarray:
    """Returns an array of int64 or of Python strings.

    Raises: TypeError: for anything else.
    """
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else as_array(x)
    if array.dtype.kind in "iufb":
        return array.astype("int64")
    flat = [text.decode() if isinstance(text, bytes) else text for text in array.ravel().tolist()]
    if flat and all(isinstance(number, int) for number in flat):
        return array.astype("int64")
    if not all(isinstance(text, str) for text in flat):
        raise TypeError(f"{layer.name} hashes strings or integers; got other objects, in an array of {array.dtype}.")
    strings = np.empty(len(flat), dtype=object)
    strings[:] = flat
    return strings.reshape(array.shape)


def _digits(values: np.ndarray) -> list[str]:
    return [*map(str, values.ravel().tolist())]
