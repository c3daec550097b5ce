"""SpectralNormalization: a wrapper that keeps a layer's kernel at spectral norm 1."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from kstyle_torch import config, initializers
from kstyle_torch.layer.added_weights import TrainableWeight
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layer.lora import LoraLayer
from kstyle_torch.layer.weight_holder import ListedWeight
from kstyle_torch.layer.weights import WeightView
from kstyle_torch.layers.wrappers import Wrapper
from kstyle_torch.mode import takes_training

register = layer_registry.register


@register()
class SpectralNormalization(Wrapper):
    """Wrapper that in training first divides the layer's kernel by an estimate of its largest singular value, in place.

    Args:
        layer: A layer with a `kernel` or `embeddings`.
        power_iterations: Number of refinements of the estimate at each call.
    Output shape: that of the layer.
    Raises: ValueError: if `layer` is not a layer or has no such weight, or `power_iterations` is not a positive int.
    Source: Miyato et al. 2018.

    Example:
        >>> from kstyle_torch.layers import Dense
        >>> SpectralNormalization(Dense(4))(torch.ones(2, 3)).shape
        torch.Size([2, 4])
    """

    _resolves_mode = True
    _training_default = False

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.integer_inputs = layer.integer_inputs
        self.power_iterations = positive_int(power_iterations, "power_iterations", self)

    def build(self, input_shape: Any) -> None:  # type: ignore[override]
        super().build(input_shape)
        if not isinstance(self.kernel, (WeightView, TrainableWeight)):
            raise ValueError(f"{self.name}: {type(self.layer).__name__} has neither `kernel` nor `embeddings`.")
        stddev = initializers.TruncatedNormal(stddev=0.02)
        self.vector_u = self.add_weight((1, self.kernel.shape[-1]), stddev, trainable=False, name="vector_u")

    @property
    def kernel(self) -> Any:
        """The weight that is normalized; the frozen matrix of a layer with LoRA."""
        if isinstance(self.layer, LoraLayer) and self.layer.lora_enabled:
            return self.layer._target_view()
        return self.layer.kernel if hasattr(self.layer, "kernel") else getattr(self.layer, "embeddings", None)

    def _own_views(self) -> list[ListedWeight]:
        """Returns the kernel, which is the layer's too, and `vector_u`."""
        return [self.kernel, *super()._own_views()] if self.built else super()._own_views()

    @takes_training(False)
    def forward(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not self._mode_of_call(training):
            return self.layer(inputs)
        with torch.no_grad():
            u, kernel = self.normalized_weights()
            self.vector_u.copy_(u)
            self.kernel.assign(kernel)
        # through a copy, so that a second call in the same step may write to the kernel again
        return functional_call(self.layer, {self.kernel._row.path: self.kernel.parameter.clone()}, (inputs,))

    def normalized_weights(self) -> tuple[Tensor, Tensor]:
        """Returns the next estimate of the singular vector, and the kernel divided by the singular value."""
        kernel, u = self.kernel.read(), self.vector_u
        matrix = kernel.reshape(-1, kernel.shape[-1])
        for _ in range(self.power_iterations):
            v = F.normalize(u @ matrix.T, eps=config.epsilon())
            u = F.normalize(v @ matrix, eps=config.epsilon())
        norm = (v @ matrix @ u.T).squeeze()
        is_zero = (kernel == 0).all()  # no direction is defined then: kernel and vector are not changed
        return torch.where(is_zero, self.vector_u, u), torch.where(is_zero, kernel, kernel / norm)
