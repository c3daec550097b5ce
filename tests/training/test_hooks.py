"""Hooks of training: the same program on Keras and here calls them as often, with the same numbers and weights."""

import gc
import weakref

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import assert_alike, raised

RNG = np.random.default_rng(3)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 2)).astype("float32")


def fixed(model):
    """The model with weights that do not depend on random numbers."""
    model.set_weights(
        [np.cos(np.arange(np.size(w)) + i).reshape(np.shape(w)) for i, w in enumerate(model.get_weights())]
    )
    return model


def functional(keras, cls=None, **kwargs):
    inputs = keras.Input((3,), name="x")
    return fixed((cls or keras.Model)(inputs, keras.layers.Dense(2, name="d")(inputs), name="m", **kwargs))


def trained(model, fit=True, **kwargs):
    """What two epochs of `fit`, `evaluate` and `predict` give, and the weights."""
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0, **kwargs).history
    results = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
    return history, results, model.predict(X, batch_size=4, verbose=0), model.get_weights()


def own_make_train_function(keras):
    calls = []

    class Own(keras.Model):
        def make_train_function(self, force=False):
            calls.append(("make train", force))
            if self.train_function is not None and not force:
                return self.train_function

            def step(data):
                (batch,) = data
                calls.append(("train", len(batch[0])))
                return self.train_step(batch)

            self.train_function = step
            return step

        def make_test_function(self, force=False):
            calls.append(("make test", force))

            def step(data):
                (batch,) = data
                calls.append(("test", len(batch[0])))
                with torch.no_grad():
                    return self.test_step(batch)

            self.test_function = step

        def make_predict_function(self, force=False):
            calls.append(("make predict", force))

            def step(data):
                (batch,) = data
                calls.append(("predict", len(batch[0])))
                with torch.no_grad():
                    return self.predict_step(batch)

            self.predict_function = step

    model = functional(keras, Own)
    model.compile("sgd", "mse", metrics=["mae"])
    results = trained(model, validation_data=(X[:5], Y[:5]))
    on_batch = model.train_on_batch(X, Y), model.test_on_batch(X, Y), model.predict_on_batch(X)
    return calls, results, on_batch, model.get_weights()


def given_functions(keras):
    """Functions that are set on the model by hand, after compile()."""
    calls = []
    model = functional(keras)
    model.compile("sgd", "mse", metrics=["mae"])
    before = [model.train_function, model.test_function, model.predict_function]

    def train(data):
        calls.append(len(data))
        return {"loss": torch.tensor(2.0), "mine": torch.tensor(float(len(data[0][0])))}

    model.train_function = train
    model.test_function = lambda data: {"tested": torch.tensor(5.0)}
    model.predict_function = lambda data: data[0][0] * 2
    results = trained(model)
    model.compile("sgd", "mse", metrics=["mae"])
    return calls, before, results, model.train_function is None, trained(model)


def made_functions(keras):
    """Functions that the model makes itself, called by hand."""
    model = functional(keras)
    model.compile("sgd", "mse", metrics=["mae"])
    model.train_on_batch(X, Y)
    model.make_train_function(force=True)
    model.make_test_function(force=True)
    model.make_predict_function(force=True)
    model.reset_metrics()
    logs = model.train_function([(torch.from_numpy(X), torch.from_numpy(Y))])
    tested = model.test_function([(torch.from_numpy(X), torch.from_numpy(Y))])
    predicted = model.predict_function([(torch.from_numpy(X),)])
    again = model.make_train_function() is model.train_function
    return logs, tested, predicted, model.get_weights(), again, trained(model)


def own_steps(keras):
    calls = []

    class Own(keras.Model):
        def train_step(self, data):
            calls.append(("train", len(data)))
            return {**super().train_step(data), "more": torch.tensor(1.0)}

        def test_step(self, data):
            calls.append(("test", len(data)))
            return super().test_step(data)

        def predict_step(self, data):
            calls.append(("predict", type(data).__name__))
            return super().predict_step(data) + 1

    model = functional(keras, Own)
    model.compile("sgd", "mse", metrics=["mae"])
    return trained(model), [name for name, _ in calls], calls[0]


def own_compute_loss(keras):
    calls = []

    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            calls.append((x.shape[0], training, sample_weight is None))
            return super().compute_loss(x, y, y_pred, sample_weight, training) + 0.5 * torch.abs(y_pred).mean()

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            results = super().compute_metrics(x, y, y_pred, sample_weight)
            results["rows"] = torch.tensor(float(x.shape[0]))
            return results

    model = functional(keras, Own)
    model.compile("sgd", "mse", metrics=["mae"])
    results = trained(model)
    return results, [call for call in calls if call[0] in (2, 4)][-9:]


def early_compute_loss(keras):
    """`compute_loss` without `training`, as for Keras before 3.3."""

    class Own(keras.Model):
        def compute_loss(self, x, y, y_pred, sample_weight):
            return keras.ops.mean((y - y_pred) ** 4)

    model = functional(keras, Own)
    model.compile("sgd")
    return trained(model)


def output_is_none(keras):
    """A model that returns nothing, and computes its loss itself from the inputs."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)
            self.tracker = keras.metrics.Mean(name="squares")

        def call(self, inputs):
            self.last = self.dense(inputs)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            assert y_pred is None
            loss = keras.ops.mean((self.dense(x) - y) ** 2)
            self.tracker.update_state(loss)
            return loss

    model = Own()
    model.dense.build((None, 3))
    model.build((None, 3))
    fixed(model)
    model.compile("sgd")
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return history, model.evaluate(X, Y, verbose=0, return_dict=True), model.get_weights()


def own_optimizer_attribute(keras):
    """A subclass whose `compile` sets an optimizer of its own, and steps with it."""

    class Own(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

        def compile(self, optimizer, loss):
            super().compile()
            self.optimizer = optimizer
            self.loss_fn = loss

        def train_step(self, data):
            x, y = data
            self.zero_grad()
            loss = self.loss_fn(y, self(x, training=True))
            loss.backward()
            weights = self.trainable_weights
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"own": loss}

    model = Own()
    model(X)
    fixed(model)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, keras.losses.MeanSquaredError())
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return history, model.optimizer is optimizer, int(optimizer.iterations), model.get_weights()


def replaced_optimizer(keras):
    """`model.optimizer = ...` after compile(): the next `fit` steps with it."""
    model = functional(keras)
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    model.optimizer = keras.optimizers.RMSprop(0.1)
    results = trained(model)
    return results, type(model.optimizer).__name__, int(model.optimizer.iterations)


def optimizer_before_compile(keras):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.optimizer = keras.optimizers.SGD(0.5)
            self.loss = "nothing"
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Own()
    return type(model.optimizer).__name__, model.loss, model.compiled


def state_tree(keras):
    model = functional(keras)
    model.compile(keras.optimizers.Adam(0.01, name="adam"), "mse", metrics=["mae"])
    model.fit(X, Y, batch_size=5, shuffle=False, verbose=0)
    tree = model.get_state_tree(value_format="numpy_array")
    tensors = model.get_state_tree()
    kinds = {key: isinstance(value, torch.Tensor) for key, value in tensors["trainable_variables"]["d"].items()}
    model.fit(X, Y, batch_size=5, shuffle=False, verbose=0)
    model.set_state_tree(tree)
    parts = model.get_weights(), model.get_state_tree("numpy_array")
    model.set_state_tree({"trainable_variables": {"d": {"kernel": np.ones((3, 2))}}})
    return tree, kinds, parts, trained(model)


def wrong_state_tree(keras):
    model = functional(keras)
    model.compile("sgd", "mse")
    return raised(lambda: model.get_state_tree("arrays")), raised(lambda: model.set_state_tree({"weights": {}}))


def stateless_loss(keras):
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            self.seen.assign_add(1.0)
            return super().compute_loss(x, y, y_pred, sample_weight, training) + self.trainable_variables[0][0, 0]

    model = functional(keras, Own)
    model.seen = model.add_weight(shape=(), name="seen", trainable=False, initializer="zeros")
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    seen = float(model.seen.value)
    trainable = [torch.ones(tuple(v.shape)) for v in model.trainable_variables]
    rest = [torch.full(tuple(v.shape), 7.0) for v in model.non_trainable_variables]
    metrics = [v.value for v in model.metrics_variables]
    y = torch.from_numpy(Y)
    loss, (new, others, counted) = model.stateless_compute_loss(trainable, rest, metrics, None, y, y + 1)
    return loss, new, others, counted, float(model.seen.value) - seen, model.get_weights()


def switches(keras):
    """`run_eagerly`, `jit_compile` and what compile() leaves behind."""
    model = functional(keras)
    before = model.compiled, model.metrics_names
    model.compile("sgd", "mse", metrics=["mae"], run_eagerly=True)
    compiled = model.compiled, model.run_eagerly, model.metrics_names
    model.run_eagerly = False
    model.jit_compile = False
    return before, compiled, model.run_eagerly, model.jit_compile, trained(model)


def metrics_of_layers(keras):
    class Counting(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.size = keras.metrics.Mean(name="size")

        def call(self, inputs):
            self.size.update_state(keras.ops.mean(keras.ops.abs(inputs)))
            return inputs

    class Cubic(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.abs(y_true - y_pred) ** 3

    class Largest(keras.metrics.Metric):
        def __init__(self, name="largest", **kwargs):
            super().__init__(name=name, **kwargs)
            self.largest = self.add_weight(shape=(), initializer="zeros", name="largest")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.largest.assign(keras.ops.maximum(self.largest.value, keras.ops.max(y_pred)))

        def result(self):
            return self.largest.value

    inputs = keras.Input((3,))
    model = fixed(keras.Model(inputs, keras.layers.Dense(2)(Counting()(inputs))))
    model.compile("sgd", Cubic(), metrics=[Largest()], weighted_metrics=[keras.metrics.MeanSquaredError(name="sq")])
    return trained(model), sorted(model.metrics_names)


PROGRAMS = [
    own_make_train_function, given_functions, made_functions, own_steps, own_compute_loss, early_compute_loss,
    output_is_none, own_optimizer_attribute, replaced_optimizer, optimizer_before_compile, state_tree, wrong_state_tree,
    stateless_loss, switches, metrics_of_layers,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_hooks_do_what_they_do_in_keras(program, keras):
    assert_alike(program(ks), program(keras))


ENGINES = {
    "auto": {},
    "eager": {"run_eagerly": True},
    "recorded": {"jit_compile": "record"},
    "compiled": {"jit_compile": True},
    "epoch": {"jit_compile": True, "steps_per_execution": "epoch"},
}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_function_of_a_step_is_called_with_every_engine(engine, recorded_soon):
    model, sizes = functional(ks), []

    def step(data):
        sizes.append(len(data[0][0]))
        return model.train_step(data[0])

    model.compile("sgd", "mse", **ENGINES[engine])
    model.train_function = step
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    assert sizes == [4, 4, 2] * 2


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_the_output_may_be_none_with_every_engine(engine, recorded_soon, keras):
    class Own(ks.Model):
        def __init__(self):
            super().__init__()
            self.dense = ks.layers.Dense(2)

        def call(self, inputs):
            self.dense(inputs)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ((self.dense(x) - y) ** 2).mean()

    model = Own()
    model.build((None, 3))
    fixed(model)
    model.compile("sgd", **ENGINES[engine])
    history = model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0).history
    other = functional(keras)
    other.compile("sgd", "mse")
    assert_alike(history, other.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0).history)


def test_another_optimizer_is_used_by_recorded_steps(recorded_soon):
    model = functional(ks)
    model.compile("sgd", "mse", jit_compile="record")
    model.fit(X, Y, batch_size=2, epochs=3, verbose=0)
    model.optimizer = ks.optimizers.SGD(0.0)
    before = model.get_weights()
    model.fit(X, Y, batch_size=2, epochs=3, verbose=0)
    assert_alike(model.get_weights(), before)


def test_a_function_that_the_model_makes_does_not_keep_it(recorded_soon):
    model = functional(ks)
    model.compile("sgd", "mse")
    model.make_train_function()
    reference = weakref.ref(model)
    gc.collect()
    del model
    assert reference() is None
