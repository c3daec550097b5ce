"""Inputs of every dtype into every layer, as in Keras: floating-point ones are cast, the others reach the layer."""

import copy

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, tree
from tests.layers.case import Case
from tests.layers.layer_cases import CASES
from tests.oracle import assert_close, uniform

DTYPES = ("int32", "int64", "bool", "uint8", "float64", "float16")
WHOLE, TRUTH = frozenset(DTYPES[:4]), frozenset({"bool"})
# Where Keras works and gives something else, with the dtypes for which that is so.
OTHERWISE = {
    # Keras cuts the normalized numbers off after the point, since it brings them back to the dtype of the input.
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "RMSNormalization", "SpectralNormalization"), WHOLE),
    # Keras keeps the low 32 bits.
    **dict.fromkeys(("Maximum", "Minimum", "Dot"), TRUTH | {"int64"}),
    # Truth values as numbers: products of them are true or false in Keras.
    **dict.fromkeys(("Attention", "AdditiveAttention", "Masking", "UpSampling2D", "Resizing"), TRUTH),
    # Here images become floats in either mode, in Keras only in training.
    **dict.fromkeys(
        "RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomGrayscale RandomHue RandomInvert "
        "RandomPosterization RandomSaturation RandomErasing MixUp".split(),
        WHOLE,
    ),
    "RandomCrop": {*DTYPES},  # likewise, and Keras casts nothing
    "Equalization": {*DTYPES},  # the images of the case are not in its range of values
}


def first_of_each_class():
    found: dict[str, Case] = {}
    for case in CASES:
        comparable = case.oracle and case.high is None and not case.exempt and case.layer != "InputLayer"
        if comparable and not (case.random and case.training):
            found.setdefault(case.layer, case)
    return found.values()


def converted(leaf, dtype):
    if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    values = leaf.abs() * 3 if dtype == "uint8" else leaf * 3
    return (values.round() if dtype in WHOLE else values).to(getattr(torch, dtype))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.layer) for case in first_of_each_class()])
def test_inputs_of_every_dtype(case):
    ours = getattr(layers, case.layer)(**copy.deepcopy(case.arguments_for(ks)))
    theirs = getattr(keras.layers, case.keras_layer or case.layer)(**copy.deepcopy(case.arguments_for(keras)))
    more = {"training": False} if case.random else {"training": True} if case.training else {}
    for layer in (ours, theirs):
        layer(*case.args(), **case.call(), **more)
    seeds = enumerate(theirs.get_weights())
    weights = [uniform(*w.shape, low=case.weights[0], high=case.weights[1], seed=seed).numpy() for seed, w in seeds]
    compared = 0
    for dtype in DTYPES:
        args = tree.map_structure(lambda leaf: converted(leaf, dtype), case.args())  # noqa: B023
        ours.set_weights(weights)
        theirs.set_weights(weights)
        try:
            expected = tree.flatten(theirs(*args, **case.call(), **more))
        except Exception:  # not for this dtype in Keras
            continue
        compared += 1
        for given in (args, tree.map_structure(lambda leaf: leaf.numpy() if hasattr(leaf, "numpy") else leaf, args)):
            ours.set_weights(weights)
            outputs = None if dtype in OTHERWISE.get(case.layer, ()) else ours(*given, **case.call(), **more)
            for mine, other in zip(tree.flatten(outputs), expected, strict=True) if outputs is not None else ():
                assert mine.dtype == other.dtype, dtype
                # what Keras normalizes, it rounds to the dtype of the input
                rounded = dtype == "float16" and case.layer.endswith("Normalization")
                assert_close(mine, other, rtol=1e-5, atol=2e-3 if rounded else 1e-5)
    assert compared


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_call_of_the_users_sees_what_that_of_keras_sees(dtype):
    seen = {}
    for library in (ks, keras):

        class Spied(library.layers.Layer):
            def call(self, x):
                seen.setdefault(dtype, []).append(x.dtype)
                return x

        Spied()(torch.ones(2, 3, dtype=getattr(torch, dtype)))
    assert seen[dtype][0] == seen[dtype][1]


def test_autocast_of_inputs_can_be_switched_off():
    for library in (ks, keras):
        layer, later = library.layers.Identity(autocast=False), library.layers.Identity()
        later.autocast = False
        for each in (layer, later):
            assert not each.autocast
            assert each(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_complex_numbers_are_not_promoted():
    with pytest.raises(RuntimeError, match="dtype"):
        layers.Dense(2)(torch.ones(2, 3, dtype=torch.complex64))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float64"])
def test_an_input_of_another_dtype_in_a_graph(dtype):
    made = []
    for library in (ks, keras):
        x = library.Input((3,), dtype=dtype)
        made.append(library.Model(x, library.layers.Dense(2)(x)))
    ours, theirs = made
    theirs.set_weights(ours.get_weights())
    x = np.arange(12).reshape(4, 3) % 2
    for model in made:
        model.compile("sgd", "mse")
        model.fit(x, x[:, :2], verbose=0, shuffle=False)
    assert ours.predict(x, verbose=0).dtype == theirs.predict(x, verbose=0).dtype == np.float32
    assert_close(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))


@pytest.mark.parametrize("dtype", ["int64", "float64", "bool"])
def test_a_subclassed_model_is_fitted_on_arrays_of_any_dtype(dtype):
    def make(library):
        class Plain(library.Model):
            def __init__(self):
                super().__init__()
                self.dense = library.layers.Dense(2)

            def call(self, x):
                return self.dense(x)

        return Plain()

    ours, theirs = make(ks), make(keras)
    x = (np.arange(24).reshape(8, 3) % 5).astype(dtype)
    ours(x), theirs(x)
    theirs.set_weights(ours.get_weights())
    for model in (ours, theirs):
        model.compile("sgd", "mse")
    losses = [model.fit(x, x[:, :2], epochs=2, verbose=0, shuffle=False).history["loss"] for model in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert ours(x).dtype == theirs(x).dtype == torch.float32


NORMALIZATIONS = {
    "layer": lambda library, **more: library.layers.LayerNormalization(**more),
    "layer, no weights": lambda library, **more: library.layers.LayerNormalization(center=False, scale=False, **more),
    "group": lambda library, **more: library.layers.GroupNormalization(2, **more),
    "rms": lambda library, **more: library.layers.RMSNormalization(**more),
    "batch": lambda library, **more: library.layers.BatchNormalization(**more),
}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_statistics_in_float32(kind, policy):
    large = 70000.0 if kind.startswith(("layer", "group")) else 6000.0  # the others get what is cast
    x = uniform(6, 4, low=large / 2, high=large)
    ours, theirs = (NORMALIZATIONS[kind](library, dtype=policy) for library in (ks, keras))
    for library_layer in (ours, theirs):
        library_layer(x, training=True) if kind == "batch" else library_layer(x)
    ours, theirs = (layer(x, training=True) if kind == "batch" else layer(x) for layer in (ours, theirs))
    assert ours.dtype == theirs.dtype == getattr(torch, policy.removeprefix("mixed_"))
    assert ours.isfinite().all()
    assert_close(ours.detach().float(), theirs.detach().float(), rtol=1e-2, atol=2e-2)


def test_numbers_of_rows_stay_exact_in_an_embedding():
    for library in (ks, keras):
        layer = library.layers.Embedding(400, 2, dtype="mixed_bfloat16")
        x = torch.tensor([[257.0]])
        assert layer(x).dtype == torch.bfloat16
        assert layer(x).float().tolist() == layer(x.long()).float().tolist()
