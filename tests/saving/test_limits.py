"""Small files and configs that ask for gigabytes, minutes or other people's files: each is refused, in every reader.

The process may take a gigabyte more than it has: an allocation that was not refused before it was made fails.
"""

import contextvars
import json
import os
import pathlib
import pickle
import resource
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import budget, layers, saving
from kstyle_torch.budget import TooLargeError
from kstyle_torch.callbacks import backup
from kstyle_torch.saving import KerasFileEditor, archive
from tests.saving.test_hostile import layer, members, network, write

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits the process as Linux does")
ROOM = 5 << 28  # bytes of addresses


@pytest.fixture(autouse=True)
def little_memory(tmp_path, monkeypatch):
    """The working folder, and a limit on memory beyond what the process has."""
    monkeypatch.chdir(tmp_path)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def sequential(*entries, shape=(None, 3), **more):
    """The config of a model."""
    first = layer("InputLayer", batch_shape=list(shape))
    for number, entry in enumerate(entries):
        entry["config"]["name"] = f"evil{number}"
    config = {"name": "model", "layers": [first, *entries]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None, **more}


def compiled(metric):
    training = {"optimizer": "sgd", "loss": "mse", "metrics": [metric]}
    return sequential(layer("Dense", units=2), compile_config=training)


def of_class(class_name, module, **config):
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def array(value, dtype):
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


def doubling(depth):
    """Models in models, each of which calls the one inside twice: 2 ** depth calls."""
    config = sequential(layer("Dense", units=3))
    for number in range(depth):
        x = [{"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "keras_history": ["i", 0, 0]}}]
        y = [{"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "keras_history": ["m", 0, 0]}}]
        inner = {**config, "config": {**config["config"], "name": "m"}, "name": "m"}
        inner["inbound_nodes"] = [{"args": x, "kwargs": {}}, {"args": y, "kwargs": {}}]
        first = {**layer("InputLayer", batch_shape=[None, 3]), "name": "i", "inbound_nodes": []}
        first["config"]["name"] = "i"
        graph = {"name": f"m{number}", "layers": [first, inner]}
        graph |= {"input_layers": [["i", 0, 0]], "output_layers": [["m", 1, 0]]}
        config = {"module": "keras", "class_name": "Functional", "config": graph, "registered_name": None}
    return config


CONFIGS = {
    "units": sequential(layer("Dense", units=300_000_000)),
    "thresholds": compiled(of_class("AUC", "keras.metrics", num_thresholds=2**29)),
    "operating point": compiled(of_class("PrecisionAtRecall", "keras.metrics", recall=0.5, num_thresholds=2**29)),
    "classes": compiled(of_class("MeanIoU", "keras.metrics", num_classes=25_000)),
    "n-grams": sequential(layer("TextVectorization", ngrams=2**28)),
    "unknown tokens": sequential(layer("StringLookup", num_oov_indices=2**33)),
    "unknown numbers": sequential(layer("IntegerLookup", num_oov_indices=2**33)),
    "token weights": sequential(layer("IntegerLookup", max_tokens=2**33, output_mode="tf_idf", pad_to_max_tokens=True)),
    "steps of a kernel": sequential(layer("SimpleRNN", units=1, unroll=True), shape=(None, 2**22, 1)),
    "an array": sequential(layer("Dense", units=2, kernel_initializer=array(["a"] * 8, "(100000000,)f4"))),
}


def as_keras(config):
    return saving.load_model(write({**members(network()), "config.json": json.dumps(config)}))


def as_folder(config):
    network().save("folder", zipped=False)
    with open("folder/config.json", "w") as file:
        json.dump(config, file)
    return saving.load_model("folder")


def as_h5(config):
    training = config.pop("compile_config", None)
    network().save("m.h5")
    with h5py.File("m.h5", "a") as file:
        file.attrs["model_config"] = json.dumps(config)
        if training:
            file["model_weights"].move("dense", config["config"]["layers"][1]["config"]["name"])
            file["model_weights"].attrs["layer_names"] = [config["config"]["layers"][1]["config"]["name"]]
            optimizer = {"class_name": "SGD", "config": {}}
            file.attrs["training_config"] = json.dumps({**training, "optimizer_config": optimizer})
    return saving.load_model("m.h5")


def as_hub(config):
    network().save_pretrained("hub")
    with open("hub/config.json") as file:
        more = {key: value for key, value in json.load(file).items() if key in ("save_id", "weight_keys")}
    with open("hub/config.json", "w") as file:
        json.dump({**config, **more}, file)
    return ks.Model.from_pretrained("hub")


def as_json(config):
    return ks.models.model_from_json(json.dumps(config))


def as_object(config):
    model = saving.deserialize_keras_object({key: value for key, value in config.items() if key != "compile_config"})
    model.compile_from_config(config["compile_config"])


READERS = (as_keras, as_folder, as_h5, as_hub, as_json, as_object)


@pytest.mark.parametrize("what", CONFIGS)
def test_configs(what):
    for read in READERS:
        config = json.loads(json.dumps(CONFIGS[what]))
        if read is as_object:
            config.setdefault("compile_config", {"optimizer": "sgd", "loss": "mse"})
        with pytest.raises(ValueError, match=r"it asks for|cannot have dtype"):
            read(config)


def test_objects_alone():
    with pytest.raises(ValueError, match="confusion matrix"):
        saving.deserialize_keras_object(of_class("MeanIoU", "keras.metrics", num_classes=25_000))
    with pytest.raises(ValueError, match="it asks for"):
        ks.Sequential.from_config(CONFIGS["units"]["config"])
    value = saving.deserialize_keras_object(array(["ab", "c"], "U300000000"))
    assert value.tolist() == ["ab", "c"]
    assert value.nbytes < 100
    assert saving.deserialize_keras_object(array([1, 2.5], "float16")).dtype == "float16"


@pytest.fixture
def low(monkeypatch):
    """Limits of which there is a quick test."""
    monkeypatch.setattr(budget, "SIZE_ALONE", budget.SIZE_ALONE // 512)
    monkeypatch.setattr(budget, "TOTAL_ALONE", budget.TOTAL_ALONE // 512)
    monkeypatch.setattr(budget, "FREE_STEPS", budget.FREE_STEPS // 8)


def test_calls_that_double(low):
    with pytest.raises(ValueError, match="more steps"):
        as_json(doubling(25))
    assert torch.is_grad_enabled()  # refused in the midst of a run without gradients
    assert as_json(doubling(4)).count_params() == 12


def test_many_layers_together(low):
    config = sequential(*(layer("Dense", units=600) for _ in range(9)))
    with pytest.raises(ValueError, match="far more memory"):
        as_json(config)
    with saving.raise_limits():
        assert len(as_json(config).layers) == 9


def test_limits_can_be_raised(low):
    config = of_class("MeanIoU", "keras.metrics", num_classes=900)
    with pytest.raises(ValueError, match="raise_limits"):
        saving.deserialize_keras_object(config)
    with saving.raise_limits(2):
        assert saving.deserialize_keras_object(config).total_cm.shape == (900, 900)
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(contextvars.copy_context().run, saving.deserialize_keras_object, config)
            assert there.result().total_cm.shape == (900, 900)
            with pytest.raises(ValueError, match="raise_limits"):
                pool.submit(saving.deserialize_keras_object, config).result()


def test_what_a_caller_makes_has_no_limit(low):
    """The budget is the reader's, not the constructor's."""
    assert ks.metrics.MeanIoU(900).total_cm.shape == (900, 900)
    model = ks.Sequential([ks.Input((900,)), layers.Dense(900)])
    with pytest.raises(ValueError, match="it asks for"):
        ks.Sequential.from_config(model.get_config())
    assert ks.models.clone_model(model).count_params() == model.count_params()
    model.save("m.keras")
    assert saving.load_model("m.keras").count_params() == model.count_params()


def test_json_that_swells(low):
    for text in ("[" + "[]," * 60_000 + "[]]", '{"config":' * 20_000):
        with pytest.raises(ValueError, match="it asks for the text"):
            ks.models.model_from_json(text)


def test_a_graph_that_makes_much_of_little():
    x = ks.Input((3,))
    model = ks.Model(x, torch.nn.functional.softplus(x, beta=3.0))
    for path, given in {
        "torch.bincount": {"minlength": 2**33},
        "torch.Tensor.new_zeros": {"size": [2**33]},
        "torch.nn.functional.pad": {"pad": [2**33, 0, 1, 0]},
        "torch.Tensor.tensor_split": {"indices_or_sections": 2**30},
    }.items():
        config = json.loads(model.to_json())
        call = next(each for each in config["config"]["layers"] if each["class_name"] == "TorchFunction")
        call["config"]["function"], call["inbound_nodes"][0]["kwargs"] = path, given
        with pytest.raises(ValueError, match=r"Cannot load"):
            ks.models.model_from_json(json.dumps(config))


# ----------------------------------------------------------------------------------------------------- arrays in HDF5


class Own(layers.Layer):
    """A layer that alone knows what fits it."""

    def build(self, shape):
        self.w = self.add_weight((2,), name="w")

    def call(self, x):
        return x + self.w.sum()

    def load_own_variables(self, store):
        self.w.assign(store["0"])


def swollen(group, key, shape=(2**28, 2)):
    """Puts an array of 2 GiB, in which nothing is stored but zeros, packed, in the place of another."""
    del group[key]
    data = group.create_dataset(key, shape, "f4", chunks=(2**20, 2), compression="gzip", fillvalue=0)
    data[:2000] = np.random.default_rng(0).random((2000, 2))  # packed to a five hundredth, which is allowed
    packed = data.id.read_direct_chunk((0, 0))[1]
    for start in range(2**20, shape[0], 2**20):
        data.id.write_direct_chunk((start, 0), packed)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("layers/dense/vars", "but the file has"),
        ("optimizer/vars", "but the file has"),
        ("layers/own/vars", "it asks for an array"),
    ],
)
def test_arrays_that_swell(where, says):
    model = network(Own())
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
    model.save_weights("m.weights.h5")
    with h5py.File("m.weights.h5", "a") as file:
        swollen(file[where], {"optimizer/vars": "2"}.get(where, "0"))
    before = [each.numpy().copy() for each in (*model.weights, *model.optimizer.variables)]
    with pytest.raises(ValueError, match=says):
        model.load_weights("m.weights.h5")
    with pytest.raises(ValueError, match="it asks for an array"):  # whatever a model may say of its shape
        KerasFileEditor("m.weights.h5")
    after = [each.numpy() for each in (*model.weights, *model.optimizer.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    if where != "layers/own/vars":
        write({**members(model), "model.weights.h5": pathlib.Path("m.weights.h5").read_bytes()})
        with pytest.raises(ValueError, match="Cannot load"):
            saving.load_model("m.keras", custom_objects={"Own": Own})


def test_arrays_that_swell_in_an_older_file():
    model = network()
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
    model.save("m.h5")
    with h5py.File("m.h5", "a") as file:
        name = file["model_weights/dense"].attrs["weight_names"][0].decode()
        swollen(file["model_weights/dense"], name)
        slot = file["optimizer_weights"].attrs["weight_names"][2].decode()
        swollen(file["optimizer_weights"], slot)
    with pytest.raises(ValueError, match="shapes"):
        saving.load_model("m.h5")
    with pytest.raises(ValueError, match="shapes"):
        model.load_weights("m.h5")


@pytest.mark.parametrize(
    ("cls", "config"),
    [
        (ks.metrics.AUC, {"num_thresholds": 10**9}),
        (layers.IntegerLookup, {"num_oov_indices": 10**9, "vocabulary": [1]}),
    ],
)
def test_configs_given_to_a_class_itself(cls, config):
    with pytest.raises(TooLargeError):
        cls.from_config(config)


def test_a_chunk_larger_than_its_values():
    """HDF5 expands a whole chunk for any value in it: here some kilobytes to 64 MB."""
    model = network()
    model.save_weights("m.weights.h5")
    with h5py.File("m.weights.h5", "a") as file:
        place = "layers/dense/vars/0"
        shape = file[place].shape
        del file[place]
        shape_of_chunk = {"chunks": (4096, 4096), "maxshape": (None, None), "compression": "gzip"}
        dataset = file.create_dataset(place, shape, dtype="f4", **shape_of_chunk)
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(4 * 4096**2)))
    before = model.get_weights()
    with pytest.raises(ValueError, match="chunks of 6.71e\\+07 bytes"):
        model.load_weights("m.weights.h5")
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    with saving.raise_limits():
        model.load_weights("m.weights.h5")


# --------------------------------------------------------------------------------------------------------- torch files


def rewritten(edit, method=zipfile.ZIP_STORED, name="evil.pt"):
    """A `.pt` of a small model with other members."""
    network().save_weights("good.pt")
    with zipfile.ZipFile("good.pt") as old, zipfile.ZipFile(name, "w", method) as new:
        for member in old.namelist():
            new.writestr(member, edit(member, old.read(member)))
    return name


def nested(depth):
    """A pickle of a dict whose key is a tuple of two tuples of two tuples ... : 2 ** depth in its hash."""
    return b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * depth + b"K\x01s."


def lying(member, data):
    """Storages that say to be 4 GiB long."""
    place = data.find(b"K\x06", data.find(b"cpu"))
    return data[:place] + b"J" + struct.pack("<i", 2**30) + data[place + 2 :] if member.endswith(".pkl") else data


OLDER = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}))
TORCH = {
    "a swollen storage": lambda: rewritten(lambda m, d: bytes(2**24) if "data/0" in m else d, zipfile.ZIP_DEFLATED),
    "a swollen pickle": lambda: rewritten(
        lambda m, d: b"\x80\x02" + b"0" * 2**24 if m.endswith(".pkl") else d, zipfile.ZIP_DEFLATED
    ),
    "a nested key": lambda: rewritten(lambda m, d: nested(60) if m.endswith(".pkl") else d),
    "a false length": lambda: rewritten(lying),
    "a nested key, older": lambda: _bytes(OLDER + nested(60)),
    "something behind": lambda: _bytes(pathlib.Path(rewritten(lambda m, d: d)).read_bytes() + b"PK\x05\x06"),
    "something in front": lambda: _bytes(b"PK\x03\x04" + pathlib.Path(rewritten(lambda m, d: d)).read_bytes()),
    "bytes by number": lambda: _pickled(b"(" + 2 * b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R" + b"l"),
    "many objects": lambda: _pickled(b"(" + b"}" * 1_200_000 + b"l"),
    "marks": lambda: _bytes(b"\x80\x02" + b"(" * 10**5 + b"."),
    "nothing": lambda: _bytes(b""),
}


def _bytes(content):
    with open("evil.pt", "wb") as file:
        file.write(content)
    return "evil.pt"


def _pickled(content):
    return rewritten(lambda member, data: b"\x80\x02" + content + b"." if member.endswith(".pkl") else data)


SAYS = r"a bytearray, which|more Python objects|"
SAYS += r"compresses none|are stored|nested too deeply|tensors claim|the zip file|before seeing STOP|is empty"


@pytest.mark.parametrize("make", TORCH.values(), ids=TORCH)
def test_torch_files(make):
    path = make()
    with pytest.raises(ValueError, match=SAYS):
        network().load_weights(path)
    os.makedirs("backup")
    os.rename(path, "backup/latest.pt")
    with pytest.raises(OSError, match="delete it to start over"):
        backup._loaded(pathlib.Path("backup/latest.pt"))


def test_torch_files_of_both_kinds_are_read():
    model, other = network(), network()
    torch.save(model.state_dict(), "older.pt", _use_new_zipfile_serialization=False)
    model.save_weights("newer.pt")
    for path in ("older.pt", "newer.pt"):
        other.set_weights([0 * value for value in other.get_weights()])
        other.load_weights(path)
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


# --------------------------------------------------------------------------------------------- links, pipes and devices


def vocabulary_model():
    return ks.Sequential([layers.StringLookup(vocabulary=["a", "b"], name="lookup")])


def folder_with(make, *path):
    """A model's folder in which something else is made in the place of a file or folder."""
    vocabulary_model().save("folder", zipped=False)
    os.makedirs("outside/string_lookup", exist_ok=True)
    with open("outside/vocabulary.txt", "w") as file:
        file.write("secret")
    at = os.path.join("folder", *path)
    os.rename(at, "outside/old")
    make(at)


def link(at):
    os.symlink(os.path.abspath("outside/old"), at)


NAMES = ("config.json", "metadata.json", "model.weights.h5", "assets", "assets/layers")
PLACES = [(make, name) for name in NAMES for make in (link, os.mkfifo)]
VOCABULARY = "assets/layers/string_lookup/vocabulary.txt"
PLACES += [(make, VOCABULARY) for make in (link, os.mkfifo)] + [(link, "assets/layers/string_lookup")]


@pytest.mark.filterwarnings("ignore:.* is not built yet")  # a model of text takes no symbolic input
@pytest.mark.parametrize(("make", "name"), PLACES, ids=[f"{make.__name__}-{name}" for make, name in PLACES])
def test_links_in_a_folder(make, name):
    folder_with(make, *name.split("/"))
    with pytest.raises(ValueError, match=r"link|pipe"):
        saving.load_model("folder")


@pytest.mark.filterwarnings("ignore:.* is not built yet")  # a model of text takes no symbolic input
def test_other_links_in_a_folder_are_left_alone():
    vocabulary_model().save("folder", zipped=False)
    os.symlink("/etc/passwd", "folder/latest")
    os.symlink("folder", "by another name")
    assert saving.load_model("by another name").layers[0].get_vocabulary() == ["[UNK]", "a", "b"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("make", [link, os.mkfifo])
def test_links_in_a_folder_of_the_hub(make, name):
    network().save_pretrained("hub")
    os.makedirs("outside")
    os.rename(f"hub/{name}", "outside/old")
    make(f"hub/{name}")
    with pytest.raises(ValueError, match=r"link|pipe"):
        ks.Model.from_pretrained("hub")


def test_the_cache_of_the_hub_is_made_of_links():
    model = network()
    os.makedirs("models--a--b/snapshots/1")
    model.save_pretrained("models--a--b/blobs")
    for name in ("config.json", "model.safetensors"):
        os.symlink(f"../../blobs/{name}", f"models--a--b/snapshots/1/{name}")
    again = ks.Model.from_pretrained("models--a--b/snapshots/1")
    assert np.array_equal(again.get_weights()[0], model.get_weights()[0])
    os.remove("models--a--b/snapshots/1/config.json")
    os.symlink("../../../hub", "models--a--b/snapshots/1/config.json")
    with pytest.raises(ValueError, match="link"):
        ks.Model.from_pretrained("models--a--b/snapshots/1")


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.weights.json", "m.h5", "m.safetensors", "m.pt"])
def test_pipes_and_devices(name):
    os.mkfifo(name)
    os.symlink("/dev/zero", f"zero{name}")
    for path in (name, f"zero{name}"):
        with pytest.raises(ValueError, match=r"not a file but a (pipe|device)"):
            network().load_weights(path)
        if name.endswith((".keras", ".h5")) and not name.endswith(".weights.h5"):
            with pytest.raises(ValueError, match=r"pipe|device|not a zip file"):
                saving.load_model(path)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../m.weights.h5", "x" * 2_000_000, "a\0b", "a/b", "", "..", 7, "pipe", "link"]
)
def test_names_of_shards(name):
    model = network()
    model.save_weights("m.weights.json", max_shard_size=1)
    os.mkfifo("pipe")
    os.symlink("/etc/passwd", "link")
    with open("m.weights.json") as file:
        table = json.load(file)
    table["weight_map"] = dict.fromkeys(table["weight_map"], name)
    with open("m.weights.json", "w") as file:
        json.dump(table, file)
    with pytest.raises(ValueError, match=r"is not in its folder|is a (pipe|link|folder)") as caught:
        model.load_weights("m.weights.json")
    assert len(str(caught.value)) < 500


def test_names_of_members_are_cut():
    member = zipfile.ZipInfo("a" * 60_000)
    with pytest.raises(ValueError, match="a name that is too long") as caught:
        archive.check_member(member)
    assert len(str(caught.value)) < 500
