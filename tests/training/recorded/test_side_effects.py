"""Recorded steps that make more than a loss, one output and gradients: each bit is that of the eager step."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.models_to_train import AtBatch, recordings_of
from tests.oracle import assert_same_bits

pytestmark = pytest.mark.usefixtures("recorded_soon")
ROWS = 100
RNG = np.random.default_rng(7)
TABLE = RNG.normal(size=(ROWS, 6)).astype("float32")
TOKENS = RNG.integers(0, 9, (ROWS, 5))
BITS, KINDS, NUMBERS = (TABLE.sum(1) > 0).astype("float32"), RNG.integers(0, 3, ROWS), RNG.normal(size=ROWS)
LATER = (1, 2)  # epochs, of three
BY_OUTPUT = [np.linspace(0, 2, ROWS), np.linspace(1, 0, ROWS), np.ones(ROWS)]


def heads(keras):
    x = keras.Input((6,))
    h = keras.layers.Dense(8, "tanh", kernel_regularizer="l2")(x)
    names = {"p": (1, "sigmoid"), "q": (3, "softmax"), "r": (1, None)}
    return x, {name: keras.layers.Dense(*how, name=name)(h) for name, how in names.items()}


def listed(keras):
    x, outputs = heads(keras)
    return keras.Model(x, list(outputs.values()))


def by_name(keras):
    return keras.Model(*heads(keras))


def nested(keras):
    x, outputs = heads(keras)
    return keras.Model(x, {"a": [outputs["q"], outputs["p"]], "b": outputs["r"]})


def tagger(keras):
    x = keras.Input((5,), dtype="int32")
    h = keras.layers.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, keras.layers.Dense(3, "softmax")(h))


def tagger_of_two(keras):
    x = keras.Input((5,), dtype="int32")
    h = keras.layers.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, [keras.layers.Dense(3, "softmax", name="q")(h), keras.layers.Dense(1, name="r")(h)])


def busy(keras):
    x = keras.Input((6,))
    h = keras.layers.Dense(8, "relu", activity_regularizer="l1")(x)
    h = keras.layers.ActivityRegularization(l2=0.01)(h)
    return keras.Model(x, keras.layers.Dense(1, "sigmoid", bias_regularizer="l2", activity_regularizer="l2")(h))


class Spread(ks.layers.Layer):
    """Wants its input to be spread by a weight that a callback may set."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.strength = ks.Variable(0.5)
        self.seen = ks.metrics.Mean(name="seen")

    def call(self, x):
        loss = -self.strength * x.var(0).mean()
        self.add_loss([loss, loss * loss])
        self.seen.update_state(loss)
        return x


def spread(keras):
    x = keras.Input((6,))
    return keras.Model(x, keras.layers.Dense(1, "sigmoid")(Spread()(keras.layers.Dense(4)(x))))


LISTED = [BITS, KINDS, NUMBERS]
NAMED = {"p": BITS, "q": KINDS, "r": NUMBERS}
LOSSES = {"p": "bce", "q": "sparse_categorical_crossentropy", "r": "mse"}
SPARSE = LOSSES["q"]
METRICS = {"p": ["accuracy", "AUC"], "q": ["accuracy"], "r": ["mae"]}
TAGS = RNG.integers(0, 3, (ROWS, 5))
GROWING = ("LossScaleOptimizer", {"dynamic_growth_steps": 5})
# model, x, y, what compile gets, what fit gets
CASES = {
    "list": (listed, TABLE, LISTED, {"loss": [*LOSSES.values()], "metrics": [*METRICS.values()]}, {}),
    "list of one loss": (listed, TABLE, [BITS, np.eye(3)[KINDS], NUMBERS], {"loss": "mse"}, {}),
    "dict": (by_name, TABLE, NAMED, {"loss": LOSSES, "metrics": METRICS, "weighted_metrics": METRICS}, {}),
    "loss weights": (by_name, TABLE, NAMED, {"loss": LOSSES, "loss_weights": {"p": 0.3, "q": 2.0, "r": 1.0}}, {}),
    "without a loss": (listed, TABLE, LISTED, {"loss": ["bce", None, "mse"], "metrics": [*METRICS.values()]}, {}),
    "two losses": (listed, TABLE, LISTED, {"loss": [["bce", "mse"], SPARSE, None]}, {}),
    "nested": (nested, TABLE, {"a": [KINDS, BITS], "b": NUMBERS}, {"loss": {"a": [SPARSE, "bce"], "b": "mae"}}, {}),
    "sample weights": (listed, TABLE, LISTED, {"loss": [*LOSSES.values()], "weighted_metrics": [*METRICS.values()]},
                       {"sample_weight": BY_OUTPUT}),
    "masked": (tagger, TOKENS, TAGS, {"loss": SPARSE, "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}, {}),
    "masked, weighted": (tagger, TOKENS, TAGS, {"loss": SPARSE, "weighted_metrics": ["accuracy"]},
                         {"sample_weight": BY_OUTPUT[0]}),
    "masked, two": (tagger_of_two, TOKENS, [TAGS, TAGS[..., None]],
                    {"loss": [SPARSE, "mse"], "metrics": [["accuracy"], ["mae"]]}, {}),
    "activities": (busy, TABLE, BITS, {"loss": "bce", "metrics": ["accuracy"]}, {}),
    "activities, classes": (busy, TABLE, BITS, {"loss": "bce"}, {"class_weight": {0: 0.2, 1: 3.0}}),
    "activities only": (busy, TABLE, None, {}, {}),
    "scaled": (busy, TABLE, BITS, {"loss": "bce", "optimizer": ("sgd", {"loss_scale_factor": 8.0})}, {}),
    "scaled by state": (listed, TABLE, LISTED, {"loss": [*LOSSES.values()], "optimizer": GROWING}, {}),
}  # fmt: skip


def optimizer(keras, given="adam"):
    if isinstance(given, str):
        return given
    name, settings = given
    if name == "LossScaleOptimizer":
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), **settings)
    return keras.optimizers.get({"class_name": name, "config": settings})


def compiled(keras, make, settings, **switches):
    model = make(keras)
    settings = {**settings, "optimizer": optimizer(keras, settings.get("optimizer", "adam"))}
    model.compile(**settings, **switches)
    return model


def fitted(make, x, y, settings, given, jit_compile, epochs=3, **more):
    torch.manual_seed(3)
    model = compiled(ks, make, settings, jit_compile=jit_compile)
    history = model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, **given, **more)
    return model, history.history


def state_of(model):
    state = [model.get_weights(), [np.asarray(variable) for variable in model.optimizer.variables]]
    return [*state[0], *state[1], torch.get_rng_state().numpy()]


def assert_same(case, how="auto", **more):
    expected, history = fitted(*case, False, **more)
    expected = state_of(expected)
    model, recorded = fitted(*case, how, **more)
    assert recordings_of(model)
    assert recorded == history
    assert_same_bits(state_of(model), expected)
    return model, history


@pytest.mark.filterwarnings("ignore:.*trainable variable.*got no gradient")
@pytest.mark.parametrize("case", CASES)
def test_every_bit_is_that_of_the_eager_step(case):
    assert_same(CASES[case])


@pytest.mark.parametrize("case", ["dict", "list", "loss weights", "masked, two", "activities"])
def test_recorded_steps_give_the_numbers_of_keras(keras, case):
    make, x, y, settings, given = CASES[case]
    theirs, ours = compiled(keras, make, settings), compiled(ks, make, settings)
    ours.set_weights(theirs.get_weights())
    fits = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0}
    expected, got = theirs.fit(x, y, **fits, **given).history, ours.fit(x, y, **fits, **given).history
    assert recordings_of(ours)
    assert list(got) == list(expected)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=2e-6)


def bounded(keras):
    class Bounded(keras.layers.Layer):
        def call(self, x):
            self.add_loss(0.1 * abs(x).mean())
            return x

    x = keras.Input((6,))
    h = Bounded()(keras.layers.Dense(4, "tanh")(x))
    return keras.Model(x, keras.layers.Dense(1, "sigmoid")(Bounded()(h)))


def test_losses_that_layers_add_are_those_of_keras(keras):
    theirs, ours = (
        compiled(keras, bounded, {"loss": "bce"}),
        compiled(ks, bounded, {"loss": "bce"}, jit_compile="record"),
    )
    ours.set_weights(theirs.get_weights())
    fits = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0}
    expected, got = theirs.fit(TABLE, BITS, **fits).history, ours.fit(TABLE, BITS, **fits).history
    assert recordings_of(ours)
    np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-5, atol=1e-6)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=2e-6)


def test_on_request_losses_and_metrics_of_user_layers_are_recorded():
    model, history = assert_same((spread, TABLE, BITS, {"loss": "bce"}, {}), "record")
    assert history["seen"][0] < 0
    assert float(model.layers[2].seen.count) == -(-ROWS // 16)  # each step counts once, the one done both ways too


def test_a_variable_may_be_set_between_epochs():
    case = (spread, TABLE, BITS, {"loss": "bce"}, {})
    plain = assert_same(case, "record")[1]

    class Annealing(ks.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[2].strength.assign(0.1)

    annealed = assert_same(case, "record", callbacks=[Annealing()])[1]
    assert annealed["loss"][0] == plain["loss"][0]
    assert annealed["loss"][1] != plain["loss"][1]


def test_a_loss_weight_may_be_a_variable():
    weight = ks.Variable(1.0)
    settings = {"loss": LOSSES, "loss_weights": {"p": weight, "q": 1.0, "r": torch.tensor(2.0)}}
    halves = AtBatch(lambda model: weight.assign(weight * 0.5), LATER)
    weight.assign(1.0)
    eager = fitted(by_name, TABLE, NAMED, settings, {}, False, callbacks=[halves])
    weight.assign(1.0)
    recorded = fitted(by_name, TABLE, NAMED, settings, {}, "auto", callbacks=[halves])
    assert recordings_of(recorded[0])
    assert recorded[1] == eager[1]
    assert float(weight) == 0.25


def test_a_penalty_on_outputs_may_be_changed_between_steps():
    def set_penalty(model):
        model.layers[1].activity_regularizer.l1 = 0.7

    plain = assert_same(CASES["activities"])[1]
    assert assert_same(CASES["activities"], callbacks=[AtBatch(set_penalty, LATER)])[1]["loss"][1] != plain["loss"][1]


def test_a_callback_sees_the_losses_of_the_last_step():
    seen = []
    for jit in (False, "auto"):
        look = AtBatch(lambda model: seen[-1].extend(float(loss.detach()) for loss in model.losses), LATER)
        seen.append([])
        fitted(*CASES["activities"], jit, callbacks=[look])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2 * 4


def test_a_metric_of_the_users_sees_mask_and_logits():
    class Looking(ks.metrics.Metric):
        def __init__(self):
            super().__init__(name="looking")
            self.total = self.add_weight(name="total")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(ks.losses.sparse_categorical_crossentropy(y_true, y_pred).sum())
            self.total.assign_add(y_pred._keras_mask.sum())

        def result(self):
            return self.total.value

    history = assert_same((tagger, TOKENS, TAGS, {"loss": SPARSE, "metrics": [Looking()]}, {}))[1]
    assert history["looking"][0] > 0


def test_batches_in_another_nest_have_a_recording_of_their_own():
    def batches():
        weight = np.linspace(0, 1, 16, dtype="float32")
        for step in range(40):
            rows = slice(16 * (step % 6), 16 * (step % 6) + 16)
            y = [part[rows] for part in (BITS, np.eye(3, dtype="float32")[KINDS], NUMBERS.astype("float32"))]
            yield TABLE[rows], y, [weight, None, None] if step % 2 else [None, None, weight]

    results = []
    for jit in (False, "auto"):
        torch.manual_seed(3)
        model = compiled(ks, listed, {"loss": ["bce", "mse", "mse"]}, jit_compile=jit)
        results.append(model.fit(batches(), verbose=0).history)  # nobody knows how many there are
    assert len(recordings_of(model)) == 2
    assert results[0] == results[1]
