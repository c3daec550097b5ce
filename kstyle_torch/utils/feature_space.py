"""FeatureSpace: encoding of tables of numbers, categories and texts as vectors, with a layer for each column."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kstyle_torch import config, serialization, tree
from kstyle_torch.layer.base import Layer
from kstyle_torch.layers.input_layer import Input
from kstyle_torch.layers.preprocessing.category_encoding import CategoryEncoding
from kstyle_torch.layers.preprocessing.data_layer import DataLayer, as_array
from kstyle_torch.layers.preprocessing.discretization import Discretization
from kstyle_torch.layers.preprocessing.hashed_crossing import HashedCrossing
from kstyle_torch.layers.preprocessing.hashing import Hashing
from kstyle_torch.layers.preprocessing.integer_lookup import IntegerLookup
from kstyle_torch.layers.preprocessing.lookup import IndexLookup
from kstyle_torch.layers.preprocessing.normalization import Normalization
from kstyle_torch.layers.preprocessing.rescaling import Rescaling
from kstyle_torch.layers.preprocessing.string_lookup import StringLookup
from kstyle_torch.layers.preprocessing.text_vectorization import TextVectorization
from kstyle_torch.ops.joining import concatenate
from kstyle_torch.ops.operation import as_tensor
from kstyle_torch.registry import did_you_mean, unique_name
from kstyle_torch.saving.api import save_model
from kstyle_torch.symbolic.tensor import SymbolicTensor, is_symbolic

spaces = serialization.registry("utility", "keras.utils")
parts = serialization.registry("part of a FeatureSpace", "keras.src.layers.preprocessing.feature_space")

Number = float  # a method of FeatureSpace hides the type


@parts.register()
class Cross(serialization.Configurable):
    """Features that are hashed together.

    Args:
        feature_names: Their names.
        crossing_dim: Number of bins.
        output_mode: `"one_hot"`, or `"int"` for indices of bins.
    Raises: ValueError: for another mode.
    """

    def __init__(self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"):
        self.output_mode = _one_of("output_mode", output_mode, ("int", "one_hot"))
        self.feature_names, self.crossing_dim = tuple(feature_names), crossing_dim

    @property
    def name(self) -> str:
        """The names of the features, joined: `a_X_b`."""
        return "_X_".join(self.feature_names)


@parts.register()
class Feature(serialization.Configurable):
    """A column and its encoding.

    Args:
        dtype: Dtype of the column; `"string"` for text.
        preprocessor: Layer that encodes it.
        output_mode: `"one_hot"` to convert integers from the layer to vectors; `"int"` or `"float"` for no conversion.
    Raises: ValueError: for another mode.
    """

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str):
        self.output_mode = _one_of("output_mode", output_mode, ("int", "one_hot", "float"))
        self.dtype, self.preprocessor = dtype, preprocessor


@parts.register()
class TFDIdentity(DataLayer):
    """Identity layer for plain numbers; its name is Keras', for files."""

    def call(self, inputs: Tensor) -> Tensor:
        """Returns the inputs."""
        return inputs


@spaces.register()
class FeatureSpace(Layer):
    """Encoder of tables: columns are encoded by layers, crossed, and concatenated to vectors.

    Text stays on the host until it is encoded, so spaces with text work on data, but not inside a graph.

    Args:
        features: Name of a column -> its kind: a name such as `"float_normalized"`, or the result of the method of that name:
            `float`, `float_rescaled`, `float_normalized`, `float_discretized`, `integer_categorical`, `integer_hashed`,
            `string_categorical`, `string_hashed`, or `feature` for a layer of your own.
        output_mode: `"concat"` for one vector per row, features in alphabetical order, followed by crosses; or `"dict"`.
        crosses: Tuples of names, or results of `cross`.
        crossing_dim: Bins of crosses given as tuples.
        hashing_dim: Bins of hashed features given by name.
        num_discretization_bins: Bins of discretized features given by name.
        name: Name of the layer.
    Raises: ValueError: if there are no features, or for unknown kinds, names and modes.

    Example:
        >>> space = FeatureSpace({"size": "float", "color": "string_categorical"})
        >>> space.adapt({"size": [1.0, 2.0, 3.0], "color": ["red", "blue", "red"]})
        >>> space({"size": [5.0, 4.0], "color": ["blue", "red"]})
        tensor([[0., 0., 1., 5.],
                [0., 1., 0., 4.]])
    """

    _has_precision = _autocast = False  # the inner layers handle it

    @classmethod
    def cross(cls, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot") -> Cross:
        """Returns features that are hashed together into `crossing_dim` bins; `output_mode` is `"one_hot"` or `"int"`."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Any, output_mode: str) -> Feature:
        """Returns a feature that goes through a layer of your own, see `Feature`."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:  # type: ignore[override]
        """Returns a feature of plain numbers."""
        return Feature("float32", TFDIdentity(dtype="float32", name=_layer_name(name, "float")), "float")

    @classmethod
    def float_rescaled(cls, scale: Number = 1.0, offset: Number = 0.0, name: str | None = None) -> Feature:
        """Returns a feature of numbers, rescaled to `scale * x + offset`."""
        return Feature("float32", Rescaling(scale, offset, name=_layer_name(name, "float_rescaled")), "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Returns a feature of numbers, normalized to mean 0 and variance 1."""
        return Feature("float32", Normalization(axis=-1, name=_layer_name(name, "float_normalized")), "float")

    @classmethod
    def float_discretized(
        cls,
        num_bins: int | None,
        bin_boundaries: Sequence[Number] | None = None,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Returns a feature of numbers, discretized into bins.

        Args:
            num_bins: Number of bins that `adapt` determines; None if boundaries are passed.
            bin_boundaries: Boundaries of the bins.
            output_mode: `"one_hot"`, or `"int"` for indices of bins.
            name: Name of the layer.
        """
        layer = Discretization(bin_boundaries, num_bins, name=_layer_name(name, "float_discretized"))
        return Feature("float32", layer, output_mode)

    @classmethod
    def integer_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Returns a feature of integers that are looked up in a vocabulary, see `IntegerLookup`."""
        layer = IntegerLookup(max_tokens, num_oov_indices, name=_layer_name(name, "integer_categorical"))
        return Feature("int32", layer, output_mode)

    @classmethod
    def string_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:
        """Returns a feature of texts that are looked up in a vocabulary, see `StringLookup`."""
        layer = StringLookup(max_tokens, num_oov_indices, name=_layer_name(name, "string_categorical"))
        return Feature("string", layer, output_mode)

    @classmethod
    def string_hashed(cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None) -> Feature:
        """Returns a feature of texts that are hashed into bins."""
        return Feature("string", Hashing(num_bins, name=_layer_name(name, "string_hashed")), output_mode)

    @classmethod
    def integer_hashed(cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None) -> Feature:
        """Returns a feature of integers that are hashed into bins."""
        return Feature("int32", Hashing(num_bins, name=_layer_name(name, "integer_hashed")), output_mode)

    def __init__(
        self,
        features: dict[str, Any],
        output_mode: str = "concat",
        crosses: Sequence[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not features:
            raise ValueError(f"FeatureSpace needs features; got {features!r}.")
        self.output_mode = _one_of("output_mode", output_mode, ("dict", "concat"))
        self.crossing_dim, self.hashing_dim = crossing_dim, hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.features = {name: self._as_feature(name, given) for name, given in features.items()}
        self.crosses = [self._as_cross(given) for given in crosses or ()]
        self.preprocessors = {name: feature.preprocessor for name, feature in self.features.items()}
        self.crossers = {cross.name: HashedCrossing(cross.crossing_dim, name=cross.name) for cross in self.crosses}
        self.one_hot_encoders: dict[str, CategoryEncoding] = {}
        self.encoded_features: Any = None
        self._inputs: dict[str, SymbolicTensor] | None = None
        self._is_adapted = False

    def _as_feature(self, name: str, given: Any) -> Feature:
        if isinstance(given, dict):
            given = serialization.deserialize_keras_object(given)
        if isinstance(given, Feature):
            return given
        sizes = {
            "float_discretized": self.num_discretization_bins,
            "integer_hashed": self.hashing_dim,
            "string_hashed": self.hashing_dim,
        }
        kinds = ("float", "float_rescaled", "float_normalized", "integer_categorical", "string_categorical", *sizes)
        if given not in kinds:
            raise ValueError(f"FeatureSpace: the kind of {name!r} is {given!r}.{did_you_mean(str(given), kinds)}")
        size = {"num_bins": sizes[given]} if given in sizes else {}
        return getattr(self, given)(**size, name=name)

    def _as_cross(self, given: Any) -> Cross:
        if isinstance(given, dict):
            given = serialization.deserialize_keras_object(given)
        if not isinstance(given, Cross):
            if not self.crossing_dim:
                raise ValueError(f"FeatureSpace: crosses need a crossing_dim; got {self.crossing_dim!r}.")
            given = Cross(given, self.crossing_dim)
        for name in given.feature_names:
            if name not in self.features:
                raise ValueError(
                    f"FeatureSpace: the cross {given.name!r} contains {name!r}, which is not a feature."
                    f"{did_you_mean(name, self.features)}"
                )
        return given

    # --------------------------------------------------------------------------------------------------------- adapting

    def adapt(self, dataset: Any) -> None:
        """Learns vocabularies, bins, means and variances from data.

        Args:
            dataset: Dict of columns; or an iterable, torch `Dataset` or `DataLoader` of dicts, each a row or a batch.
        Raises: ValueError: for data of another form.
        """
        batches = _dicts(dataset)
        for name in self._adaptable():
            columns = (_rows(batch[name]) for batch in batches)
            self.preprocessors[name].adapt(next(columns) if isinstance(dataset, dict) else columns)
        self._is_adapted = True
        self.one_hot_encoders.clear()
        self.encoded_features = None
        self.built = True

    def _adaptable(self) -> list[str]:
        """Returns the names of the features whose layers learn from data."""
        return [name for name, layer in self.preprocessors.items() if _learns(layer)]

    def _check_adapted(self) -> None:
        if not self._is_adapted and (names := self._adaptable()):
            raise ValueError(f"{self.name} must be adapted first; call adapt(data), which {', '.join(names)} need.")

    # ---------------------------------------------------------------------------------------------------------- calling

    def __call__(self, data: Any) -> Any:
        """Encodes rows.

        Args:
            data: Dict of columns, (batch,) or (batch, 1), or of single values; of symbolic tensors too.
        Returns: (batch, size) in mode "concat"; a dict of vectors in mode "dict"; without the batch for single values.
        Raises: ValueError: for other data, or before `adapt`. KeyError: if a column is missing or unknown.
        """
        self._check_adapted()
        if not isinstance(data, dict):
            raise ValueError(f"{self.name} encodes a dict of columns; got {type(data).__name__}.")
        if wrong := data.keys() ^ self.features.keys():
            raise KeyError(f"{self.name} has the features {[*self.features]}; {sorted(wrong)} are missing or unknown.")
        columns = {name: value if is_symbolic(value) else as_array(value) for name, value in data.items()}
        is_row = any(column.ndim == 0 for column in columns.values())
        columns = {name: column if is_symbolic(column) else _rows(column) for name, column in columns.items()}
        encoded = self._encode(columns)
        return tree.map_structure(lambda each: each.squeeze(0), encoded) if is_row else encoded

    def _encode(self, columns: dict[str, Any]) -> Any:
        device = next((each.device for each in columns.values() if isinstance(each, Tensor)), config.device())
        found = {name: self.preprocessors[name](self._cast(name, column)) for name, column in columns.items()}
        found = {name: each.to(device) if isinstance(each, Tensor) else each for name, each in found.items()}
        for cross in self.crosses:
            found[cross.name] = self.crossers[cross.name]([found[name] for name in cross.feature_names])
        specs: dict[str, Any] = {name: self.features[name] for name in sorted(self.features)}
        specs.update((cross.name, cross) for cross in sorted(self.crosses, key=lambda cross: cross.name))
        vectors = {name: self._one_hot(name, spec, found[name]) for name, spec in specs.items()}
        if self.output_mode == "dict":
            return vectors
        for name, vector in vectors.items():
            if not is_float(vector):
                raise ValueError(
                    f"{self.name}: the feature {name!r} is {vector.dtype}, so it cannot be part of a vector; pass "
                    "output_mode='one_hot' for it, or output_mode='dict' for the space."
                )
        return concatenate([*vectors.values()], axis=-1)

    def _cast(self, name: str, column: Any) -> Any:
        """Casts a column of numbers to the feature's dtype, if that is a float dtype."""
        dtype = self.features[name].dtype
        if is_symbolic(column) or "float" not in dtype:
            return column
        return as_tensor(column, dtype=getattr(torch, dtype))

    def _one_hot(self, name: str, spec: Feature | Cross, values: Any) -> Any:
        if spec.output_mode != "one_hot":
            return values
        if name not in self.one_hot_encoders:
            if is_float(values):
                raise ValueError(
                    f"{self.name}: the feature {name!r} has output_mode='one_hot', so its layer must return integers; "
                    f"it gives {values.dtype}."
                )
            layer = self.preprocessors[name] if isinstance(spec, Feature) else self.crossers[name]
            self.one_hot_encoders[name] = CategoryEncoding(self._cardinality(name, layer), output_mode="multi_hot")
        return self.one_hot_encoders[name](values)

    def _cardinality(self, name: str, layer: Any) -> int:
        """Returns the number of different integers that a layer returns."""
        if isinstance(layer, IndexLookup):
            return layer.vocabulary_size()
        if isinstance(layer, CategoryEncoding):
            return layer.num_tokens
        if isinstance(layer, Discretization):
            return len(layer.bin_boundaries or ()) + 1
        if isinstance(layer, (HashedCrossing, Hashing)):
            return layer.num_bins
        raise ValueError(
            f"{self.name}: the feature {name!r} has output_mode='one_hot', but how many integers {type(layer).__name__} "
            "returns is unknown; use output_mode='int'."
        )

    # ----------------------------------------------------------------------------------------------------------- graphs

    def get_inputs(self) -> dict[str, SymbolicTensor]:
        """Returns an `Input` for each feature, for models that encode their inputs.

        Raises: ValueError: before `adapt`.
        """
        self._check_adapted()
        if self._inputs is None:
            self._inputs = {name: Input((1,), dtype=each.dtype, name=name) for name, each in self.features.items()}
        return self._inputs

    def get_encoded_features(self) -> Any:
        """Returns the symbolic encoding of `get_inputs()`.

        Raises: ValueError: before `adapt`.
        """
        self._check_adapted()
        if self.encoded_features is None:
            self.encoded_features = self._encode(self.get_inputs())
        return self.encoded_features

    # ------------------------------------------------------------------------------------------------------------ files

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments and the state of adapted layers, as plain data."""
        return {
            "features": serialization.serialize_keras_object(dict(self.features)),
            "output_mode": self.output_mode,
            "crosses": serialization.serialize_keras_object(list(self.crosses)),
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
            "name": self.name,
        }

    def get_build_config(self) -> dict[str, Any]:
        """Returns the shapes for which the layers were built, by feature."""
        return {name: layer.get_build_config() or {} for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the layers for the shapes from `get_build_config`; the space counts as adapted."""
        for name, shapes in config.items():
            if shapes and not self.preprocessors[name].built:
                self.preprocessors[name].build_from_config(shapes)
        self._is_adapted = self.built = True

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Writes the space to a `.keras` file, which `saving.load_model` and Keras open."""
        save_model(self, filepath)


def _layer_name(name: str | None, kind: str) -> str:
    return f"{name or unique_name(kind)}_preprocessor"


def _one_of(argument: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}; got {value!r}.")
    return value


def _learns(layer: Any) -> bool:
    """Returns whether a layer needs `adapt`: it does not if its state was passed to the constructor."""
    if isinstance(layer, Normalization):
        return layer.input_mean is None
    if isinstance(layer, Discretization):
        return layer.num_bins is not None
    if isinstance(layer, TextVectorization):
        layer = layer.lookup
    return layer._adaptable if isinstance(layer, IndexLookup) else hasattr(layer, "adapt")


def _dicts(dataset: Any) -> Iterable[Any]:
    """Returns the batches of a dataset as an iterable for several passes."""
    if isinstance(dataset, dict):
        return [dataset]
    batches = DataLoader(dataset, batch_size=256) if isinstance(dataset, Dataset) else dataset
    if hasattr(batches, "__next__"):  # an iterator, which ends after one pass
        batches = [*batches]
    first = next(iter(batches), None) if hasattr(batches, "__iter__") else dataset
    if not isinstance(first, dict):
        raise ValueError(
            f"adapt() needs a dict of columns or a dataset of dicts, without targets; got {type(dataset).__name__}"
            f"{'' if first is None or first is dataset else f' of {type(first).__name__}'}."
        )
    return batches


def _rows(column: Any) -> Any:
    """Returns a column as (batch, 1); further axes are kept."""
    array = as_array(column)
    return array.reshape(-1, 1) if array.ndim < 2 else array


def is_float(values: Any) -> bool:
    """Returns whether a (symbolic) tensor holds floats."""
    return bool(values.dtype.is_floating_point)
