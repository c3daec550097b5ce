"""Helpers of the tests of architectures: a network here and in Keras, its layers, its files, and weights from there."""

import inspect
from unittest import mock

import keras
import numpy as np

import kstyle_torch as ks
from kstyle_torch import activations, config, initializers

INSIDE = ("module", "registered_name", "build_config", "shared_object_id")  # of serialized objects in configs
PAIRS = ("kernel_size", "strides", "pool_size", "dilation_rate", "size")  # one number stands for two
OF_INPUTS = ("shape", "batch_shape", "trainable")  # which configs of inputs spell in another way
FETCHES = ("keras.src.utils.file_utils.get_file", "kstyle_torch.applications._weights_file.get_file")
LOADS = ("keras.Model.load_weights", "kstyle_torch.Model.load_weights")


def fresh(library):
    """Returns the applications of a library, whose names begin as in a new process."""
    library.utils.clear_session()
    return library.applications


def without_values(architecture, **arguments):
    """Returns our network and that of Keras, no weights drawn, no file read; the files that both ask for are the same.

    Arguments that are callable get the library.
    """
    networks, asked = [], []
    for library, fetch, load in zip((keras, ks), FETCHES, LOADS):
        meta = keras.device("meta"), config.device_scope("meta"), initializers.left_out()
        with mock.patch(fetch) as get_file, mock.patch(load), meta[0], meta[1], meta[2]:
            own = {name: value(library) if callable(value) else value for name, value in arguments.items()}
            networks.append(getattr(fresh(library), architecture)(**own))
        asked.append(
            [inspect.signature(ks.utils.get_file).bind(*each.args, **each.kwargs) for each in get_file.mock_calls]
        )
    assert [each.arguments | {"file_hash": each.arguments.get("file_hash")} for each in asked[0]] == [
        each.arguments for each in asked[1]
    ]
    return networks[::-1]


def described(value, key=""):
    """Returns a config as nested lists and dicts that are equal where the objects are."""
    if key.endswith("_initializer") and value is not None:
        found = initializers.get(value)
        return type(found).__name__, found.get_config()
    if key == "activation":
        return activations.get(value).__name__
    if key == "data_format":
        return value or config.image_data_format()
    if isinstance(value, int) and key in PAIRS:
        return [value, value]
    if isinstance(value, int) and key == "padding":
        return [[value, value], [value, value]]
    if isinstance(value, dict):
        items = {name: described(each, name) for name, each in value.items() if name not in INSIDE}
        kept = {name: each for name, each in items.items() if each is not None}
        return kept["config"].get("name") if kept.get("class_name") == "DTypePolicy" else kept
    return [described(item) for item in value] if isinstance(value, (list, tuple)) else value


def structure(model):
    """Returns a row for each layer: its class, its config, the output's shape, and its weights' paths and shapes."""
    rows = []
    for layer in model.layers:
        weights = [(weight.path, tuple(weight.shape), weight.trainable) for weight in layer.weights]
        found, kind = layer.get_config(), type(layer).__name__
        found = {name: value for name, value in found.items() if kind != "InputLayer" or name not in OF_INPUTS}
        rows.append((kind, described(found), tuple(layer.output.shape), weights))
    return rows


def assert_same_structure(architecture, **arguments):
    """The two networks have the same layers in the same order and the same file, and their functions the same signature."""
    ours, theirs = without_values(architecture, **arguments)
    for mine, its in zip(structure(ours), structure(theirs), strict=True):
        assert mine == its
    assert (ours.name, ours.count_params()) == (theirs.name, theirs.count_params())
    assert (ours.input_shape, ours.output_shape) == (theirs.input_shape, theirs.output_shape)
    functions = [getattr(library.applications, architecture) for library in (ks, keras)]
    mine, its = (
        [(each.name, each.default, each.kind) for each in inspect.signature(function).parameters.values()]
        for function in functions
    )
    assert mine == its
    return ours


def randomize(model):
    """Draws weights that keep the values in range, for the statistics of BatchNormalization too."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        shape = weight.shape
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(0.5 + random.random(shape, "float32"))
        else:
            seen = shape[:-1] if shape[-1] > 1 else shape[:2]  # by an output; depthwise ones see one channel
            deviation = (2 / np.prod(seen)) ** 0.5 if len(shape) > 1 else 0.1
            weight.assign(deviation * random.standard_normal(shape, "float32"))


def assert_same_outputs(path, architecture, shape, dtype="float64", **arguments):
    """Keras writes its weights to a file, from which ours gives the same outputs.

    Args:
        path: Where; `.weights.h5`, or `.h5` for the older form, in which the published files are.
        dtype: In float32, rounding adds up to more than 1e-5 in deep networks.
    Returns: Both models, ours first, and images.
    """
    arguments.setdefault("input_shape", shape)
    keras.config.set_dtype_policy(dtype)
    config.set_dtype_policy(dtype)
    try:
        return _compared(path, architecture, shape, arguments)
    finally:
        keras.config.set_dtype_policy("float32")
        config.set_dtype_policy("float32")


def _compared(path, architecture, shape, arguments, rtol=1e-5):
    theirs = getattr(fresh(keras), architecture)(weights=None, **arguments)
    randomize(theirs)
    theirs.save_weights(path) if path.name.endswith(".weights.h5") else theirs.save(path)
    ours = getattr(fresh(ks), architecture)(weights=path, **arguments)
    high = 255 if any(type(layer).__name__ == "Rescaling" for layer in theirs.layers) else 1
    images = np.random.default_rng(1).uniform(0, high, (2, *shape)).astype("float32")
    found, wanted = ours.predict(images, verbose=0), theirs.predict(images, verbose=0)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01 * np.abs(wanted).max() > 0  # else anything would agree
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
    return ours, theirs, images
