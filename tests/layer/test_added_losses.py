"""`add_loss`: the losses of a model are those of its last call, in loops of one's own too, as in Keras."""

import gc

import keras
import numpy as np
import pytest
import torch

import kstyle_torch
from kstyle_torch import Input, Sequential, layers
from tests.models_to_train import GRAPHS

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


ROWS = np.linspace(-1, 1, 50, dtype="float32").reshape(10, 5)
RUNS = ["fit", "evaluate", "predict", "predict_on_batch", "train_on_batch", "test_on_batch"]


def weak(library):
    x = library.Input((5,))
    hidden = library.layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l2")(x)
    return library.Model(x, library.layers.Dense(1)(penalty(library)(hidden)))


def only_in_training(library):
    class Noted(library.layers.Layer):
        def call(self, x, training=False):
            if training:
                self.add_loss(library.ops.mean(x))
            return x

    return library.Sequential([library.Input((5,)), Noted(), library.layers.Dense(1)])


def own_steps(library):
    class Own(library.Model):
        def train_step(self, data):
            self.zero_grad()
            loss = self.compute_loss(data[0], data[1], self(data[0], training=True))
            loss.backward()
            weights = self.trainable_weights
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss, "number": len(self.losses)}

        def test_step(self, data):
            self(2 * data[0], training=False)
            loss = self.compute_loss(data[0], data[1], self(data[0], training=False))
            return {"loss": loss, "number": len(self.losses)}

    x = library.Input((5,))
    return Own(x, library.layers.Dense(1)(penalty(library)(x)))


def same_weights(*models):
    weights = [np.full(weight.shape, 0.1) for weight in models[0].get_weights()]
    for model in models:
        model(torch.from_numpy(X))
        model.set_weights(weights)
        model.compile("sgd", "mse")
    return models


def run(model, which):
    y = () if "predict" in which else (ROWS[:, :1],)
    size = {} if which.endswith("batch") else {"batch_size": 4, "verbose": 0}
    return getattr(model, which)(ROWS, *y, **size, **({"shuffle": False} if which == "fit" else {}))


@pytest.mark.parametrize("make", [*MODELS, weak, only_in_training, own_steps])
def test_runs_leave_the_losses_of_their_last_call(make):
    ours, theirs = same_weights(make(kstyle_torch), make(keras))
    for which in [*RUNS, *RUNS]:  # the second time there are some already
        for model in (ours, theirs):
            run(model, which)
        mine = model_losses(ours)
        np.testing.assert_allclose(mine, model_losses(theirs), rtol=1e-5, atol=1e-7, err_msg=which)
    penalties = sum(view.regularizer is not None for view in ours.weights)
    assert sum(loss.grad_fn is not None for loss in ours.losses) == penalties  # no graph is kept


def model_losses(model):
    return [loss.item() for loss in model.losses]


def test_a_validation_is_the_last_call_of_a_fit():
    ours, theirs = same_weights(weak(kstyle_torch), weak(keras))
    for model in (ours, theirs):
        model.fit(ROWS, ROWS[:, :1], verbose=0, validation_data=(2 * ROWS, ROWS[:, :1]))
    np.testing.assert_allclose(model_losses(ours), model_losses(theirs), rtol=1e-5)


def test_steps_of_the_users_minimise_the_losses_of_their_own_call():
    ours, theirs = same_weights(own_steps(kstyle_torch), own_steps(keras))
    data, fits = (ROWS, ROWS[:, :1]), {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    histories = [model.fit(*data, validation_data=data, **fits).history for model in (ours, theirs)]
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "how",
    [
        {"jit_compile": False},
        {"jit_compile": "record"},
        pytest.param(GRAPHS, marks=pytest.mark.full),
        pytest.param({**GRAPHS, "steps_per_execution": "epoch"}, marks=pytest.mark.full),
    ],
    ids=["eager", "recorded", "step graph", "epoch graph"],
)
def test_every_tier_leaves_the_losses_of_its_last_step(how):
    ours, theirs = same_weights(weak(kstyle_torch), weak(keras))
    ours.compile("sgd", "mse", **how)
    for model in (ours, theirs):
        model.fit(ROWS, ROWS[:, :1], batch_size=2, epochs=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(model_losses(ours), model_losses(theirs), rtol=1e-4)


@pytest.mark.parametrize("make", [lambda: layers.BatchNormalization(), lambda: layers.Dense(3)], ids=["layer", "leaf"])
def test_compiling_does_not_depend_on_losses_of_another_layer(make):
    held = [layers.ActivityRegularization(0.1)]
    held[0](torch.ones(2, 3))
    layer = make()
    layer.build((None, 3))

    def backend(graph, inputs):
        held.clear()  # the other layer is freed while the graph is made
        gc.collect()
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    assert torch.equal(compiled(torch.ones(2, 3)), layer(torch.ones(2, 3)))


@pytest.mark.parametrize("nested", [False, True], ids=["layer", "model"])
def test_a_compiled_call_forgets_the_losses_of_the_one_before(nested):
    layer = layers.ActivityRegularization(0.1)
    if nested:
        layer = Sequential([Input((3,)), layer, layers.Rescaling(2.0)])
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for factor in (1.0, 2.0, 3.0):
        compiled(torch.full((2, 3), factor))
        found = [*layer.losses]
        layer(torch.full((2, 3), factor))
        assert [float(loss) for loss in found] == [float(loss) for loss in layer.losses]


@pytest.mark.parametrize(("before", "after"), [(None, 0.1), (0.1, None), (0.1, 0.3)])
def test_an_activity_regularizer_can_be_set_at_any_time(before, after):
    found = []
    for library in (keras, kstyle_torch):
        first, later = (share and library.regularizers.L2(share) for share in (before, after))
        model = library.Sequential([library.Input((5,)), library.layers.Dense(2, activity_regularizer=first)])
        model.set_weights([np.ones((5, 2)), np.ones(2)])
        model.compile("sgd", "mse")
        found.append([model.evaluate(X, X[:, :2], verbose=0)])
        model.layers[-1].activity_regularizer = later
        found[-1] += [model.evaluate(X, X[:, :2], verbose=0), model.fit(X, X[:, :2], verbose=0).history["loss"][0]]
    assert found[0] == pytest.approx(found[1]) and found[0][0] != found[0][1]
