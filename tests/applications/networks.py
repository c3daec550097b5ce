"""What the tests of all architectures share: a network here and in Keras, its layers, and weights from there."""

import inspect

import keras
import numpy as np

import kstyle_torch as ks
from kstyle_torch import activations, config, initializers

INSIDE = ("module", "registered_name", "build_config", "shared_object_id")  # of serialized objects in configs
PAIRS = ("kernel_size", "strides", "pool_size", "dilation_rate", "size")  # one number stands for two
OF_INPUTS = ("shape", "batch_shape", "trainable")  # which configs of inputs spell in another way


def both(architecture, **arguments):
    """Returns our network and that of Keras, with the names of a new process."""
    keras.utils.clear_session()
    ks.utils.clear_session()
    return [getattr(library.applications, architecture)(weights=None, **arguments) for library in (ks, keras)]


def without_values(architecture, **arguments):
    """Returns our network and that of Keras; no weights are drawn."""
    with keras.device("meta"), config.device_scope("meta"), initializers.left_out():
        return both(architecture, **arguments)


def described(value, key=""):
    """Returns a config as nested lists and dicts that are equal where the objects are."""
    if key.endswith("_initializer") and value is not None:
        found = initializers.get(value)
        return type(found).__name__, found.get_config()
    if key == "activation":
        return activations.get(value).__name__
    if key == "padding" and isinstance(value, int):
        return [[value, value], [value, value]]
    if key == "data_format":
        return value or config.image_data_format()
    if key in PAIRS and isinstance(value, int):
        return [value, value]
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
    """The two networks have the same layers in the same order, and their functions the same signature."""
    ours, theirs = without_values(architecture, **arguments)
    for mine, its in zip(structure(ours), structure(theirs), strict=True):
        assert mine == its
    assert (ours.name, ours.count_params()) == (theirs.name, theirs.count_params())
    assert (ours.input_shape, ours.output_shape) == (theirs.input_shape, theirs.output_shape)
    functions = [getattr(library.applications, architecture) for library in (ks, keras)]
    mine, its = ([*inspect.signature(each).parameters.values()] for each in functions)
    assert [(each.name, each.default, each.kind) for each in mine] == [
        (each.name, each.default, each.kind) for each in its
    ]


def randomize(model):
    """Draws weights that keep the values in range, for the statistics of BatchNormalization too."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        is_scale = weight.name in ("gamma", "moving_variance")
        deviation = (2 / np.prod(weight.shape[:-1])) ** 0.5 if len(weight.shape) > 1 else 0.1
        drawn = random.uniform(0.5, 1.5, weight.shape) if is_scale else random.normal(0, deviation, weight.shape)
        weight.assign(drawn.astype("float32"))


def assert_same_outputs(path, architecture, shape, rtol=1e-5, **arguments):
    """Keras writes its weights to a file, from which ours gives the same outputs.

    Args:
        path: Where; `.weights.h5`, or `.h5` for the older form, in which the published files are.
    """
    arguments.setdefault("input_shape", shape)
    keras.utils.clear_session()
    theirs = getattr(keras.applications, architecture)(weights=None, **arguments)
    randomize(theirs)
    theirs.save_weights(path) if path.name.endswith(".weights.h5") else theirs.save(path)
    ours = getattr(ks.applications, architecture)(weights=path, **arguments)
    images = np.random.default_rng(1).uniform(-1, 1, (2, *shape)).astype("float32")
    found, wanted = ours.predict(images, verbose=0), theirs.predict(images, verbose=0)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01 * np.abs(wanted).max() > 0  # else anything would agree
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
