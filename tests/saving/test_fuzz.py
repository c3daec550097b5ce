"""Whatever is done to a file: a model comes out, or an error of the ValueError family."""

import io
import json
import random
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kstyle_torch as ks
from kstyle_torch import layers, saving

FEW = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """The bytes of real files: `.keras`, `.weights.h5`, `.h5`."""
    folder = tmp_path_factory.mktemp("originals")
    x = ks.Input((6,))
    y = layers.Dropout(0.5)(layers.Dense(4, activation="relu", kernel_regularizer="l2")(x))
    y = layers.Concatenate()([ks.ops.mean(y, axis=-1, keepdims=True), layers.BatchNormalization()(y) * 2])
    model = ks.Model(x, layers.Dense(2, name="out")(layers.Reshape((5,))(y)))
    model.compile("adam", "mse", metrics=["mae"])
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    return model, {name: (folder / name).read_bytes() for name in ("m.keras", "m.h5", "m.weights.h5")}


def attempt(action):
    """Runs it; nothing but the promised errors may come out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            action()
        except (ValueError, FileNotFoundError):
            return False
    return True


# ---------------------------------------------------------------------------------------------------------------- JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
VALUES = JSON | st.sampled_from(
    [
        *(
            "Dense",
            "Functional",
            "InputLayer",
            "function",
            "__keras_tensor__",
            "Lambda",
            "keras.layers",
            "relu",
            "x",
            "module",
        )
    ]
)


def places(config, path=()):
    """The paths to everything in a config."""
    yield path
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(config, path, value, remove):
    """A copy with another value at a path, or without it."""
    config = json.loads(json.dumps(config))
    if not path:
        return value
    home = config
    for key in path[:-1]:
        home = home[key]
    if remove:
        del home[path[-1]]
    else:
        home[path[-1]] = value
    return config


@pytest.mark.full
@FEW
@given(data=st.data())
def test_configs(data, originals, tmp_path):
    with zipfile.ZipFile(io.BytesIO(originals[1]["m.keras"])) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = json.loads(members["config.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([*places(config)]))
        config = changed(config, path, data.draw(VALUES), data.draw(st.booleans()))
        if not isinstance(config, (dict, list)):
            break
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        for name, content in {**members, "config.json": json.dumps(config).encode()}.items():
            file.writestr(name, content)
    attempt(lambda: saving.load_model(tmp_path / "m.keras"))
    attempt(lambda: ks.models.model_from_json(json.dumps(config)))


# --------------------------------------------------------------------------------------------------------------- bytes


@pytest.mark.full
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_bytes(name, originals, tmp_path):
    model, files = originals
    for seed in range(25):
        draw = random.Random(seed)
        content = bytearray(files[name])
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.3:
            content = content[: draw.randrange(len(content))]
        path = tmp_path / f"{seed}{name}"
        path.write_bytes(content)
        attempt(lambda path=path: saving.load_model(path))
        attempt(lambda path=path: model.load_weights(path))
        if name != "m.h5":
            attempt(lambda path=path: saving.KerasFileEditor(path))


@pytest.mark.full
def test_groups(originals, tmp_path):
    """HDF5 files that are whole, but hold something else than they should."""
    model, files = originals
    for seed in range(40):
        draw = random.Random(seed)
        path = tmp_path / f"{seed}.weights.h5"
        path.write_bytes(files["m.weights.h5"])
        with h5py.File(path, "a") as file:
            names = []
            file.visit(names.append)
            for _ in range(draw.randint(1, 3)):
                replace(file, draw.choice(names), draw)
        attempt(lambda path=path: model.load_weights(path))
        attempt(lambda path=path: saving.KerasFileEditor(path))


def replace(file, name, draw):
    """Puts something else in the place of a group or array."""
    if name not in file:
        return
    del file[name]
    kind = draw.choice(["gone", "group", "array", "link", "text", "loop"])
    if kind == "group":
        file.create_group(name)
    elif kind == "array":
        shape = [draw.randrange(6) for _ in range(draw.randrange(4))]
        file[name] = np.ones(shape, draw.choice(["f4", "f8", "i4", "?", "S2", "c8"]))
    elif kind == "link":
        file[name] = h5py.SoftLink(draw.choice(["/", f"/{name}", "/layers", "nowhere"]))
    elif kind == "text":
        file[name] = draw.choice(["", "text", "\u4e2d\u6587"])
    elif kind == "loop":
        file[name] = file["/"]


def test_the_originals_are_good(originals, tmp_path):
    """What is changed above does load as it is."""
    model, files = originals
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert attempt(lambda name=name: model.load_weights(tmp_path / name))
        assert attempt(lambda name=name: saving.load_model(tmp_path / name)) == (name != "m.weights.h5")
