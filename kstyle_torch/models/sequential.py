"""The sequential model: a chain of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from kstyle_torch import budget, tree
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.config_form import keras_form
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.paths import building_inside, take_path
from kstyle_torch.layers.input_layer import InputLayer, input_tensor
from kstyle_torch.layers.preprocessing.data_layer import as_array
from kstyle_torch.models.child_names import free_key
from kstyle_torch.models.model import GRAPH_CALLS, Model, is_graph_input
from kstyle_torch.registry import HOMES
from kstyle_torch.serialization import custom_object_scope, deserialize_keras_object, serialize_keras_object
from kstyle_torch.symbolic.graph import trace
from kstyle_torch.symbolic.infer import takes_text
from kstyle_torch.symbolic.tensor import is_symbolic, is_text, record


@layer_registry.register()
class Sequential(Model):
    """Model of layers that are called in turn. Any `nn.Module` can be one of them.

    It is built as soon as the shape of its input is known: from a leading `Input`, from `input_shape=` of the first
    layer, or from the first data.

    Args:
        layers: List of layers and `nn.Module`s; `add` appends to it.
        trainable: Whether training changes the weights.
        name: Unique among models; made from the class if None.
    Raises: ValueError: for an object that is not a layer, or a layer that cannot be called on the previous output.

    Example:
        >>> model = Sequential([Input((3,)), Dense(4, activation="relu"), Dense(1)])
        >>> model(torch.ones(2, 3)).shape
        torch.Size([2, 1])
    """

    _resolves_mode = True
    _autocast = False  # each input has the dtype of its InputLayer
    _takes_one_input = True

    def __init__(
        self, layers: Sequence[Any] | None = None, trainable: bool = True, name: str | None = None, **kwargs: Any
    ):
        super().__init__(name=name, trainable=trainable, **kwargs)
        set_unnoticed(self, _chain=[], _input_layer=None, _tensors=[])
        for layer in layers or ():
            self._append(layer)
        self._connect()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Appends a layer.

        Args:
            rebuild: Accepted for compatibility with Keras; other layers are not called again.
        Raises: ValueError: for an object that is not a layer; if it cannot be called on the previous output, or its name
            is taken. The model is not changed then.
        """
        self.follow_children()
        before = list(self._modules.items()), list(self._chain), self._input_layer
        self._append(layer)
        try:
            self._connect()
        except Exception:
            self._modules.clear()
            self._modules.update(before[0])
            set_unnoticed(self, _chain=before[1], _input_layer=before[2])
            self._connect()
            raise

    def pop(self, rebuild: bool = True) -> Any:
        """Removes and returns the last layer.

        Raises: IndexError: if there are no layers.
        """
        self.follow_children()
        if not self._chain:
            raise IndexError(f"{self.name} has no layer to remove.")
        layer = self._chain.pop()
        if not any(other is layer for other in self._chain):
            key = next(key for key, child in self._modules.items() if child is layer)
            del self._modules[key]
        self._connect()
        return layer

    @property
    def layers(self) -> list[Any]:
        """The layers, without the InputLayer."""
        self.follow_children()
        return list(self._chain)

    def _append(self, layer: Any) -> None:
        if is_graph_input(layer):
            layer = layer.source
        if isinstance(layer, InputLayer):
            self._set_input(layer)
            return
        if isinstance(layer, type) and issubclass(layer, nn.Module):
            raise ValueError(f"Sequential takes layers, not classes; pass {layer.__name__}(...).")
        if not isinstance(layer, nn.Module):
            raise ValueError(f"Sequential takes layers and torch modules; got {layer!r}.")
        if not self._chain and self._input_layer is None and (shape := _shape_wanted(layer)) is not None:
            self._set_input(InputLayer(batch_shape=shape))
        name = getattr(layer, "name", None)
        if isinstance(name, str) and any(
            getattr(other, "name", None) == name and other is not layer for other in self._chain
        ):
            raise ValueError(f"Two layers of {self.name} have the name {name!r}; names must be unique.")
        if not any(other is layer for other in self._chain):
            self.add_module(free_key(self, layer), layer)
        self._chain.append(layer)

    def _set_input(self, layer: InputLayer) -> None:
        if self._chain or self._input_layer is not None:
            raise ValueError(f"{self.name}: an Input must come first, but the model already has an Input or a layer.")
        set_unnoticed(self, _input_layer=layer)
        others = dict(self._modules)
        self._modules.clear()
        self.add_module(free_key(self, layer), layer)
        self._modules.update(others)

    def _connect(self) -> None:
        """Calls the layers on a symbolic input, if its shape is known, and generates the forward function."""
        if self._input_layer is None or not self._chain:
            set_unnoticed(
                self,
                graph=None,
                code=None,
                _emitted=None,
                _text_part=None,
                _device_graph=None,
                inputs=None,
                outputs=None,
                built=False,
                _tensors=[],
            )
            return
        take_path(self)
        tensors = self._tensors
        if not tensors or tensors[0].source is not self._input_layer:
            tensors[:] = [input_tensor(self._input_layer)]
        del tensors[len(self._chain) + 1 :]
        for layer in self._chain[len(tensors) - 1 :]:
            with building_inside(self):
                x = layer(tensors[-1]) if isinstance(layer, Layer) else record(layer, (tensors[-1],), {})
            if len(tree.flatten(x)) != 1:
                raise ValueError(
                    f"{self.name}: every layer must return one tensor; {layer} returns {len(tree.flatten(x))}."
                )
            tensors.append(x)
        graph = trace(tensors[0], tensors[-1], [self._input_layer])
        set_unnoticed(self, graph=graph, built=True)
        self._set_ends(tensors[0], tensors[-1])
        self._emit()

    def _replace(self, instead: dict[int, nn.Module]) -> None:
        before = list(self._chain), list(self._tensors)
        set_unnoticed(self, _chain=[instead.get(id(layer), layer) for layer in self._chain])
        del self._tensors[1:]
        try:
            self._connect()
        except Exception:
            set_unnoticed(self, _chain=before[0], _tensors=before[1])
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        old = self._modules.get(name)
        super().__setattr__(name, value)
        if self.graph is None and old is not None and isinstance(value, nn.Module):
            set_unnoticed(self, _chain=[value if layer is old else layer for layer in self._chain])

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights for an input of this shape, with None for the batch."""
        if self._input_layer is not None:
            return
        if input_shape is None:
            raise ValueError(f"{self.name}: build() needs an input shape, such as (None, 10).")
        if not self._chain:
            raise ValueError(f"{self.name} has no layers; add() some before it is built.")
        if isinstance(input_shape, list) and all(isinstance(shape, (list, tuple)) for shape in input_shape):
            super().build(input_shape)  # several inputs for the first layer, without a graph
            return
        self._build_for_input(InputLayer(batch_shape=(None, *tuple(input_shape)[1:])))

    def _build_for_input(self, layer: InputLayer) -> None:
        """Puts an InputLayer in front, and creates the weights."""
        chain = self._chain
        set_unnoticed(self, _chain=[])
        try:
            self._set_input(layer)
        finally:
            set_unnoticed(self, _chain=chain)
        try:
            self._connect()
        except Exception:
            key = next(key for key, child in self._modules.items() if child is self._input_layer)
            del self._modules[key]
            set_unnoticed(self, _input_layer=None)
            raise

    def get_config(self) -> dict[str, Any]:
        """Returns the layers as plain data, for `from_config`.

        Raises: TypeError: if a layer has no config.
        """
        self.follow_children()
        if type(self).__init__ is not Sequential.__init__:
            return super().get_config()
        layers = ([] if self._input_layer is None else [self._input_layer]) + self._chain
        config = keras_form(self, {})
        config["layers"] = [serialize_keras_object(layer) for layer in layers]
        if self._input_layer is not None:
            config["build_input_shape"] = self._input_layer.batch_shape
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns a model with the same layers and new weights.

        Args:
            custom_objects: `{name: class or function}` of your own that it refers to.
        """
        if "layers" not in config:
            return super().from_config(config, custom_objects)
        with budget.in_force(config), custom_object_scope(custom_objects):
            layers = [deserialize_keras_object(layer) for layer in config["layers"]]
            return cls(layers, name=config.get("name"), trainable=config.get("trainable", True))

    def _is_graph(self) -> bool:
        return True

    @property
    def _takes_text(self) -> bool:
        waits = self._input_layer is None and bool(self._chain) and takes_text(self._chain[0])
        return waits or self._text_part is not None

    def without_text(self, x: Any, lazily: bool = False, on_host: bool = False) -> Any:
        """Returns x with numbers in the place of text; see `Model.without_text`. Text builds a model that begins with it."""
        if self._input_layer is None and self._takes_text and (shape := _shape_of_text(x)) is not None:
            self._build_for_input(InputLayer(batch_shape=(None, *shape[1:]), dtype="string"))
        return super().without_text(x, lazily, on_host)

    def _slow_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._input_layer is None and args and is_text(args[0]) and self._takes_text:
            self._build_for_input(InputLayer(batch_shape=args[0].shape, dtype="string"))
        return super()._slow_call(args, kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """Returns the output for a batch of inputs, with its mask (batch, steps) if it has one.

        Args:
            training: The mode; that of the call around this one if None.
        """
        if inputs.__class__ is Proxy:
            return super().call(inputs)  # raises the error for torch.fx
        if self.graph is not None or kwargs:
            return super().call(inputs, training, mask, **kwargs)
        for layer in self._chain:  # no layers, or an unknown input shape
            inputs = (
                layer(inputs) if training is None or not isinstance(layer, Layer) else layer(inputs, training=training)
            )
        return inputs

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tensors": []}

    def __len__(self) -> int:
        return len(self._chain)


def _shape_of_text(x: Any) -> tuple[int, ...] | None:
    """Returns the shape of text; None for other data."""
    if isinstance(x, Tensor) or is_symbolic(x):
        return None
    try:
        array = as_array(x)
    except ValueError:  # lists of different lengths
        return None
    is_text = array.dtype.kind in "US" or any(isinstance(each, (str, bytes)) for each in array.ravel()[:1].tolist())
    return tuple(array.shape) if is_text and array.ndim else None


def _shape_wanted(layer: Any) -> Any:
    """Returns the batch shape that a first layer declares; None if it does not."""
    if getattr(layer, "_batch_input_shape", None) is not None:
        return layer._batch_input_shape
    if isinstance(layer, Model) and layer.graph is not None and len(layer.graph.sources) == 1:
        return layer.graph.specs[tree.flatten(layer.graph.inputs)[0].index].shape
    if isinstance(layer, nn.Linear):
        return None if layer.in_features == 0 else (None, layer.in_features)
    return None


GRAPH_CALLS.add(Sequential.forward)
HOMES[Sequential] = "keras"  # module in Keras' configs
