"""What holds weights: makes them, lists them in Keras' order, freezes and thaws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from kstyle_torch import config, initializers, regularizers
from kstyle_torch.constraints import get as get_constraint
from kstyle_torch.initializers import DType, as_dtype
from kstyle_torch.layers.walk import set_unnoticed
from kstyle_torch.layers.weights import State, TrainableWeight, Weight, WeightView, keep_methods, weight_table
from kstyle_torch.serialization import reject_unknown


class WeightHolder(nn.Module):
    """The half of a layer that is about its weights; the other half, `Layer`, is about building and calling."""

    _path_above = ""  # names of the layers that it is a part of
    _saved_class: ClassVar[str] = ""  # what Keras calls the class, where it differs
    _saved_names: ClassVar[dict[str, str]] = {}  # attribute -> what Keras calls it, where it differs

    if TYPE_CHECKING:  # nn.Module says that every unknown attribute is a tensor or a module

        def __getattr__(self, name: str) -> Any: ...

    # ---------------------------------------------------------------------------------------------------- making them

    def add_weight(
        self,
        shape: Sequence[int] | None = None,
        initializer: Any = None,
        dtype: DType = None,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Makes a weight and registers it: an `nn.Parameter`, or a buffer where it is not trainable.

        Args:
            shape: Its shape; a scalar if None.
            initializer: Initializer or its name; glorot_uniform for floats, zeros otherwise, if None.
            dtype: The layer's if None.
            trainable: Whether training changes it.
            regularizer: Penalty on it.
            constraint: What it is projected to after each step.
            name: For `layer.weights`.
        Returns: The tensor, with the methods `assign`, `assign_add`, `assign_sub` and `numpy` besides torch's.
        """
        reject_unknown(self, {key: value for key, value in kwargs.items() if key not in ("autocast", "layout")})
        wanted = self._dtype if dtype is None else as_dtype(dtype)
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        make = initializers.get(initializer or ("glorot_uniform" if wanted.is_floating_point else "zeros"))
        make = initializers.Zeros() if initializers.are_left_out() else make
        values = torch.as_tensor(make(shape, dtype=wanted)).to(device=config.device(), dtype=wanted)  # type: ignore[misc]
        weight: Any = TrainableWeight(values) if trainable else values.as_subclass(State)
        key = self._free_key(name or "weight")
        row = Weight(
            key,
            name=name or "variable",
            regularizer=regularizers.get(regularizer),
            constraint=get_constraint(constraint),
        )
        self._register_weight(key, weight, row)
        return weight

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

    def _claim_weight(self, key: str, weight: Any) -> bool:
        """Moves a weight of `add_weight` to the attribute that the user gives it; whether it was one."""
        for old, row in list(self._rows.items()):
            if self._parameters.get(old, self._buffers.get(old)) is weight:
                if old != key:
                    del self._rows[old]
                    self._parameters.pop(old, None)
                    self._buffers.pop(old, None)
                    row.path = key
                    self._register_weight(key, weight, row)
                return True
        return False

    def initialize(self, **given: Any) -> None:
        """Fills weights of the table with values of initializers: `initialize(kernel=self.kernel_initializer)`."""
        for name, initializer in given.items():
            view = getattr(self, name)
            if view is not None and initializers.are_left_out():
                view.value.detach().zero_()
            elif view is not None:
                view.assign(torch.as_tensor(initializer(tuple(view.shape), dtype=view.value.dtype)))

    # --------------------------------------------------------------------------------------------------- listing them

    def _view(self, row: Weight, owner: nn.Module | None = None, key: str = "") -> WeightView:
        """The view of a weight of this layer, or of its bare child `owner`; always the same object."""
        known = (key, row.path)
        if known not in self._views:
            path = "/".join(part for part in (self._path_above, self.name, key, row.name) if part)
            self._views[known] = WeightView(owner or self, row, path)
        return self._views[known]

    def _own_rows(self) -> Iterator[Weight]:
        """The table's rows, what `add_weight` made, and plain parameters and buffers."""
        for row in self._table_rows():  # a subclass may make a weight itself, or build without it
            if self.built and row.name not in self._parameters and hasattr(self, row.path.partition(".")[0]):
                yield row
        yield from self._rows.values()
        hidden = self._non_persistent_buffers_set
        for key, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None and key not in self._rows and key not in hidden:
                if not any(row.path == key for row in self._table_rows()):
                    yield Weight(key, name=key)

    def _table_rows(self) -> tuple[Weight, ...]:
        cls: Any = type(self)
        return weight_table(cls)

    def _own_views(self) -> list[WeightView]:
        """The layer's own weights, its sublayers' not among them, trainable ones first."""
        views = [self._view(row) for row in self._own_rows() if row.tensor_of(self) is not None]
        return sorted(views, key=lambda view: not isinstance(view.value, nn.Parameter))

    def _native_keys(self) -> set[str]:
        """The children that hold weights of the table: the native modules."""
        return {row.path.split(".")[0] for row in self._table_rows() if "." in row.path}

    @property
    def weights(self) -> list[WeightView]:
        """All weights in Keras' order: a layer's own, trainable ones first, then its sublayers'."""
        own, native = self._own_views(), self._native_keys()
        for key, child in self._layer_children():
            if key not in native:
                own += child.weights if isinstance(child, WeightHolder) else self._module_views(key, child)
        return list({id(view.value): view for view in own}.values())

    def _layer_children(self) -> Iterator[tuple[str, nn.Module]]:
        yield from ((key, child) for key, child in self._modules.items() if child is not None)

    def _module_views(self, key: str, module: nn.Module) -> list[WeightView]:
        """Views of what a bare torch module holds."""
        parameters = [name for name, _ in module.named_parameters()]
        buffers = [name for name in module.state_dict() if name not in parameters]
        return [self._view(Weight(name, name=name), module, key) for name in parameters + buffers]

    @property
    def variables(self) -> list[WeightView]:
        """The same as `weights`."""
        return self.weights

    @property
    def trainable_weights(self) -> list[WeightView]:
        """The weights that training changes; none if the layer is frozen."""
        return [view for view in self.weights if view.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[WeightView]:
        """The weights that training leaves alone."""
        return [view for view in self.weights if not view.trainable] if self.trainable else self.weights

    @property
    def trainable_variables(self) -> list[WeightView]:
        """The same as `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[WeightView]:
        """The same as `non_trainable_weights`."""
        return self.non_trainable_weights

    def get_weights(self) -> list[np.ndarray]:
        """The weights as arrays, in Keras' layout and order."""
        return [view.numpy().copy() for view in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all weights, given in Keras' layout and order.

        Raises: ValueError: if their number or a shape differs; nothing is changed then.
        """
        views = self.weights
        if len(weights) != len(views):
            raise ValueError(f"{self.name} has {len(views)} weights; set_weights() got {len(weights)}.")
        for view, weight in zip(views, weights, strict=True):
            if tuple(np.shape(weight)) != tuple(view.shape):
                raise ValueError(f"{view.path} has shape {tuple(view.shape)}; set_weights() got {np.shape(weight)}.")
        for view, weight in zip(views, weights, strict=True):
            view.assign(weight)

    # ---------------------------------------------------------------------------------------------------- Keras' files

    def save_own_variables(self, store: Any) -> None:
        """Puts the layer's own weights, its sublayers' not among them, into a dict for a file: `"0"`, `"1"`, ...

        Override it, and `load_own_variables`, to say yourself how the layer's state is saved.
        """
        for number, view in enumerate(self._saved_views()):
            store[str(number)] = view

    def load_own_variables(self, store: Any) -> None:
        """Takes the layer's own weights from what `save_own_variables` put into a dict.

        Raises: ValueError: if their number or a shape differs.
        """
        views = self._saved_views()
        if len(store) != len(views):
            raise ValueError(
                f"{self.name} has {len(views)} weights, {[view.name for view in views]}; the file has {len(store)}."
            )
        for number, view in enumerate(views):
            view.assign(store[str(number)])

    def _saved_views(self) -> list[WeightView]:
        """The weights that files hold for the layer, in order."""
        return self._own_views()

    def _saved_children(self) -> list[tuple[str, Any]]:
        """What is saved with the layer, under which name: sublayers, bare modules, lists and dicts of them.

        In the order in which Keras walks over attributes, private ones last.
        """
        elsewhere = self._native_keys().union(*self._in_containers.values())
        found = {key: child for key, child in self._modules.items() if child is not None and key not in elsewhere}
        found.update((attribute, vars(self)[attribute]) for attribute in self._in_containers)
        found = {self._saved_names.get(name, name): child for name, child in found.items()}
        return sorted(found.items(), key=lambda item: (item[0].startswith("_"), item[0]))

    def count_params(self) -> int:
        """How many numbers the weights hold.

        Raises: ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(f"{self.name} is not built yet, so its weights cannot be counted; call build() first.")
        return sum(view.value.numel() for view in self.weights)

    # --------------------------------------------------------------------------------------------------- freezing them

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights. Freezing a layer freezes all below it; thawing it leaves frozen what
        was frozen below."""
        return self._trainable and not self._frozen_above

    @trainable.setter
    def trainable(self, value: bool) -> None:
        set_unnoticed(self, _trainable=bool(value), _frozen_above=False)
        sync_trainable(self)

    def _keep_methods(self) -> None:
        if self._rows:
            keep_methods(self._parameters, set(self._rows), TrainableWeight)
            keep_methods(self._buffers, set(self._rows), State)


def sync_trainable(module: nn.Module, frozen_above: bool = False) -> None:
    """Makes every parameter's `requires_grad` follow the flags of its layer and of the layers above.

    What a layer's `trainable = False` switched off is noted, so that thawing switches on that and no more.
    """
    if isinstance(module, WeightHolder):
        set_unnoticed(module, _frozen_above=frozen_above)
        frozen_above = not module.trainable
    noted: set[str] = module.__dict__.setdefault("_frozen_parameters", set())  # foreign modules too
    for key, parameter in module._parameters.items():
        if parameter is not None and frozen_above and parameter.requires_grad:
            parameter.requires_grad_(False)
            noted.add(key)
        elif parameter is not None and not frozen_above and key in noted:
            parameter.requires_grad_(True)
            noted.discard(key)
    for child in module.children():
        sync_trainable(child, frozen_above)
