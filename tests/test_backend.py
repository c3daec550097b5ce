"""`keras.backend`: Keras 3's names, and what older programs call by it."""

import keras
import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch import backend, layers
from tests.oracle import assert_close, uniform

MISSING = {"get_uid", "is_float_dtype", "is_int_dtype", "result_type", "standardize_dtype"}  # no program uses them
X = uniform(2, 3, 4)
CALLS = {
    "sum": (lambda k: k.sum(X, axis=-1), X.numpy().sum(-1)),
    "mean": (lambda k: k.mean(k.square(X), axis=1, keepdims=True), np.square(X.numpy()).mean(1, keepdims=True)),
    "argmax": (lambda k: k.argmax(X), X.numpy().argmax(-1)),
    "concatenate": (lambda k: k.concatenate([X, X]), np.concatenate([X.numpy()] * 2, -1)),
    "expand_dims": (lambda k: k.expand_dims(X), X.numpy()[..., None]),
    "repeat_elements": (lambda k: k.repeat_elements(X, 2, 1), X.numpy().repeat(2, 1)),
    "flatten": (lambda k: k.flatten(X), X.numpy().ravel()),
    "batch_flatten": (lambda k: k.batch_flatten(X), X.numpy().reshape(2, 12)),
    "permute_dimensions": (lambda k: k.permute_dimensions(X, (1, 0, 2)), X.numpy().transpose(1, 0, 2)),
    "pow": (lambda k: k.pow(k.abs(X), 0.5), np.abs(X.numpy()) ** 0.5),
    "clip": (lambda k: k.clip(X, k.epsilon(), 0.5), X.numpy().clip(1e-7, 0.5)),
    "dot": (lambda k: k.dot(X, k.ones((4, 2))), X.numpy() @ np.ones((4, 2), "float32")),
}


def test_the_names_of_keras_3():
    public = {name for name in dir(keras.backend) if not name.startswith("_")}
    assert public - {*dir(backend)} == MISSING


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_values(call, expected):
    assert_close(call(backend), expected)


def test_in_a_graph():
    inputs = ks.Input((3, 4))
    assert backend.int_shape(inputs) == (None, 3, 4)
    model = ks.Model(inputs, layers.Lambda(backend.batch_flatten)(inputs))
    assert_close(model(X), X.reshape(2, 12))


def test_values_of_variables():
    model = ks.Sequential([ks.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    backend.set_value(model.optimizer.learning_rate, 0.25)
    assert float(backend.get_value(model.optimizer.learning_rate)) == 0.25
    with pytest.raises(TypeError, match="needs a variable"):
        backend.set_value(0.1, 0.2)
