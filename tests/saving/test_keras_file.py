"""`.keras` files of whole models, from here to Keras and back."""

import json
import zipfile

import keras
import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch import saving
from tests.oracle import assert_close, assert_equal_predictions, assert_same_bits, uniform

LIBRARIES = [pytest.param(keras, ks, id="keras-to-ours"), pytest.param(ks, keras, id="ours-to-keras")]
both_ways = pytest.mark.parametrize(("theirs", "ours"), LIBRARIES)


def chain(library):
    layers = library.layers
    model = library.Sequential(
        [
            library.Input((4,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def graph(library):
    """Two inputs, a shared layer, a nested model, a dict of outputs."""
    layers = library.layers
    a, b = library.Input((4,), name="a"), library.Input((4,), name="b")
    shared, inner = layers.Dense(5), library.Sequential([library.Input((10,)), layers.Dense(6, activation="tanh")])
    x = inner(layers.Concatenate()([shared(a), shared(b)]))
    model = library.Model([a, b], {"y": layers.Dense(1, name="last")(x), "z": layers.Dense(2)(x)})
    model.compile("sgd", {"y": "mse", "z": "mae"}, loss_weights={"y": 2.0, "z": 0.5})
    return model


DATA = uniform(16, 4).numpy()
TRAINING = {
    chain: (DATA, np.arange(16) % 3),
    graph: ([DATA, DATA[::-1].copy()], {"y": DATA[:, :1], "z": DATA[:, :2]}),
}


def predictions(model, x):
    outputs = model.predict(x, verbose=0)
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


@both_ways
@pytest.mark.parametrize("make", TRAINING)
def test_predicts_and_trains_on(make, theirs, ours, tmp_path):
    """The file of one library in the other: equal outputs, and equal again after a further epoch in each."""
    x, y = TRAINING[make]
    model = make(theirs)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = ours.saving.load_model(tmp_path / "m.keras")
    assert_equal_predictions(again, model, x)
    assert int(again.optimizer.iterations) == 1
    for each in (model, again):
        each.fit(x, y, verbose=0, shuffle=False)
    assert_equal_predictions(again, model, x, rtol=1e-5)


@pytest.mark.parametrize("make", TRAINING)
def test_opens_here_what_was_saved_here(make, tmp_path):
    x, y = TRAINING[make]
    model = make(ks)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = ks.models.load_model(tmp_path / "m.keras")
    assert_same_bits(predictions(again, x), predictions(model, x))
    assert again.to_json() == model.to_json()


def test_the_archive_is_that_of_keras(tmp_path):
    for library in (keras, ks):
        chain(library).save(tmp_path / f"{library.__name__}.keras")
    ours, theirs = (zipfile.ZipFile(tmp_path / f"{name}.keras") for name in ("kstyle_torch", "keras"))
    assert ours.namelist() == theirs.namelist()
    assert all(member.compress_type == zipfile.ZIP_STORED for member in ours.infolist())
    assert json.loads(ours.read("config.json")).keys() == json.loads(theirs.read("config.json")).keys()


def test_a_folder_instead_of_a_file(tmp_path):
    for library, other in ((keras, ks), (ks, keras)):
        model = chain(library)
        model.save(tmp_path / library.__name__, zipped=False)
        again = other.saving.load_model(tmp_path / library.__name__)
        assert_equal_predictions(again, model, DATA)


@both_ways
def test_weights_alone(theirs, ours, tmp_path):
    model, again = graph(theirs), graph(ours)
    model.save_weights(tmp_path / "m.weights.h5")
    again.load_weights(tmp_path / "m.weights.h5")
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        assert_close(mine, other, rtol=0, atol=0)


@both_ways
def test_json(theirs, ours):
    model = graph(theirs)
    again = ours.models.model_from_json(model.to_json())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    again.set_weights(model.get_weights())
    assert_equal_predictions(again, model, TRAINING[graph][0])


def test_an_ending_that_is_none(tmp_path):
    model = chain(ks)
    with pytest.raises(ValueError, match=r"'\.keras'.*'.*my_model'"):
        model.save(tmp_path / "my_model")
    with pytest.raises(ValueError, match=r"must end in '\.weights\.h5'"):
        model.save_weights(tmp_path / "w.h5")
    model.save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "m.keras", overwrite=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m.keras", "zip"),
        ("m.h5", "HDF5"),
        ("m.hdf5", "HDF5"),
        ("m.weights.h5", "HDF5"),
        ("m.safetensors", "safetensors"),
    ]
    + [("m.weights.json", "JSON"), ("m.pt", "(weights|tensors)")],
)
@pytest.mark.parametrize("content", [b"", b"abc"], ids=["empty", "other"])
def test_a_file_without_what_its_name_says(tmp_path, name, expected, content):
    """The error says what was expected, by the name, and whether there is anything at all."""
    (tmp_path / name).write_bytes(content)
    holds_a_model = name.count(".") == 1 and name not in ("m.safetensors", "m.pt")
    for load in (chain(ks).load_weights, *([saving.load_model] if holds_a_model else [])):
        message = rf"{name}.*is empty \(0 bytes\); expected .*{expected}" if content == b"" else f"{name}.*{expected}"
        with pytest.raises(ValueError, match=f"(?is){message}"):
            load(tmp_path / name)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        saving.load_model(tmp_path / "m.keras")
    (tmp_path / "m.keras").write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match="not a zip file"):
        saving.load_model(tmp_path / "m.keras")
    chain(ks).save(tmp_path / "m.keras")
    whole = (tmp_path / "m.keras").read_bytes()
    (tmp_path / "m.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated"):
        saving.load_model(tmp_path / "m.keras")
