"""The layer: an `nn.Module` that is built when the shape of its input is known, and called as in Keras."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import config, dtype_policies, regularizers, tree
from kstyle_torch.arrays import from_array
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer import added_losses
from kstyle_torch.layer.added_weights import State
from kstyle_torch.layer.call_pairs import CALLS, pair_again, pair_call_and_forward, replace_call, restore_call
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.containers import (
    may_hold_metrics,
    may_hold_modules,
    modules_in,
    tracked,
    variables_in,
    with_replaced,
)
from kstyle_torch.layer.input_spec import check_inputs
from kstyle_torch.layer.masks import (
    any_mask,
    fill_masks,
    masks_of,
    put_masks,
    take_recorded_masks,
    without_masks_of_none,
)
from kstyle_torch.layer.module_walk import OwnDict, OwnList, first_parameter, modules_of, set_unnoticed
from kstyle_torch.layer.paths import building_inside, take_path
from kstyle_torch.layer.policy import HasPolicy
from kstyle_torch.layer.precision import cast_input
from kstyle_torch.layer.reserved import OWN, is_none_until_set, let_none_give_way, own_methods, refuse_own
from kstyle_torch.layer.shapes import as_leaves, as_shape, declared_shape, shapes_of
from kstyle_torch.layer.symbolic_ends import SymbolicEnd
from kstyle_torch.layer.unbuilt import warn_of_unbuilt
from kstyle_torch.layer.weight_holder import WeightHolder, sync_trainable
from kstyle_torch.mode import HasMode, holding, running
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.scopes import current_remat_mode, opened
from kstyle_torch.serialization import Configurable, registry, reject_unknown, serialize_keras_object
from kstyle_torch.symbolic.infer import infer
from kstyle_torch.symbolic.tensor import RecordedCall, SymbolicTensor, any_symbolic, is_symbolic, record
from kstyle_torch.variables import Variable

layer_registry = registry("layer", "keras.layers")
# in Keras' configs; accepted while they are disabled
KERAS_ONLY = ("lora_alpha", "lora_rank", "quantization_config")
TORCH_METHODS = frozenset(name for name, value in vars(nn.Module).items() if callable(value) and name[0] != "_")


@contextlib.contextmanager
def uncounted_calls(root: nn.Module) -> Iterator[None]:
    """Keeps symbolic calls of the layers inside `root`, made in the block, out of `layer.input` and `layer.output`."""
    known = {layer: list(layer._calls) for layer in root.modules() if isinstance(layer, Layer)}
    try:
        yield
    finally:
        for layer, calls in known.items():
            layer._calls[:] = calls


class Layer(Configurable, HasMode, HasPolicy, WeightHolder):
    """Base class of all layers. Subclass it with `call`, and with `build` where there are weights.

    Args:
        activity_regularizer: Penalty on the output, added to the loss.
        trainable: Whether training changes the weights.
        dtype: Dtype of weights and computation, or a policy for both such as `"mixed_bfloat16"`; the global dtype policy
            if None.
        name: Unique in a model; derived from the class name if None.
        input_shape: Shape of one sample, for the first layer of a Sequential without an Input.
        input_dim: The same, for samples that are vectors.
        batch_input_shape: The same, with the batch size (None) in front.
    Raises: ValueError: for an unknown argument.

    Example:
        >>> class Scale(Layer):
        ...     def build(self, input_shape):
        ...         self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")
        ...     def call(self, x):
        ...         return x * self.factor
        >>> Scale()(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """

    input = SymbolicEnd("input")
    output = SymbolicEnd("output")
    supports_masking = False
    activity_regularizer: Any = None
    input_spec: Any = None  # an InputSpec, or a nest of them, that a subclass sets
    integer_inputs = False  # whether it takes integer inputs
    _takes_training = False  # whether forward() has a `training` argument
    _parameter_names: tuple[str, ...] = ()  # of forward()
    _makes_mask = False  # whether the class overrides compute_mask()
    _builds_weights = False  # whether the class overrides build()
    _holds_metrics = False  # whether an attribute may hold a metric
    _opens_call = False  # whether it may call other layers, which then inherit its mode
    _resolves_mode = False  # whether forward() itself resolves the mode if `training` is None
    call: Callable[..., Any] = nn.Module.forward  # a subclass defines it
    _own_call: Callable[..., Any] = nn.Module.forward  # `call` and `forward`, as the class was created
    _build_shapes: dict[str, Any] | None = None  # arguments of build()

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
        name: str | None = None,
        **kwargs: Any,
    ):
        if name is not None and (not isinstance(name, str) or "/" in name or not name):
            raise ValueError(f"{type(self).__name__}: name must be a string without '/'; got {name!r}.")
        self.name = name or unique_name(snake_case(type(self).__name__))
        if not kwargs.pop("autocast", True):
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
        self.activity_regularizer = regularizers.get(activity_regularizer)
        if self.activity_regularizer is not None:
            self.register_forward_hook(regularize_activity)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "build" in vars(cls):
            cls.build = _build_once(vars(cls)["build"])  # type: ignore[method-assign]
        pair_call_and_forward(cls, Layer)
        let_none_give_way(cls)
        cls._builds_weights = vars(cls).get("_builds_weights", "build" in vars(cls) or cls._builds_weights)
        cls._makes_mask = cls.compute_mask is not Layer.compute_mask

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
        """Returns the constructor's arguments as plain data, with name, trainable and dtype."""
        own = {"name": self.name, "trainable": self.trainable, "dtype": dtype_policies.as_config(self.dtype_policy)}
        set_since = {name: serialize_keras_object(getattr(self, name)) for name in self._set_arguments}
        return {**super().get_config(), **set_since, **own}

    # --------------------------------------------------------------------------------------------- building weights

    def build(self, input_shape: Any) -> None:
        """Makes the weights for an input of this shape (a tuple with None for the batch; a list of them for a list)."""

    def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Builds the layer for the shapes of a call's arguments, on their device."""
        take_path(self)
        first = args[0] if args else next(iter(kwargs.values()), None)
        if self.input_spec is not None:
            shapes = [tuple(leaf.shape) for leaf in tree.flatten(first) if hasattr(leaf, "shape")]
            check_inputs(self.input_spec, shapes, self.name)
        if not self._takes_training:
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        parameters = [*inspect.signature(self.build).parameters.values()]
        device = next((leaf.device for leaf in tree.flatten(args) if isinstance(leaf, Tensor)), config.device())
        with config.device_scope(device):
            if len(parameters) <= 1 or parameters[0].kind is parameters[0].VAR_POSITIONAL:
                self.build(shapes_of(first))
            else:
                bound = inspect.signature(type(self)._own_call).bind_partial(self, *args, **kwargs).arguments
                named = {f"{name}_shape": shapes_of(value) for name, value in bound.items()}
                self.build(**{p.name: named[p.name] for p in parameters if p.name in named})
        set_unnoticed(self, built=True)

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes that the layer was built for, to be saved; None if it is not built."""
        shapes = self._build_shapes
        if not shapes:
            return None
        return {"input_shape": next(iter(shapes.values()))} if len(shapes) == 1 else {"shapes_dict": shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layer for the shapes from `get_build_config`."""
        if "input_shape" in config:
            self.build(as_shape(config["input_shape"]))
        elif "shapes_dict" in config:
            self.build(**{name: as_shape(shape) for name, shape in config["shapes_dict"].items()})

    def _build_child(self, child: Any, input_shape: Any) -> None:
        """Builds a layer inside this one unless it is built; its weight paths start with this layer's path."""
        if isinstance(child, Layer) and not child.built:
            set_unnoticed(child, _path_above="/".join(filter(None, (self._path_above, self.name))))
            child.build(input_shape)
            set_unnoticed(child, built=True)

    # ------------------------------------------------------------------------------------------------------ calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.__class__.call is not self.__class__.forward:
            pair_again((type(self),))
        plain = (
            not kwargs
            and len(args) == 1
            and type(args[0]) is Tensor
            and self.built
            and not self._makes_mask
            and not hasattr(args[0], "_keras_mask")
        )
        if plain:
            dtype, wanted = args[0].dtype, self._input_dtype
            plain = dtype is wanted or wanted is None or not dtype.is_floating_point
        if plain and (running.inside or not (self._opens_call or self._added_losses or running.losses)):
            return nn.Module.__call__(self, args[0])
        if running.inside:
            return self._slow_call(args, kwargs)
        return self._outermost_call(plain, args, kwargs)

    def _outermost_call(self, plain: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an outermost call: clears the losses of the previous one, and afterwards the mode inherited by inner layers."""
        if torch.compiler.is_exporting():  # exported programs must not change state
            return self._slow_call(args, kwargs)
        if torch.compiler.is_compiling() or added_losses.pending or running.losses:
            added_losses.forget(self)
        call = running
        call.inside = True
        try:
            return nn.Module.__call__(self, args[0]) if plain else self._slow_call(args, kwargs)
        finally:
            call.inside, call.default = False, None

    def _direct(self) -> Callable[..., Any] | None:
        """Returns a function that equals a call on plain tensors without hooks, for the inner loops.

        Returns: The function; None if the layer returns its input.
        """
        return self.forward

    def _slow_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the general call: symbolic inputs, conversion of arguments, building and masks."""
        if any_symbolic(args, kwargs):
            return self._symbolic_call(args, kwargs)
        args, kwargs = tree.map_structure(self._to_tensor, (_with_arrays(args), kwargs))
        if not self.built:
            self._build_for(args, kwargs)
            with building_inside(self):
                return self._masked_call(args, kwargs)
        return self._masked_call(args, kwargs)

    def _masked_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        masked = any_mask(args, kwargs)
        if masked:
            args = without_masks_of_none(self._parameter_names, args)
            fill_masks(self._parameter_names, args, kwargs)
        first = args[0] if args else next(iter(kwargs.values()), None)
        previous = kwargs.get("mask") if kwargs.get("mask") is not None else masks_of(first)
        outputs = self._run_in_mode(kwargs.get("training"), args, kwargs)
        if self._makes_mask or (self.supports_masking and (masked or kwargs.get("mask") is not None)):
            put_masks(outputs, self.compute_mask(first, previous))
        return outputs

    def _run_in_mode(self, training: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._takes_training:
            kwargs.pop("training", None)
        if kwargs.get("mask", self) is None or "mask" not in self._parameter_names:
            kwargs.pop("mask", None)
        if training is None:
            return nn.Module.__call__(self, *args, **kwargs)
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

    def _symbolic_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.built:
            self._build_for(args, kwargs)
            with building_inside(self):
                return self._recorded_call(args, kwargs)
        return self._recorded_call(args, kwargs)

    def _recorded_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        first = args[0] if args else next(iter(kwargs.values()))
        self._meet_dtypes((args, kwargs))
        args = without_masks_of_none(self._parameter_names, args)
        filled = fill_masks(self._parameter_names, args, kwargs) if any_mask(args, kwargs) else []
        previous = kwargs.get("mask") if kwargs.get("mask") is not None else masks_of(first)
        if "mask" not in self._parameter_names:
            kwargs.pop("mask", None)
        outputs = record(self, args, kwargs, self._tags(args, kwargs), filled)
        self._calls.append(RecordedCall(first, outputs))
        set_unnoticed(self, _in_graph=True)
        masked = any(mask is not None for mask in tree.flatten(previous))
        if self._makes_mask or (self.supports_masking and masked):
            put_masks(outputs, self.compute_mask(first, previous))
        else:
            take_recorded_masks(outputs)
        return outputs

    def _tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[SymbolicTensor, SymbolicTensor]:
        """Returns the masks of inputs that inner layers need to find on their tensors."""
        if not any(isinstance(child, Layer) for child in self.modules() if child is not self):
            return {}
        return {leaf: leaf.mask for leaf in tree.flatten((args, kwargs)) if is_symbolic(leaf) and leaf.mask is not None}

    def _symbols(self, which: str) -> Any:
        """Returns the symbolic input or output of the layer's first call on symbolic tensors that still exist."""
        for call in self._calls:
            if (ends := call.ends()) is not None:
                return ends[which]
        raise AttributeError(f"{self.name} has no {which}: it was not called on a symbolic tensor that still exists.")

    def _to_tensor(self, leaf: Any) -> Any:
        """Converts arrays to tensors, and casts floating-point tensors to the compute dtype; integers are unchanged."""
        if isinstance(leaf, (np.ndarray, np.generic)):
            weight = first_parameter(self)
            leaf = from_array(leaf).to(config.device() if weight is None else weight.device)
        return leaf if self._input_dtype is None else cast_input(leaf, self._input_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the output: that of the input if the layer keeps time steps separate (`supports_masking`)."""
        return previous_mask if self.supports_masking else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the output's shape for an input of `input_shape` (None for unknown sizes), from a run on zero rows."""
        inputs = tree.map_structure(lambda shape: SymbolicTensor(shape.sizes), as_leaves(input_shape))
        if not self.built:
            self._build_for((inputs,), {})
        leaves, nest = infer(self, (inputs,), {}, is_symbolic)
        return tree.pack_sequence_as(nest, [None if leaf is None else leaf.shape for leaf in leaves])

    # ------------------------------------------------------------------------------------------------------- losses

    def add_loss(self, loss: Any) -> None:
        """Adds a scalar (or a list of them), computed in `call`, to what `fit` minimises."""
        if torch.compiler.is_exporting():
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

    # ------------------------------------------------------------------------------------------------- being a module

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        if name in OWN or (name in own_methods(cls) and not callable(value)):
            refuse_own(self, name)
        changes.count += name != "training"  # set in every fit, and checked separately
        if name in self._arguments and (name in self.__dict__ or name in self._modules):
            self._set_arguments.add(name)  # get_config() reads the attribute then
        if may_hold_metrics(value):
            set_unnoticed(self, _holds_metrics=True)  # searches skip layers without it
        if name in CALLS and callable(value) and not isinstance(value, nn.Module):
            replace_call(self, value)
            return
        if isinstance(value, nn.Module):
            self._hand_mode_to(value)
            self._replace_in_containers(name, value)
        elif isinstance(value, (nn.Parameter, State)):
            if self._claim_weight(name, value):
                return
        elif isinstance(value, Variable):
            return self._adopt_attribute(name, value)
        elif (
            tree.is_nested(value) and name != "__dict__" and may_hold_modules(value)
        ):  # torch.export's copies assign __dict__
            self.__dict__[name] = tracked(value, self, name)
            self._track_container(name)
            return
        elif name in TORCH_METHODS and not callable(value):
            raise AttributeError(
                f"{type(self).__name__}.{name} is a method of torch.nn.Module that other code relies on; "
                f"choose another name for the attribute, such as self.{name}_."
            )
        super().__setattr__(name, value)
        if isinstance(value, WeightHolder) and not self.trainable:
            sync_trainable(value, frozen_above=True)

    def __delattr__(self, name: str) -> None:
        changes.count += 1
        if name in CALLS and name in vars(self):
            restore_call(self)
        else:
            super().__delattr__(name)

    def _replace_in_containers(self, name: str, module: nn.Module) -> None:
        """Replaces a child in the user's list or dict too, when another module, such as a wrapper, is assigned for it."""
        for attribute, known in self._in_containers.items():
            if name in known and known[name] is not module:
                self.__dict__[attribute] = with_replaced(self.__dict__[attribute], known[name], module)
                known[name] = module

    def _track_container(self, attribute: str) -> None:
        """Registers the modules in a container as children; those already registered keep their position."""
        known: dict[str, nn.Module] = self._in_containers.get(attribute, {})
        found = {
            self._child_key(key, known): module
            for key, module in modules_in(self.__dict__[attribute], attribute).items()
        }
        for key, variable in variables_in(self.__dict__[attribute], attribute).items():
            self._adopt(self._free_key(key), variable)
        if any(found.get(key) is not module for key, module in known.items()):
            for key in known:
                self._modules.pop(key, None)
            known = {}
        for key, module in found.items():
            if key not in known:
                self.add_module(key, module)
        self._in_containers[attribute] = found

    def _child_key(self, key: str, known: dict[str, nn.Module]) -> str:
        while hasattr(self, key) and key not in known:
            key += "_"
        return key

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Adds a parameter, also under the name of a class attribute that is None."""
        if name not in self._parameters and is_none_until_set(type(self), name):
            self._parameters[name] = None
        super().register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a buffer, also under the name of a class attribute that is None."""
        if name not in self._buffers and is_none_until_set(type(self), name):
            self._buffers[name] = None
        super().register_buffer(name, tensor, persistent)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Adds a child, which takes on this module's mode."""
        if module is not None:
            self._hand_mode_to(module)
        super().add_module(name, module)
        if isinstance(module, WeightHolder) and not self.trainable:
            sync_trainable(module, frozen_above=True)

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
        return {**self.__dict__, "_views": OwnDict(), "_added_losses": OwnList(), "_calls": OwnList()}

    def _fields_of_copy(self) -> dict[str, Any]:
        return {"_views": OwnDict(), "_in_containers": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._keep_methods()
        for attribute in self._in_containers:
            self.__dict__[attribute] = tracked(self.__dict__[attribute], self, attribute)

    def extra_repr(self) -> str:
        """Returns the text that `print(layer)` shows in addition to children."""
        return f"name={self.name!r}"


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
