"""Calls of a layer with other values in the place of its weights, which leave the layer as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from kstyle_torch.arrays import from_array
from kstyle_torch.layer.added_weights import State, TrainableWeight
from kstyle_torch.layer.layout import SAME
from kstyle_torch.layer.seed_states import drawing_from_seeds, held
from kstyle_torch.layer.weights import WeightView
from kstyle_torch.mode import running
from kstyle_torch.variables import Variable


def stateless_call(
    layer: Any, trainable: Sequence[Any], rest: Sequence[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, list[Tensor], list[Tensor]]:
    """Returns the outputs of a call, the values that the variables which training leaves alone have after it, and its losses.

    Args:
        layer: The layer, built.
        trainable: Values for its `trainable_variables`, in Keras' layout.
        rest: Values for its `non_trainable_variables`.
        args: Of the call.
        kwargs: Of the call.
    Raises: ValueError: if the layer is not built, or the values are not one for each variable.
    """
    if not layer.built:
        raise ValueError(
            f"{layer.name} is not built yet, so it has no variables; build() it, or call it on data, first."
        )
    values: dict[int, Any] = {}
    views = {"trainable_variables": layer.trainable_variables, "non_trainable_variables": layer.non_trainable_variables}
    for (kind, known), given in zip(views.items(), (trainable, rest), strict=True):
        if len(known) != len(given):
            raise ValueError(f"{layer.name} has {len(known)} {kind}; stateless_call() got values for {len(given)}.")
        values.update((id(view.parameter), _replacement(view, value)) for view, value in zip(known, given, strict=True))
    seeds = [view for view in views["non_trainable_variables"] if "_tensor" in vars(view)]  # in no module
    metrics = layer.metrics_variables  # losses that the call adds are dropped, as in Keras
    apart = [*seeds, *metrics]
    apart_values = [values[id(seed._tensor)] for seed in seeds] + [variable._tensor.clone() for variable in metrics]
    named = dict([*layer.named_parameters(), *layer.named_buffers()])
    state = {name: values[id(tensor)] for name, tensor in named.items() if id(tensor) in values}
    hidden = {
        name: tensor for name, tensor in layer.named_buffers() if name not in state
    }  # no variables, such as caches
    state.update((name, _plain(tensor).clone()) for name, tensor in hidden.items())
    regularized = [view for view in layer.weights if view.trainable and view.regularizer is not None]
    outer, running.losses = running.losses, {}
    try:
        with held(apart, apart_values):
            with drawing_from_seeds(layer):
                outputs = functional_call(layer, state, args, kwargs)
            moved = {id(seed): seed._tensor for seed in seeds}
        added = [loss for each in layer._flatten_layers() for loss in running.losses.get(id(each), ())]
    finally:
        running.losses = outer
    after = {id(tensor): state[name] for name, tensor in named.items() if name in state}
    penalties = [view.regularizer(_layout(view).to_keras(after[id(view.parameter)])) for view in regularized]
    changed = [
        moved[id(view)] if id(view) in moved else _layout(view).to_keras(after[id(view.parameter)])
        for view in views["non_trainable_variables"]
    ]
    return outputs, [_plain(value) for value in changed], added + penalties


def _replacement(view: Any, value: Any) -> Any:
    """Returns the replacement of a variable's tensor: in torch's layout, and a copy if calls may change it."""
    value = value.read() if isinstance(value, Variable) else from_array(value)
    tensor = _layout(view).to_torch(_plain(value))
    tensor = tensor if isinstance(view.parameter, nn.Parameter) else tensor.clone()
    if isinstance(view, (TrainableWeight, State)):
        tensor = tensor.as_subclass(State)  # with `assign` and the like
        tensor.attach(view._layer, view._row)
    return tensor


def _layout(view: Any) -> Any:
    return view.layout if isinstance(view, WeightView) else SAME


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)
