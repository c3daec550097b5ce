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


def alone(library):
    layer = penalty(library)
    layer(X), layer(2 * X)
    return layer


def composite(library):
    class Block(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = penalty(library)

        def call(self, x):
            return self.inner(self.inner(x))

    block = Block()
    block(X), block(2 * X)
    return block


def regularized(library):
    layer = library.layers.Dense(2, kernel_initializer="ones", activity_regularizer="l2")
    layer(X), layer(2 * X)
    return layer


def within_a_model(library):
    model = sequential(library)
    model(X), model.layers[0](2 * X)
    return model


@pytest.mark.parametrize("make", [alone, composite, regularized, within_a_model])
def test_a_direct_call_of_a_layer_replaces_its_losses(make):
    ours, theirs = ([loss.item() for loss in make(library).losses] for library in (kstyle_torch, keras))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("run", ["fit", "evaluate", "predict", "predict_on_batch", "train_on_batch", "test_on_batch"])
def test_runs_leave_no_losses_behind(run):
    model = sequential(kstyle_torch)
    model.compile("sgd", "mse")
    y = () if "predict" in run else (np.zeros((4, 1)),)
    size = {} if run.endswith("batch") else {"batch_size": 1, "verbose": 0}
    getattr(model, run)(X, *y, **size)
    assert model.losses == []
