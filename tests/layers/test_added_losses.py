"""`add_loss`: the losses of a model are those of its last call, in loops of one's own too, as in Keras."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch

X = np.ones((4, 5), "float32")


def penalty(library):
    class Penalty(library.layers.Layer):
        def call(self, x):
            self.add_loss(0.01 * library.ops.sum(x * x))
            return x

    return Penalty()


def functional(library):
    x = library.Input((5,))
    return library.Model(x, library.layers.Dense(1)(penalty(library)(x)))


def sequential(library):
    return library.Sequential([library.Input((5,)), penalty(library), library.layers.Dense(1)])


def shared(library):
    """A sub-model that is called twice keeps the losses of both calls."""

    class Twins(library.Model):
        def __init__(self):
            super().__init__()
            self.tower = functional(library)

        def call(self, x):
            return self.tower(x) + self.tower(2 * x)

    return Twins()


def nested(library):
    x = library.Input((5,))
    tower = functional(library)
    return library.Model(x, library.layers.Add()([tower(x), tower(x)]))


MODELS = [functional, sequential, shared, nested]


@pytest.mark.parametrize("make", MODELS)
def test_a_call_forgets_the_losses_of_the_call_before(make):
    counts = []
    for library in (keras, kstyle_torch):
        model = make(library)
        found = []
        for _ in range(3):
            model(torch.from_numpy(X))
            found.append(sorted(float(loss) for loss in model.losses))
        counts.append(found)
    assert counts[1] == counts[0]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("own", [False, True])
def test_each_step_minimises_its_own_losses_only(make, own):
    histories = []
    for library in (keras, kstyle_torch):
        model = make(library)
        model(torch.from_numpy(X))
        model.set_weights([np.full(weight.shape, 0.1) for weight in model.get_weights()])
        model.compile("sgd", "mse")
        if own:
            found = []
            for _ in range(3):
                model.zero_grad()
                loss = model.compute_loss(X, X[:, :1], model(torch.from_numpy(X), training=True))
                loss.backward()
                found.append(float(loss.detach()))
            histories.append(found)
        else:
            histories.append(model.fit(X, X[:, :1], batch_size=2, epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-5)
