"""HashedCrossing: hashing of combinations of categories into bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch.initializers import DType
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layers.preprocessing.data_layer import as_array
from kstyle_torch.layers.preprocessing.encoding import check_output_mode, encode, refuse_sparse
from kstyle_torch.layers.preprocessing.fingerprint import cross, hash_text
from kstyle_torch.layers.preprocessing.hashing import HashLayer, hashable

register = layer_registry.register
SEED = 0xDECAFCAFFE  # TensorFlow's default hash key


@register()
class HashedCrossing(HashLayer):
    """Hashing of combinations of two or more categories, into the same bins as Keras.

    Args:
        num_bins: Number of bins.
        output_mode: `"int"`, or `"one_hot"` for vectors.
        sparse: Not supported.
        dtype: Of the output; int64 in mode "int" if None.
    Input shape: two or more of (batch,) or (batch, 1), strings or whole numbers. Output shape: that of one of them; in mode
        "one_hot" (batch, num_bins).
    Raises: ValueError: if the inputs are not two or more of one such shape.

    Example:
        >>> HashedCrossing(num_bins=5)((["A", "B", "A"], [101, 101, 102]))
        tensor([1, 4, 3])
    """

    def __init__(
        self,
        num_bins: int,
        output_mode: str = "int",
        sparse: bool = False,
        name: str | None = None,
        dtype: DType = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype="int64" if output_mode == "int" and dtype is None else dtype, **kwargs)
        self.num_bins = positive_int(num_bins, "num_bins", self)
        self.output_mode = check_output_mode(output_mode, self, ("int", "one_hot"))
        refuse_sparse(sparse, self)

    def _slow_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args or not isinstance(args[0], (list, tuple)) or len(args[0]) < 2:
            raise ValueError(
                f"{self.name}: expected a list or tuple of two or more inputs; got {type(args[0]).__name__ if args else None}."
            )
        features = [as_array(feature) for feature in args[0]]
        return Layer._slow_call(self, (features, *args[1:]), kwargs)

    def forward(self, inputs: Any) -> Tensor:
        if any("float" in str(feature.dtype) for feature in inputs):
            raise ValueError(f"{self.name}: inputs must be strings or integers; got {[x.dtype for x in inputs]}.")
        features = [hashable(feature, self) for feature in inputs]
        shape = features[0].shape
        if any(feature.shape != shape for feature in features):
            raise ValueError(
                f"{self.name}: inputs must have the same shape; got {[feature.shape for feature in features]}."
            )
        if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
            raise ValueError(f"{self.name}: inputs must have shape (), (batch,) or (batch, 1); got {shape}.")
        hashes = np.full(features[0].size, SEED, dtype=np.uint64)
        for feature in features:
            numbers = feature.ravel()
            hashes = cross(hashes, hash_text(list(numbers)) if numbers.dtype == object else numbers.astype("uint64"))
        bins = (hashes % np.uint64(self.num_bins)).astype("int64").reshape(shape)
        indices = torch.from_numpy(bins).to(self._device_for(inputs[0]))
        return encode(indices, self.output_mode, self.num_bins, self._dtype)
