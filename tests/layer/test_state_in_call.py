"""Weights, variables and layers that a layer makes within its own call."""

import keras
import numpy as np
import pytest

import kstyle_torch as ks

X = np.ones((2, 3), "float32")


def a_weight(library, self, x):
    self.w = self.add_weight(shape=(3,))
    return x * self.w


def a_weight_of_no_attribute(library, self, x):
    return x * self.add_weight(shape=(3,))


def a_layer(library, self, x):
    self.d = library.layers.Dense(3)
    return self.d(x)


def a_layer_in_a_list(library, self, x):
    self.several.append(library.layers.Dense(3))
    return self.several[-1](x)


def a_variable(library, self, x):
    self.v = library.Variable(np.ones(3, "float32"))
    return x * self.v


def a_weight_once(library, self, x):
    if not hasattr(self, "w"):
        self.w = self.add_weight(shape=(3,))
    return x * self.w


def another_name(library, self, x):
    self.last = self.inner
    return self.inner(x)


def a_layer_kept_by_nobody(library, self, x):
    return library.layers.Dense(3)(self.inner(x))


MAKES = [a_weight, a_weight_of_no_attribute, a_layer, a_layer_in_a_list, a_variable]
WORKS = [a_weight_once, another_name, a_layer_kept_by_nobody]


def layer_with(library, body, has_inner=True):
    class Makes(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.several = []
            if has_inner:
                self.inner = library.layers.Dense(3)

        def call(self, x):
            return body(library, self, x)

    return Makes()


@pytest.mark.parametrize("body", [*MAKES, *WORKS])
def test_state_made_in_every_call_is_refused_as_in_keras(body):
    """Keras refuses the first call already; here that may make state, and the second one may not."""
    theirs, expected = layer_with(keras, body, body in WORKS), None
    try:
        theirs(X), theirs(X)
    except ValueError as error:
        expected = type(error)
    ours = layer_with(ks, body, body in WORKS)
    ours(X)
    assert (expected is None) is (body in WORKS)
    if expected is None:
        ours(X)
        assert len(ours.weights) == len(theirs.weights)
    else:
        before = len(ours.weights)
        with pytest.raises(expected, match=r"built already.*__init__\(\) or build\(\)"):
            ours(X)
        assert len(ours.weights) == before


@pytest.mark.parametrize("body", MAKES)
def test_state_made_in_every_call_is_refused_in_models_and_fit(body):
    inputs = ks.Input((3,))
    model = ks.Model(inputs, layer_with(ks, body, has_inner=False)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="built already"):
        model.fit(X, X, verbose=0)


def test_state_may_be_added_outside_of_calls():
    layer = layer_with(ks, another_name)
    layer(X)
    layer.extra = ks.layers.Dense(2)
    layer.more = layer.add_weight(shape=(2,))
    layer.last_one = ks.Variable(1.0)

    class Around(ks.layers.Layer):
        def call(self, x):
            if not hasattr(layer, "late"):  # another layer's call, as an adapter may do it
                layer.late = layer.add_weight(shape=(3,), initializer="ones")
            return layer(x) * layer.late

    around = Around()
    around.built = True
    around(X)
    assert len(layer.weights) == 5


def test_shape_inference_may_build_before_the_first_call():
    layer = layer_with(ks, a_weight_once)
    assert layer.compute_output_shape((None, 3)) == (None, 3)
    layer(X)
    assert len(layer.weights) == 1
