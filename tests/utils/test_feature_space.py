"""utils.FeatureSpace: against what Keras made of the same data (tests/fixtures), and against the layers it is made of."""

import copy
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.fixtures.feature_spaces import DATA, SPACES, as_list
from tests.oracle import assert_close

Space = ks.utils.FeatureSpace


@pytest.fixture(scope="module")
def expected():
    """What Keras gives: `space/feature` and `space/single/feature`."""
    with np.load("tests/fixtures/keras_feature_spaces.npz") as held:
        return dict(held)


def data_of(space):
    return {name: DATA[name] for name in space.features}


def made(name):
    space = SPACES[name](ks)
    space.adapt(data_of(space))
    return space


def assert_encoded(encoded, expected, prefix):
    encoded = encoded if isinstance(encoded, dict) else {"": encoded}
    assert {f"{prefix}/{key}" for key in encoded} == {key for key in expected if key.rpartition("/")[0] == prefix}
    for key, value in encoded.items():
        theirs = expected[f"{prefix}/{key}"]
        assert isinstance(value, torch.Tensor) and str(value.dtype) == f"torch.{theirs.dtype}"
        assert_close(value, theirs)


@pytest.mark.parametrize("name", SPACES)
def test_it_encodes_what_keras_encodes(expected, name):
    space = made(name)
    data = data_of(space)
    assert_encoded(space(data), expected, name)
    assert_encoded(space({key: values[:, None] for key, values in data.items()}), expected, name)
    assert_encoded(space({key: as_list(values) for key, values in data.items()}), expected, name)
    assert_encoded(space({key: as_list(values)[3] for key, values in data.items()}), expected, f"{name}/single")


def rows(data):
    return [{name: values[number] for name, values in data.items()} for number in range(40)]


class Table(torch.utils.data.Dataset):
    """A torch data set of rows."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {
            name: values[index] if values.dtype.kind != "U" else str(values[index]) for name, values in DATA.items()
        }


class Batches(ks.utils.PyDataset):
    """Batches of the table with targets."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        part = slice(index * 10, index * 10 + 10)
        return {name: values[part] for name, values in DATA.items()}


DATASETS = {
    "rows": lambda: rows(DATA),
    "generator": lambda: iter(rows(DATA)),
    "batches": Batches,
    "torch": Table,
    "loader": lambda: torch.utils.data.DataLoader(Table(), batch_size=7),
}


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_it_adapts_to_datasets(expected, dataset):
    space = SPACES["all, concat"](ks)
    space.adapt(dataset())
    assert_close(space(data_of(space)), expected["all, concat/"], rtol=1e-4, atol=1e-5)


def test_batches_of_a_loader_are_encoded(expected):
    space = made("all, concat")
    loader = torch.utils.data.DataLoader(Table(), batch_size=16)
    encoded = [space({name: batch[name] for name in space.features}) for batch in loader]
    assert_close(torch.cat(encoded), expected["all, concat/"])


def test_a_file_of_keras_opens(expected):
    space = ks.saving.load_model("tests/fixtures/keras_feature_space.keras")
    assert type(space) is Space
    assert_close(space(data_of(space)), expected["all, concat/"])


@pytest.mark.parametrize("name", SPACES)
def test_saved_and_opened(tmp_path, name):
    space = made(name)
    before = space(data_of(space))
    space.save(tmp_path / "space.keras")
    again = ks.models.load_model(tmp_path / "space.keras")
    ks.tree.map_structure(
        lambda ours, theirs: assert_close(ours, theirs, rtol=0, atol=0), again(data_of(space)), before
    )
    assert again.name == space.name
    if name != "own layer":  # whose weights are float32 in files
        assert json.dumps(again.get_config()) == json.dumps(space.get_config())


def test_files_hold_what_those_of_keras_hold(tmp_path):
    space = made("all, concat")
    space.save(tmp_path / "space.keras")
    held = []
    for path in ("tests/fixtures/keras_feature_space.keras", tmp_path / "space.keras"):
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
            features = config["config"]["features"]
            classes = {name: (each["module"], each["class_name"]) for name, each in features.items()}
            layer_classes = [each["config"]["preprocessor"]["class_name"] for each in features.values()]
            vocabularies = {name: file.read(name) for name in file.namelist() if name.endswith(".txt")}
            cross = config["config"]["crosses"][0]["config"]
            held.append((config["module"], classes, layer_classes, cross, vocabularies))
    assert held[0] == held[1]


def test_a_config_without_data():
    space = SPACES["numbers"](ks)
    again = Space.from_config(json.loads(json.dumps(space.get_config())))
    assert json.dumps(again.get_config()) == json.dumps(space.get_config())
    again.adapt(data_of(again))
    assert_close(again(data_of(again)), made("numbers")(data_of(again)))


def test_a_copy():
    space = made("all, concat")
    assert_close(copy.deepcopy(space)(data_of(space)), space(data_of(space)))


@pytest.mark.parametrize("name", ["numbers", "integers"])
def test_the_layers_are_there(name):
    space = made(name)
    data = data_of(space)
    assert isinstance(space.preprocessors["number"], layers.IntegerLookup)
    bins = space.preprocessors["bins"](data["bins"][:, None])
    crosser = space.crossers["number_X_hashed" if name == "numbers" else "number_X_word"]
    assert isinstance(crosser, layers.HashedCrossing)
    assert torch.equal(space(data)["bins"], bins) if name == "integers" else crosser.num_bins == 8


def test_a_model_of_numbers_encodes_what_it_is_given():
    space = made("numbers")
    inputs, encoded = space.get_inputs(), space.get_encoded_features()
    assert encoded.shape == (None, 26) and encoded is space.get_encoded_features()
    model = ks.Model(inputs, layers.Dense(1)(encoded))
    model.compile("sgd", "mse")
    x = {name: values[:, None] for name, values in data_of(space).items()}
    history = model.fit(x, np.ones(40), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert_close(model.predict(x, verbose=0), model.layers[-1](space(x)), rtol=1e-4, atol=1e-5)


def test_a_model_on_the_encoded_features_of_text():
    space = made("names, concat")
    encoded = space.get_encoded_features()
    model = ks.Model(encoded, layers.Dense(1)(encoded))
    model.compile("sgd", "mse")
    dataset = [(row, 1.0) for row in rows(data_of(space))]
    x = space({name: [row[name] for row, _ in dataset] for name in space.features})
    assert x.shape[1:] == encoded.shape[1:]
    model.fit(x, np.ones(40), epochs=2, verbose=0)
    by_feature = made("integers").get_encoded_features()
    assert {name: (each.shape, str(each.dtype)) for name, each in by_feature.items()}["bins"] == ((None, 1), "int32")


def test_it_maps_datasets():
    space = made("numbers")
    ds = ks.utils.timeseries_dataset_from_array(np.arange(12.0), None, 2, batch_size=4)
    features = data_of(space)
    mapped = ds.map(lambda x: space({name: values[: len(x)] for name, values in features.items()}))
    assert mapped[0].shape == (4, 26)


def test_given_bins_are_not_learnt():
    space = Space({"x": Space.float_discretized(None, [2.0, 5.0]), "y": "float"})
    assert space({"x": [1.0, 3.0, 9.0], "y": [0, 1, 2]}).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 2]]
    given = Space({"x": Space.feature("string", layers.StringLookup(vocabulary=["a", "b"]), "one_hot")})
    assert given({"x": "b"}).tolist() == [0, 0, 1]


def test_adapting_again_forgets():
    space = Space({"x": "integer_categorical"})
    space.adapt({"x": [1, 2, 3]})
    assert space({"x": [1]}).shape == (1, 4) and space.get_encoded_features().shape == (None, 4)
    space.adapt({"x": [7, 8]})
    assert space({"x": [7]}).shape == (1, 3) and space.get_encoded_features().shape == (None, 3)


MISTAKES = {
    "no features": (ValueError, lambda: Space({}), "needs features"),
    "kind": (ValueError, lambda: Space({"x": "floats"}), "the kind of 'x' is 'floats'. Did you mean 'float'"),
    "mode": (
        ValueError,
        lambda: Space({"x": "float"}, "list"),
        "output_mode must be one of 'dict', 'concat'; got 'list'",
    ),
    "mode of a feature": (ValueError, lambda: Space.string_hashed(3, "two_hot"), "got 'two_hot'"),
    "mode of a cross": (ValueError, lambda: Space.cross(("a", "b"), 3, "float"), "got 'float'"),
    "cross": (ValueError, lambda: Space({"x": "float"}, crosses=[("x", "y")]), "contains 'y', which is not a feature"),
    "no bins": (ValueError, lambda: Space({"x": "float"}, crosses=[("x", "x")], crossing_dim=0), "need a crossing_dim"),
    "too early": (ValueError, lambda: Space({"x": "float_normalized"})({"x": [1.0]}), "call adapt(data), which x need"),
    "not a dict": (ValueError, lambda: Space({"x": "float"})([1.0]), "encodes a dict of columns; got list"),
    "unknown": (KeyError, lambda: Space({"x": "float"})({"x": [1.0], "y": [2]}), "['y'] are missing or unknown"),
    "missing": (KeyError, lambda: Space({"x": "float", "y": "float"})({"x": [1.0]}), "['y'] are missing or unknown"),
    "targets": (ValueError, lambda: Space({"x": "float_normalized"}).adapt([({"x": 1.0}, 1)]), "got list of tuple"),
    "number": (
        ValueError,
        lambda: Space({"x": "float_normalized"}).adapt(5),
        "a dataset of dicts, without targets; got int",
    ),
    "text in graphs": (TypeError, lambda: Space({"x": Space.string_hashed(3)}).get_inputs(), "has text in x"),
    "integers in a vector": (
        ValueError,
        lambda: Space({"x": Space.integer_hashed(3, "int")})({"x": [1]}),
        "cannot be part of a vector",
    ),
    "one-hot floats": (
        ValueError,
        lambda: Space({"x": Space.feature("float32", layers.Rescaling(2.0), "one_hot")})({"x": [1.0]}),
        "must return integers; it gives",
    ),
    "one-hot of unknown size": (
        ValueError,
        lambda: Space({"x": Space.feature("int32", layers.Identity(dtype="int32"), "one_hot")})({"x": [1]}),
        "how many integers Identity returns is unknown",
    ),
}


@pytest.mark.parametrize(("error", "make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_says_what_is_wrong(error, make, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def test_a_file_of_something_else(tmp_path):
    config = ks.saving.serialize_keras_object(layers.Dense(2))
    path = tmp_path / "dense.keras"
    made("numbers").save(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, json.dumps(config) if name == "config.json" else content)
    with pytest.raises(ValueError, match="describes a Dense, not a model"):
        ks.saving.load_model(path)


@pytest.mark.full
@pytest.mark.parametrize("made_of", ["FeatureSpace", "Distiller"])
def test_files_open_before_the_class_was_used(tmp_path, made_of):
    if made_of == "Distiller":
        models = [ks.Sequential([ks.Input((4,)), layers.Dense(2)]) for _ in range(2)]
        ks.distillation.Distiller(*models, ks.distillation.LogitsDistillation()).save(tmp_path / "x.keras")
    else:
        made("numbers").save(tmp_path / "x.keras")
    program = f"import kstyle_torch as ks; print(type(ks.saving.load_model({str(tmp_path / 'x.keras')!r})).__name__)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == made_of, run.stderr
