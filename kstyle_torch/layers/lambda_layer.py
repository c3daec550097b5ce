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
    """Layer that applies a function.

    A Python lambda works in memory only: it cannot be part of a config, a file or a pickle, since it has no importable
    name. A function defined with `def` can. Weights that the function uses do not belong to the layer; subclass `Layer`
    for that.

    Args:
        function: Called with the input, and with `mask` and `training` if it has such parameters.
        output_shape: Shape of one output sample, or a function of the input's shape, for `compute_output_shape`; if
            None, and always in graphs, it is inferred by running the function.
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
        return tree.flatten(inputs)[0].new_ones(()).bool() & self.mask  # makes a constant a value of the graph

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the output's shape: `output_shape`, or that of a run on zero rows."""
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
                "importable name. Define the function with def and decorate it with @register_keras_serializable()."
            )
        return super().get_config()

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None, safe_mode: bool | None = None
    ) -> Any:
        """Returns a layer for a `get_config` dict.

        Args:
            config: The config.
            custom_objects: Functions by name, in addition to registered ones.
            safe_mode: Whether to refuse bytecode; if None, the setting of the function that loads the file.
        Raises: ValueError: if a function in it is a lambda that Keras wrote as bytecode, unless `safe_mode=False` allows it.
        """
        safe = in_safe_mode() if safe_mode is None else safe_mode
        with safe_mode_scope(safe), custom_object_scope(custom_objects):
            return super().from_config(cls._with_functions(dict(config)))

    @staticmethod
    def _with_functions(config: dict[str, Any]) -> dict[str, Any]:
        """Returns a config with functions instead of bytecode, and without additional entries of Keras 2."""
        for key in ("function", "mask", "output_shape"):
            value = config.get(key)
            if isinstance(value, dict) and value.get("class_name") == "__lambda__":
                parts = value["config"]  # in a list in other versions of Keras
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
    """First object in a pickled Lambda, which reports a function that cannot be pickled with the layer's name."""

    def __init__(self, layer_name: str, functions: Sequence[Any]):
        self.layer_name, self.functions = layer_name, functions

    def __deepcopy__(self, memo: dict[int, Any]) -> _PickleCheck:
        return self  # a copy needs no name

    def __reduce__(self) -> Any:
        for function in _nameless(self.functions, "<"):
            raise pickle.PicklingError(
                f"{self.layer_name}: the function {function.__qualname__} ({_place(function)}) cannot be pickled, since "
                "it has no importable name. Define it with def at the top of a module."
            )
        return type(None), ()


def _nameless(functions: Sequence[Any], sign: str) -> list[Any]:
    return [function for function in functions if inspect.isfunction(function) and sign in function.__qualname__]


def _place(function: Any) -> str:
    return f"{function.__code__.co_filename}, line {function.__code__.co_firstlineno}"


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except ValueError:  # a builtin without a signature
        return frozenset()
