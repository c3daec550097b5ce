"""Whatever changes while steps are recorded: what comes out is what `jit_compile=False` gives, to the bit."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.recorded import engine
from tests.models_to_train import recordings_of, rows_with_signs
from tests.oracle import assert_same_bits

X, Y = rows_with_signs(96, 6)
pytestmark = pytest.mark.usefixtures("recorded_soon")


@pytest.fixture(autouse=True)
def afterwards():
    """Sets back what a test changes."""
    yield
    as_ever()


def as_ever():
    """The settings of a process that has just begun."""
    ks.config.set_epsilon(1e-7)
    ks.config.set_floatx("float32")
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch._C._set_mkldnn_enabled(True)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.set_autocast_enabled("cpu", False)


def network(*more):
    return ks.Sequential(
        [
            ks.Input((6,)),
            layers.Dense(8, "relu"),
            layers.BatchNormalization(),
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.2)),
            *more,
            layers.Dense(1, "sigmoid"),
        ]
    )


class At(ks.callbacks.Callback):
    """Does something after the third batch, or at the end, of the second epoch."""

    def __init__(self, action, at_end=False):
        super().__init__()
        self.action, self.at_end, self.epoch = action, at_end, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2) and not self.at_end:
            self.action(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and self.at_end:
            self.action(self.model)


def fit(model, *callbacks, **settings):
    settings = {"batch_size": 16, "epochs": 4, "verbose": 0, **settings}
    return model.fit(X, Y, callbacks=list(callbacks), **settings).history


def compiled(make=network, loss="bce", optimizer="adam"):
    def build(jit_compile):
        model = make()
        model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile)
        return [model]

    return build


def outcome(build, train, jit_compile):
    torch.manual_seed(1)
    models = build(jit_compile)
    try:
        told = train(*models)
    except (RuntimeError, ValueError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
    weights = [weight for model in models for weight in model.get_weights()]
    return models, told, weights, torch.get_rng_state()


def assert_same(build, train):
    """Returns: What came out, and what is recorded in the end."""
    expected, got = (outcome(build, train, jit) for jit in (False, "auto"))
    assert repr(got[1]) == repr(expected[1])
    assert_same_bits(got[2], expected[2])
    assert torch.equal(got[3], expected[3])
    return got[1], [recordings_of(model) for model in got[0] if model.compiled and model._fit.step_engine is not None]


def lay_otherwise(weight):
    weight.data = (torch.arange(48.0).view(6, 8) * 0.01).t()


ACTIONS = {
    "epsilon": lambda model: ks.config.set_epsilon(0.1),
    "floatx": lambda model: ks.config.set_floatx("float64"),
    "default dtype": lambda model: torch.set_default_dtype(torch.float64),
    "deterministic": lambda model: torch.use_deterministic_algorithms(True),
    "mkldnn": lambda model: torch._C._set_mkldnn_enabled(False),
    "no gradients": lambda model: torch.set_grad_enabled(False),
    "anomalies": lambda model: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda model: torch.set_autocast_enabled("cpu", True),
    "another layout": lambda model: lay_otherwise(model.layers[0].linear.weight),
    "weights in place": lambda model: model.layers[0].linear.weight.data.mul_(0.5),
    "new weights": lambda model: model.load_state_dict(
        {key: value * 0 + 1 for key, value in model.state_dict().items()}, assign=True
    ),
    "replaced weight": lambda model: setattr(model.layers[0].linear, "weight", nn.Parameter(torch.full((8, 6), 0.1))),
    "frozen weight": lambda model: model.layers[0].linear.weight.requires_grad_(False),
    "frozen layer": lambda model: setattr(model.layers[1], "trainable", False),
    "inference": lambda model: model.layers[2].eval(),
    "another child": lambda model: model.layers[2].__setitem__(1, nn.Tanh()),
    "one more child": lambda model: model.layers[2].append(nn.Tanh()),
    "another forward": lambda model: setattr(model.layers[2][1], "forward", torch.tanh),
    "policy": lambda model: setattr(model.layers[0], "dtype_policy", "mixed_bfloat16"),
    "float64": lambda model: model.to(torch.float64),
    "scaled loss": lambda model: setattr(model.optimizer, "loss_scale_factor", 4.0),
    "another optimizer": lambda model: setattr(
        model._compiled, "optimizer", ks.optimizers.LossScaleOptimizer(ks.optimizers.SGD(0.1))
    ),
    "compiled again": lambda model: model.compile("sgd", "mse", jit_compile=model.jit_compile),
    "a fit inside": lambda model: fit(model, epochs=1),
    "a batch inside": lambda model: model.train_on_batch(X, Y),
    "breaks off": lambda model: (_ for _ in ()).throw(RuntimeError("broken off")),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:.*got no gradient", "ignore:.*lr_scheduler")
@pytest.mark.parametrize("at_end", [False, True], ids=["batch", "epoch"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_callback_may_change_anything(action, at_end):
    def train(model):
        return fit(model, At(ACTIONS[action], at_end))

    def build(jit_compile):
        as_ever()
        return compiled(loss="mape" if action == "epsilon" else "bce")(jit_compile)

    assert_same(build, train)


@pytest.mark.parametrize(
    "change", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_where_its_model_was(change):
    def train(model):
        first = fit(model)
        other = change(model)
        return first, fit(other), fit(model), [weight.sum() for weight in other.get_weights()]

    assert assert_same(compiled(), train)[1] != [[]]


def test_layers_may_be_frozen_and_thawed_between_fits():
    def train(model):
        histories = [fit(model)]
        for trainable in (False, True):
            model.layers[0].trainable = trainable
            histories.append(fit(model))
            model.compile("sgd", "bce", jit_compile=model.jit_compile)
            histories.append(fit(model))
        return histories

    assert_same(compiled(), train)


def adversaries(jit_compile):
    critic = ks.Sequential([ks.Input((6,)), layers.Dense(8, "relu"), layers.Dropout(0.2), layers.Dense(1, "sigmoid")])
    maker = ks.Sequential([ks.Input((3,)), layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(6)])
    critic.compile("adam", "bce", jit_compile=jit_compile)
    critic.trainable = False
    both = ks.Sequential([ks.Input((3,)), maker, critic])
    both.compile("adam", "bce", jit_compile=jit_compile)
    return both, critic, maker


def test_two_models_may_share_layers_and_be_trained_in_turns():
    noise = np.random.default_rng(1).normal(size=(96, 3)).astype("float32")
    settings = {"batch_size": 16, "epochs": 2, "verbose": 0}

    def train(both, critic, maker):
        told = []
        for _ in range(3):
            critic.trainable = True
            told.append(critic.train_on_batch(X, Y))
            mixed = np.concatenate([X, maker.predict(noise, verbose=0)])
            told.append(critic.fit(mixed, np.repeat([1.0, 0.0], 96), **settings).history)
            critic.trainable = False
            told.append(both.fit(noise, np.ones(96), **settings).history)
            told.append(both.train_on_batch(noise, np.ones(96)))
        return told

    assert all(assert_same(adversaries, train)[1])


def test_models_may_be_trained_in_several_threads():
    def make():
        return ks.Sequential([ks.Input((6,)), layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(1)])

    def train(*models):
        told = {}

        def one(place):
            told[place] = fit(models[place], epochs=10, shuffle=False)

        threads = [threading.Thread(target=one, args=(place,)) for place in range(len(models))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [told[place] for place in range(len(models))]

    build = compiled(make, "mse")
    assert all(assert_same(lambda jit: [build(jit)[0] for _ in range(3)], train)[1])


def test_the_targets_may_once_have_been_the_inputs():
    same = torch.from_numpy(X[:16])

    def train(model):
        batches = ((same, same if step < 30 else same * 2) for step in range(60))
        return model.fit(batches, steps_per_epoch=60, verbose=0).history

    make = compiled(lambda: ks.Sequential([ks.Input((6,)), layers.Dense(3), layers.Dense(6)]), "mse")
    assert assert_same(make, train)[1] != [[]]


@pytest.mark.filterwarnings("ignore:The loss became nan")
def test_a_loss_that_is_no_number_is_one_in_a_recorded_step_too():
    """torch's kernel refuses NaN; steps that fail in the middle would change statistics and random state twice."""

    def make():
        return ks.Sequential([ks.Input((6,)), layers.BatchNormalization(), layers.Dropout(0.2), network()])

    def train(model):
        def spoil(model):
            model.layers[-1].layers[-1].linear.weight.data.fill_(np.nan)

        return fit(model, At(spoil))

    told, recorded = assert_same(compiled(make), train)
    assert "nan" in repr(told)
    assert recorded != [[]]


def test_single_batches_are_recorded_once_there_were_many():
    def train(model):
        told = [model.train_on_batch(X[:16] * scale, Y[:16]) for scale in np.linspace(0.5, 2, 12)]
        model.layers[2][2].p = 0.7
        told += [model.train_on_batch(X[:16], Y[:16], sample_weight=X[:16, 0] ** 2) for _ in range(6)]
        model.layers[0].trainable = False
        return told + [model.train_on_batch(X[:16], Y[:16], class_weight={0: 2.0, 1: 1.0}) for _ in range(6)]

    assert assert_same(compiled(), train)[1] != [[]]


def test_nobody_looks_for_ever_at_a_model_that_changes_all_the_time():
    def train(model):
        told = []
        for number in range(engine.MAX_LOOKS + 10):
            model.layers[0].tag = number + 0.5
            told.append(model.train_on_batch(X[:16], Y[:16]))
        return told

    assert_same(compiled(), train)
    (model,), *_ = outcome(compiled(), train, "auto")
    assert "all the time" in model._fit.step_engine.reason


def test_going_back_and_forth_keeps_the_recording():
    def train(model):
        for _ in range(6):
            model.layers[0].trainable = False
            model.layers[0].trainable = True
            model.train_on_batch(X[:16], Y[:16])
        return (
            [recording.source for recording in model._fit.step_engine.recordings.values()]
            if model._fit.step_engine is not None
            else []
        )

    (model,), sources, *_ = outcome(compiled(), train, "auto")
    assert sources
    assert model._fit.step_engine.looks == 0
