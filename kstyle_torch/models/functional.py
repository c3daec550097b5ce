"""The functional model, made of inputs and outputs."""

from __future__ import annotations

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.models.model import Model
from kstyle_torch.registry import HOMES


@layer_registry.register()
class Functional(Model):
    """Model that `Model(inputs, outputs)` returns; see `Model`."""

    _allow_non_tensor_positional_args = True


Model._functional = Functional
layer_registry.register()(Model)
HOMES.update({Functional: "keras.src.models.functional", Model: "keras"})  # modules in Keras' configs
