"""A load that is refused has changed nothing: weights, statistics, the optimizer's state."""

import json
import zipfile

import h5py
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers


class Own(layers.Layer):
    """A layer with a say in what it takes."""

    refuses = False

    def build(self, shape):
        self.w = self.add_weight((2,), name="w")

    def call(self, x):
        return x + self.w.sum()

    def load_own_variables(self, store):
        super().load_own_variables(store)
        if Own.refuses:
            raise ValueError("it does not fit, says its layer")


def network(seed):
    ks.utils.set_random_seed(seed)
    model = ks.Sequential([ks.Input((3,)), layers.Dense(2), layers.BatchNormalization(), Own(), layers.Dense(1)])
    model.compile("adam", "mse")
    model.train_on_batch(np.random.rand(8, 3), np.random.rand(8, 1))
    return model


def state(model):
    values = [*model.weights, *model.optimizer.variables]
    return [each.numpy().copy() for each in values]


def refused(model, path, match):
    before = state(model)
    with pytest.raises(ValueError, match=match):
        model.load_weights(path)
    after = state(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def replaced(group, key, value, **kwargs):
    del group[key]
    return group.create_dataset(key, data=value, **kwargs)


def another_slot(file):
    replaced(file["optimizer/vars"], "7", np.ones((5, 5), "float32"))


def not_a_number(file):
    replaced(file["optimizer/vars"], "0", np.float32("nan"))


def complex_numbers(file):
    replaced(file["layers/dense_1/vars"], "0", np.ones((2, 1), "complex64"))


def too_long_numbers(file):
    replaced(file["layers/dense_1/vars"], "0", np.ones((2, 1), "longdouble"))


def texts(file):
    replaced(file["layers/dense_1/vars"], "0", np.array([[b"a"], [b"b"]]))


def a_broken_chunk(file):
    dataset = replaced(file["layers/dense_1/vars"], "0", np.ones((2, 1), "float32"), chunks=(1, 1), compression="gzip")
    dataset.id.write_direct_chunk((1, 0), b"broken")


HDF5 = (another_slot, not_a_number, complex_numbers, too_long_numbers, texts, a_broken_chunk)


@pytest.mark.parametrize("kind", ["m.weights.h5", "m.weights.json", "m.keras"])
def test_the_last_array_does_not_fit(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = network(0), network(1)
    for edit in HDF5:
        save(source, kind, edit)
        refused(target, kind, r"Cannot load")
    Own.refuses = True
    try:
        save(source, kind, lambda file: None)
        refused(target, kind, "says its layer")
    finally:
        Own.refuses = False
    save(source, kind, lambda file: replaced(file["layers/dense_1/vars"], "0", np.array([[3.0], [4]], ">f8")))
    target.load_weights(kind)
    assert target.layers[-1].kernel.numpy().tolist() == [[3.0], [4.0]]


def save(model, kind, edit):
    """Saves a model to a file of one kind whose arrays are changed by a function."""
    model.save_weights("plain.weights.h5")
    with h5py.File("plain.weights.h5", "a") as file:
        edit(file)
    if kind == "m.weights.h5":
        with open("plain.weights.h5", "rb") as source, open(kind, "wb") as target:
            target.write(source.read())
    elif kind == "m.keras":
        model.save("whole.keras")
        with zipfile.ZipFile("whole.keras") as old, zipfile.ZipFile(kind, "w") as new:
            for name in ("metadata.json", "config.json"):
                new.writestr(name, old.read(name))
            new.write("plain.weights.h5", "model.weights.h5")
    else:
        paths = []
        with h5py.File("plain.weights.h5") as file:
            file.visit(lambda path: paths.append(f"/{path}") if path.endswith("vars") else None)
        with open(kind, "w") as file:
            json.dump({"metadata": {}, "weight_map": {path: ["plain.weights.h5"] for path in paths}}, file)


def test_the_last_layer_of_an_older_file_does_not_fit(tmp_path):
    source, target = network(0), network(1)
    source.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        group = file["model_weights/dense_1"] if "dense_1" in file["model_weights"] else None
        group = group or file["model_weights"][file["model_weights"].attrs["layer_names"][-1].decode()]
        name = group.attrs["weight_names"][0].decode()
        replaced(group, name, np.ones((2, 1), "complex64"))
    refused(target, tmp_path / "m.h5", "complex")


TENSORS = {
    "meta": torch.empty(2, 2, device="meta"),
    "sparse": torch.eye(2).to_sparse(),
    "complex": torch.ones(2, 2, dtype=torch.complex64),
    "another shape": torch.ones(3, 2),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")  # of torch 2.14
@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_of_a_torch_file_does_not_fit(what, tmp_path):
    def square():
        return ks.Sequential([ks.Input((2,)), layers.Dense(2), layers.Dense(2)])

    source, target = square(), square()
    target.compile("sgd", "mse")
    weights = source.state_dict()
    weights[[key for key in weights if key.endswith("weight")][-1]] = TENSORS[what]
    torch.save(weights, tmp_path / "m.pt")
    refused(target, tmp_path / "m.pt", "Cannot load")


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".safetensors", ".pt"])
def test_a_model_without_memory(suffix, tmp_path):
    model = ks.Sequential([ks.Input((3,)), layers.Dense(2)])
    (model.save if suffix == ".h5" else model.save_weights)(tmp_path / f"m{suffix}")
    model.to("meta")
    with pytest.raises(ValueError, match="meta device"):
        model.load_weights(tmp_path / f"m{suffix}")


def test_backups_of_another_training(tmp_path):
    def trained(metric, callbacks):
        model = ks.Sequential([ks.Input((3,)), layers.Dropout(0.5, seed=1), layers.Dense(2)])
        model.compile("adam", "mse", metrics=[metric])
        model.fit(np.ones((8, 3)), np.ones((8, 2)), epochs=2, verbose=0, callbacks=callbacks)
        return model

    backup = ks.callbacks.BackupAndRestore(tmp_path / "b", delete_checkpoint=False)
    trained("mae", [backup])
    state = torch.load(tmp_path / "b/latest.pt")
    state["trainable"] = {}
    torch.save(state, tmp_path / "b/latest.pt")
    with pytest.raises(ValueError, match="which layers are trained"):
        trained("mae", [ks.callbacks.BackupAndRestore(tmp_path / "b")])


def test_values_of_another_shape_given_to_an_object_itself():
    """`load_own_variables` of a layer and of an optimizer, as Keras' files and users call it, changes all or nothing."""
    model = ks.Sequential([ks.Input((3,)), ks.layers.BatchNormalization(), ks.layers.Dense(1)])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    for owner, variables in ((model.optimizer, model.optimizer.variables), (model.layers[0], model.layers[0].weights)):
        before = [np.asarray(ks.ops.convert_to_numpy(each)) for each in variables]
        good = {str(number): value + 1 for number, value in enumerate(before)}
        last = str(len(before) - 1)
        for bad in ({**good, last: np.ones(99)}, {("x" if key == last else key): each for key, each in good.items()}):
            with pytest.raises(ValueError, match="cannot assign shape|lack"):
                owner.load_own_variables(bad)
            after = [np.asarray(ks.ops.convert_to_numpy(each)) for each in variables]
            assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
        owner.load_own_variables(good)
        assert np.array_equal(ks.ops.convert_to_numpy(variables[-1]), good[last])
