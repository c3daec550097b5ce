"""Whole epochs in one compiled call: the numbers of ordinary steps, and ordinary steps where it cannot be."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.optimizers import functional_update
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled import functional_step as training_pure
from tests.models_to_train import GRAPHS, X, Y, assert_same_history, assert_same_state, fit, network

EPOCH = {"jit_compile": {"backend": "aot_eager"}, "steps_per_execution": "epoch"}
QUICK = {"jit_compile": {"backend": "eager"}, "steps_per_execution": "epoch"}


@pytest.fixture
def counted(monkeypatch):
    """The batches of the steps that are not in a compiled call."""
    sizes, own = [], steps.train_step

    def counting(model, x, *rest):
        sizes.append(len(x))
        return own(model, x, *rest)

    monkeypatch.setattr(steps, "train_step", counting)
    return sizes


# ----------------------------------------------------------------------------------------------------- the same numbers


@pytest.mark.full
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch compiles with a C++ compiler")
def test_an_epoch_compiled_by_inductor_gives_the_numbers_of_ordinary_steps(counted):
    """Takes some seconds: it is the compiler that is tried."""
    expected, plain = fit(ordinary := network(jit_compile=False)), [*counted]
    model = network(jit_compile=True, steps_per_execution="epoch")
    counted.clear()
    assert_same_history(fit(model), expected)
    assert_same_state(model, ordinary)
    assert (plain, counted) == ([16, 16, 16, 16, 6] * 3, [6] * 3)

    counters.clear()  # another model, or process, finds the graph in torch's cache; one that differs in a number does not
    assert_same_history(fit(network(jit_compile=True, steps_per_execution="epoch")), expected)
    assert (counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"]) == (1, 0)
    new = np.random.default_rng().uniform(0.3, 0.8)  # which no earlier run of this test has left in the cache
    fit(network(ks.optimizers.Adam(beta_1=float(new)), jit_compile=True, steps_per_execution="epoch"), epochs=1)
    assert counters["inductor"]["fxgraph_cache_hit"] == 1


@pytest.mark.full
def test_all_goes_on_from_a_compiled_epoch(counted):
    """Validation, a schedule, weights that are not trained, another fit with single steps, a changed rate, and back."""
    histories, models = [], []
    for switches in ({"jit_compile": False}, EPOCH):
        inside = [
            *(layers.BatchNormalization(), layers.Dense(4, kernel_regularizer="l2", trainable=False)),
            layers.Dense(4, kernel_constraint="max_norm"),
        ]
        model = network(ks.optimizers.SGD(0.1, momentum=0.9, clipvalue=0.05, weight_decay=0.1), inside, **switches)
        history = [fit(model, validation_split=0.2, verbose=2 * (switches is EPOCH))]
        counted.clear()
        history += [fit(model, batch_size=35, validation_split=0.2)]
        model.optimizer.learning_rate = 0.01
        watcher = ks.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
        history += [fit(model, callbacks=[watcher]), fit(model, batch_size=35, validation_split=0.2)]
        histories.append(history)
        models.append(model)
    for got, expected in zip(histories[1], histories[0], strict=True):
        assert_same_history(got, expected)
    assert_same_state(models[1], models[0])
    assert 35 not in counted
    assert int(models[1].optimizer.iterations) == int(models[0].optimizer.iterations)


@pytest.mark.full
def test_a_changed_layer_is_compiled_anew():
    model, ordinary = (network(inside=[layers.LeakyReLU(0.1)], **how) for how in (EPOCH, {"jit_compile": False}))
    for each in (model, ordinary):
        fit(each, epochs=1)
        fit(each, epochs=1)
        each.layers[1].negative_slope = 0.9
    assert len(model._fit.epoch_engine.calls) == 1
    assert_same_history(fit(model, epochs=1), fit(ordinary, epochs=1))
    assert (len(model._fit.epoch_engine.calls), model._fit.epoch_engine.failed) == (2, False)


@pytest.mark.full
def test_weights_of_samples_count():
    weights = np.linspace(0, 1, len(X)).astype("float32")
    expected = fit(network(jit_compile=False), sample_weight=weights)
    assert_same_history(fit(network(**EPOCH), sample_weight=weights, shuffle="batch"), fit(
        network(jit_compile=False), sample_weight=weights, shuffle="batch"
    ))  # fmt: skip
    assert_same_history(fit(network(**EPOCH), sample_weight=weights), expected)


@pytest.mark.full
def test_seeded_layers_draw_the_numbers_of_ordinary_steps_and_others_come_from_the_random_state():
    def noisy(seed, **switches):
        return network(inside=[layers.Dropout(0.3, seed=seed), layers.GaussianNoise(0.1, seed=seed)], **switches)

    expected = fit(noisy(7, jit_compile=False))
    assert_same_history(fit(noisy(7, **EPOCH)), expected)
    assert_same_history(fit(noisy(7, **GRAPHS)), expected)
    first, again = (fit(noisy(None, **EPOCH)) for _ in range(2))
    assert first == again
    assert first["loss"] != expected["loss"]


@pytest.mark.full
def test_several_inputs_and_outputs_and_what_layers_add():
    """Losses by output with weights, metrics by output, masks, a layer's own loss; the epochs of ordinary steps."""

    class Adding(layers.Layer):
        def call(self, x):
            self.add_loss(0.1 * (x**2).mean())
            return x

    def build(**switches):
        torch.manual_seed(2)
        numbers, words = ks.Input((6,), name="numbers"), ks.Input((5,), name="words", dtype="int32")
        hidden = Adding()(layers.Dense(8, "relu")(numbers))
        read = layers.SimpleRNN(4)(layers.Embedding(10, 3, mask_zero=True)(words))
        joined = layers.Concatenate()([hidden, read])
        outputs = {"yes": layers.Dense(1, "sigmoid", name="yes")(joined), "many": layers.Dense(3, name="many")(joined)}
        model = ks.Model({"numbers": numbers, "words": words}, outputs)
        loss = {"yes": "bce", "many": ks.losses.SparseCategoricalCrossentropy(from_logits=True)}
        metrics = {"yes": ["accuracy", ks.metrics.AUC(name="auc")], "many": ["accuracy"]}
        model.compile("rmsprop", loss, loss_weights={"yes": 1.0, "many": 0.3}, metrics=metrics, **switches)
        return model

    x = {"numbers": X, "words": np.arange(350).reshape(70, 5).astype("int32") % 10}
    y = {"yes": Y, "many": np.arange(70) % 3}
    models, histories = [build(**how) for how in (EPOCH, GRAPHS, {"jit_compile": False})], []
    for model in models:
        torch.manual_seed(3)
        histories.append(model.fit(x, y, batch_size=16, epochs=2, verbose=0, steps_per_epoch=5).history)
    for model, history in zip(models[:2], histories[:2], strict=True):
        assert_same_history(history, histories[2])
        assert_same_state(model, models[2])
    assert models[0]._fit.epoch_engine.calls[0][1] is not None
    assert None not in models[1]._fit.step_engine.whole.calls.values()


def test_the_step_where_the_loss_left_the_numbers_is_named():
    model = ks.Sequential([ks.Input((6,)), layers.Dense(1)])
    model.compile("sgd", "mse", **EPOCH)
    x = X.copy()
    x[35] = 1e30
    with pytest.warns(UserWarning, match="inf at epoch 1, step 3"):
        model.fit(x, Y, batch_size=16, shuffle=False, verbose=0)


# ------------------------------------------------------------------------------------------------------- where it cannot


def generator():
    while True:
        yield X[:16], Y[:16]


class Choosing(layers.Layer):
    def call(self, x):
        return x * torch.randint(2, x.shape)


def reader(steps, **switches):
    torch.manual_seed(2)
    model = ks.Sequential([ks.Input((steps, 1)), layers.LSTM(3), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "bce", metrics=["accuracy"], **switches)
    return model


@pytest.mark.full
def test_a_fused_lstm_is_taken_apart_where_the_sequence_is_short():
    models = [reader(6, **how) for how in (EPOCH, GRAPHS, {"jit_compile": False})]
    histories = [fit(model, x=X[..., None], epochs=2) for model in models]
    for model, history in zip(models[:2], histories[:2], strict=True):
        assert_same_history(history, histories[2])
        assert_same_state(model, models[2])
    assert torch._C._get_mkldnn_enabled()


CANNOT = {
    "an optimizer": (lambda: network("nadam", **QUICK), {}, "Nadam"),
    "accumulation": (
        lambda: network(ks.optimizers.Adam(gradient_accumulation_steps=2), **QUICK), {}, "gradient_accumulation_steps"
    ),
    "random numbers": (lambda: network(inside=[Choosing()], **QUICK), {}, "random numbers"),
    "part of the data": (lambda: network(**QUICK), {"steps_per_epoch": 1}, "steps_per_epoch"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "arguments", "words"), CANNOT.values(), ids=CANNOT)
def test_where_it_cannot_be_a_warning_says_why(make, arguments, words):
    with pytest.warns(UserWarning, match=words) as caught:
        got = fit(make(), **arguments)
    assert len([one for one in caught if "steps_per_execution" in str(one.message)]) == 1
    model = make()
    model.steps_per_execution = 1
    assert_same_history(got, fit(model, **arguments))


def test_what_would_take_minutes_to_compile_is_run_step_by_step(monkeypatch):
    monkeypatch.setattr(training_pure, "MAX_CALLS", 20)
    with (
        pytest.warns(UserWarning, match="epoch.*would take minutes"),
        pytest.warns(UserWarning, match="without.*would take minutes"),
    ):
        got = fit(model := reader(6, **QUICK), x=X[..., None], epochs=1)
    assert_same_history(got, fit(reader(6, jit_compile=False), x=X[..., None], epochs=1))
    assert [*model._fit.step_engine.whole.calls.values()] == [None]


@pytest.mark.full
def test_a_generator_is_run_step_by_step():
    model = network(**QUICK)
    with pytest.warns(UserWarning, match="not all in memory"):
        model.fit(generator(), steps_per_epoch=3, epochs=2, verbose=0)


@pytest.mark.full
def test_a_compiler_that_fails_costs_warnings_and_nothing_else():
    def refuses(graph, inputs):
        raise RuntimeError("no compiler here")

    expected = fit(network(jit_compile=False))
    model = network(jit_compile={"backend": refuses}, steps_per_execution="epoch")
    why = "step by step, because that fails .*no compiler here"
    with pytest.warns(UserWarning, match=why), pytest.warns(UserWarning, match="without being compiled"):
        got = fit(model)
    assert got == expected


@pytest.mark.full
def test_a_compiled_step_that_gives_other_numbers_is_not_used(monkeypatch):
    def wrong(optimizer, weights, gradients, *rest):
        return functional_update.pure_step(optimizer, weights, [-gradient for gradient in gradients], *rest)

    monkeypatch.setattr(training_pure, "pure_step", wrong)
    with pytest.warns(UserWarning, match="other numbers"):
        got = fit(model := network(**QUICK))
    assert_same_history(got, fit(ordinary := network(jit_compile=False)))
    assert_same_state(model, ordinary)


def test_callbacks_that_look_at_batches_see_each(counted):
    seen = []
    callback = ks.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(network(**QUICK), epochs=1, callbacks=[callback])
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"steps_per_execution": "epoch"}, "needs jit_compile=True"),
        ({"steps_per_execution": "epoch", "jit_compile": "record"}, "needs jit_compile=True"),
        ({"steps_per_execution": "epochs", "jit_compile": True}, 'or "epoch"'),
    ],
    ids=["default", "recorded", "misspelt"],
)
def test_a_wrong_switch_is_named(switches, words):
    with pytest.raises(ValueError, match=words):
        network(**switches)
