"""The model made of inputs and outputs."""

from __future__ import annotations

from typing import Any

from kstyle_torch import budget
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.models import graph_config
from kstyle_torch.models.model import Model
from kstyle_torch.registry import HOMES


@layer_registry.register()
class Functional(Model):
    """Model that `Model(inputs, outputs)` makes; see `Model`."""

    _allow_non_tensor_positional_args = True

    def get_config(self) -> dict[str, Any]:
        """Returns the graph as plain data, for `from_config`; of a subclass with a constructor of its own, the arguments.

        Raises: TypeError: if a layer or function in it cannot be written down.
        """
        self.follow_children()
        if type(self).__init__ is not Model.__init__ or self.graph is None:
            return super().get_config()
        return {"name": self.name, "trainable": self.trainable, **graph_config.to_config(self.graph)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a model of the same graph, with new weights.

        Raises: ValueError: if the config names a class or function that is neither public nor the user's.
        """
        if not {"layers", "input_layers", "output_layers"} <= config.keys():
            return super().from_config(config)
        with budget.in_force(config):
            inputs, outputs = graph_config.from_config(config)
            return cls(inputs, outputs, name=config.get("name"), trainable=config.get("trainable", True))


Model._functional = Functional
layer_registry.register()(Model)
HOMES.update({Functional: "keras.src.models.functional", Model: "keras"})  # what Keras says in its own configs
