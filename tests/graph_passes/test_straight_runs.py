"""Pooling before a relu: every bit is as it was, and nobody sees another order."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.graph_passes import relu_after_pool
from tests.oracle import assert_same_bits

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 9, 9, 2)).astype("float32")
Y = RNG.integers(0, 3, 40)


def chain(*between, pool=None):
    torch.manual_seed(4)
    pool = pool or layers.MaxPooling2D()
    model = ks.Sequential([ks.Input((9, 9, 2)), *between, pool, layers.Flatten(), layers.Dense(3, "softmax")])
    return model


def conv(activation="relu", **arguments):
    return layers.Conv2D(4, 3, activation=activation, **arguments)


def sequences():
    torch.manual_seed(4)
    rows = [layers.Reshape((9, 18)), layers.Conv1D(4, 3, activation="relu"), layers.MaxPooling1D()]
    return ks.Sequential([ks.Input((9, 9, 2)), *rows, layers.Flatten(), layers.Dense(3, "softmax")])


def residual():
    torch.manual_seed(4)
    inputs = ks.Input((9, 9, 2))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(2, 3, padding="same")(inputs)))
    y = layers.Activation("relu")(layers.Add()([inputs, layers.BatchNormalization(axis=1)(y)]))
    added = layers.Add()([y, inputs])  # read again, so it must stay as it is
    y = layers.Concatenate()([layers.ReLU()(added), layers.GlobalAveragePooling2D(keepdims=True)(added) + added])
    return ks.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(y)))


def shared():
    torch.manual_seed(4)
    inputs, one = ks.Input((9, 9, 2)), layers.Conv2D(2, 3, padding="same", activation="relu")
    pooled = layers.MaxPooling2D()(one(one(inputs)))
    return ks.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(pooled)))


def also_an_output():
    torch.manual_seed(4)
    inputs = ks.Input((9, 9, 2))
    y = conv()(inputs)
    pooled = layers.MaxPooling2D()(y)
    flat = layers.Concatenate()([layers.Flatten()(pooled), layers.Flatten()(y)])
    return ks.Model(inputs, layers.Dense(3, activation="softmax")(flat))


SWAPPED = {
    "in the convolution": lambda: chain(conv()),
    "overlapping windows": lambda: chain(conv(), pool=layers.MaxPooling2D(3, strides=1)),
    "same": lambda: chain(conv(padding="same"), pool=layers.MaxPooling2D(2, padding="same")),
    "a layer of its own": lambda: chain(conv(None), layers.BatchNormalization(), layers.Activation("relu")),
    "sequences": sequences,
    "a layer called ReLU": lambda: chain(conv(None), layers.BatchNormalization(), layers.ReLU()),
    "depthwise": lambda: chain(layers.DepthwiseConv2D(3, activation="relu")),
}
AS_THEY_ARE = {
    "a capped relu": lambda: chain(conv(None), layers.ReLU(max_value=6.0)),
    "relus of sums": residual,
    "tanh": lambda: chain(conv("tanh")),
    "a mean": lambda: chain(conv(), pool=layers.AveragePooling2D()),
    "called twice": shared,
    "read twice": also_an_output,
}


def trained(model, eagerly):
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=eagerly, jit_compile=False)
    torch.manual_seed(5)
    history = model.fit(X, Y, batch_size=16, epochs=3, verbose=0).history
    return history, model.get_weights(), model.predict(X, verbose=0)


@pytest.mark.parametrize("case", [*SWAPPED, *AS_THEY_ARE])
def test_every_bit_is_as_it_was(case):
    make = (SWAPPED | AS_THEY_ARE)[case]
    assert bool(relu_after_pool.relu_after_pooling(make().graph)) == (case in SWAPPED)
    (history, weights, outputs), (expected, wanted, predicted) = trained(make(), False), trained(make(), True)
    assert history == expected
    np.testing.assert_array_equal(outputs, predicted)
    assert_same_bits(weights, wanted)


def test_what_stands_for_the_native_module_is_not_overwritten():
    """A relu is computed where the convolution's output lies, if that is a convolution's."""
    model = chain(conv(), pool=layers.AveragePooling2D())
    layer, kept = model.layers[0], []

    class Keeps(torch.nn.Conv2d):
        def forward(self, x):
            kept.append(super().forward(x))
            return kept[-1]

    twin = Keeps(2, 4, 3)
    twin.load_state_dict(layer.conv.state_dict())
    layer.conv = twin
    outputs = model.predict(X, batch_size=len(X), verbose=0)
    assert kept[-1].min() < 0
    np.testing.assert_allclose(outputs, model(torch.from_numpy(X)).detach(), rtol=1e-5, atol=1e-6)


def test_a_hook_sees_the_layers_own_output():
    model, seen = chain(conv()), []
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.layers[0].register_forward_hook(lambda layer, args, output: seen.append(float(output.detach().min())))
    model.fit(X, Y, verbose=0)
    assert seen and min(seen) >= 0


def test_an_activation_that_is_replaced_counts():
    expected, model = chain(conv("tanh")), chain(conv())
    model.predict(X, verbose=0)
    model.layers[0].activation = torch.tanh
    np.testing.assert_array_equal(model.predict(X, verbose=0), expected.predict(X, verbose=0))
