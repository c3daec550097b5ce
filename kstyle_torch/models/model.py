"""The model: a layer with compile, fit and save. It has a graph, or is a subclass with `call`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.fx import Proxy

from kstyle_torch import tree
from kstyle_torch.compat import keras2
from kstyle_torch.graph_passes.split_text import split
from kstyle_torch.graph_passes.straight_runs import eager_runs, is_replaced, straight_runs
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.call_pairs import drop_casts, pair_again
from kstyle_torch.layer.hooks import anybody_listens
from kstyle_torch.layer.module_walk import modules_of, set_unnoticed, uncounted_calls
from kstyle_torch.layer.paths import building_inside, take_path
from kstyle_torch.layer.reserved import refuse_own
from kstyle_torch.layer.shapes import open_shapes
from kstyle_torch.layer.users_calls import call_by_users, with_users_call
from kstyle_torch.layer.weight_holder import own_property
from kstyle_torch.layers.input_layer import InputLayer
from kstyle_torch.mode import holding, passing, running
from kstyle_torch.models.child_names import check_names, free_key
from kstyle_torch.models.emitted import Emitted, masked_graph
from kstyle_torch.models.files import Files
from kstyle_torch.models.graph_config import HasGraphConfig
from kstyle_torch.models.graph_inputs import GraphInputs
from kstyle_torch.models.shown import Shown
from kstyle_torch.models.trainer import Trainer
from kstyle_torch.registry import did_you_mean
from kstyle_torch.symbolic.emit import Emitter
from kstyle_torch.symbolic.graph import Graph, checked, nodes_behind, trace
from kstyle_torch.symbolic.replay import replay
from kstyle_torch.symbolic.tensor import SymbolicTensor, any_symbolic, is_symbolic
from kstyle_torch.training.fit_state import FitState


class Model(GraphInputs, Trainer, Files, Shown, HasGraphConfig, keras2.OlderMethods, Layer):
    """A layer with `compile`, `fit`, `evaluate` and `predict`.

    `Model(inputs, outputs)` consists of the layers between inputs and outputs. A subclass defines `call` instead.

    Args:
        inputs: Results of `Input`: one, or a list or dict; or tensors inside another model's graph.
        outputs: Results of calls of layers on them: one, or a list or dict.
        name: Unique among models; made from the class if None.
        trainable: Whether training changes the weights.
    Raises: ValueError: if the outputs need other inputs, or two layers have the same name.

    Example:
        >>> inputs = Input((3,))
        >>> model = Model(inputs, Dense(2)(inputs))
        >>> model(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    _has_precision = False  # its layers handle it
    _resolves_mode = True
    _opens_call = True
    _functional: ClassVar[type[Model] | None] = None
    graph: Graph | None = None
    _places: Mapping[str, nn.Module] = {}  # key -> module at the time when the code was generated
    code: str | None = None  # source of the forward function
    _emitted: Emitted | None = None
    _emitted_dtypes: Any = None
    _ends: Any = None
    inputs: Any = None
    outputs: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        wanted = cls
        kwargs = keras2.todays(cls, kwargs)
        if cls is Model and (len(args) > 1 or "outputs" in kwargs):
            wanted = cls._functional or cls
        self = super().__new__(wanted, *args, **kwargs)
        set_unnoticed(self, _fit=FitState())
        if wanted is not cls or "outputs" in kwargs or len(args) > 1:
            set_unnoticed(self, _arguments={})  # symbolic tensors are not part of a config
        return self

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        if outputs is not None:
            self._set_graph(inputs, outputs)

    # ------------------------------------------------------------------------------------------------------ the graph

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        """Registers the modules between inputs and outputs as children, and generates the forward function."""
        inputs, outputs = _only(inputs), _only(outputs)
        sources = [_source_of(tensor) for tensor in checked(inputs, "inputs")]
        graph = trace(inputs, outputs, sources)
        check_names([*graph.operations, *graph.modules])
        held = {*map(id, self._modules.values())}
        for module in graph.modules:
            if id(module) not in held:
                self.add_module(free_key(self, module), module)
        take_path(self)
        # each input has a dtype of its own
        set_unnoticed(self, graph=graph, built=True, _autocast=False, _input_dtype=None)
        drop_casts(self)
        self._set_ends(inputs, outputs)
        self._emit()

    def _follow_dtype(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Adopts the dtype of converted weights, and regenerates the forward function if inputs follow it."""
        super()._follow_dtype(fn)
        if self.graph is not None and (self._takes_text or self._input_dtypes() != self._emitted_dtypes):
            self._emit()

    def _set_ends(self, inputs: Any, outputs: Any) -> None:
        ends = {"input": inputs, "output": outputs}
        set_unnoticed(self, inputs=tree.flatten(inputs), outputs=tree.flatten(outputs), _ends=ends)

    def _emit(self) -> None:
        assert self.graph is not None
        text, device_graph = split(self.graph, self.name)
        keys = {id(module): key for key, module in self._modules.items() if module is not None}
        places = {keys[id(module)]: module for module in self.graph.modules if id(module) in keys}
        set_unnoticed(self, _emitted=None, _places=places, _text_part=text, _device_graph=device_graph)
        run, code = self._emitter(device_graph).emit(Model._unpack, self._input_checks())
        emitted, dtypes = Emitted(run, self.graph.modules), self._input_dtypes()
        set_unnoticed(self, _emitted=emitted, code=code, _emitted_dtypes=dtypes)

    def _emitter(self, graph: Graph, users: tuple[Any, ...] = (), direct: Any = None) -> Emitter:
        """Returns the writer of a function of the model's graph; modules of the classes `users` are called by them."""
        keys = {id(module): key for key, module in self._places.items()}
        if self._text_part is not None:  # the numbers that it returns have no InputLayer of their own
            direct = {**dict.fromkeys(map(id, self._text_part.sources)), **(direct or {})}
        return Emitter(graph, keys, Model._adapt, direct, dict.fromkeys(users, call_by_users))

    # ------------------------------------------------------------------------------------------- replaced children

    def follow_children(self) -> None:
        """Makes the graph call the current children, since users may replace them at any time.

        Raises: ValueError: if a module was removed, or a replacement does not fit; the graph is not changed then.
        """
        places, children = self._places, self._modules
        if self.graph is None:
            return
        for key, module in places.items():
            if children.get(key) is not module:
                break
        else:
            if self._emitted is not None and self._emitted.run is _follow_and_run:  # one was put back
                self._emit()
            return
        instead: dict[int, nn.Module] = {}
        for key, module in places.items():
            child = children.get(key)
            if child is None or (child is not module and isinstance(module, InputLayer)):
                raise ValueError(
                    f"{self.name}: the graph needs its child {key!r}, which was {'removed' if child is None else 'replaced'}. "
                    "Replace a layer by another one (Identity() to skip it), or make a new model."
                )
            instead[id(module)] = child
        behind = nodes_behind(tree.flatten(self._ends["output"]))
        before = {module: [*module._calls] for module in self.graph.modules if isinstance(module, Layer)}
        for module, calls in before.items():  # records of calls in the old graph
            kept = [(call, call.ends()) for call in calls]
            module._calls[:] = [
                call for call, ends in kept if ends is not None and tree.flatten(ends["output"])[0].node not in behind
            ]
        try:
            with building_inside(self):
                self._replace(instead)
        except Exception:
            for module, calls in before.items():
                module._calls[:] = calls
            raise

    def _replace(self, instead: dict[int, nn.Module]) -> None:
        """Rebuilds the graph with replacements of modules, given by id."""
        assert self.graph is not None
        inputs = self._ends["input"]
        outputs = replay(self.graph, tree.flatten(inputs), lambda target: instead.get(id(target), target))
        set_unnoticed(self, graph=trace(inputs, outputs, self.graph.sources))
        self._set_ends(inputs, outputs)
        self._emit()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "graph":
            refuse_own(self, name)
        super().__setattr__(name, value)
        self._note_child(name)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._note_child(name)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Adds a child; if it replaces another one, the graph calls it."""
        super().add_module(name, module)
        self._note_child(name)

    def _note_child(self, name: str) -> None:
        """Makes the next call check whether the graph must be rebuilt, so that several layers can be replaced in turn."""
        if name in self._places and self._modules.get(name) is not self._places[name]:
            set_unnoticed(self, _emitted=Emitted(_follow_and_run))

    def straight_run(self, eagerly: bool = False) -> Callable[[Any, Any], Any] | None:
        """Returns `run(model, inputs)`: the forward function for the inner loops, which bypasses modules without hooks.

        Args:
            eagerly: Whether to call modules nevertheless; the numbers are the same.
        Returns: None if modules have hooks, the call is overridden, or a function of torch was replaced.
        """
        pair_again((type(self),))
        if self.graph is None:
            return None
        self.follow_children()
        modules = modules_of(self)
        if is_replaced() or anybody_listens(modules):
            return None
        as_usual = type(self).__call__ is Model.__call__ and type(self).forward in GRAPH_CALLS
        if not as_usual or "forward" in self.__dict__:
            return None
        assert self._emitted is not None
        assert self._device_graph is not None
        pair_again(self._emitted.classes)
        # layers' dtypes may change, and users may set `forward` of an object or a class
        key = (eagerly, *[vars(module).get("forward", type(module).forward) for module in modules])
        runs = self._emitted.straight
        if key not in runs:
            if eagerly:
                parts = [(id(module), module._part(True)) for module in self.graph.modules if isinstance(module, Model)]
                instead = {**eager_runs(self._device_graph), **{key: run for key, run in parts if run is not None}}
            else:
                direct = {id(module): module._direct() for module in self.graph.modules if isinstance(module, Layer)}
                instead = straight_runs(self._device_graph, direct)
            emitter = self._emitter(self._device_graph, direct=instead)
            runs[key] = emitter.emit(Model._unpack, self._input_checks())[0] if instead else None
        return runs[key]

    def _direct(self) -> Callable[..., Any]:
        return self._part(eagerly=False) or self.forward

    def _part(self, eagerly: bool) -> Callable[..., Any] | None:
        """Returns the straight run of this model for the graph of an outer model; None for the regular call."""
        run, emitted = self.straight_run(eagerly), self._emitted
        if run is None:
            return None

        def part(inputs: Any, **arguments: Any) -> Any:
            if arguments or self._emitted is not emitted:  # with a mask, or after a change of the graph
                return self.forward(inputs, **arguments)
            return run(self, inputs)

        return part

    # -------------------------------------------------------------------------------------------------------- calling

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """Returns the outputs for a batch of inputs. A subclass without a graph defines it.

        Args:
            training: The mode; that of the call around this one if None.
            mask: Nest of boolean masks of the inputs, each None or (batch, steps).
            kwargs: Not supported.
        """
        if inputs.__class__ is Proxy:
            raise TypeError(
                f"{self.name}: torch.fx.symbolic_trace() cannot trace a model, which reads the shape and dtype of its "
                "inputs. Use torch.export.export(model, (example,)) instead."
            )
        if kwargs:
            raise TypeError(f"{self.name}: call() got the unknown argument {next(iter(kwargs))!r}.")
        if training is not None and running.mode is not bool(training):
            with passing(bool(training), running.inside), holding(self, bool(training)) as held:
                return held.call(inputs, mask=mask)
        if self.graph is None:
            raise NotImplementedError(
                f"{type(self).__name__} must define call(self, inputs), or be made from inputs and outputs."
            )
        emitted = self._emitted
        assert emitted is not None
        pair_again(emitted.classes)
        users = with_users_call(emitted.types)
        if mask is not None:
            return self._run_masked(inputs, mask, users)
        return self._run_users(inputs, users) if users else emitted.run(self, inputs)

    def _run_users(self, inputs: Any, users: tuple[Any, ...]) -> Any:
        assert self._device_graph is not None
        assert self._emitted is not None
        runs = self._emitted.users
        if users not in runs:
            runs[users] = self._emitter(self._device_graph, users).emit(Model._unpack, self._input_checks())[0]
        return runs[users](self, inputs)

    def _run_masked(self, inputs: Any, mask: Any, users: tuple[Any, ...]) -> Any:
        """Returns the outputs, with masks passed to the layers; the code is generated on first use."""
        self.follow_children()
        flat, masks = self._unpack(inputs), tree.flatten(mask) if tree.is_nested(mask) else [mask]
        axes = tuple(None if one is None else one.dim() for one in masks)
        assert self._device_graph is not None
        assert self._emitted is not None
        runs = self._emitted.masked
        if (axes, users) not in runs:
            with uncounted_calls(self):
                emitter = self._emitter(masked_graph(self._device_graph, axes), users)
            runs[axes, users] = emitter.emit(lambda _, flat: flat, self._input_checks())[0]
        for tensor, one in zip(flat, masks, strict=True):
            if one is not None:
                tensor._keras_mask = one
        return runs[axes, users](self, flat)

    def _slow_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._takes_text and args and not any_symbolic(args[0]):
            args = (self.without_text(args[0]), *args[1:])
        return super()._slow_call(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except (RuntimeError, IndexError):  # torch's message does not name the layer
            if self.graph is not None and args and isinstance(args[0], Tensor):
                self.check_inputs(args[0])
            raise

    # --------------------------------------------------------------------------------------------------------- layers

    @own_property
    def layers(self) -> list[Any]:
        """The layers in order; InputLayers are included as in Keras, except in a Sequential."""
        if self.graph is not None:
            self.follow_children()
            return list(self.graph.modules)
        children = [child for _, child in self._layer_children()]
        return list({id(child): child for child in children}.values())

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Returns a layer by name or index.

        Raises: ValueError: if it does not exist, or unless exactly one of the two is given.
        """
        if (name is None) == (index is None):
            raise ValueError("get_layer() needs either a name or an index.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"get_layer(index={index}): {self.name} has {len(self.layers)} layers.")
            return self.layers[index]
        for layer in self.layers:
            if getattr(layer, "name", None) == name:
                return layer
        names = [getattr(layer, "name", "") for layer in self.layers]
        raise ValueError(f"{self.name} has no layer {name!r}.{did_you_mean(str(name), names)}")

    @property
    def input_shape(self) -> Any:
        """The shape of the input, with None for the batch; a nest of them for several inputs."""
        return tree.map_structure(lambda tensor: tensor.shape, self._symbols("input"))

    @property
    def output_shape(self) -> Any:
        """The shape of the output, with None for the batch; a nest of them for several outputs."""
        return tree.map_structure(lambda tensor: tensor.shape, self._symbols("output"))

    def _symbols(self, which: str) -> Any:
        """Returns the symbolic input or output of the model's own graph."""
        if self.graph is None:
            raise AttributeError(f"{self.name} has no {which} until it is built for an input shape.")
        symbols = self._ends[which]
        only = tree.flatten(symbols)
        return only[0] if len(only) == 1 and isinstance(symbols, (list, tuple)) else symbols

    @property
    def output_names(self) -> list[str] | None:
        """The names of the layers that return the outputs, those of a dict in the order of its keys; None if unknown."""
        if self.graph is None:
            return None
        names = []
        for position, ref in enumerate(tree.flatten(self.graph.outputs)):
            maker = next((call.target for call in self.graph.calls if ref in tree.flatten(call.outputs)), None)
            names.append(getattr(maker, "name", None) or f"output_{position}")
        return names

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs."""
        return [] if self.graph is None else [source.name for source in self.graph.sources]

    # -------------------------------------------------------------------------------------------------- being a module

    def build(self, input_shape: Any) -> None:
        """Creates the weights for an input of this shape, by a call on a symbolic input.

        Args:
            input_shape: Shape with None for the batch; a list or dict of shapes for several inputs.
        """
        set_unnoticed(self, built=True)
        try:
            with building_inside(self):
                self._inferred_shape({"input_shape": input_shape})
        except Exception:
            set_unnoticed(self, built=False)
            raise

    def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if type(self).build is Model.build:  # the layers inside are built as the call reaches them
            take_path(self)
            shape = open_shapes(args[0] if args else next(iter(kwargs.values())))
            set_unnoticed(self, built=True, _build_shapes={"input_shape": shape})
        else:
            super()._build_for(args, kwargs)

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shape of the input, for files."""
        if self.graph is not None:
            return {"input_shape": self.input_shape}
        return super().get_build_config()

    def _saved_children(self) -> list[tuple[str, Any]]:
        """Orders the saved parts as Keras does: the layers of a graph first, those of a subclass at the name `layers`."""
        found = dict(super()._saved_children())
        layers = {"layers": self.layers}
        if hasattr(self.optimizer, "save_own_variables"):  # Keras' files cannot hold torch optimizers
            found["optimizer"] = self.optimizer
        if self._is_graph():
            return [*layers.items(), *found.items()]
        return sorted({**layers, **found}.items(), key=lambda item: (item[0].startswith("_"), item[0]))

    def _is_graph(self) -> bool:
        """Returns whether it is a Functional, and lists its layers itself."""
        return self.graph is not None

    def __getstate__(self) -> dict[str, Any]:
        made_again = {
            "_emitted",
            "_places",
            "_text_part",
            "_device_graph",
            "inputs",
            "outputs",
            "_ends",
        }  # from the graph
        dropped = {"_fit", *made_again}
        return {key: value for key, value in super().__getstate__().items() if key not in dropped}

    def _fields_of_copy(self) -> dict[str, Any]:
        return {**super()._fields_of_copy(), "_fit": FitState(), "jit_compile": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        set_unnoticed(self, _fit=FitState())
        if self.graph is not None:
            self._set_ends(*self.graph.to_symbolic())
            self._emit()


def _only(ends: Any) -> Any:
    """Unpacks a list of one: as in Keras, a model of `[x]` and `[y]` takes and returns tensors."""
    return ends[0] if isinstance(ends, (list, tuple)) and len(ends) == 1 else ends


def _follow_and_run(model: Model, inputs: Any) -> Any:
    """Replaces the forward function of a model whose children were replaced, until the next call."""
    model.follow_children()
    assert model._emitted is not None
    return model._emitted.run(model, inputs)


GRAPH_CALLS = {Model.forward}  # implementations of `call` that only run the graph


def _source_of(tensor: SymbolicTensor) -> InputLayer:
    """Returns the InputLayer of an input; a new one for a tensor inside a graph."""
    if tensor.source is None:
        layer = InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype)
        layer.dtype_given = False
        return layer
    return tensor.source


def is_graph_input(value: Any) -> bool:
    """Returns whether it is a result of `Input`."""
    return is_symbolic(value) and value.source is not None
