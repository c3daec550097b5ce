"""Models made anew: from their config, through JSON, and by clone_model; checked against what Keras makes of them."""

import json

import keras
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, tree
from tests.oracle import assert_close, integers, uniform


def shared(lib):
    a, b = lib.Input((4,), name="a"), lib.Input((4,), name="b")
    dense = lib.layers.Dense(3, activation="relu")
    merged = lib.layers.Concatenate()([dense(a), dense(b)])
    return lib.Model([a, b], lib.layers.Dense(2, name="out")(merged))


def dicts(lib):
    a, b = lib.Input((4,), name="a"), lib.Input((4,), name="b")
    x = lib.layers.Add()([a, b])
    return lib.Model({"a": a, "b": b}, {"p": lib.layers.Dense(1)(x), "q": [lib.layers.Dense(2)(x), x]})


def nested(lib):
    inner_in = lib.Input((4,))
    inner = lib.Model(inner_in, lib.layers.Dense(4, activation="tanh")(inner_in), name="inner")
    x = lib.Input((4,))
    tower = lib.Sequential([lib.layers.Dense(4), lib.layers.BatchNormalization()], name="tower")
    return lib.Model(x, lib.layers.Add()([inner(inner(x)), tower(x)]))


def masked(lib):
    ids = lib.Input((5,), dtype="int32")
    embedded = lib.layers.Embedding(6, 3, mask_zero=True)(ids)
    return lib.Model(ids, lib.layers.Dense(2)(lib.layers.Concatenate()([embedded, embedded])))


def sequential(lib):
    return lib.Sequential([lib.Input((4,)), lib.layers.Dense(3, name="first"), lib.layers.Dense(2)], name="chain")


GRAPHS = {"shared": shared, "dicts": dicts, "nested": nested, "masked": masked, "sequential": sequential}


def torch_functions(lib):
    x = lib.Input((4, 6))
    y = torch.cat([torch.relu(x) * 2.0 + 1, x[:, ::2, :], x.mT.reshape(-1, 4, 6).to(torch.float32)], dim=1)
    return lib.Model(x, y[..., None].sum(dim=(2, 3)) / torch.tensor([2.0]))


OURS = {**GRAPHS, "torch-functions": torch_functions}


def inputs_of(model):
    def values(spec):
        shape = (3, *spec.shape[1:])
        return integers(*shape, high=6) if spec.dtype.is_floating_point is False else uniform(*shape)

    flat = [values(spec) for spec in model.graph.specs[: len(model.graph.sources)]]
    return tree.pack_sequence_as(model.graph.inputs, flat)


def assert_same_outputs(ours, theirs):
    assert tree.map_structure(lambda leaf: None, ours) == tree.map_structure(lambda leaf: None, theirs)
    for mine, other in zip(tree.flatten(ours), tree.flatten(theirs), strict=True):
        assert_close(mine, other)


WAYS = {
    "config": lambda model: type(model).from_config(model.get_config()),
    "json": lambda model: type(model).from_config(json.loads(json.dumps(model.get_config()))),
    "clone": ks.models.clone_model,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OURS)
def test_a_copy_has_the_architecture_and_weights_of_its_own(name, way):
    model = OURS[name](ks)
    again = WAYS[way](model)
    x = inputs_of(model)
    assert again.name == model.name
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    again.set_weights(model.get_weights())
    assert_same_outputs(again(x), model(x))
    again.set_weights([0 * weight for weight in again.get_weights()])
    assert not model.get_weights() or any(weight.any() for weight in model.get_weights())


@pytest.mark.parametrize("name", GRAPHS)
def test_the_config_of_keras_is_read(name):
    theirs = GRAPHS[name](keras)
    config = theirs.get_config()
    ours = getattr(ks.models, type(theirs).__name__).from_config(config)
    ours.set_weights(theirs.get_weights())
    x = inputs_of(ours)
    assert_same_outputs(ours(x), theirs(x))


@pytest.mark.parametrize("name", GRAPHS)
def test_keras_reads_the_config(name):
    ours = GRAPHS[name](ks)
    kind = keras.Sequential if name == "sequential" else type(shared(keras))
    theirs = kind.from_config(json.loads(json.dumps(ours.get_config())))
    theirs.set_weights(ours.get_weights())
    x = inputs_of(ours)
    assert_same_outputs(ours(x), theirs(x))


def test_clone_with_other_layers():
    def wider(layer):
        config = layer.get_config()
        return layers.Dense(7, name="wide") if layer.name == "out" else type(layer).from_config(config)

    clone = ks.models.clone_model(shared(ks), clone_function=wider)
    assert clone.output_shape == (None, 7) and clone.get_layer("wide").units == 7


def test_clone_calls_layers_as_told():
    called = []

    def call(layer, *args, **kwargs):
        called.append(layer.name)
        return layer(*args, **kwargs)

    ks.models.clone_model(shared(ks), call_function=call)
    assert called[-1] == "out" and len(called) == 4


def test_clone_on_given_inputs():
    a, b = ks.Input((4,), name="left"), ks.Input((4,), name="right")
    assert ks.models.clone_model(shared(ks), input_tensors=[a, b]).input_names == ["left", "right"]


def twice(lib):
    """A graph that calls a layer of its nested model itself."""
    dense = lib.layers.Dense(4, name="shared")
    inner_in, x = lib.Input((4,)), lib.Input((4,))
    inner = lib.Model(inner_in, dense(inner_in), name="inner")
    return lib.Model(x, dense(inner(x)))


def test_a_cache_holds_the_clones(keras):
    for lib in (keras, ks):
        model, cache = twice(lib), {}
        clones = [lib.models.clone_model(model, cache=cache) for _ in range(2)]
        shared = [clone.get_layer("shared") for clone in clones]
        assert shared[0] is shared[1] is cache[id(model.get_layer("shared"))] is not model.get_layer("shared")


def test_recursive_clones_share_what_was_shared(keras):
    for lib in (keras, ks):
        clone = lib.models.clone_model(twice(lib), recursive=True)
        assert clone.get_layer("inner").get_layer("shared") is clone.get_layer("shared")


def test_recursive_clones_call_nested_layers_as_told(keras):
    calls = []
    for lib in (keras, ks):
        called = []

        def call(layer, *args, called=called, **kwargs):
            called.append(layer.name)
            return layer(*args, **kwargs)

        lib.models.clone_model(twice(lib), call_function=call, recursive=True)
        calls.append(sorted(name for name in called if "input" not in name))
    assert calls[0] == calls[1] == ["inner", "shared", "shared"]


def test_unknown_arguments_of_a_clone(keras):
    for lib in (keras, ks):
        with pytest.raises(ValueError, match="kache"):
            lib.models.clone_model(twice(lib), kache={})


def test_clone_goes_into_nested_models_when_told():
    seen = []

    def note(layer):
        seen.append(layer.name)
        return type(layer).from_config(layer.get_config())

    ks.models.clone_model(nested(ks), clone_function=note, recursive=True)
    assert "inner" not in seen and "tower" not in seen and len(seen) == 4


class Doubled(ks.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def call(self, x):
        return 2 * self.dense(x)


def test_clone_of_a_subclass_is_made_by_its_constructor():
    model = Doubled(3)
    assert ks.models.clone_model(model).dense.units == 3
    with pytest.raises(ValueError, match="Doubled is a subclass"):
        ks.models.clone_model(model, clone_function=lambda layer: layer)


@pytest.mark.parametrize("function", ["torch.load", "os.system", "builtins.eval", "torch.Tensor.__class__"])
def test_a_config_cannot_call_what_is_no_tensor_function(function):
    config = torch_functions(ks).get_config()
    entry = next(entry for entry in config["layers"] if entry["class_name"] == "TorchFunction")
    entry["config"]["function"] = function
    with pytest.raises(ValueError, match="not allowed in a graph"):
        ks.models.Functional.from_config(config)
