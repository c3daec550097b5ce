"""The `.h5` files of Keras 2 and 3."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import kstyle_torch as ks
from kstyle_torch.saving import legacy_h5
from tests.oracle import assert_close, assert_equal_predictions, uniform

BOTH_WAYS = [pytest.param(keras, ks, id="to-ours"), pytest.param(ks, keras, id="to-keras")]
X = uniform(8, 6, 6, 2).numpy()
Y = uniform(8, 3, seed=1).numpy()


def images(library):
    layers = library.layers
    model = library.Sequential(
        [
            library.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, name="last"),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model


def sequences(library):
    """Nested models, a recurrent layer in both directions, a skip connection."""
    layers, x = library.layers, library.Input((6, 6, 2), name="image")
    inner = library.Sequential([library.Input((6, 12)), layers.Dense(4), layers.BatchNormalization()], name="inner")
    y = inner(layers.Reshape((6, 12))(x))
    z = layers.Bidirectional(layers.LSTM(3))(y)
    model = library.Model(x, layers.Dense(3)(layers.Concatenate()([z, layers.GlobalAveragePooling1D()(y)])))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(("theirs", "ours"), BOTH_WAYS)
@pytest.mark.parametrize("make", [images, sequences])
def test_whole_models(make, theirs, ours, tmp_path):
    model = make(theirs)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.h5")
    again = ours.models.load_model(tmp_path / "m.h5")
    assert_equal_predictions(again, model, X)
    if ours is keras:
        return  # its reader builds the optimizer for other variables
    for each in (model, again):
        each.fit(X, Y, verbose=0, shuffle=False)
    assert_close(again.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-5)


def test_weights_of_a_whole_file(tmp_path):
    model, again = sequences(keras), sequences(ks)
    model.save(tmp_path / "m.h5")
    again.load_weights(tmp_path / "m.h5")
    assert_equal_predictions(again, model, X)


def test_by_name(tmp_path):
    model = images(keras)
    model.save(tmp_path / "m.h5")
    other = ks.Sequential([ks.Input((64,)), ks.layers.Dense(5, name="first"), ks.layers.Dense(3, name="last")])
    with pytest.raises(ValueError, match="3 layers with weights"):
        other.load_weights(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="layer 'last' has weights of shapes"):
        other.load_weights(tmp_path / "m.h5", by_name=True)
    before = other.get_weights()
    with pytest.warns(UserWarning, match="Left as it is: layer 'last'"):
        other.load_weights(tmp_path / "m.h5", by_name=True, skip_mismatch=True)
    wide = ks.Sequential([ks.Input((64,)), ks.layers.Dense(3, name="last")])
    wide.load_weights(tmp_path / "m.h5", by_name=True)
    assert_close(wide.get_weights()[0], model.get_weights()[-2], rtol=0, atol=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))


# What TensorFlow's Keras 2 wrote: older spellings everywhere, calls as lists, names that end in ":0".
KERAS_2 = {
    "class_name": "Functional",
    "config": {
        "name": "model",
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {
                    "batch_input_shape": [None, 5],
                    "dtype": "float32",
                    "sparse": False,
                    "ragged": False,
                    "name": "input_1",
                },
                "name": "input_1",
                "inbound_nodes": [],
            },
            {
                "class_name": "Dense",
                "config": {
                    "name": "dense",
                    "trainable": True,
                    "dtype": {"class_name": "Policy", "config": {"name": "float32"}},
                    "units": 4,
                    "activation": "relu",
                    "use_bias": True,
                    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
                    "bias_initializer": {"class_name": "Zeros", "config": {}},
                    "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}},
                },
                "name": "dense",
                "inbound_nodes": [[["input_1", 0, 0, {}]]],
            },
            {
                "class_name": "Concatenate",
                "config": {"name": "both", "trainable": True, "dtype": "float32", "axis": -1},
                "name": "both",
                "inbound_nodes": [[["dense", 0, 0, {}], ["input_1", 0, 0, {}]]],
            },
            {
                "class_name": "BatchNormalization",
                "config": {"name": "bn", "axis": [1], "momentum": 0.9, "epsilon": 0.001},
                "name": "bn",
                "inbound_nodes": [[["both", 0, 0, {"training": False}]]],
            },
        ],
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["bn", 0, 0]],
    },
}
KERAS_2_TRAINING = {
    "loss": "mse",
    "metrics": [[{"class_name": "MeanMetricWrapper", "config": {"name": "mae", "fn": "mean_absolute_error"}}]],
    "weighted_metrics": None,
    "loss_weights": None,
    "optimizer_config": {"class_name": "Adam", "config": {"name": "Adam", "lr": 0.01, "decay": 0.0, "beta_1": 0.9}},
}


def keras_2_file(path, weights, whole=True):
    with h5py.File(path, "w") as file:
        group = file
        if whole:
            file.attrs["keras_version"] = "2.9.0"
            file.attrs["model_config"] = json.dumps(KERAS_2)
            file.attrs["training_config"] = json.dumps(KERAS_2_TRAINING)
            group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"input_1", b"dense", b"both", b"bn"])
        for layer in ("input_1", "dense", "both", "bn"):
            names = [name for name in weights if name.startswith(f"{layer}/")]
            home = group.create_group(layer)
            home.attrs["weight_names"] = np.array([name.encode() for name in names] or [], dtype="S32")
            for name in names:
                home[name] = weights[name]


def keras_2_weights():
    shapes = {"dense/kernel:0": (5, 4), "dense/bias:0": (4,)}
    shapes |= {f"bn/{name}:0": (9,) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {name: uniform(*shape, low=0.5, high=1.5, seed=i).numpy() for i, (name, shape) in enumerate(shapes.items())}


def test_a_file_of_keras_2(tmp_path):
    weights = keras_2_weights()
    keras_2_file(tmp_path / "m.h5", weights)
    model = ks.saving.load_model(tmp_path / "m.h5")
    assert [layer.name for layer in model.layers] == ["input_1", "dense", "both", "bn"]
    for mine, other in zip(model.get_weights(), weights.values(), strict=True):
        assert_close(mine, other, rtol=0, atol=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    model.fit(uniform(8, 5).numpy(), uniform(8, 9).numpy(), verbose=0)
    assert "mae" in model.history.history or "mean_absolute_error" in model.history.history
    x = uniform(3, 5)
    keras_2_file(tmp_path / "w.h5", weights, whole=False)
    model.load_weights(tmp_path / "w.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:  # Keras 3 does not read a policy of Keras 2
        config = file.attrs["model_config"].replace(
            '{"class_name": "Policy", "config": {"name": "float32"}}', '"float32"'
        )
        file.attrs["model_config"] = config
    theirs = keras.saving.load_model(tmp_path / "m.h5", compile=False)
    assert_close(model.predict(x, verbose=0), theirs.predict(x, verbose=0))
    with pytest.raises(ValueError, match="weights without a model"):
        ks.saving.load_model(tmp_path / "w.h5")


def test_more_names_than_an_attribute_holds(tmp_path):
    wide = [f"a_layer_with_a_long_name_{number:04}" for number in range(700)]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        legacy_h5._write_names(file, "layer_names", wide)
        assert "layer_names" not in file.attrs
        assert legacy_h5._names(file, "layer_names") == wide
        assert legacy_h5_format.load_attributes_from_hdf5_group(file, "layer_names") == wide
