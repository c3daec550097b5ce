"""KerasFileEditor."""

import h5py
import keras
import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch.saving import KerasFileEditor


def network(library, units=2):
    return library.Sequential([library.Input((3,)), library.layers.Dense(4), library.layers.Dense(units)])


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_shows_and_compares(name, tmp_path, capsys):
    model = network(keras)
    (model.save if name == "m.keras" else model.save_weights)(tmp_path / name)
    editor = KerasFileEditor(tmp_path / name)
    editor.summary()
    assert "layers/dense_1\n    0: (4, 2) float32\n    1: (2,) float32\n" in capsys.readouterr().out
    assert (editor.config is None) == (name != "m.keras")
    assert editor.compare(network(ks)) == {"status": "success", "error_count": 0, "match_count": 4}
    assert editor.compare(network(ks, units=5)) == {"status": "error", "error_count": 2, "match_count": 2}
    assert "(4, 2) in the file, (4, 5) in the model" in capsys.readouterr().out


def test_changes_a_file_for_another_architecture(tmp_path):
    model = network(ks)
    model.save_weights(tmp_path / "m.weights.h5")
    editor = KerasFileEditor(tmp_path / "m.weights.h5")
    editor.delete_object("dense_1")
    editor.rename_object("layers/dense", "dense_2")
    editor.add_object("layers/dense", {"0": np.ones((3, 3), "float32")})
    editor.add_weights("layers/dense", {"1": np.zeros(3, "float32"), "2": np.zeros(1)})
    editor.delete_weight("layers/dense", "2")
    editor.rename_object("dense_2", "dense_1")
    editor.save(tmp_path / "n.weights.h5")
    for library in (ks, keras):
        other = library.Sequential(
            [library.Input((3,)), library.layers.Dense(3), library.layers.ReLU(), library.layers.Dense(4)]
        )
        other.load_weights(tmp_path / "n.weights.h5")
        assert np.array_equal(np.array(other.get_weights()[0]), np.ones((3, 3)))
        assert np.array_equal(np.array(other.get_weights()[2]), model.get_weights()[0])


def test_mistakes(tmp_path):
    network(ks).save_weights(tmp_path / "m.weights.h5")
    editor = KerasFileEditor(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="no object 'conv'"):
        editor.delete_object("conv")
    with pytest.raises(ValueError, match="no weight '7'"):
        editor.delete_weight("dense", "7")
    with pytest.raises(ValueError, match="not a path"):
        editor.rename_object("dense", "a/b")
    with pytest.raises(ValueError, match="ends in"):
        KerasFileEditor(tmp_path / "m.txt")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        file["layers/again"] = file["layers"]
    with pytest.raises(ValueError, match="in two places"):
        KerasFileEditor(tmp_path / "m.weights.h5")
