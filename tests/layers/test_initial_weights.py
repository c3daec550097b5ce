"""After `utils.set_random_seed`, layers start from the weights that Keras on torch gives them."""

import random

import keras
import numpy as np
import pytest
import torch

import kstyle_torch
from tests.layers.test_layer_cases import cases

CALLS_DRAW = ("AugMix",)  # Keras seeds its calls from Python's random numbers, too


def begun(library, case, **changes):
    """The weights of a new layer, and what Python's random numbers are after it was made and after it was called."""
    library.utils.set_random_seed(3)
    names = {keras: case.keras_layer or case.layer, kstyle_torch: case.layer}
    layer = getattr(library.layers, names[library])(**{**case.arguments_for(library), **changes})
    made = random.getstate()
    with torch.no_grad():
        layer(*case.args(), **case.call())
    weights = [w.numpy() for w in layer.weights if w.name != "seed_generator_state"]
    return weights, made, random.getstate()


@cases(lambda case: case.oracle and not case.exempt and case.layer != "InputLayer")
def test_layers_start_as_in_keras(case):
    ours, made, called = begun(kstyle_torch, case)
    theirs, *drawn = begun(keras, case)
    assert [w.shape for w in ours] == [w.shape for w in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=3e-6)
    assert made == drawn[0], "later layers would get other seeds"
    assert called == drawn[1] or case.layer in CALLS_DRAW


@cases(lambda case: case.oracle and not callable(case.arguments) and case.arguments.get("seed") is not None)
def test_layers_without_their_seed_draw_as_in_keras(case):
    """The rows that give a seed, without it: Keras draws one then, or more."""
    _, made, called = begun(kstyle_torch, case, seed=None)
    _, *drawn = begun(keras, case, seed=None)
    assert [made, called] == drawn, "later layers would get other seeds"


def program(library):
    """Data, a model, and what is drawn after it."""
    library.utils.set_random_seed(812)
    data = [library.random.uniform((8, 3)), library.random.normal((8, 1)), library.random.randint((3,), 0, 10)]
    inputs = library.Input((3,))
    x = library.layers.Dropout(0.5)(library.layers.Dense(4, activation="relu")(inputs))
    x = library.layers.LSTM(3, return_sequences=True)(library.layers.Reshape((2, 2))(x))
    x = library.layers.GlobalAveragePooling1D()(library.layers.MultiHeadAttention(2, 2)(x, x))
    model = library.Model(inputs, library.layers.Dense(1)(x))
    shared = library.initializers.HeNormal()
    more = [library.layers.Dense(2, kernel_initializer=shared) for _ in range(2)]
    for layer in more:
        layer.build((None, 3))
    data.append(library.random.shuffle(library.ops.arange(5)))
    return [library.ops.convert_to_numpy(x) for x in data], [w for part in (model, *more) for w in part.get_weights()]


def test_a_program_starts_as_in_keras():
    (data, weights), (their_data, their_weights) = program(kstyle_torch), program(keras)
    for mine, other in zip((*data, *weights), (*their_data, *their_weights), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("draw", [lambda: kstyle_torch.layers.Dense(2), lambda: kstyle_torch.random.normal((3, 2))])
def test_a_seed_of_torch_takes_over(draw):
    def numbers():
        drawn = draw()
        if isinstance(drawn, kstyle_torch.layers.Layer):
            drawn.build((None, 3))
            drawn = drawn.kernel.value
        return drawn.detach().clone()

    kstyle_torch.utils.set_random_seed(1)
    torch.manual_seed(2)
    first = numbers()
    torch.manual_seed(2)
    assert torch.equal(first, numbers())


def test_random_layers_in_a_step_are_torchs():
    """What a layer draws does not go through the seed generator, so that compiled and recorded steps can repeat it."""

    class Noisy(kstyle_torch.layers.Layer):
        def call(self, x):
            return x + kstyle_torch.random.normal((2, 3))

    kstyle_torch.utils.set_random_seed(1)
    layer, state = Noisy(), torch.get_rng_state()
    layer(torch.zeros(2, 3))
    assert not torch.equal(state, torch.get_rng_state())
