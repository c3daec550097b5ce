"""Methods of models as users call and override them: the same program on Keras and here gives the same results."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import assert_alike, raised

X = torch.linspace(-1, 1, 12).reshape(4, 3)


def own(keras):
    """A model that takes whatever its base class takes, as most models with a `train_step` do."""

    class Own(keras.Model):
        def __init__(self, *args, extra=1, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = extra

        def train_step(self, data):
            return super().train_step(data)

    return Own


def functional(keras, cls=None):
    inputs = keras.Input((3,), name="x")
    model = (cls or keras.Model)(inputs, keras.layers.Dense(2, name="d")(inputs), name="m")
    model.set_weights([np.arange(6.0).reshape(3, 2), np.ones(2)])
    return model


def scaling(keras):
    class Scaling(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    return Scaling


def with_scaling(keras, scale):
    inputs = keras.Input((3,))
    return keras.Model(inputs, scale()(inputs)), keras.Sequential([keras.Input((3,)), scale()])


def configs(keras, tmp_path):
    made = []
    for cls in (keras.Model, own(keras)):
        model = functional(keras, cls)
        copy = cls.from_config(model.get_config())
        copy.set_weights(model.get_weights())
        made.append((sorted(model.get_config()), type(copy).__name__, copy.name, copy(X)))
    return made


def configs_of_other_classes(keras, tmp_path):
    """`keras.Model` makes a functional model of a config; classes with arguments of their own are made of these."""

    class Units(keras.Model):
        def __init__(self, units, **kwargs):
            inputs = keras.Input((3,))
            super().__init__(inputs, keras.layers.Dense(units)(inputs), **kwargs)
            self.units = units

        def get_config(self):
            return {"units": self.units, "name": self.name}

    model = Units.from_config(Units(4, name="u").get_config())
    return model.units, model.name, model.output_shape, raised(lambda: keras.Model.from_config({"wrong": 1}))


def custom_objects(keras, tmp_path):
    scale = scaling(keras)
    known = {"Scaling": scale}
    graph, chain = with_scaling(keras, scale)
    return [
        keras.Model.from_config(graph.get_config(), custom_objects=known)(X),
        keras.Model.from_config(graph.get_config(), known)(X),
        keras.Sequential.from_config(chain.get_config(), custom_objects=known)(X),
    ]


def saved(keras, tmp_path):
    cls = own(keras)
    model = functional(keras, cls)
    model.compile("sgd", "mse")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Own": cls})
    return type(loaded).__name__, loaded(X), loaded.compiled


def calls(keras, tmp_path):
    """Modes and masks by name and by place, past `__call__`."""
    model = functional(keras)
    results = [
        model.call(X),
        model.call(X, True),
        model.call(inputs=X, training=False, mask=None),
        model(X, training=True),
    ]
    ones = torch.ones(1000, 3)
    for make in (
        lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)]),
        lambda: keras.Sequential([keras.layers.Dropout(0.5)]),
    ):
        modes = ((), (True,), (False,), (None, None))
        results += [bool((make().call(ones, *mode) == 0).any()) for mode in modes]

    class Training(keras.Model):
        def call(self, inputs, training=None):
            return super().call(inputs, training=training)

    inputs = keras.Input((3,))
    model = Training(inputs, keras.layers.Dropout(0.5)(inputs))
    return results, [bool((model(ones, training=mode) == 0).any()) for mode in (True, False)]


def chains(keras, tmp_path):
    model = keras.Sequential([keras.Input((3,))])
    model.add(keras.layers.Dense(2), rebuild=True)
    model.add(keras.layers.Dense(4), rebuild=False)
    size = len(model.layers)
    model.build((None, 3))
    shape = model.output_shape
    model.pop(rebuild=False)
    return size, shape, len(model.layers), raised(lambda: model.add(5)), raised(lambda: model.add(keras.layers.Dense))


def weights(keras, tmp_path):
    model, path = functional(keras), tmp_path / "w.weights.h5"
    model.save_weights(path)
    other = functional(keras)
    other.set_weights([np.zeros((3, 2)), np.zeros(2)])
    other.load_weights(path, objects_to_skip=[other.layers[1]])
    kept = other.get_weights()
    other.load_weights(path, skip_mismatch=True)
    keras.saving.save_weights(model, path, objects_to_skip=[model.layers[1]])
    other.set_weights([np.zeros((3, 2)), np.zeros(2)])
    other.load_weights(path, objects_to_skip=[other.layers[1]])
    return (
        kept, other.get_weights(),
        raised(lambda: other.load_weights(path, nonsense=1)),
        raised(lambda: keras.saving.load_weights(other, path, nonsense=1)),
        raised(lambda: other.load_weights(path, by_name=True)),
        raised(lambda: other.load_weights(path)),
        raised(lambda: keras.saving.save_weights(other, path, nonsense=1)),
        raised(lambda: other.save_weights(tmp_path / "w.h5")),
    )  # fmt: skip


def mistakes(keras, tmp_path):
    model = functional(keras)
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3)), np.ones((4, 2))

    class Nothing(keras.Model):
        pass

    class Reserved(keras.Model):
        def __init__(self):
            super().__init__()
            self.layers = [1]

    def set_metrics():
        model.metrics = []

    inputs = keras.Input((3,))
    same = keras.layers.Dense(2, name="a")(keras.layers.Dense(2, name="a")(inputs))
    return [
        raised(lambda: model.evaluate(x, y, verbose=0, nonsense=1)),
        raised(lambda: model.fit(x, y, verbose=0, nonsense=1)),
        raised(lambda: keras.models.clone_model(model, nonsense=1)),
        raised(lambda: model.export(tmp_path / "m", format="wrong")),
        raised(lambda: Nothing()(x)),
        raised(Reserved),
        raised(set_metrics),
        raised(lambda: keras.Model(inputs, same)),
        raised(lambda: keras.Model(inputs, keras.Input((4,)))),
        raised(lambda: model.get_layer("zzz")),
        raised(lambda: model.get_layer(index=9)),
        raised(lambda: model.get_layer()),
        raised(lambda: model.get_layer(name="d", index=1)),
        raised(lambda: functional(keras).fit(x, y, verbose=0)),
        raised(lambda: functional(keras).train_on_batch(x, y)),
        raised(lambda: functional(keras).test_on_batch(x, y)),
    ]


PROGRAMS = [
    configs, configs_of_other_classes, custom_objects, saved, calls, chains, weights, mistakes,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_do_what_they_do_in_keras(program, keras, tmp_path):
    assert_alike(program(ks, tmp_path), program(keras, tmp_path))


def test_an_unknown_argument_of_a_call_is_refused():
    with pytest.raises(
        TypeError, match="'m': call\\(\\) got the unknown argument 'nonsense'|unknown argument 'nonsense'"
    ):
        functional(ks).call(X, nonsense=1)


@pytest.mark.parametrize("size", [None, 1], ids=["file", "shards"])
def test_layers_may_be_left_out_of_files(size, tmp_path):
    model, other = functional(ks), functional(ks)
    path = tmp_path / ("w.weights.h5" if size is None else "w.weights.json")
    ks.saving.save_weights(model, path, max_shard_size=size, objects_to_skip=[model.layers[1]])
    before = [weight + 1 for weight in other.get_weights()]
    other.set_weights(before)
    other.load_weights(path, objects_to_skip=[other.layers[1]])
    assert_alike(other.get_weights(), before)
    with pytest.raises(ValueError, match="do not fit the file"):
        other.load_weights(path)


def test_layers_cannot_be_left_out_of_other_files(tmp_path):
    model = functional(ks)
    model.save_weights(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="objects_to_skip is for files that end in"):
        model.load_weights(tmp_path / "w.pt", objects_to_skip=[model.layers[1]])
