"""The usual program: a new top is trained on a frozen network, and then all of it."""

import keras
import pytest

import kstyle_torch as ks
from tests.applications.networks import fresh, randomize
from tests.oracle import assert_close, integers, uniform

X, Y = uniform(8, 32, 32, 3).numpy(), integers(8, high=3).numpy()


def fine_tuned(library, **mode):
    """Returns the losses of both phases, and the network's weights by name before, between and after."""
    base = fresh(library).MobileNet((32, 32, 3), alpha=0.25, include_top=False, weights=None)
    randomize(base)
    base.trainable = False
    x = library.layers.GlobalAveragePooling2D()(base(inputs := library.Input((32, 32, 3)), **mode))
    model = library.Model(inputs, library.layers.Dense(3, kernel_initializer="ones")(x))
    weights, losses = [base.get_weights()], []
    for trainable in (False, True):
        base.trainable = trainable
        loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(library.optimizers.SGD(0.01), loss)
        losses += model.fit(X, Y, batch_size=4, epochs=1, shuffle=False, verbose=0).history["loss"]
        weights.append(base.get_weights())
    return losses, [weight.name for weight in base.weights], weights


def changed(names, before, after):
    return {name for name, old, new in zip(names, before, after, strict=True) if (old != new).any()}


def test_a_frozen_network_stays_as_it_is():
    _, names, (before, frozen, after) = fine_tuned(ks, training=False)
    assert changed(names, before, frozen) == set()
    assert changed(names, before, after) == {"kernel", "gamma", "beta"}  # and no statistics: training=False


@pytest.mark.full
def test_as_in_keras():
    """Without `training=False`, which Keras overrides in `fit`."""
    losses, names, (before, _, after) = fine_tuned(ks)
    wanted, _, _ = fine_tuned(keras)
    assert changed(names, before, after) == {"kernel", "gamma", "beta", "moving_mean", "moving_variance"}
    assert_close(losses, wanted, rtol=1e-4)  # the last one is that of changed weights
