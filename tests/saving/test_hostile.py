"""Files made to do harm: each ends in an error, and nothing of what they ask for happens."""

import ast
import base64
import io
import json
import marshal
import os
import pickle
import resource
import stat
import zipfile

import h5py
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, saving

PWNED = "pwned.txt"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, in which a file appears if any of the payloads runs."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / PWNED).exists()


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {PWNED}",)


def bytecode():
    """A lambda as Keras writes it: base64 of marshalled code."""
    code = compile(f"(lambda x: __import__('os').system('touch {PWNED}') and x)", "<x>", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def network(*more):
    return ks.Sequential([ks.Input((3,)), layers.Dense(2, name="dense"), *more])


def members(model):
    """Name -> content of a model's file."""
    model.save("whole.keras")
    with zipfile.ZipFile("whole.keras") as file:
        return {name: file.read(name) for name in file.namelist()}


def write(content, name="m.keras"):
    with zipfile.ZipFile(name, "w") as file:
        for member, data in content.items():
            file.writestr(member, data)
    return name


def with_layer(entry):
    """A model's file whose config has one more layer."""
    content = members(network())
    config = json.loads(content["config.json"])
    config["config"]["layers"].append(entry)
    return write({**content, "config.json": json.dumps(config)})


def layer(class_name, module="keras.layers", **config):
    return {"module": module, "class_name": class_name, "config": {"name": "evil", **config}, "registered_name": None}


def function(name, module="builtins"):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


BYTECODE = {"class_name": "__lambda__", "config": {"value": [bytecode(), None, None]}}
POPEN = {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", PWNED]}}
LAYERS = {
    "CVE-2024-3660 lambda": layer(
        "Lambda", function={"class_name": "__lambda__", "config": {"value": [bytecode(), None, None]}}
    ),
    "CVE-2024-3660 lambda of Keras 2": layer("Lambda", function=[bytecode(), None, None], function_type="lambda"),
    "CVE-2024-3660 lambda elsewhere": layer("Dense", units=2, activation=BYTECODE),
    "CVE-2025-1550 function of a module": layer(
        "Lambda", function=function("system", "os"), arguments={"command": f"touch {PWNED}"}
    ),
    "CVE-2025-1550 class of a module": layer("Popen", "subprocess", args=["touch", PWNED]),
    "CVE-2025-1550 initializer": layer(
        "Dense",
        units=2,
        kernel_initializer={"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", PWNED]}},
    ),
    "CVE-2025-1550 builtin": layer("Lambda", function=function("exec")),
    "CVE-2025-8747 get_file": layer(
        "Lambda",
        function=function("get_file", "keras.utils"),
        arguments={"origin": "http://127.0.0.1:9/x", "fname": PWNED},
    ),
    "CVE-2025-9906 safe mode switched off": layer(
        "Lambda", function=function("enable_unsafe_deserialization", "keras.config")
    ),
    "CVE-2025-12058 vocabulary of a path": layer("StringLookup", vocabulary="/etc/passwd"),
    "CVE-2025-12058 text of a path": layer("TextVectorization", vocabulary="/etc/passwd"),
    "CVE-2025-49655 pickled module": layer(
        "TorchModuleWrapper", module=base64.b64encode(pickle.dumps(Payload())).decode(), output_shape=None
    ),
    "CVE-2026-1462 TFSMLayer": layer("TFSMLayer", filepath="http://127.0.0.1:9/model", call_endpoint="serve"),
    "JaxLayer": layer("JaxLayer", call_fn=function("system", "os")),
    "an object of the process": layer("load_model", "kstyle_torch.saving", filepath="x"),
    "attributes of a class": layer("Dense.__init__", units=2),
    "a function of torch": layer("load", "torch", f="x.pt"),
}


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_code_in_a_config(entry, folder):
    path = with_layer(entry)
    with pytest.raises(ValueError, match=r"Cannot load 'm\.keras'"):
        saving.load_model(path)
    content = members(network())
    config = json.loads(content["config.json"])["config"]
    config["layers"] = [*config["layers"][:1], {**entry, "config": {**entry["config"], "batch_input_shape": [None, 3]}}]
    with h5py.File("m.h5", "w") as file:  # CVE-2025-9905: the older format has the same rules
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        file.create_group("model_weights").attrs["layer_names"] = np.array([], dtype="S1")
    with pytest.raises(ValueError, match=r"Cannot load 'm\.h5'"):
        saving.load_model("m.h5")


def test_a_lambda_runs_where_the_caller_trusts_the_file(folder):
    code = compile("(lambda x: x * 2)", "<x>", "eval").co_consts[0]
    value = {
        "class_name": "__lambda__",
        "config": {"value": [base64.b64encode(marshal.dumps(code)).decode(), None, None]},
    }
    path = with_layer(layer("Lambda", function=value))
    model = saving.load_model(path, safe_mode=False)
    x = torch.ones(1, 3)
    assert torch.equal(model(x), model.get_layer("dense")(x) * 2)


FUNCTIONS = (
    "os.system builtins.eval torch.load torch.save torch.hub.load torch.as_strided torch.Tensor.set_ torch.Tensor.apply_ "
    "torch.Tensor.numpy torch.Tensor.__reduce_ex__ torch.Tensor.__class__"
)
NAMES = ["x; import os", f"'); import os; os.system('touch {PWNED}'); ('", "a\nimport os", "__import__", "{0}"]
OUTSIDE = (
    "../evil.txt",
    "/tmp/evil.txt",
    "assets/../../evil.txt",
    "assets\\..\\evil.txt",
    "C:/evil.txt",
    "assets/a/../../../b",
)


@pytest.mark.parametrize(
    "path", [*FUNCTIONS.split(), "torch.Tensor.__reduce_ex__", "torch.as_strided", "torch.Tensor.__class__"]
)
def test_functions_that_a_graph_may_not_call(path, folder):
    x = ks.Input((3,))
    content = members(ks.Model(x, torch.nn.functional.softplus(x, beta=3.0)))
    config = json.loads(content["config.json"])
    next(each for each in config["config"]["layers"] if each["class_name"] == "TorchFunction")["config"]["function"] = (
        path
    )
    with pytest.raises(ValueError, match="not allowed in a graph"):
        saving.load_model(write({**content, "config.json": json.dumps(config)}))


@pytest.mark.parametrize("name", NAMES)
def test_names_never_become_code(name, folder):
    x = ks.Input((3,), name="harmless")
    model = ks.Model({"first": x}, {"second": layers.Dense(2, name="dense")(torch.exp(x))})
    content = members(model)
    text = content["config.json"].decode()
    for old in ("harmless", "first", "second", "dense"):
        text = text.replace(json.dumps(old), json.dumps(f"{name}{old}"))
    text = text.replace('"exp"', json.dumps(f"{name}exp"))
    model = saving.load_model(write({**content, "config.json": text}))
    kinds = {type(node) for node in ast.walk(ast.parse(model.code))}
    assert not kinds & {ast.Import, ast.ImportFrom, ast.Expr}
    data = torch.ones(1, 3)
    assert model({f"{name}first": data})[f"{name}second"].shape == (1, 2)
    model.save("again.keras")
    again = saving.load_model("again.keras")
    assert [each.name for each in again.layers] == [each.name for each in model.layers]


# ------------------------------------------------------------------------------------------------------- zip and HDF5


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "/tmp/evil.txt",
        "assets/../../evil.txt",
        "assets\\..\\evil.txt",
        "C:/evil.txt",
        "assets/a/../../../b",
    ],
)
def test_members_outside_of_the_archive(name, folder):
    path = write({**members(network()), name: b"x"})
    with pytest.raises(ValueError, match="lies outside"):
        saving.load_model(path)


def test_links_in_an_archive(folder):
    content = members(network())
    path = write(content)
    link = zipfile.ZipInfo("assets/vocabulary.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="is a link"):
        saving.load_model(path)


def test_archives_that_swell(folder):
    content = members(network())
    with zipfile.ZipFile("m.keras", "w", zipfile.ZIP_DEFLATED) as file:
        for member, data in content.items():
            file.writestr(member, data if member != "config.json" else b" " * 50_000_000 + data)
    with pytest.raises(ValueError, match="claims 5"):
        saving.load_model("m.keras")


def test_a_member_with_another_size(folder):
    path = write(members(network()))
    data = bytearray((folder / path).read_bytes())
    place = data.rindex(b"PK\x01\x02")  # in the directory, of the last member
    data[place + 24 : place + 28] = (3_000_000_000).to_bytes(4, "little")
    (folder / path).write_bytes(data)
    with pytest.raises(ValueError, match="claims 3000000000 bytes"):
        saving.load_model(path)


def weights_file(edit):
    """A `.weights.h5` of a small model, changed by a function of its root."""
    model = network()
    model.save_weights("m.weights.h5")
    with h5py.File("m.weights.h5", "a") as file:
        edit(file, file["layers/dense/vars"])
    return model


def external_link(file, group):
    del group["0"]
    group["0"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_loop(file, group):
    del file["layers/dense/vars"]
    file["layers/dense/vars"] = h5py.SoftLink("/layers/dense/vars")


def soft_link(file, group):
    group["2"] = group["0"][()]
    del group["0"]
    group["0"] = h5py.SoftLink("/layers/dense/vars/2")
    del group["1"]


def virtual(file, group):
    layout = h5py.VirtualLayout(shape=(3, 2), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3, 2))
    del group["0"]
    group.create_virtual_dataset("0", layout)


def external_storage(file, group):
    del group["0"]
    group.create_dataset("0", (3, 2), "f4", external=[("/etc/passwd", 0, 24)])


def huge_shape(file, group):  # CVE-2026-0897
    del group["0"]
    group.create_dataset("0", (2**40, 2), "f4", chunks=(1024, 2), compression="gzip")


def strings(file, group):
    del group["0"]
    group["0"] = np.array([[b"a", b"b"]] * 3)


def a_group(file, group):
    del group["0"]
    group.create_group("0")


def nothing(file, group):
    del group["0"]
    group["0"] = h5py.Empty("f4")


def a_type(file, group):
    del group["0"]
    group["0"] = np.dtype("f4")


HDF5 = [external_link, soft_loop, soft_link, virtual, external_storage, huge_shape, strings, a_group, nothing, a_type]


@pytest.mark.parametrize("edit", HDF5, ids=lambda edit: edit.__name__)
def test_hdf5_that_reaches_out_or_lies(edit, folder):
    model = weights_file(edit)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"m\.weights\.h5"):
        model.load_weights("m.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    if os.path.getsize("m.weights.h5") < 10**6:
        content = {**members(network()), "model.weights.h5": (folder / "m.weights.h5").read_bytes()}
        with pytest.raises(ValueError, match=r"Cannot load"):
            saving.load_model(write(content))


# -------------------------------------------------------------------------------------------------------------- memory

HUGE = {
    "units": layer("Dense", units=2**40),
    "table": layer("Embedding", input_dim=2**34, output_dim=64),
    "kernel": layer("EinsumDense", equation="ab,bc->ac", output_shape=2**38),
    "batch": layer("InputLayer", batch_shape=[2**20, 2**20]),
    "attention": layer("GRU", units=2**20),
    "buffer": layer("MelSpectrogram", fft_length=2**30, sequence_stride=1),
}


@pytest.mark.parametrize("entry", HUGE.values(), ids=HUGE)
def test_configs_that_ask_for_the_world(entry, folder):
    content = members(network())
    config = json.loads(content["config.json"])
    config["config"]["layers"] = (
        [entry] if entry["class_name"] == "InputLayer" else [config["config"]["layers"][0], entry]
    )
    if entry["class_name"] == "InputLayer":
        config["config"]["layers"].append(layer("Dense", units=1))
    config["config"].pop("build_input_shape", None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"Cannot load"):
        saving.load_model(write({**content, "config.json": json.dumps(config)}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kilobytes


def test_configs_nested_without_end(folder):
    content = members(network())
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    with pytest.raises(ValueError, match="nested too deeply"):
        saving.load_model(write({**content, "config.json": deep}))
    config = json.loads(content["config.json"])
    nest = {"units": 1}
    for _ in range(900):
        nest = {"x": nest}
    config["config"]["layers"].append(layer("Dense", **nest))
    with pytest.raises(ValueError, match="Cannot load"):
        saving.load_model(write({**content, "config.json": json.dumps(config)}))


def test_pickles_among_weights(folder):
    model = network()
    torch.save({"dense.linear.weight": Payload()}, "m.pt")
    with pytest.raises(ValueError, match="more than tensors"):
        model.load_weights("m.pt")
    buffer = io.BytesIO()
    pickle.dump(Payload(), buffer)
    (folder / "m.keras").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="not a zip file"):
        saving.load_model("m.keras")
    (folder / "m.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="not a safetensors file"):
        model.load_weights("m.safetensors")


def test_a_heap_in_which_hdf5_runs_in_circles(folder):
    model = network()
    model.save("m.h5")
    content = bytearray((folder / "m.h5").read_bytes())
    heap = content.index(b"GCOL")
    free = heap + 16
    while content[free : free + 2] != bytes(2):
        free += 16 + -(-int.from_bytes(content[free + 8 : free + 16], "little") // 8) * 8
    content[free + 8 : free + 16] = bytes(8)
    (folder / "m.h5").write_bytes(content)
    with pytest.raises(ValueError, match="sizes in a heap"):
        saving.load_model("m.h5")
    with pytest.raises(ValueError, match="sizes in a heap"):
        model.load_weights("m.h5")


def test_other_kinds_of_files(folder):
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ValueError, match="SavedModel of TensorFlow"):
        saving.load_model("saved")
    network().save_weights("m.weights.h5")
    with pytest.raises(ValueError, match="weights without a model"):
        saving.load_model("m.weights.h5")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        saving.load_model(write({"a.txt": b"x"}))
