"""Class and sample weights give Keras' numbers."""

import numpy as np
import pytest

import kstyle_torch as ks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)).astype("float32")
LABELS = RNG.integers(0, 3, 40)
ONE_HOT, IS_ONE = np.eye(3)[LABELS], LABELS == 1
W = RNG.uniform(0.5, 2, 40).astype("float32")
BOTH = [LABELS * 1.0, np.stack([LABELS, LABELS], 1) * 1.0]


def single(k, loss, units, activation, y, **kwargs):
    model = k.Sequential([k.Input((5,)), k.layers.Dense(units, activation=activation)])
    model.compile("sgd", loss, weighted_metrics=["accuracy"])
    model.set_weights([np.linspace(-1, 1, 5 * units).reshape(5, units), np.zeros(units)])
    return model.fit(X, y, shuffle=False, epochs=2, batch_size=16, verbose=0, **kwargs).history


def two_outputs(k, y, **kwargs):
    x = k.Input((5,))
    outputs = [k.layers.Dense(units, name=name, kernel_initializer="ones")(x) for units, name in ((1, "a"), (2, "b"))]
    model = k.Model(x, outputs)
    model.compile("sgd", "mse", weighted_metrics=[["mae"], ["mae"]])
    return model.fit(X, y, shuffle=False, epochs=2, batch_size=16, verbose=0, **kwargs).history


SPARSE = ("sparse_categorical_crossentropy", 3, "softmax", LABELS)
BINARY = ("binary_crossentropy", 1, "sigmoid")
CASES = {
    "classes": (single, (*SPARSE,), {"class_weight": {0: 1.0, 1: 5.0, 2: 0.1}}),
    "one-hot": (
        single,
        ("categorical_crossentropy", 3, "softmax", ONE_HOT),
        {"class_weight": {0: 1.0, 1: 5.0, 2: 0.1}},
    ),
    "a class without": (single, (*SPARSE,), {"class_weight": {1: 5.0}}),
    "columns": (single, (*BINARY, IS_ONE[:, None] * 1.0), {"class_weight": {0: 1.0, 1: 5.0}}),
    "bool": (single, (*BINARY, IS_ONE), {"class_weight": {0: 1.0, 1: 5.0}}),
    "negative classes": (single, ("mse", 1, None, IS_ONE * 2.0 - 1), {"class_weight": {-1: 3.0, 1: 5.0}}),
    "floats as classes": (single, (*BINARY, IS_ONE * 1.0), {"class_weight": {0.0: 1.0, 1.0: 5.0}}),
    "samples": (single, (*SPARSE,), {"sample_weight": W}),
    "whole numbers": (single, (*SPARSE,), {"sample_weight": LABELS}),
    "a column": (single, ("mse", 1, None, LABELS), {"sample_weight": W[:, None]}),
    "split": (single, (*SPARSE,), {"sample_weight": W, "validation_split": 0.3}),
    "one for two outputs": (two_outputs, (BOTH,), {"sample_weight": W}),
    "one for each output": (two_outputs, (BOTH,), {"sample_weight": [W, W * 2]}),
    "one output without": (two_outputs, (BOTH,), {"sample_weight": [W, None]}),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_give_the_numbers_of_keras(keras, case):
    train, arguments, options = CASES[case]
    got, expected = train(ks, *arguments, **options), train(keras, *arguments, **options)
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, err_msg=name)


MISTAKES = {
    "both": (single, (*SPARSE,), {"sample_weight": W, "class_weight": {0: 1}}, "cannot be given together"),
    "two outputs": (two_outputs, (BOTH,), {"class_weight": {0: 1}}, "a model with a single output"),
    "a list": (single, (*SPARSE,), {"class_weight": [1, 2, 3]}, r"dict\(enumerate\(weights\)\); got \[1, 2, 3\]"),
    "names": (single, (*SPARSE,), {"class_weight": {"cat": 1}}, "must be a dict"),
    "too short": (single, (*SPARSE,), {"sample_weight": W[:-1]}, "sample_weight: 39"),
    "a table for two outputs": (
        two_outputs,
        (BOTH,),
        {"sample_weight": np.ones((40, 2))},
        r"shape \(40, 2\).*per sample",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    train, arguments, options, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        train(ks, *arguments, **options)
