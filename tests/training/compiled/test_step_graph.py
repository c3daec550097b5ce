"""The whole step as one graph: the numbers of the eager step, and what is done where it cannot be."""

import shutil

import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled import functional_step
from tests.choice import parameters
from tests.models_to_train import GRAPHS, assert_same_history, assert_same_state, fit, network


def assert_same(model, other, *histories):
    assert_same_history(*histories)
    assert_same_state(model, other)


def graphs_of(model):
    return [step for step in model._fit.step_engine.whole.calls.values() if step is not None]


@pytest.mark.full
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch compiles with a C++ compiler")
def test_a_step_compiled_by_inductor_gives_the_numbers_of_the_eager_one():
    """Takes some seconds: it is the compiler that is tried. The step has batch statistics and a frozen layer."""
    inside = [layers.BatchNormalization(), layers.Dense(4, kernel_regularizer="l2"), layers.Dense(4, trainable=False)]
    histories, models = [], []
    for how in (True, False):
        model = network(inside=[type(layer).from_config(layer.get_config()) for layer in inside], jit_compile=how)
        histories.append(fit(model))
        models.append(model)
    assert_same(*models, *histories)
    assert len(graphs_of(models[0])) == 1


OPTIMIZERS = {
    "sgd": lambda: ks.optimizers.SGD(0.1),
    "momentum": lambda: ks.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: ks.optimizers.RMSprop(0.01),
    "a schedule": lambda: ks.optimizers.Adam(ks.optimizers.schedules.ExponentialDecay(0.01, 3, 0.5)),
    "adamw": lambda: ks.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=0.1),
    "clipped": lambda: ks.optimizers.SGD(0.1, global_clipnorm=0.1),
    "running means": lambda: ks.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3),
}


@pytest.mark.parametrize("name", parameters(OPTIMIZERS, lambda name: None))
def test_the_optimizer_is_in_the_graph(name, monkeypatch):
    inside = [lambda: layers.Dense(4, kernel_constraint="non_neg")] * (name == "clipped")
    model, ordinary = (
        network(OPTIMIZERS[name](), [one() for one in inside], **how) for how in (GRAPHS, {"jit_compile": False})
    )
    called = []
    own, expected = steps.train_step, fit(ordinary)
    monkeypatch.setattr(steps, "train_step", lambda *args: called.append(args) or own(*args))
    assert_same(model, ordinary, fit(model), expected)
    assert len(called) == 4  # the first step, which is compared, and the short batches


@pytest.mark.full
def test_a_changed_model_gets_another_graph():
    """A layer's attribute, the learning rate, a layer that is frozen: between fits, and within one."""
    histories, models = [], []
    for switches in (GRAPHS, {"jit_compile": False}):
        model = network(inside=[layers.LeakyReLU(0.1)], **switches)
        history = [fit(model)]
        model.layers[1].negative_slope = 0.9
        model.optimizer.learning_rate = 0.1
        history += [fit(model)]

        def steepen(epoch, logs, model=model):
            model.layers[1].negative_slope = 0.5 / (epoch + 1)

        history += [fit(model, callbacks=[ks.callbacks.LambdaCallback(on_epoch_begin=steepen)])]
        model.layers[0].trainable = False
        history += [fit(model)]
        models.append(model)
        histories.append({name: [value for each in history for value in each[name]] for name in history[0]})
    assert_same(*models, *histories)


def test_a_step_that_gives_other_numbers_is_not_used(monkeypatch):
    own = functional_step.pure_step
    monkeypatch.setattr(
        functional_step,
        "pure_step",
        lambda optimizer, weights, gradients, *rest: own(optimizer, weights, [-g for g in gradients], *rest),
    )
    model, ordinary = network(**GRAPHS), network(jit_compile=False)
    expected = fit(ordinary)
    with pytest.warns(UserWarning, match="other numbers"):
        got = fit(model)
    assert got == expected
    assert not graphs_of(model)


CANNOT = {
    "another optimizer": ("nadam", ()),
    "accumulated gradients": (lambda: ks.optimizers.Adam(gradient_accumulation_steps=2), ()),
}


@pytest.mark.parametrize(("optimizer", "inside"), CANNOT.values(), ids=CANNOT)
def test_where_it_cannot_be_one_graph_forward_and_backward_are_compiled(optimizer, inside):
    models = [
        network(optimizer() if callable(optimizer) else optimizer, inside, **switches)
        for switches in (GRAPHS, {"jit_compile": False})
    ]
    assert_same(*models, *map(fit, models))
    assert not graphs_of(models[0])
    assert models[0]._fit.step_engine.compiled_for


class Failing:
    """A backend of `torch.compile` whose code fails in the third step after `armed` is set, before or after it has run."""

    def __init__(self, runs_first):
        self.runs_first, self.armed, self.calls = runs_first, False, 0

    def __call__(self, graph, examples):
        def run(*inputs):
            self.calls += self.armed
            if self.calls != 3:
                return graph.forward(*inputs)
            if self.runs_first:
                graph.forward(*inputs)
            raise RuntimeError("out of memory")

        return run


def large(how):
    """A model with more weights than are copied at each step."""
    model = ks.Sequential([ks.Input((64,)), layers.Dense(256, "tanh"), layers.BatchNormalization(), layers.Dense(1)])
    model.compile(ks.optimizers.Adam(0.01), "mse", jit_compile=how)
    return model


@pytest.mark.full
@pytest.mark.parametrize("runs_first", [True, False])
def test_a_graph_that_fails_while_it_runs_leaves_no_weights_unnoticed(runs_first):
    x, backend = torch.rand(64, 64), Failing(runs_first)
    model = large({"backend": backend})
    model.fit(x, x[:, :1], batch_size=16, verbose=0)
    backend.armed = True
    with pytest.raises(RuntimeError, match=r"failed midway.*RuntimeError: out of memory"):
        model.fit(x, x[:, :1], batch_size=16, verbose=0)
    assert int(model.optimizer.iterations) == 4 + 2, "no step is taken on weights that may be wrong"


@pytest.mark.full
def test_a_compiler_that_fails_later_costs_nothing_but_time():
    x, losses = torch.rand(64, 64), []
    for how in (False, {"backend": "eager"}):
        ks.utils.set_random_seed(0)
        model = large(how)
        model.fit(x, x[:, :1], batch_size=16, verbose=0, shuffle=False)
        if how:
            torch._dynamo.reset()  # the graph must be compiled again, which is forbidden
            with torch.compiler.set_stance("fail_on_recompile"), pytest.warns(UserWarning, match="Detected recompile"):
                losses.append(model.fit(x, x[:, :1], batch_size=16, verbose=0, shuffle=False).history["loss"])
        else:
            losses.append(model.fit(x, x[:, :1], batch_size=16, verbose=0, shuffle=False).history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert int(model.optimizer.iterations) == 8
