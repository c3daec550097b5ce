"""Dtype policies: of single layers, of all, in models that mix them, and after moves."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import assert_close, uniform


@pytest.fixture
def mixed():
    ks.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    ks.mixed_precision.set_global_policy(None)
    keras.mixed_precision.set_global_policy("float32")


def classifier(library):
    return library.Sequential(
        [
            library.Input((6,)),
            library.layers.Dense(16, activation="relu"),
            library.layers.BatchNormalization(),
            library.layers.Dense(1, activation="sigmoid", dtype="float32"),
        ]
    )


def test_a_mixed_model_trains_like_that_of_keras(mixed):
    ours, theirs = classifier(ks), classifier(keras)
    theirs.set_weights(ours.get_weights())
    x = uniform(64, 6)
    y = (x.sum(1) > 0).float()
    for model in (ours, theirs):
        model.compile("sgd", "binary_crossentropy")
    losses = [model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"] for model in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=2e-2)
    assert [layer.compute_dtype for layer in ours.layers] == [layer.compute_dtype for layer in theirs.layers]
    assert {view.dtype for view in ours.weights} == {"float32"}
    assert ours(x).dtype == torch.float32 and ours.layers[0](x).dtype == torch.bfloat16


def test_names_of_a_policy(mixed):
    assert ks.config.dtype_policy() == ks.mixed_precision.global_policy() == ks.DTypePolicy("mixed_bfloat16")
    layer = layers.Dense(2)
    assert (layer.dtype, layer.variable_dtype, layer.compute_dtype) == ("float32", "float32", "bfloat16")
    assert layer.dtype_policy.name == layer.get_config()["dtype"]["config"]["name"] == "mixed_bfloat16"


@pytest.mark.parametrize("name", ["mixed_float32", "float33", "mixed"])
def test_unknown_policies(name):
    with pytest.raises(ValueError, match="Unknown dtype policy"):
        layers.Dense(2, dtype=name)


def test_layers_of_several_dtypes_in_one_graph():
    model = ks.Sequential(
        [ks.Input((3,)), layers.Dense(4, dtype="mixed_bfloat16"), layers.Dense(4), layers.Dense(2, dtype="float64")]
    )
    assert [layer.output.dtype for layer in model.layers] == [torch.bfloat16, torch.float32, torch.float64]
    assert model(uniform(2, 3)).dtype == torch.float64


def test_a_layer_of_the_usual_dtype_costs_nothing():
    for layer in (
        layers.Dense(2),
        layers.Dense(2, dtype="float32"),
        layers.Dense.from_config(layers.Dense(2).get_config()),
    ):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("dtype", [None, "float32", "float64", "bfloat16"])
def test_a_moved_layer_has_the_dtype_that_it_was_moved_to(dtype):
    layer = layers.Dense(2, dtype=dtype)
    layer(uniform(4, 3))
    layer.to(torch.float64)
    assert layer.dtype == layer.compute_dtype == "float64"
    assert layer(uniform(4, 3).double()).dtype == torch.float64
    assert_close(layer(uniform(4, 3).double()), uniform(4, 3).double() @ layer.kernel.read() + layer.bias.read())


def test_a_set_policy_is_that_of_layers_made_later():
    with pytest.raises(ValueError, match="Unknown dtype policy"):
        ks.config.set_dtype_policy("half")
    ks.config.set_dtype_policy("float64")
    try:
        assert layers.Dense(2)(uniform(1, 3)).dtype == torch.float64
    finally:
        ks.config.set_dtype_policy(None)
    assert layers.Dense(2)(uniform(1, 3)).dtype == torch.float32


def test_the_quantization_mode_is_that_of_the_policy():
    assert layers.Dense(1).quantization_mode is None is keras.layers.Dense(1).quantization_mode
