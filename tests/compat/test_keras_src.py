"""Keras' own modules: the table of the installed Keras, and the private functions that libraries import."""

import importlib
import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch import namespaces
from kstyle_torch.compat import keras_src
from kstyle_torch.compat.internal_places import PLACES
from kstyle_torch.compat.internals import arguments, process, tensors

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.full
def test_table_is_that_of_the_installed_keras(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    spec = importlib.util.spec_from_file_location("write_keras_src", SCRIPTS / "keras_src.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TABLE.read_text(encoding="utf-8") == script.table(), "run scripts/keras_src.py"


def is_known_to_be_missing(namespace, name):
    parts = [*filter(None, namespace.split(".")), name]
    return any(
        part in namespaces.NOT_YET.get(".".join(parts[:i]), "").split()
        or part in namespaces.ADVICE.get(".".join(parts[:i]), {})
        for i, part in enumerate(parts)
    )


def test_public_objects_are_found():
    """Each row of the table leads to an object, unless Keras' public name is one that is not here."""
    missing = [
        (path, name, namespace)
        for path, names in keras_src.table().items()
        for name, (namespace, public) in names.items()
        if not is_known_to_be_missing(namespace, public) and not has(path, name)
    ]
    assert missing == []
    assert keras_src.look_up("layers.layer", "Layer") is ks.Layer
    assert keras_src.look_up("layers.attention.grouped_query_attention", "GroupedQueryAttention") is (
        ks.layers.GroupQueryAttention
    )


def has(path, name):
    try:
        return keras_src.look_up(path, name) is not None
    except (AttributeError, ImportError):
        return False


def test_private_objects_are_found_and_are_keras_names():
    pairs = [(path, name) for path, names in PLACES.items() for name in names]
    assert [pair for pair in pairs if not has(*pair)] == []


@pytest.mark.full
def test_private_names_are_those_of_keras():
    others = {("utils.module_utils", "tensorflow"), ("utils.module_utils", "jax"), ("utils.module_utils", "scipy")}
    pairs = {(path, name) for path, names in PLACES.items() for name in names} - others
    modules = {path: importlib.import_module(f"keras.src.{path}".rstrip(".")) for path, _ in pairs}
    assert sorted(pair for pair in pairs if not hasattr(modules[pair[0]], pair[1])) == []


def test_modules_have_submodules_and_names():
    source = keras_src.module("")
    assert source.layers.core.dense.Dense is ks.layers.Dense
    assert source.backend.standardize_dtype("float32") == "float32"
    assert source.backend.common.keras_tensor.KerasTensor is ks.KerasTensor
    assert "Dense" in dir(source.layers) and "Dense" in source.layers.__all__
    with pytest.raises(AttributeError, match="public API. Names of this module that are here: Layer"):
        _ = source.layers.layer.NoSuchName
    with pytest.raises(ModuleNotFoundError, match="public API"):
        keras_src.module("layers.no_such")


def outcome(function, args, kwargs=None):
    try:
        return function(*args, **(kwargs or {}))
    except ValueError:
        return ValueError


CALLS = [
    *(
        ("utils.argument_validation", "standardize_tuple", (value, 2, "size"))
        for value in (3, (1, 2), 0, (1,), "ab", 1.5)
    ),
    ("utils.argument_validation", "standardize_tuple", (0, 2, "size", True)),
    *(("utils.argument_validation", "standardize_padding", (value,)) for value in ("SAME", "causal", (1, 2))),
    *(("backend.config", "standardize_data_format", (value,)) for value in (None, "Channels_First", "other")),
    *(
        ("applications.imagenet_utils", "obtain_input_shape", (shape, 224, 32, data_format, flatten, weights))
        for shape in (None, (64, 64, 3), (3, 64, 64), (16, 64, 3), (None, None, 3), (64, 64))
        for data_format in ("channels_last", "channels_first")
        for flatten, weights in ((True, None), (False, None), (True, "imagenet"), (False, "imagenet"))
    ),
    *(("applications.imagenet_utils", "correct_pad", (np.zeros((1, 8, 9, 3)), size)) for size in (3, (5, 3))),
    *(
        ("ops.operation_utils", "broadcast_shapes", shapes)
        for shapes in (((3, 1), (4,)), ((None, 2), (1,)), ((None,), (5,)), ((2,), (3,)), ((1, None), (None, 1)))
    ),
    *(("ops.operation_utils", "reduce_shape", ((2, 3, 4), *more)) for more in ((), (1,), ([0, -1],), (None, True))),
    *(
        ("ops.operation_utils", "compute_reshape_output_shape", (*shapes, "newshape"))
        for shapes in (((2, 6), (3, -1)), ((2, 6), (5, -1)), ((2, 6), (12,)), ((2, 6), (11,)))
    ),
    *(("backend.common.backend_utils", "canonicalize_axis", (axis, 3)) for axis in (0, -1, 3)),
    *(("backend.common.backend_utils", "to_tuple_or_list", (value,)) for value in (1, [1], None)),
    ("utils.python_utils", "pythonify_logs", ({"b": np.float32(1), "a": {"c": np.ones(1)}},)),
    ("utils.python_utils", "to_list", (1,)),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of image models with other than 1 or 3 channels, there and here
def test_private_functions_return_what_those_of_keras_do():
    for path, name, args in CALLS:
        expected = outcome(getattr(importlib.import_module(f"keras.src.{path}"), name), args)
        assert outcome(keras_src.look_up(path, name), args) == expected, (path, name, args)


def test_labels_for_hinge_losses():
    from keras.src.losses.losses import convert_binary_labels_to_hinge

    for labels in ([0.0, 1.0], [-1.0, 1.0]):
        expected = convert_binary_labels_to_hinge(np.array(labels, "float32"))
        actual = tensors.convert_binary_labels_to_hinge(np.array(labels, "float32"))
        np.testing.assert_array_equal(actual, keras.ops.convert_to_numpy(expected))


@pytest.mark.parametrize("labels", [[0, 2, 1], [[0.0], [2.0], [1.0]], np.eye(3)])
def test_class_weights(labels):
    from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

    expected = class_weight_to_sample_weights(np.array(labels), {0: 2.0, 1: 0.5})
    actual = tensors.class_weight_to_sample_weights(np.array(labels), {0: 2.0, 1: 0.5})
    np.testing.assert_array_equal(actual, expected)


def test_masks_are_set_and_taken_away():
    for x, mask in (
        (ks.ops.ones((2, 3)), ks.ops.ones((2,), "bool")),
        (ks.KerasTensor((2, 3)), ks.KerasTensor((2,), "bool")),
    ):
        tensors.set_keras_mask(x, mask)
        assert tensors.get_keras_mask(x) is mask
        tensors.set_keras_mask(x, None)
        assert tensors.get_keras_mask(x) is None


def test_lazy_modules():
    assert process.LazyModule("json").dumps([1]) == "[1]"
    missing = process.LazyModule("no_such_module", pip_name="no-such")
    assert not missing.available
    with pytest.raises(ImportError, match="pip install no-such"):
        _ = missing.anything


def test_marks_of_default_methods():
    assert process.is_default(process.default(lambda: None)) and not process.is_default(lambda: None)


def test_activation_of_a_pretrained_classifier():
    arguments.validate_activation("softmax", "imagenet")
    arguments.validate_activation("relu", None)
    with pytest.raises(ValueError, match="got 'relu'"):
        arguments.validate_activation("relu", "imagenet")
