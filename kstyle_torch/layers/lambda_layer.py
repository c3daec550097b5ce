"""Lambda: a function as a layer."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from kstyle_torch import tree
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.registry import custom_object_scope
from kstyle_torch.serialization import in_safe_mode, lambda_from, safe_mode_scope


@layer_registry.register()
class Lambda(Layer):
    """Applies a function.

    A Python lambda works in memory only: it cannot be part of a config, a file or a pickle, since it has no name to find
    it by. A function made with `def` can. Weights that the function uses are not the layer's; subclass `Layer` for that.

    Args:
        function: Called with the input, and with `mask` and `training` where it has parameters of these names.
        output_shape: Shape of one output sample, or a function of the input's shape, for `compute_output_shape`; found
            by running the function if None, as it always is for graphs.
        mask: Mask of the output, or a function `mask(inputs, previous_mask)`; the output has none if None.
        arguments: Further keyword arguments of the function.
    Raises: TypeError: if `function` cannot be called, or a lambda is asked for its config.

    Example:
        >>> Lambda(lambda x, power: x**power, arguments={"power": 2})(torch.tensor([3.0]))
        tensor([9.])
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"{self.name}: expected a function; got {function!r} of type {type(function).__name__}.")
        self.function, self.mask = function, mask
        self.supports_masking = self._makes_mask = mask is not None
        self.arguments: Any = arguments or {}
        self._output_shape: Any = tuple(output_shape) if isinstance(output_shape, list) else output_shape
        self._passed = frozenset(("mask", "training")) & _parameters(function)

    def forward(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        context = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: context[name] for name in self._passed})

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if self.mask is None or callable(self.mask):
            return self.mask and self.mask(inputs, mask)
        return tree.flatten(inputs)[0].new_ones(()).bool() & self.mask  # a constant becomes a value of the graph

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the output's shape: what `output_shape` says, else from a run on zero rows."""
        if self._output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self._output_shape):
            return tuple(self._output_shape(input_shape))
        return (tree.flatten(input_shape)[0], *self._output_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data.

        Raises: TypeError: if a function among them is a lambda.
        """
        for function in _nameless(self._functions(), "<lambda>"):
            raise TypeError(
                f"{self.name}: a Python lambda ({_place(function)}) cannot be part of a config or a file, since it has no "
                "name to find it by. Define the function with def and decorate it with @register_keras_serializable()."
            )
        return super().get_config()

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None, safe_mode: bool | None = None
    ) -> Any:
        """Returns a layer from what `get_config` gave.

        Args:
            config: The config.
            custom_objects: Functions by name, beside those that are registered.
            safe_mode: Whether to refuse bytecode; what the function that loads a file was told if None.
        Raises: ValueError: if a function in it is a lambda that Keras wrote as bytecode, unless `safe_mode=False` allows it.
        """
        safe = in_safe_mode() if safe_mode is None else safe_mode
        with safe_mode_scope(safe), custom_object_scope(custom_objects):
            return super().from_config(cls._with_functions(dict(config)))

    @staticmethod
    def _with_functions(config: dict[str, Any]) -> dict[str, Any]:
        """Returns a config with functions in the place of bytecode, and without what Keras 2 wrote beside them."""
        for key in ("function", "mask", "output_shape"):
            value = config.get(key)
            if isinstance(value, dict) and value.get("class_name") == "__lambda__":
                parts = value["config"]  # other versions of Keras have them in a list
                stored = parts.get("value", [parts.get(part) for part in ("code", "defaults", "closure")])
                config[key] = lambda_from(stored, f"The {key} of Lambda layer {config.get('name')!r}")
            elif key == "function" and isinstance(value, (list, tuple)):  # Keras 2
                config[key] = lambda_from(value, f"The function of Lambda layer {config.get('name')!r}")
        for older in ("module", "function_type", "output_shape_type", "output_shape_module"):
            config.pop(older, None)
        return config

    def _functions(self) -> Sequence[Any]:
        return self.function, self.mask, self._output_shape

    def __getstate__(self) -> dict[str, Any]:
        return {"_pickle_check": _PickleCheck(self.name, self._functions()), **super().__getstate__()}


class _PickleCheck:
    """Comes first in a pickled Lambda, so that a function which cannot be pickled is reported with the layer's name."""

    def __init__(self, layer_name: str, functions: Sequence[Any]):
        self.layer_name, self.functions = layer_name, functions

    def __deepcopy__(self, memo: dict[int, Any]) -> _PickleCheck:
        return self  # copying needs no name

    def __reduce__(self) -> Any:
        for function in _nameless(self.functions, "<"):
            raise pickle.PicklingError(
                f"{self.layer_name}: the function {function.__qualname__} ({_place(function)}) cannot be pickled, since "
                "it has no name to find it by. Define it with def at the top of a module."
            )
        return type(None), ()


def _nameless(functions: Sequence[Any], sign: str) -> list[Any]:
    return [function for function in functions if inspect.isfunction(function) and sign in function.__qualname__]


def _place(function: Any) -> str:
    return f"{function.__code__.co_filename}, line {function.__code__.co_firstlineno}"


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except ValueError:  # a builtin that does not say
        return frozenset()
