"""Discretization: indices of bins for numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.initializers import DType
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.data_layer import DataLayer, batches_of
from kstyle_torch.layers.preprocessing.encoding import check_output_mode, encode, refuse_sparse
from kstyle_torch.layers.preprocessing.quantiles import compress, empty_summary, merge, summarize
from kstyle_torch.registry import custom_object_scope

register = layer_registry.register


@register()
class Discretization(DataLayer):
    """Layer that returns the indices of the bins of numbers.

    Args:
        bin_boundaries: Boundaries, each of which belongs to the bin above it; the outer bins are unbounded.
        num_bins: Number of bins that `adapt` determines, with about equal counts; instead of `bin_boundaries`.
        epsilon: Error of the quantiles found by `adapt`, as a share of the data.
        output_mode: `"int"`, or vectors as of `CategoryEncoding`: `"one_hot"`, `"multi_hot"` or `"count"`.
        sparse: Not supported.
        dtype: Of vectors; numbers are int32.
    Output shape: that of the input in mode "int"; else as in `CategoryEncoding`.
    Raises: ValueError: if both or neither of `bin_boundaries` and `num_bins` are given.

    Example:
        >>> Discretization(bin_boundaries=[0.0, 1.0, 2.0])(np.array([[-1.5, 1.0, 3.4, 0.5]]))
        tensor([[0, 2, 3, 1]], dtype=torch.int32)
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: DType = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype, **kwargs)
        refuse_sparse(sparse, self)
        self.output_mode = check_output_mode(output_mode, self)
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError(
                f"Discretization needs either bin_boundaries or num_bins; got {bin_boundaries!r} and {num_bins!r}."
            )
        if num_bins is not None and num_bins < 0:
            raise ValueError(f"Discretization: num_bins must not be negative; got {num_bins}.")
        self.num_bins, self.epsilon = num_bins, epsilon
        self.summary = empty_summary()
        self.bin_boundaries: list[float] | None = None
        if bin_boundaries is not None:
            self._set_boundaries(bin_boundaries)

    @property
    def output_dtype(self) -> str:
        """The dtype of the output: int32 for indices of bins, else that of the layer."""
        return "int32" if self.output_mode == "int" else self.compute_dtype

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns a layer from its config, which has both `num_bins` and `bin_boundaries` after `adapt`."""
        boundaries = config.get("bin_boundaries")
        adapted = config.get("num_bins") is not None and boundaries is not None
        with custom_object_scope(custom_objects):
            layer = super().from_config({**config, "bin_boundaries": None} if adapted else config)
        if adapted:
            layer._set_boundaries(boundaries)
        return layer

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; Keras' layer takes no `trainable`."""
        return {key: value for key, value in super().get_config().items() if key != "trainable"}

    def _set_boundaries(self, boundaries: Any) -> None:
        self.bin_boundaries = self._arguments["bin_boundaries"] = np.asarray(boundaries).tolist()
        bins = torch.tensor(self.bin_boundaries, dtype=self._dtype, device=config.device())
        self.register_buffer("bins", bins, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.bin_boundaries is None:
            raise ValueError(f"{self.name} has no bins yet: call adapt(data), or pass bin_boundaries.")
        bins = self.bins.to(inputs.device)
        indices = torch.bucketize(
            inputs.to(bins.dtype).contiguous(), bins, right=True, out_int32=self.output_mode == "int"
        )
        if self.output_mode == "int":
            return indices
        return encode(indices, self.output_mode, len(self.bin_boundaries) + 1, bins.dtype)

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Determines bins with about equal counts of values.

        Args:
            data: Array, tensor, list, pandas object, torch `Dataset` or `DataLoader`, or an iterable of batches.
            steps: Number of batches to use; all if None.
        Raises: ValueError: if the bins were given.
        """
        if self.num_bins is None:
            raise ValueError(f"{self.name} was given its bin_boundaries, so it cannot adapt; pass num_bins instead.")
        self.reset_state()
        for batch in batches_of(data, steps, layer=self):
            self.update_state(batch)
        self.finalize_state()

    def update_state(self, data: Any) -> None:
        """Adds a batch to the summary from which bins are determined."""
        values = data.detach().cpu().numpy() if isinstance(data, Tensor) else np.asarray(data)
        self.summary = merge(summarize(values.astype("float32"), self.epsilon), self.summary, self.epsilon)

    def finalize_state(self) -> None:
        """Determines the bins from all batches."""
        if self.num_bins is not None:
            self._set_boundaries(compress(self.summary, 1.0 / self.num_bins)[0, :-1])

    def reset_state(self) -> None:
        """Discards the summary of batches."""
        self.summary = empty_summary()
