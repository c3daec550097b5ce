"""CategoryEncoding: encoding of category numbers as vectors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kstyle_torch._torch import is_compiling
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layers.preprocessing.data_layer import DataLayer
from kstyle_torch.layers.preprocessing.encoding import check_output_mode, encode, refuse_sparse

register = layer_registry.register


@register()
class CategoryEncoding(DataLayer):
    """Encoding of integers as vectors of zeros and ones, or of counts.

    Args:
        num_tokens: Number of categories, from 0 to `num_tokens - 1`.
        output_mode: `"one_hot"` (a vector for each number), `"multi_hot"` (a vector for each sample, 1 for each number in
            it) or `"count"` (a vector for each sample, with the count of each number).
        sparse: Not supported.
    Call arguments:
        inputs: Whole numbers.
        count_weights: What each number counts in mode `"count"`, of the inputs' shape.
    Input shape: (batch,) or (batch, length). Output shape: (batch, num_tokens); in mode "one_hot" (batch, length,
        num_tokens), without a length of 1.
    Raises: ValueError: for a number that is not a category (on an accelerator, where a look would make the host wait, such
        numbers count for nothing), for `sparse=True`, or for `count_weights` in another mode.

    Example:
        >>> CategoryEncoding(4, output_mode="one_hot")([3, 1])
        tensor([[0., 0., 0., 1.],
                [0., 1., 0., 0.]])
        >>> CategoryEncoding(3, output_mode="count")([[0, 1, 1]])
        tensor([[1., 2., 0.]])
    """

    integer_inputs = True
    _autocast = False

    def __init__(
        self, num_tokens: int | None = None, output_mode: str = "multi_hot", sparse: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if num_tokens is None:
            raise ValueError("CategoryEncoding needs num_tokens; if it is unknown, use IntegerLookup.")
        self.num_tokens = positive_int(num_tokens, "num_tokens", self)
        self.output_mode = check_output_mode(output_mode, self, ("one_hot", "multi_hot", "count"))
        refuse_sparse(sparse, self)

    def forward(self, inputs: Tensor, count_weights: Tensor | None = None) -> Tensor:
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(f"{self.name}: count_weights needs output_mode='count'; it is {self.output_mode!r}.")
        inputs = inputs.long()
        if inputs.device.type == "cpu" and not is_compiling():
            self._check_range(inputs)
        return encode(inputs, self.output_mode, self.num_tokens, self._compute_dtype, count_weights)

    def _check_range(self, inputs: Tensor) -> None:
        outside = (inputs < 0) | (inputs >= self.num_tokens)
        if outside.any():
            raise ValueError(
                f"{self.name}: number {inputs[outside][0].item()} is not a category; with num_tokens={self.num_tokens} they "
                f"go from 0 to {self.num_tokens - 1}."
            )
