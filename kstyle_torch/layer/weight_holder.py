"""WeightHolder: creation, listing in Keras' order, and freezing of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from kstyle_torch import config, initializers, regularizers
from kstyle_torch.constraints import get as get_constraint
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layer.added_weights import State, TrainableWeight, attach_weights
from kstyle_torch.layer.checks import check_initialized, refuse_new_state
from kstyle_torch.layer.layout import SAME
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.reparametrization import (
    LISTS,
    parametrization_lists,
    reparametrizations,
    warn_of_computed,
    weight_names,
)
from kstyle_torch.layer.replaced_parameters import noting_replacements
from kstyle_torch.layer.seed_states import seed_states_in
from kstyle_torch.layer.weights import Weight, WeightView, become_view, weight_table
from kstyle_torch.registry import unique_name
from kstyle_torch.variables import Variable, assign_all

ListedWeight = WeightView | TrainableWeight | State


AGGREGATIONS = (None, "none", "mean", "sum", "only_first_replica")


class own_property(property):  # noqa: N801, a decorator
    """A property that does not hide an AttributeError raised inside it.

    Python would fall back to `nn.Module.__getattr__`, whose message says that the module has no such attribute.
    """

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        try:
            return super().__get__(layer, owner)
        except AttributeError as error:
            name = self.fget.__name__  # type: ignore[union-attr]
            raise RuntimeError(f"{type(layer).__name__}.{name} cannot be determined: {error}") from error


class WeightHolder(nn.Module):
    """Base of `Layer` with everything about weights; `Layer` itself is about building and calling."""

    _frozen_parameters: ClassVar[set[str]] = set()  # stays empty; a layer that freezes some gets its own
    _path_above = ""  # names of the layers around it
    _saved_names: ClassVar[dict[str, str]] = {}  # attribute -> Keras' name of it, if different

    if TYPE_CHECKING:  # nn.Module declares Tensor | Module

        def __getattr__(self, name: str) -> Any: ...

    # ---------------------------------------------------------------------------------------------------- making them

    def add_weight(
        self,
        *args: Any,
        shape: Sequence[int] | None = None,
        initializer: Any = None,
        dtype: DType = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str | None = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
    ) -> Any:
        """Makes a weight and registers it: an `nn.Parameter`, or a buffer if it is not trainable.

        Args:
            args: `shape`, `initializer` and `dtype` may be passed by position.
            shape: Shape; a scalar if None.
            initializer: Initializer or its name; if None, glorot_uniform for floats and zeros otherwise.
            dtype: Dtype; the layer's if None.
            trainable: Whether training changes it.
            autocast: Accepted; under a mixed policy torch casts at each operation, and the weight itself keeps its dtype.
            regularizer: Penalty, added to the loss.
            constraint: Projection, applied after each step.
            aggregation: Accepted, for loops that the user writes: how copies of it on several devices are combined; one of
                None, "none", "mean", "sum" and "only_first_replica".
            overwrite_with_gradient: Only False: it belongs to float8 training.
            name: Name in `layer.weights`.
        Returns: The tensor itself, which `layer.weights` lists. It has the interface of Keras' variables, but its `dtype` is
            a torch dtype.
        Raises: TypeError: for a fourth positional argument. ValueError: if an argument is passed twice, the shape has
            unknown sizes, or the name is not a string without "/". RuntimeError: before `super().__init__()`.
        """
        check_initialized(self)
        refuse_new_state(self, "a weight")
        shape, initializer, dtype = _with_positional(args, shape=shape, initializer=initializer, dtype=dtype)
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(f"{self.name}: the name of a weight must be a string without '/'; got {name!r}.")
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"{self.name}: aggregation must be one of {AGGREGATIONS}; got {aggregation!r}.")
        if overwrite_with_gradient:
            raise NotImplementedError(
                f"{self.name}: overwrite_with_gradient=True is for float8 training, which is not here."
            )
        wanted = self._dtype if dtype is None else as_dtype(dtype)
        shape = () if shape is None else shape
        if not isinstance(shape, Sequence) or not all(hasattr(size, "__index__") for size in shape):
            raise ValueError(
                f"{self.name}: the shape of a weight must be a tuple of ints, such as (3, 4), without None; got {shape!r}."
            )
        shape = tuple(shape)
        make = initializers.get(initializer or ("glorot_uniform" if wanted.is_floating_point else "zeros"))
        make = initializers.Zeros() if initializers.are_left_out() else make
        values = torch.as_tensor(make(shape, dtype=wanted)).to(device=config.device(), dtype=wanted)  # type: ignore[misc]
        weight: Any = TrainableWeight(values) if trainable else values.as_subclass(State)
        weight.autocast, weight.aggregation = bool(autocast), aggregation or "none"
        key = self._free_key(name or "weight")
        row = Weight(
            key,
            name=name or unique_name("variable"),
            regularizer=regularizers.get(regularizer),
            constraint=get_constraint(constraint),
        )
        self._register_weight(key, weight, row)
        return weight

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any,
        dtype: DType = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
    ) -> Any:
        """Makes a weight; an older name of `add_weight`."""
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            trainable=trainable,
            autocast=autocast,
            regularizer=regularizer,
            constraint=constraint,
            name=name,
        )

    def _free_key(self, wish: str) -> str:
        base = key = wish.replace(".", "_").replace("/", "_")
        number = 0
        while hasattr(self, key) or key in self._rows:
            number += 1
            key = f"{base}_{number}"
        return key

    def _register_weight(self, key: str, weight: Any, row: Weight) -> None:
        if isinstance(weight, nn.Parameter):
            self.register_parameter(key, weight)
        else:
            self.register_buffer(key, weight)
        self._rows[key] = row
        weight.attach(self, row)

    def _claim_weight(self, key: str, weight: Any) -> bool:
        """Moves a weight of `add_weight` to the attribute that it is assigned to. Returns: Whether it is such a weight."""
        for old, row in list(self._rows.items()):
            if self._parameters.get(old, self._buffers.get(old)) is weight:
                if old != key:
                    del self._rows[old]
                    self._parameters.pop(old, None)
                    self._buffers.pop(old, None)
                    for fields in (self.__dict__, self._parameters, self._buffers, self._modules):
                        fields.pop(key, None)  # for example the None of `self.w = None` in a constructor
                    row.path = key
                    self._register_weight(key, weight, row)
                return True
        return False

    def _adopt(self, key: str, variable: Variable) -> None:
        """Makes a weight of a variable that a user sets as an attribute; from then on it represents the parameter or buffer.

        It is the object that `weights` lists. One that belongs to something else, such as a metric, stays what it is.
        """
        if not variable.can_be_weight:
            return
        for fields in (self.__dict__, self._parameters, self._buffers, self._modules, self._rows):
            fields.pop(key, None)
        tensor = variable.parameter
        row = Weight(key, name=variable.name, regularizer=variable.regularizer, constraint=variable.constraint)
        if isinstance(tensor, nn.Parameter):
            self._parameters[key] = tensor
        else:
            self.register_buffer(key, tensor)
        self._rows[key] = row
        become_view(variable, self, row, "/".join(filter(None, (self._path_above, self.name, variable.name))))
        self._views["", key] = variable

    def _adopt_attribute(self, name: str, variable: Variable) -> None:
        """Makes a variable a weight, and the attribute of that name."""
        self._adopt(name, variable)
        set_unnoticed(self, **{name: variable})  # a parameter of the same name is behind it

    def initialize(self, **given: Any) -> None:
        """Initializes weights of the table: `initialize(kernel=self.kernel_initializer)`."""
        for name, initializer in given.items():
            view = getattr(self, name)
            if view is not None and initializers.are_left_out():
                view.parameter.detach().zero_()
            elif view is not None:
                view.assign(torch.as_tensor(initializer(tuple(view.shape), dtype=view.parameter.dtype)))

    # --------------------------------------------------------------------------------------------------- listing them

    def _view(self, row: Weight, owner: nn.Module | None = None, key: str = "") -> Any:
        """Returns the view of a weight of this layer, or of its bare child `owner`.

        It is cached as long as the module that holds the weight is the same. For a weight made by `add_weight` it is the
        weight itself.
        """
        layer, known = self._bare if owner is None else owner, (key, row.path)
        module, name = row.place(layer)
        made = module._parameters.get(name, module._buffers.get(name))
        if isinstance(made, (TrainableWeight, State)):
            return made
        if known not in self._views or self._views[known].holder() is not module:
            path = "/".join(part for part in (self._path_above, self.name, key, row.name) if part)
            self._views[known] = WeightView(layer, row, path)
        return self._views[known]

    def _own_rows(self) -> Iterator[Weight]:
        """Yields rows for the weights of the table, of `add_weight`, and plain parameters and buffers."""
        for row in self._table_rows():  # subclasses may make a weight themselves, or leave it out
            if self.built and row.name not in self._parameters and self._has(row):
                yield row
        yield from self._rows.values()
        made = reparametrizations(self._bare)
        hidden = {key for each in made.values() for key in each.registered()} | self._non_persistent_buffers_set
        known = {*self._rows, *(row.path for row in self._table_rows())}
        plain = [key for key, tensor in (*self._parameters.items(), *self._buffers.items()) if tensor is not None]
        for key in (*made, *plain):
            if key not in known and key not in hidden:
                yield Weight(key, name=key)

    def _has(self, row: Weight) -> bool:
        """Returns whether the tensor of a row exists: users may have replaced its module."""
        try:
            return row.tensor_of(self._bare) is not None
        except AttributeError:
            return False

    def _table_rows(self) -> tuple[Weight, ...]:
        cls: Any = type(self)
        return weight_table(cls)

    @property
    def _bare(self) -> nn.Module:
        """The module that holds the layer's own parameters and hooks: the layer, or the bare module that it wraps."""
        return self

    def _own_views(self) -> list[ListedWeight]:
        """Returns the layer's own weights, without those of sublayers, trainable ones first."""
        views = [self._view(row) for row in self._own_rows() if row.tensor_of(self._bare) is not None]
        views += self._foreign_views(views)
        return sorted(views, key=lambda view: not view.parameters())

    def _foreign_views(self, views: list[ListedWeight]) -> list[ListedWeight]:
        """Returns views of parameters that users have added to the native modules, such as those of adapters."""
        covered = {id(parameter) for view in views for parameter in view.parameters().values()}
        return [
            view
            for key in sorted(self._native_keys())
            if (child := self._modules.get(key)) is not None and not isinstance(child, WeightHolder)
            for view in self._module_views(key, child)
            if view.parameters() and not covered.issuperset(map(id, view.parameters().values()))
        ]

    def _native_keys(self) -> set[str]:
        """Returns the keys of the native modules: the children that hold weights of the table."""
        return {row.path.split(".")[0] for row in self._table_rows() if "." in row.path}

    @own_property
    def weights(self) -> list[ListedWeight]:
        """All weights in Keras' order: a layer's own, trainable ones first, then its sublayers'.

        If torch computes a weight from other parameters (parametrizations, pruning), it is the computed weight; the
        parameters are in `trainable_weights`.
        """
        return self._listed("weights")

    def _listed(self, kind: str) -> list[ListedWeight]:
        """Returns `weights`, or `variables`: in these, the layer's own seed states are behind its own weights."""
        own, native = self._own_views(), self._native_keys()
        own += self._seed_states() if kind == "variables" else []
        for key, child in self._layer_children():
            if key not in native or isinstance(child, WeightHolder):
                own += getattr(child, kind) if isinstance(child, WeightHolder) else self._module_views(key, child)
        return list({_parts_of(view): view for view in own}.values())

    def _seed_states(self) -> list[Any]:
        """Returns the variables that hold the state of the layer's own random numbers: those of its seed generators."""
        return seed_states_in(self)

    def _layer_children(self) -> Iterator[tuple[str, nn.Module]]:
        lists = parametrization_lists(self)
        yield from ((key, child) for key, child in self._modules.items() if child is not None and child is not lists)

    def _module_views(self, key: str, module: nn.Module) -> list[ListedWeight]:
        """Returns views of the weights of a bare torch module."""
        return [self._view(Weight(name, name=name), module, key) for name in weight_names(module)]

    @own_property
    def variables(self) -> list[ListedWeight]:
        """The weights, and the state of seed generators, which is not in files or `state_dict`."""
        return self._listed("variables")

    @own_property
    def trainable_weights(self) -> list[ListedWeight]:
        """The weights that training changes: one for each of `parameters()` that requires a gradient."""
        found: dict[int, ListedWeight] = {}
        for view in self.weights:
            computed = view.computed
            for name, parameter in view.parameters().items():
                if parameter.requires_grad and id(parameter) not in found:
                    found[id(parameter)] = view if computed is None else self._original_view(view, name)
        for name, parameter in self.named_parameters():  # all others
            if parameter.requires_grad and id(parameter) not in found:
                found[id(parameter)] = self._view(Weight(name, name=name))
        return [*found.values()]

    def _original_view(self, view: WeightView, name: str) -> WeightView:
        """Returns the view of a parameter that torch computes a weight from, by its name in the module of the weight."""
        owner, _, weight = view._row.path.rpartition(".")
        label = f"{view.name}_{name.removeprefix(f'{LISTS}.{weight}.').replace('.', '_')}"
        parameter = view.parameters()[name]
        layout = view.layout if parameter.shape == view.parameter.shape else SAME
        original: WeightView = self._view(
            Weight(f"{owner}.{name}" if owner else name, layout, name=label), view._layer, view.path
        )
        original.path, original._effective = f"{view.path.rpartition('/')[0]}/{label}", view
        return original

    @own_property
    def non_trainable_weights(self) -> list[ListedWeight]:
        """The weights that training does not change."""
        return [view for view in self.weights if not view.trainable]

    @own_property
    def trainable_variables(self) -> list[ListedWeight]:
        """The same as `trainable_weights`."""
        weights: list[ListedWeight] = self.trainable_weights
        return weights

    @own_property
    def non_trainable_variables(self) -> list[ListedWeight]:
        """The variables that training does not change."""
        return [view for view in self.variables if not view.trainable]

    def get_weights(self) -> list[np.ndarray]:
        """Returns the weights as arrays, in Keras' layout and order."""
        warn_of_computed(self, f"get_weights() of {self.name}")
        return [view.numpy().copy() for view in self.weights]

    @torch.no_grad()
    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all weights, given in Keras' layout and order.

        A weight that torch computes from others (parametrizations, pruning) is set through their `right_inverse`.

        Raises: ValueError: if their number or a shape differs, or a parametrization has no `right_inverse`; nothing is
            changed then.
        """
        views = self.weights
        if len(weights) != len(views):
            raise ValueError(f"{self.name} has {len(views)} weights; set_weights() got {len(weights)}.")
        for view, weight in zip(views, weights, strict=True):
            if tuple(np.shape(weight)) != tuple(view.shape):
                raise ValueError(f"{view.path} has shape {tuple(view.shape)}; set_weights() got {np.shape(weight)}.")
        computed = [made for view in views if (made := view.computed) is not None]
        tensors = [tensor for made in computed for tensor in made.tensors()]
        before = [tensor.clone() for tensor in tensors]
        try:
            for made, path in ((view.computed, view.path) for view in views):
                if made is not None:
                    made.check_invertible(path)
            for view, weight in sorted(zip(views, weights, strict=True), key=lambda pair: pair[0].computed is None):
                view.assign(weight)  # computed ones first, since they may refuse the value
        except ValueError:
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)
            raise

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Loads weights as torch does; with `assign=True`, optimizers keep their state for the new parameters."""
        with noting_replacements(self):
            return super().load_state_dict(state_dict, strict, assign)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        with noting_replacements(self):
            return super()._apply(*args, **kwargs)

    # ---------------------------------------------------------------------------------------------------- Keras' files

    def save_own_variables(self, store: Any) -> None:
        """Stores the layer's own weights, without those of sublayers, in a dict for a file: `"0"`, `"1"`, ...

        Override it together with `load_own_variables` to customise how the layer's state is saved.
        """
        for number, view in enumerate(self._saved_views()):
            store[str(number)] = view

    def load_own_variables(self, store: Any) -> None:
        """Loads the layer's own weights from a dict filled by `save_own_variables`.

        Raises: ValueError: if their number or a shape differs.
        """
        views = self._saved_views()
        if len(store) != len(views):
            raise ValueError(
                f"{self.name} has {len(views)} weights, {[view.name for view in views]}; the file has {len(store)}."
            )
        assign_all(self.name, views, store)

    def _saved_views(self) -> list[ListedWeight]:
        """Returns the weights that are saved for the layer, in order."""
        return self._own_views()

    def _saved_children(self) -> list[tuple[str, Any]]:
        """Returns the children to save, with their names: sublayers, bare modules, lists and dicts of them.

        They are in the order of Keras' walk over attributes, private ones last.
        """
        elsewhere = self._native_keys().union(*self._in_containers.values())
        found = {key: child for key, child in self._modules.items() if child is not None and key not in elsewhere}
        found.update((attribute, vars(self)[attribute]) for attribute in self._in_containers)
        found = {self._saved_names.get(name, name): child for name, child in found.items()}
        return sorted(found.items(), key=lambda item: (item[0].startswith("_"), item[0]))

    def count_params(self) -> int:
        """Returns the total number of scalars in the weights.

        Raises: ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(f"{self.name} is not built yet, so its weights cannot be counted; call build() first.")
        return sum(view.parameter.numel() for view in self.weights)

    # --------------------------------------------------------------------------------------------------- freezing them

    @property
    def trainable(self) -> bool:
        """True if training changes the weights.

        Freezing a layer freezes all layers inside it; unfreezing it keeps those frozen that were frozen themselves.
        """
        return self._trainable and not self._frozen_above

    @trainable.setter
    def trainable(self, value: bool) -> None:
        set_unnoticed(self, _trainable=bool(value), _frozen_above=False)
        sync_trainable(self)

    def _keep_methods(self) -> None:
        if self._rows:
            attach_weights(self, self._rows)


def _parts_of(view: Any) -> Any:
    """Returns the ids of the tensors that a variable consists of; one of its own is replaced at each assignment."""
    if getattr(view, "can_be_weight", False):
        return id(view)
    return tuple(map(id, view.parameters().values())) or id(view.parameter)


def _with_positional(args: tuple[Any, ...], **keywords: Any) -> list[Any]:
    """Returns the keyword arguments' values, in order, with those that were passed by position in their places."""
    if len(args) > len(keywords):
        raise TypeError(f"add_weight() takes {', '.join(keywords)} by position, and all else by name; got {len(args)}.")
    if args and isinstance(args[0], str):
        raise ValueError(f"add_weight() takes its name as a keyword: add_weight(shape=..., name={args[0]!r}).")
    values = dict(keywords)
    for name, value in zip(keywords, args, strict=False):
        if keywords[name] is not None:
            raise ValueError(f"add_weight() got {name} twice: {value!r} by position and {keywords[name]!r} by name.")
        values[name] = value
    return [*values.values()]


def sync_trainable(module: nn.Module, frozen_above: bool = False) -> None:
    """Makes every parameter's `requires_grad` follow the flags of its layer and of the layers above.

    Parameters frozen by `trainable = False` are recorded, so that unfreezing affects only these.
    """
    if isinstance(module, WeightHolder):
        set_unnoticed(module, _frozen_above=frozen_above)
        frozen_above = not module.trainable
    noted: set[str] = module.__dict__.setdefault("_frozen_parameters", set())  # also on plain torch modules
    for key, parameter in module._parameters.items():
        if parameter is not None and frozen_above and parameter.requires_grad:
            parameter.requires_grad_(False)
            noted.add(key)
        elif parameter is not None and not frozen_above and key in noted:
            parameter.requires_grad_(True)
            noted.discard(key)
    for child in module.children():
        sync_trainable(child, frozen_above)
