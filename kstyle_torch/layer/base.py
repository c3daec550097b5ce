"""The layer: an `nn.Module` that is built when the shape of its input is known, and called as in Keras."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import config, dtype_policies, regularizers, tree
from kstyle_torch._torch import is_compiling, is_exporting
from kstyle_torch.arrays import from_array
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer import added_losses
from kstyle_torch.layer.call_arguments import (
    named_arguments,
    refuse_misfit,
    refuse_other_than_tensors,
    refuse_several,
    shapes_for,
)
from kstyle_torch.layer.call_pairs import pair_again, pair_call_and_forward
from kstyle_torch.layer.casts import cast_input
from kstyle_torch.layer.checks import check_initialized
from kstyle_torch.layer.config_form import keras_form
from kstyle_torch.layer.containers import metrics_in, tracked
from kstyle_torch.layer.input_spec import check_inputs
from kstyle_torch.layer.masks import any_mask, fill_masks, masks_of, put_masks, warn_of_lost_mask, without_masks_of_none
from kstyle_torch.layer.module_walk import OwnDict, OwnList, first_parameter, modules_of, set_unnoticed
from kstyle_torch.layer.paths import building_inside, take_path
from kstyle_torch.layer.recompute import rematerialized_call
from kstyle_torch.layer.reserved import let_none_give_way
from kstyle_torch.layer.shapes import as_shape, declared_shape, shapes_of
from kstyle_torch.layer.stateless import stateless_call
from kstyle_torch.layer.tracing import Traced
from kstyle_torch.layer.unbuilt import warn_of_unbuilt
from kstyle_torch.layer.users_calls import OWN_CALLS
from kstyle_torch.layer.weight_holder import sync_trainable
from kstyle_torch.mode import apart_from_holds, flags_outside, holding, holds, modeless, running
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.scopes import current_remat_mode, opened
from kstyle_torch.serialization import Configurable, extended_class, registry, reject_unknown, serialize_keras_object
from kstyle_torch.symbolic.infer import describe
from kstyle_torch.symbolic.tensor import any_symbolic

layer_registry = registry("layer", "keras.layers")
# in Keras' configs; accepted while they are disabled
KERAS_ONLY = ("lora_alpha", "lora_rank", "quantization_config")


class Layer(Configurable, Traced):
    """Base class of all layers. Subclass it with `call`, and with `build` where there are weights.

    Args:
        activity_regularizer: Penalty on the output, added to the loss.
        trainable: Whether training changes the weights.
        dtype: Dtype of weights and computation, or a policy for both such as `"mixed_bfloat16"`; the global dtype policy
            if None.
        autocast: Whether floating-point inputs are cast to the dtype that is computed in.
        name: Unique in a model; derived from the class name if None.
        input_shape: Shape of one sample, for the first layer of a Sequential without an Input.
        input_dim: The same, for samples that are vectors.
        batch_input_shape: The same, with the batch size (None) in front.
    Raises: ValueError: for an unknown argument, or a `trainable` that is not a bool.

    Example:
        >>> class Scale(Layer):
        ...     def build(self, input_shape):
        ...         self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        ...     def call(self, x):
        ...         return x * self.factor
        >>> Scale()(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """

    activity_regularizer: Any = None
    input_spec: Any = None  # an InputSpec, or a nest of them, that a subclass sets
    integer_inputs = False  # whether it takes integer inputs
    _allow_non_tensor_positional_args = False
    _has_nothing_to_build = False  # so that it is built at once, unless a subclass has a `build`
    _builds_weights = False  # whether the class overrides build()
    _opens_call = False  # whether it may call other layers, which then inherit its mode
    _resolves_mode = False  # whether forward() itself resolves the mode if `training` is None
    _own_call: Callable[..., Any]  # `call` and `forward`, as the class was created
    _build_shapes: dict[str, Any] | None = None  # arguments of build()
    _path: str | None = None
    _remat_mode: Any = None  # settings of the `RematScope` that it was made in

    # ------------------------------------------------------------------------------------------------ making one

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls, *args, **kwargs)
        nn.Module.__init__(self)  # so that children may be assigned before super().__init__()
        set_unnoticed(
            self,
            _mode=None,
            built=False,
            _dtype=as_dtype(None),
            _added_losses=OwnList(),
            _views=OwnDict(),
            _rows=OwnDict(),
            _calls=OwnList(),
            _compute_dtype=as_dtype(None),
            _input_dtype=None,
            _trainable=True,
            _frozen_above=False,
            _batch_input_shape=None,
            _in_containers={},
            _set_arguments=set(),  # constructor arguments whose attributes were reassigned
            _without_data={},  # values of non-persistent buffers while they are on the meta device
            _name_given=False,
            name=snake_case(cls.__name__),
        )
        return self

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: DType = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        if name is not None and (not isinstance(name, str) or "/" in name or not name):
            raise ValueError(f"{type(self).__name__}: name must be a string without '/'; got {name!r}.")
        if not isinstance(trainable, (bool, np.bool_)):
            raise ValueError(f"{type(self).__name__}: trainable must be True or False; got {trainable!r}.")
        self.name = name or unique_name(snake_case(type(self).__name__))
        if not autocast:
            set_unnoticed(self, _autocast=False)
        if opened.remat:
            set_unnoticed(self, _remat_mode=current_remat_mode())
        self._set_policy(dtype_policies.get(dtype), chosen=dtype is not None)
        shape = declared_shape(self, kwargs)
        set_unnoticed(self, _name_given=name is not None, _trainable=bool(trainable), _batch_input_shape=shape)
        for key in KERAS_ONLY:
            if not kwargs.get(key):
                kwargs.pop(key, None)
        reject_unknown(self, kwargs)
        if self._has_nothing_to_build and self._builds_by_default():
            set_unnoticed(self, built=True)
        self.activity_regularizer = regularizers.get(activity_regularizer)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "activity_regularizer":  # users may set it at any time; calls without hooks are faster
            for key in [key for key, hook in self._forward_hooks.items() if hook is regularize_activity]:
                del self._forward_hooks[key]
            if value is not None:
                self.register_forward_hook(regularize_activity)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = _build_once(vars(cls)["build"])  # type: ignore[method-assign]
        pair_call_and_forward(cls, Layer)
        if "__call__" in vars(cls) and cls.__module__.startswith("kstyle_torch."):
            OWN_CALLS[vars(cls)["__call__"]] = Layer  # which it calls in turn
        let_none_give_way(cls)
        cls._builds_weights = vars(cls).get("_builds_weights", "build" in vars(cls) or cls._builds_weights)
        cls._makes_mask = cls.compute_mask is not Layer.compute_mask
        definer = next(base for base in cls.__mro__ if {"compute_mask", "supports_masking"} & vars(base).keys())
        if definer is not Traced and "supports_masking" not in vars(definer):
            cls.supports_masking = True

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a layer made from a `get_config` dict; restores name, trainable and dtype for every class."""
        accepted = {*inspect.signature(cls.__init__).parameters}
        if isinstance(config.get("dtype"), dict):  # Keras writes a policy
            policy = dtype_policies.deserialize(config["dtype"])
            config = {**config, "dtype": policy if isinstance(policy, dtype_policies.DTypePolicyMap) else policy.name}
        base = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls.__init__).parameters.values())
        rest = {key: value for key, value in config.items() if takes_any or key in accepted or key not in base}
        layer = super().from_config(rest)
        if "name" in base:
            layer.name = base["name"]
            set_unnoticed(layer, _name_given=True)
        if "trainable" in base:
            layer.trainable = base["trainable"]
        return layer

    def get_config(self) -> dict[str, Any]:
        """Returns name, trainable and dtype, then the constructor's arguments, as plain data in Keras' form."""
        config = super().get_config()
        if extended_class(type(self)) is None:
            config.update((name, serialize_keras_object(getattr(self, name))) for name in self._set_arguments)
        return keras_form(self, config)

    # --------------------------------------------------------------------------------------------- building weights

    def build(self, input_shape: Any) -> None:
        """Makes the weights for an input of this shape (a tuple with None for the batch; a list of them for a list).

        A layer without weights of its own has nothing to do here: layers inside are built when they are called.
        """
        take_path(self)
        inside = (module for module in self.modules() if module is not self and isinstance(module, Layer))
        if self._builds_by_default() and not all(layer.built for layer in inside):
            warnings.warn(
                f"{describe(self)} has no build() of its own, so that build() leaves the layers inside without weights. "
                "Call it on data, or write a build() that builds them.",
                stacklevel=2,
            )
        set_unnoticed(self, built=True, _build_shapes={"input_shape": input_shape})

    def _builds_by_default(self) -> bool:
        return getattr(self.build, "__func__", None) is Layer.build

    def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Builds the layer for the shapes of a call's arguments, on their device."""
        check_initialized(self)
        arguments = named_arguments(self, args, kwargs)
        take_path(self)
        parameters = [*inspect.signature(self.build).parameters.values()]
        device = next((leaf.device for leaf in tree.flatten(args) if isinstance(leaf, Tensor)), config.device())
        with config.device_scope(device):
            if self._builds_by_default():
                set_unnoticed(self, _build_shapes=shapes_for(self.build, self, arguments))
            elif parameters and parameters[0].kind is parameters[0].VAR_POSITIONAL:
                self.build(shapes_of(self._first_argument(args, kwargs)))
            else:
                shapes = shapes_for(self.build, self, arguments)
                if self._first_argument(args, kwargs) is None and [*shapes.values()] == [None]:
                    raise ValueError(f"{describe(self)} must be called on tensors or arrays; got {arguments}.")
                self.build(**shapes)
        set_unnoticed(self, built=True)

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes that the layer was built for, to be saved; None if it is not built."""
        shapes = self._build_shapes
        if not shapes:
            return None
        return {"input_shape": next(iter(shapes.values()))} if len(shapes) == 1 else {"shapes_dict": shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer for the shapes from `get_build_config`."""
        if config and "input_shape" in config:
            self.build(as_shape(config["input_shape"]))
        elif config and "shapes_dict" in config:
            self.build(**{name: as_shape(shape) for name, shape in config["shapes_dict"].items()})

    def _build_child(self, child: Any, input_shape: Any) -> None:
        """Builds a layer inside this one unless it is built; its weight paths start with this layer's path."""
        if isinstance(child, Layer) and not child.built:
            set_unnoticed(child, _path_above="/".join(filter(None, (self._path_above, self.name))))
            child.build(input_shape)
            set_unnoticed(child, built=True)

    # ------------------------------------------------------------------------------------------------------ calling

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs; subclasses define it, under this name or torch's, `forward`."""
        raise NotImplementedError(f"{describe(self)} has no call(): write one, or a forward().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.__class__.call is not self.__class__.forward:
            pair_again((type(self),))
        plain = (
            not kwargs
            and len(args) == 1
            and type(args[0]) is Tensor
            and self.built
            and not self._makes_mask
            and self.input_spec is None
            and not hasattr(args[0], "_keras_mask")
        )
        if plain:
            dtype, wanted = args[0].dtype, self._input_dtype
            plain = dtype is wanted or wanted is None or not dtype.is_floating_point
        if plain and (running.inside or not (self._opens_call or self._added_losses or running.losses)):
            try:
                return nn.Module.__call__(self, args[0])
            except RuntimeError as error:
                refuse_misfit(self, args[0], error)
                raise
        if running.inside:
            return self._slow_call(args, kwargs)
        return self._outermost_call(plain, args, kwargs)

    def _outermost_call(self, plain: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an outermost call: clears the losses of the previous one, and afterwards the mode inherited by inner layers."""
        # torch's flags, which are usually off, save a call each
        if torch.compiler.is_exporting() and is_exporting():  # exported programs must not change state
            return self._slow_call(args, kwargs)
        compiling, call = torch.compiler.is_compiling() and is_compiling(), running
        if compiling or added_losses.pending or call.losses:
            added_losses.forget(self)
        entry = None if compiling or call.mode is not None else (call.thread, self)
        call.inside = True
        if entry is not None:
            modeless.append(entry)
        try:
            if not plain:
                return self._slow_call(args, kwargs)
            return nn.Module.__call__(apart_from_holds(self) if entry is not None and holds else self, args[0])
        finally:
            call.inside, call.default = False, None
            if entry is not None:
                modeless.remove(entry)

    def stateless_call(
        self,
        trainable_variables: Sequence[Any],
        non_trainable_variables: Sequence[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Calls the layer with other values in the place of its variables, and leaves its own as they are.

        The state of random numbers is among the variables: the same values give the same result, and the values that are
        returned give other numbers. Layers that draw without a seed draw as their listed seeds say.

        Args:
            trainable_variables: Tensors or arrays, one for each of `layer.trainable_variables`.
            non_trainable_variables: Likewise.
            args: Arguments of the call.
            return_losses: Whether the losses of the call are given, too.
            kwargs: Keyword arguments of the call.
        Returns: The outputs, and the values that the non-trainable variables have after the call; then the losses.
        Raises: ValueError: if the layer is not built, or the values are not one for each variable.
        """
        found = stateless_call(self, trainable_variables, non_trainable_variables, args, kwargs)
        return found if return_losses else found[:2]

    def rematerialized_call(self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """Returns what to call in the place of `layer_call`: the same, or a function that keeps no intermediate results.

        Args:
            layer_call: The layer's `call`, or a function like it.
            args: Arguments that it will get; where it depends on the size of the outputs, they decide.
            kwargs: Keyword arguments that it will get.
        """
        if self._remat_mode is None:
            return layer_call
        return rematerialized_call(self, self._remat_mode, layer_call, args)

    def _direct(self) -> Callable[..., Any] | None:
        """Returns a function that equals a call on plain tensors without hooks, for the inner loops.

        Returns: The function; None if the layer returns its input.
        """
        return self.forward

    def _slow_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the general call: symbolic inputs, conversion of arguments, building and masks."""
        if any_symbolic(args, kwargs):
            refuse_several(self, args)
            if self.input_spec is not None:
                self._check_input_spec(args, kwargs)
            return self._symbolic_call(args, kwargs)
        args, kwargs = tree.map_structure(self._to_tensor, (_with_arrays(args), kwargs))
        refuse_several(self, args)
        for arg in args:
            if type(arg) is not Tensor and not self._allow_non_tensor_positional_args:
                refuse_other_than_tensors(self, arg)
        if self.input_spec is not None:
            self._check_input_spec(args, kwargs)
        try:
            return self._built_call(args, kwargs)
        except RuntimeError as error:
            if args and isinstance(args[0], Tensor):
                refuse_misfit(self, args[0], error)
            raise

    def _built_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.built:
            self._build_for(args, kwargs)
            if self.input_spec is not None:  # which build() may have set
                self._check_input_spec(args, kwargs)
            with building_inside(self):
                return self._masked_call(args, kwargs)
        return self._masked_call(args, kwargs)

    def _check_input_spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        check_inputs(self.input_spec, self._first_argument(args, kwargs), self.name)

    def _masked_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        masked = any_mask(args, kwargs)
        if masked or self._takes_mask:
            args = without_masks_of_none(self._parameter_names, args)
            fill_masks(self._parameter_names, args, kwargs, self._takes_mask)
        first = self._first_argument(args, kwargs)
        previous = kwargs.get("mask") if kwargs.get("mask") is not None else masks_of(first)
        outputs = self._run_in_mode(kwargs.get("training"), args, kwargs)
        if self.supports_masking:
            if self._makes_mask or masked or kwargs.get("mask") is not None:
                put_masks(outputs, self, first, previous)
        elif masked and self._says_where_masks_end and any(mask is not None for mask in tree.flatten(previous)):
            warn_of_lost_mask(self, outputs)
        return outputs

    def _run_in_mode(self, training: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._takes_training:
            kwargs.pop("training", None)
        if kwargs.get("mask", self) is None or "mask" not in self._parameter_names:
            kwargs.pop("mask", None)
        if training is None:
            unasked = running.mode is None and not is_compiling()
            return nn.Module.__call__(apart_from_holds(self) if unasked and holds else self, *args, **kwargs)
        call, mode = running, bool(training)
        before, call.mode = call.mode, mode
        try:
            if before is mode or not self._modules:  # no `training` flags to change
                return nn.Module.__call__(self, *args, **kwargs)
            with holding(self, mode) as held:
                return nn.Module.__call__(held, *args, **kwargs)
        finally:
            call.mode = before
            if before is None and call.inside:
                call.default = mode  # Keras applies it to the rest of the outermost call

    def _to_tensor(self, leaf: Any) -> Any:
        """Converts arrays to tensors, and casts floating-point tensors to the compute dtype; integers are unchanged."""
        if isinstance(leaf, (np.ndarray, np.generic)):
            weight = first_parameter(self)
            leaf = from_array(leaf).to(config.device() if weight is None else weight.device)
        return leaf if self._input_dtype is None else cast_input(leaf, self._input_dtype)

    # ------------------------------------------------------------------------------------------------------- losses

    def add_loss(self, loss: Any) -> None:
        """Adds a scalar (or a list of them), computed in `call`, to what `fit` minimises.

        Raises: ValueError: if it is not a tensor.
        """
        for leaf in tree.flatten(loss):
            if not isinstance(leaf, Tensor):
                raise ValueError(
                    f"{self.name}: add_loss() takes a tensor, or a list of them, computed in call(); got {leaf!r}."
                )
        if is_exporting():
            return  # exported programs have no losses
        if running.losses is None:
            added_losses.note(self)
        self._losses.extend(loss if isinstance(loss, (list, tuple)) else [loss])

    @property
    def _losses(self) -> list[Tensor]:
        """The losses that `add_loss` got in the last call; within `fit`, `evaluate` or `predict`, in the current step."""
        by_layer = running.losses
        return self._added_losses if by_layer is None else by_layer.setdefault(id(self), [])

    @property
    def losses(self) -> list[Tensor]:
        """Losses that `add_loss` collected in the last call, and the penalties on the trainable weights."""
        layers = self._flatten_layers()
        added = [loss for layer in layers for loss in layer._losses]
        views = [view for view in self.weights if view.trainable and view.regularizer is not None]
        return added + [view.regularizer(view.read()) for view in views if view.regularizer is not None]

    # ------------------------------------------------------------------------------------------------------ metrics

    @property
    def metrics(self) -> list[Any]:
        """The metrics that the layer and those inside it have as attributes."""
        return [metric for layer in self._flatten_layers() if layer._holds_metrics for metric in metrics_in(layer)]

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def add_metric(self, *args: Any, **kwargs: Any) -> None:
        """Raises a NotImplementedError, as in Keras 3: it went with Keras 2."""
        raise NotImplementedError(
            f"{self.name}: add_metric() is gone. Pass the metric to compile(metrics=[...]), or make it an attribute of the "
            "layer and call its update_state() in call()."
        )

    # ------------------------------------------------------------------------------------------------- being a module

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        """Yields names and modules; warns if `parameters()` asks before the weights are built."""
        if not self.built and lacks_weights(self):
            warn_of_unbuilt(self, lacks_weights)
        return super().named_modules(*args, **kwargs)

    def _flatten_layers(self) -> list[Layer]:
        return [module for module in modules_of(self) if isinstance(module, Layer)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        held = {key: self._buffers.get(key) for key in self._non_persistent_buffers_set}
        result = super()._apply(fn, recurse)
        for key, old in held.items():  # not in state_dict(): values must survive a move to the meta device
            new = self._buffers.get(key)
            if old is None or new is None or old.is_meta is new.is_meta:
                continue
            if new.is_meta:
                self._without_data[key] = old
            elif key in self._without_data:
                new.copy_(self._without_data.pop(key))
        self._keep_methods()
        self._follow_dtype(fn)
        return result

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        self._keep_methods()
        if local_metadata.get("assign_to_params_buffers", False):
            given = (state_dict.get(prefix + row.path) for row in self._own_rows())
            floats = [tensor.dtype for tensor in given if tensor is not None and tensor.is_floating_point()]
            self._follow_dtype(lambda tensor: tensor.to(floats[0]) if floats else tensor)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_views": OwnDict(), "_added_losses": OwnList(), "_calls": OwnList()}
        return {**state, **flags_outside(self)} if holds else state

    def _fields_of_copy(self) -> dict[str, Any]:
        return {"_views": OwnDict(), "_in_containers": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        held = vars(self).pop("_held_flags", None)
        if held is not None:
            held.set()
        self._keep_methods()
        for attribute in self._in_containers:
            self.__dict__[attribute] = tracked(self.__dict__[attribute], self, attribute)

    @property
    def path(self) -> str | None:
        """The name, prefixed with the names of the layers around it; None until it is built."""
        return self._path

    def extra_repr(self) -> str:
        """Returns the text that `print(layer)` shows in addition to children."""
        return f"name={self.name!r}"


Layer.forward = Layer._own_call = Layer.call
OWN_CALLS[Layer.__call__] = None  # which calls that of torch, and that is looked at elsewhere


def lacks_weights(module: nn.Module) -> bool:
    """Returns whether a module is a layer with weights that are not built yet.

    False for a layer that contains layers: these are checked themselves.
    """
    if not isinstance(module, Layer) or module.built or not module._builds_weights:
        return False
    return not any(isinstance(child, Layer) for child in module.children())


def regularize_activity(layer: Any, args: Any, outputs: Any) -> None:  # noqa: ARG001
    """Adds the penalty of an `activity_regularizer`. A forward hook of layers that have one."""
    for output in tree.flatten(outputs):
        if isinstance(output, Tensor):
            penalty = layer.activity_regularizer(output)
            layer.add_loss(penalty / output.shape[0] if output.ndim else penalty)  # the mean over the samples, as Keras


def _build_once(build: Callable[..., None]) -> Callable[..., None]:
    """Wraps `build` to mark the layer as built, and to do nothing if it already is."""

    @functools.wraps(build)
    def build_once(self: Layer, *args: Any, **kwargs: Any) -> None:
        if self.built:
            return
        take_path(self)
        with building_inside(self):
            build(self, *args, **kwargs)
        names = list(inspect.signature(build).parameters)[1:]
        set_unnoticed(self, built=True, _build_shapes={**dict(zip(names, args)), **kwargs})
        sync_trainable(self, self._frozen_above)

    return build_once


def _with_arrays(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the arguments, with the first one as an array if it is a nested list of numbers."""
    if args and isinstance(args[0], (list, tuple)) and args[0]:
        if all(isinstance(leaf, (int, float)) for leaf in tree.flatten(args[0])):
            return (np.asarray(args[0]), *args[1:])
    return args
