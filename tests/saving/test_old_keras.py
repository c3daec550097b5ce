"""Keras 3.3.3: its files are read here, and ours have their structure; tests/fixtures/old_keras/README.md says more."""

import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import kstyle_torch as ks
from tests.oracle import assert_close

FIXTURES = Path(__file__).parents[1] / "fixtures" / "old_keras"
EXPECTED = np.load(FIXTURES / "expected-3.3.3.npz")


def script():
    """The script that made the files, building with kstyle_torch instead of Keras."""
    spec = importlib.util.spec_from_file_location("old_keras", FIXTURES / "old_keras.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.keras = ks
    return module


SCRIPT = script()
IMAGES, MIXED = SCRIPT.inputs()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_reads_its_files(suffix):
    model = ks.saving.load_model(FIXTURES / f"images-3.3.3{suffix}")
    assert_close(model.predict(IMAGES, verbose=0), EXPECTED["images"], rtol=1e-6, atol=1e-6)
    assert int(model.optimizer.iterations) == 1
    assert model.optimizer.variables[2].numpy().any()  # the first momentum
    model.fit(IMAGES, np.arange(3), verbose=0)


def test_reads_its_graphs():
    model = ks.saving.load_model(FIXTURES / "graph-3.3.3.keras")
    assert_close(model.predict(MIXED, verbose=0), EXPECTED["graph"], rtol=1e-5, atol=1e-6)


def parts(path):
    """Of a `.keras` file: the paths and shapes of its weights, and module and class of its layers."""
    with zipfile.ZipFile(path) as file:
        config, names = json.loads(file.read("config.json")), file.namelist()
        with h5py.File(io.BytesIO(file.read("model.weights.h5"))) as root:
            arrays = {}
            root.visititems(lambda at, item: arrays.update({at: getattr(item, "shape", None)}))
    layers = {(entry["module"], entry["class_name"]) for entry in config["config"]["layers"]}
    nodes = [json.dumps(entry.get("inbound_nodes", []), sort_keys=True) for entry in config["config"]["layers"]]
    return names, arrays, layers, len(nodes)


@pytest.mark.parametrize("name", ["images", "graph"])
def test_ours_have_the_structure_of_its_files(name, tmp_path):
    (SCRIPT.image_model if name == "images" else SCRIPT.graph_model)().save(tmp_path / "m.keras")
    ours, theirs = parts(tmp_path / "m.keras"), parts(FIXTURES / f"{name}-3.3.3.keras")
    assert ours[0] == theirs[0]
    weights = [{at: shape for at, shape in each[1].items() if shape is not None} for each in (ours, theirs)]
    assert weights[0] == weights[1]
    assert ours[2] == theirs[2]
    assert ours[3] == theirs[3]


def write(folder):
    """Files of ours for the old Keras to open."""
    folder.mkdir(exist_ok=True)
    models = {"images": (SCRIPT.image_model(), IMAGES), "graph": (SCRIPT.graph_model(), MIXED)}
    for name, (model, _) in models.items():
        model.save(folder / f"{name}.keras")
    np.savez(folder / "expected.npz", **{name: model.predict(x, verbose=0) for name, (model, x) in models.items()})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
