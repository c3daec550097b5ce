"""Rows that no window reaches are not computed, and nobody can tell."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.graph_passes.crop_inputs import crops
from tests.oracle import assert_same_bits

RNG = np.random.default_rng(8)


def chain(shape, *between):
    torch.manual_seed(4)
    return ks.Sequential([ks.Input(shape), *between, layers.Flatten(), layers.Dense(3, "softmax")])


def mnist():
    between = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()]
    return chain((28, 28, 1), *between, layers.Conv2D(8, 3), layers.ReLU(), layers.MaxPooling2D())


def nested():
    torch.manual_seed(4)
    inner = ks.Sequential([ks.Input((9, 9, 2)), conv(activation="relu"), layers.MaxPooling2D(), layers.Flatten()])
    inputs = ks.Input((9, 9, 2))
    return ks.Model(inputs, layers.Dense(3, activation="softmax")(inner(inputs)))


def skip():
    torch.manual_seed(4)
    inputs = ks.Input((9, 9, 2))
    y = layers.Conv2D(4, 3, activation="relu")(inputs)  # read twice
    z = layers.MaxPooling2D()(layers.Conv2D(4, 2)(y))
    flat = layers.Concatenate()([layers.Flatten()(y), layers.Flatten()(z)])
    return ks.Model(inputs, layers.Dense(3, activation="softmax")(flat))


def conv(**arguments):
    return layers.Conv2D(4, 3, **arguments)


CROPPED = {
    "two poolings": (mnist, (26, 26, 1)),
    "behind a layer that is no window": (
        lambda: chain((9, 9, 2), layers.Dropout(0.0), conv(), layers.BatchNormalization(), conv(strides=2)),
        (9, 9, 2),
    ),
    "a mean": (lambda: chain((9, 12, 2), conv(activation="elu"), layers.AveragePooling2D(4)), (6, 10, 2)),
    "overlapping windows": (lambda: chain((10, 9, 2), conv(), layers.MaxPooling2D(3, strides=2)), (9, 9, 2)),
    "a step behind": (lambda: chain((10, 9, 2), conv(), conv(strides=2)), (9, 9, 2)),
    "dilated": (lambda: chain((10, 11, 2), conv(dilation_rate=2), layers.MaxPooling2D(4)), (8, 8, 2)),
    "depthwise behind": (
        lambda: chain((10, 10, 2), conv(), layers.DepthwiseConv2D(2, activation="relu"), layers.MaxPooling2D()),
        (9, 9, 2),
    ),
    "an activation between": (
        lambda: chain((9, 9, 2), conv(), layers.Activation("tanh"), layers.MaxPooling2D()),
        (8, 8, 2),
    ),
    "channels first": (
        lambda: chain(
            (2, 9, 9),
            conv(data_format="channels_first"),
            layers.MaxPooling2D(data_format="channels_first"),
        ),
        (2, 8, 8),
    ),
    "sequences": (lambda: chain((15, 4), layers.Conv1D(4, 3), layers.MaxPooling1D(5)), (12, 4)),
    "volumes": (lambda: chain((5, 5, 5, 1), layers.Conv3D(4, 2), layers.MaxPooling3D(3)), (4, 4, 4, 1)),
}
WHOLE = {
    "what its own step drops": lambda: chain((10, 10, 2), conv(strides=2)),
    "nothing dropped": lambda: chain((10, 10, 2), conv(), layers.MaxPooling2D()),
    "little dropped": lambda: chain((101, 100, 1), conv(), layers.MaxPooling2D()),
    "padded": lambda: chain((9, 9, 2), conv(padding="same"), layers.MaxPooling2D()),
    "padded pooling": lambda: chain((9, 9, 2), conv(), layers.MaxPooling2D(padding="same")),
    "softmax": lambda: chain((9, 9, 2), conv(activation="softmax"), layers.MaxPooling2D()),
    "a function of the user's": lambda: chain((9, 9, 2), conv(activation=torch.tanh), layers.MaxPooling2D()),
    "a layer that sees all positions": lambda: chain((9, 9, 2), conv(), layers.LayerNormalization((1, 2))),
    "groups": lambda: chain((9, 9, 2), layers.Conv2D(4, 3, groups=2), layers.MaxPooling2D()),
    "a penalty on the output": lambda: chain((9, 9, 2), conv(activity_regularizer="l2"), layers.MaxPooling2D()),
}


def data(model, rows=20):
    return RNG.normal(size=(rows, *model.input_shape[1:])).astype("float32"), RNG.integers(0, 3, rows)


def part(model, x):
    """What a convolution that begins a chain gets of the input."""
    if model.straight_run() is None:
        return x.shape[1:]
    first, *_ = [crop for _, crop in crops(model.graph)] or [lambda x: x]
    return tuple(first(torch.from_numpy(x)).shape[1:])


def trained(model, x, y, **switches):
    model.compile("sgd", "sparse_categorical_crossentropy", **switches)
    torch.manual_seed(5)
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0).history
    return history["loss"], model.get_weights(), model.predict(x, verbose=0)


@pytest.mark.parametrize("case", CROPPED)
def test_a_part_gives_the_same(case):
    make, shape = CROPPED[case]
    model = make()
    x, y = data(model)
    assert part(model, x) == shape
    losses, weights, outputs = trained(model, x, y)
    watched = make()
    watched.layers[0].register_forward_hook(lambda *_: None)  # so that every layer computes all of its output
    expected, wanted, predicted = trained(watched, x, y)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(outputs, predicted, rtol=1e-5, atol=1e-6)
    for mine, other in zip(weights, wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CROPPED)
def test_eagerly_every_bit_is_the_same(case):
    make, _ = CROPPED[case]
    x, y = data(make())
    (losses, weights, outputs), (expected, wanted, predicted) = (
        trained(make(), x, y), trained(make(), x, y, run_eagerly=True)
    )  # fmt: skip
    assert losses == expected
    assert_same_bits([*weights, outputs], [*wanted, predicted])


@pytest.mark.parametrize("case", WHOLE)
def test_others_get_all(case):
    model = WHOLE[case]()
    x, _ = data(model, 2)
    assert part(model, x) == x.shape[1:]


def test_what_others_read_is_whole():
    model = skip()
    x, _ = data(model)
    assert [layer for layer, _ in crops(model.graph)] == [model.layers[2]]
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changed", ["activation", "strides", "conv"])
def test_a_layer_that_has_changed_gets_all(changed):
    model = chain((9, 9, 2), conv(), layers.MaxPooling2D(), layers.GlobalAveragePooling2D())
    x, _ = data(model)
    model.predict(x, verbose=0)
    if changed == "activation":
        model.layers[0].activation = lambda y: y - y.mean((1, 2), keepdim=True)
    elif changed == "strides":
        model.layers[1].strides = (1, 1)
    else:
        model.layers[0].conv = torch.nn.Conv2d(2, 4, 3, padding=1)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model(x).detach())


def test_a_model_inside_another_gets_a_part_too():
    x, y = data(nested())
    (losses, weights, _), (expected, wanted, _) = trained(nested(), x, y), trained(nested(), x, y, run_eagerly=True)
    assert losses == expected
    assert_same_bits(weights, wanted)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_hook_inside_a_model_inside_another_sees_all(eagerly):
    model, gets, gives = nested(), [], []
    x, y = data(model)
    layer = model.layers[1].layers[0]
    convolve = layer.convolve
    layer.convolve = lambda x, *rest: (gets.append(x.shape), convolve(x, *rest))[1]
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=eagerly)
    model.evaluate(x, y, verbose=0)
    assert gets[-1] == (20, 8, 8, 2)
    layer.register_forward_hook(lambda layer, args, output: gives.append(output.shape))
    model.evaluate(x, y, verbose=0)
    assert gives[-1] == (20, 7, 7, 4)


def test_a_model_inside_another_may_get_another_layer():
    inner = ks.Sequential([ks.Input((4,)), layers.Dense(4, use_bias=False)])
    inputs = ks.Input((4,))
    model = ks.Model(inputs, layers.Dense(2)(inner(inputs)))
    x = RNG.normal(size=(40, 4)).astype("float32")
    before = model.predict(x, batch_size=40, verbose=0)
    inner.add(layers.Activation(torch.square))
    after = model.predict(x, batch_size=40, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, model(torch.from_numpy(x)).detach())


@pytest.mark.full
def test_a_model_that_is_compiled_gets_a_part_too():
    x, y = data(mnist())
    expected = trained(mnist(), x, y, jit_compile=False)
    got = trained(mnist(), x, y, jit_compile={"backend": "aot_eager", "fullgraph": True})
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
