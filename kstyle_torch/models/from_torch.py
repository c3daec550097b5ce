"""`from_torch(module)`: any `nn.Module`, with `compile` and `fit`."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.models.model import Model
from kstyle_torch.registry import custom_object_scope
from kstyle_torch.serialization import deserialize_keras_object, serialize_keras_object


def from_torch(module: nn.Module, name: str | None = None) -> TorchModel:
    """Returns a model around any `nn.Module`: `fit`, `evaluate` and `predict` train and run the module itself.

    Parameters, buffers and children are the module's own, so `state_dict` has its keys, and training, loading or moving the
    model changes the module.

    Args:
        module: The module, which is not copied. Lists of inputs become positional arguments if it takes several, dicts
            become keyword arguments if it has them.
        name: Name of the model; made from the module's class if None.
    Raises: TypeError: if it is not a module.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> model = from_torch(net)
        >>> model.compile("adam", torch.nn.MSELoss())
        >>> history = model.fit(torch.ones(8, 3), torch.ones(8, 1), verbose=0)
        >>> list(model.state_dict()) == list(net.state_dict())
        True
    """
    return TorchModel(module, name=name)


@layer_registry.register()
class TorchModel(Model):
    """Model that `from_torch` returns; see there.

    Args:
        module: The module, which is not copied.
        name: Name of the model.

    Example:
        >>> TorchModel(torch.nn.Linear(3, 2))(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    def __init__(self, module: nn.Module, name: str | None = None, **kwargs: Any):
        if not isinstance(module, nn.Module):
            raise TypeError(f"from_torch() wraps an nn.Module; got {type(module).__name__}.")
        if isinstance(module, Model):
            raise TypeError(f"{module.name!r} is already a Model; compile and fit it directly.")
        super().__init__(name=name, **kwargs)
        module.eval()  # models start in inference mode
        own = {"_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"}
        parameters = [*inspect.signature(module.forward).parameters.values()]
        shared = {key: vars(module)[key] for key in own}
        set_unnoticed(self, **shared, wrapped=module, built=True, _parameter_list=parameters)
        self._follow_weights_of(module)

    @property
    def _unlisted(self) -> tuple[nn.Module, ...]:  # type: ignore[override]
        return (self.wrapped,) if "wrapped" in vars(self) else ()

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # type: ignore[override]
        """Returns the module's outputs for a batch of inputs."""
        module = self.wrapped
        if isinstance(inputs, dict) and inputs.keys() <= {p.name for p in self._parameter_list}:
            return module(**inputs)
        if isinstance(inputs, (list, tuple)) and self._takes(len(inputs)):
            return module(*inputs)
        return module(inputs)

    def _takes(self, count: int) -> bool:
        """Returns whether `forward` takes a number of positional arguments."""
        kinds = [p.kind for p in self._parameter_list]
        positional = sum(
            kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
        )
        return inspect.Parameter.VAR_POSITIONAL in kinds or (count > 1 and positional >= count)

    _knows_inputs = True

    def _is_input(self, name: str) -> bool:
        """Returns whether `forward` has an argument of this name.

        An optional `labels` is none in modules with a `config`: those of `transformers` compute a loss of their own from it.
        """
        found = next((p for p in self._parameter_list if p.name == name), None)
        is_for_own_loss = name == "labels" and hasattr(self.wrapped, "config")
        return found is not None and not (is_for_own_loss and found.default is not inspect.Parameter.empty)

    def _choose_inputs(self, named: dict[str, Any]) -> Any:
        """Returns the arguments of `forward` among named data; if there are none, all of it, or the data of a single name."""
        chosen = {name: value for name, value in named.items() if self._is_input(name)}
        return chosen or (next(iter(named.values())) if len(named) == 1 else named)

    @property
    def _bare(self) -> nn.Module:
        return self.wrapped

    def train(self, mode: bool = True) -> Any:
        """Sets training or inference mode of the model and the module."""
        if "wrapped" in self.__dict__:
            self.wrapped.training = mode
        return super().train(mode)

    def get_config(self) -> dict[str, Any]:
        """Returns the module's config and the model's name.

        Raises: TypeError: if the module's class does not say its arguments in `get_config`. Weights can be saved all the same.
        """
        try:
            return {"module": serialize_keras_object(self.wrapped), "name": self.name}
        except TypeError as error:
            raise TypeError(f"{self.name!r}: {error} export() does not need a config either.") from error

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns a model for a `get_config` dict.

        Args:
            config: The config.
            custom_objects: Classes by name, in addition to registered ones.
        """
        with custom_object_scope(custom_objects):
            return cls(**{**config, "module": deserialize_keras_object(config["module"])})
