"""Cloning of models: layers with new weights, or with replacements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from kstyle_torch import tree
from kstyle_torch.budget import raise_limits
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layers.input_layer import InputLayer, input_tensor
from kstyle_torch.models.model import Model
from kstyle_torch.models.sequential import Sequential
from kstyle_torch.symbolic.replay import replay


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable[[Any], Any] | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Model:
    """Returns a model with the same architecture and new weights.

    Args:
        model: The model to clone.
        input_tensors: Results of `Input`, for the clone; new inputs if None.
        clone_function: `f(layer)` returns the replacement of `layer`; a layer with the same config if None.
        call_function: `f(layer, *args, **kwargs)` calls a cloned layer of a graph; a plain call if None.
        recursive: Whether `clone_function` is also called with the layers inside nested models.
        kwargs: `cache`, a dict of clones by `id` of the layer, which are reused, and to which new ones are added.
    Returns: The clone.
    Raises: ValueError: for a subclassed model with any of the arguments, which only its own `from_config` can make, or a
        Sequential with `call_function`; for unknown arguments. TypeError: if `model` is not a model.

    Example:
        >>> clone_model(Sequential([Input((3,)), Dense(2)])).output_shape
        (None, 2)
    """
    cache = kwargs.pop("cache", None)
    if kwargs:
        raise ValueError(f"clone_model() got the unknown argument {next(iter(kwargs))!r}.")
    if not isinstance(model, Model):
        raise TypeError(f"clone_model() needs a model; got {type(model).__name__}.")
    copy = _Copies(clone_function, call_function, recursive, {} if cache is None else cache)
    clone = _cloned(model, input_tensors, copy)
    set_unnoticed(clone, _mode=model._mode)
    return clone


def _cloned(
    model: Model,
    input_tensors: Any,
    copy: _Copies,
) -> Model:
    if isinstance(model, Sequential):
        if copy.call_function is not None:
            raise ValueError("clone_model(): a Sequential calls its layers itself; call_function is for graphs.")
        return _clone_sequential(model, input_tensors, copy)
    if model.graph is None or type(model).__init__ is not Model.__init__:
        if input_tensors is not None or copy.clone_function is not None or copy.call_function is not None:
            raise ValueError(
                f"clone_model(): {type(model).__name__} is a subclass of Model, which only its from_config() can make; "
                "input_tensors, clone_function and call_function do not apply."
            )
        with raise_limits():  # safe, since a model of this size exists already
            return type(model).from_config(model.get_config())
    return _clone_graph(model, input_tensors, copy)


class _Copies:
    """Mapping of layers to their clones, so that a shared layer is cloned once."""

    def __init__(
        self,
        clone_function: Callable[[Any], Any] | None,
        call_function: Callable[..., Any] | None,
        recursive: bool,
        known: dict[int, Any],
    ):
        self.clone_function, self.call_function = clone_function, call_function
        self.recursive, self.known = recursive, known

    def __call__(self, target: Any) -> Any:
        if not isinstance(target, nn.Module):
            return target  # a function
        if id(target) not in self.known:
            clone = self.known[id(target)] = self._copy(target)
            if isinstance(target, Layer) and isinstance(clone, Layer) and clone.name == target.name:
                set_unnoticed(clone, _name_given=target._name_given)  # so that it gets the same key in its parent
            if isinstance(target, Layer) and target._mode is not None:
                clone.train() if target._mode else clone.eval()
        return self.known[id(target)]

    def _copy(self, layer: Any) -> Any:
        if self.recursive and isinstance(layer, Model) and (layer.graph is not None or isinstance(layer, Sequential)):
            call_function = None if isinstance(layer, Sequential) else self.call_function
            return clone_model(layer, None, self.clone_function, call_function, recursive=True, cache=self.known)
        if self.clone_function is not None:
            return self.clone_function(layer)
        if not isinstance(layer, Layer):
            raise ValueError(
                f"clone_model(): {type(layer).__name__} is a bare torch module, which has no config; pass clone_function."
            )
        with raise_limits():
            return type(layer).from_config(layer.get_config())


def _clone_sequential(model: Sequential, input_tensors: Any, copy: _Copies) -> Sequential:
    layers = [copy(layer) for layer in model.layers]
    given = tree.flatten(input_tensors)[0] if input_tensors is not None else None
    if given is None and model._input_layer is not None:
        given = InputLayer.from_config(model._input_layer.get_config())
    return Sequential([*([] if given is None else [given]), *layers], name=model.name, trainable=model.trainable)


def _clone_graph(model: Model, input_tensors: Any, copy: _Copies) -> Model:
    graph = model.graph
    assert graph is not None
    if input_tensors is None:
        flat = [input_tensor(InputLayer.from_config(source.get_config())) for source in graph.sources]
    else:
        flat = tree.flatten(input_tensors)
    if len(flat) != len(graph.sources):
        raise ValueError(f"clone_model(): {model.name} has {len(graph.sources)} inputs; got {len(flat)} input_tensors.")
    outputs = replay(graph, flat, copy, copy.call_function)
    inputs = tree.pack_sequence_as(graph.inputs, flat)
    return type(model)(inputs, outputs, name=model.name, trainable=model.trainable)
