"""Verification of compiled steps: faults put into the compiled side alone are refused, right graphs are not."""

import ast
import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.compiled import (
    epoch_graph,
    forward_graph,
    functional_step,
    scanned_steps,
    stateless_random,
    step_graph,
    verify,
)
from kstyle_torch.training.recorded import engine
from tests import models_to_train
from tests.choice import parameters
from tests.models_to_train import rows_with_signs
from tests.oracle import assert_same_bits

RNG = np.random.default_rng(5)
X, Y = rows_with_signs(36, 6, seed=5)
WORDS = RNG.integers(1, 9, (36, 5)) * (np.arange(5) < RNG.integers(2, 6, (36, 1)))
STEP = {"jit_compile": {"backend": "eager"}}
EPOCH = {**STEP, "steps_per_execution": "epoch"}
TIERS = {"step": STEP, "epoch": EPOCH}


def network(*inside, **settings):
    return models_to_train.network(inside=inside, hidden=(4, "tanh"), **settings)


def assert_equal(got, expected):
    """Every bit."""
    assert got[0] == expected[0]
    assert_same_bits(got[1], expected[1])


def reader(**switches):
    torch.manual_seed(2)
    model = ks.Sequential([ks.Input((5,), dtype="int32"), layers.Embedding(10, 3, mask_zero=True), Averaging()])
    model.add(layers.Dense(1, "sigmoid"))
    model.compile("adam", "binary_crossentropy", **switches)
    return model


class Averaging(layers.Layer):
    """Means over the words that are there."""

    supports_masking = True

    def call(self, x, mask=None):
        kept = padding(mask).to(x.dtype).unsqueeze(-1)
        return (x * kept).sum(1) / kept.sum(1)

    def compute_mask(self, x, mask=None):
        return None


def padding(mask):
    return mask


def two_outputs(**switches):
    torch.manual_seed(2)
    x = ks.Input((6,))
    model = ks.Model(x, {"a": layers.Dense(1, name="a")(x), "b": layers.Dense(1, name="b")(x)})
    model.compile("sgd", {"a": "mse", "b": "mae"}, **switches)
    return model


def trained(model, x=X, y=Y, **arguments):
    torch.manual_seed(3)
    y = {"a": y, "b": 1 - y} if model.output_names == ["a", "b"] else y
    history = model.fit(x, y, batch_size=12, epochs=2, verbose=0, **arguments).history
    return history, [weight.numpy() for weight in (*model.weights, *model.optimizer.variables)]


@pytest.fixture
def no_compiler(monkeypatch):
    """Runs graphs as they are traced, which is quick: the faults are in them, and not in the compiler."""

    def loop(ahead, body, values):
        while ahead(*values):
            values = body(*values)
        return values

    for module in (step_graph, epoch_graph, forward_graph):
        monkeypatch.setattr(module, "one_graph", lambda function, arguments: function)
    monkeypatch.setattr(importlib.import_module("torch._higher_order_ops.while_loop"), "while_loop", loop)


# ------------------------------------------------------------------------------------------------------------- mutations


def patched(owner, name, make):
    """Puts `make(original)` in the place of a function while steps are traced, so that only compiled code has it."""

    def mutate(monkeypatch):
        for module in (step_graph, scanned_steps, forward_graph):
            own = module.traced

            def tracing(*args, own=own):
                with monkeypatch.context() as inner:
                    inner.setattr(owner, name, make(getattr(owner, name)))
                    return own(*args)

            monkeypatch.setattr(module, "traced", tracing)

    return mutate


def changed_step(change):
    """Mutates what the pure step gets: optimizer, weights, gradients, state, sizes, decayed."""
    return patched(functional_step, "pure_step", lambda own: lambda *args: own(*change(*args)))


def without_decay(optimizer, weights, gradients, state, sizes, decayed):
    return optimizer, weights, gradients, state, sizes, [False for _ in decayed]


def zero_in_gradient(own):
    def clipped(optimizer, gradients):
        gradients = own(optimizer, gradients)
        place = next(place for place, gradient in enumerate(gradients) if gradient.ndim == 1)
        return [torch.zeros_like(g) if number == place else g for number, g in enumerate(gradients)]

    return clipped


def wrong_beta(own):
    def step(optimizer, *rest):
        other = type(optimizer).from_config({**optimizer.get_config(), "beta_1": 0.8999})
        return own(other, *rest)

    return step


def wrong_slots(slot):
    def make(own):
        def step(*args):
            weights, state = own(*args)
            return weights, {**state, slot: [value * 1.001 for value in state[slot]]}

        return step

    return make


def swapped_slots(own):
    def step(optimizer, weights, gradients, state, *rest):
        weights, state = own(optimizer, weights, gradients, state, *rest)
        return weights, {**state, "momentum": state["velocity"], "velocity": state["momentum"]}

    return step


def keeping(group):
    """Drops what a step changes in a group of its state."""

    def make(own):
        def step(self, batch, sizes, key, fixed, state):
            loss, y_pred, after = own(self, batch, sizes, key, fixed, state)
            return loss, y_pred, after._replace(**{group: [tensor.clone() for tensor in getattr(state, group)]})

        return step

    return make


def first_rate(own):
    return lambda optimizer, steps=None: (
        torch.tensor([0.01, 0.01, 0, 0]).expand(steps, 4).contiguous() if steps else [0.01, 0.01, 0, 0]
    )


def rates(monkeypatch):
    monkeypatch.setattr(step_graph, "step_size", first_rate(None))
    monkeypatch.setattr(scanned_steps, "step_sizes", first_rate(None))


def later_rates(monkeypatch):
    """Right for the first step of a call, stale for the others."""
    own = scanned_steps.step_sizes
    monkeypatch.setattr(
        scanned_steps, "step_sizes", lambda optimizer, steps: own(optimizer, steps)[:1].expand(steps, -1).contiguous()
    )


def schedule():
    return ks.optimizers.SGD(ks.optimizers.schedules.PiecewiseConstantDecay([0, 20], [0.01, 0.005, 0.001]))


def tiny(**switches):
    torch.manual_seed(2)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(1), layers.Rescaling(1e-5)])
    model.compile("sgd", "mse", metrics=[ks.metrics.MeanAbsoluteError()], **switches)
    return model


def wrong_outputs(own):
    def step(*args):
        loss, y_pred, after = own(*args)
        return loss, y_pred + 1e-7, after

    return step


def stale_dropout(own):
    return lambda self, shape: own(stateless_random.KeyedDraws(torch.zeros(1, dtype=torch.int64)), shape)


BOTH, OTHER = ("step", "epoch"), ("epoch",)
MUTATIONS = {
    "decay dropped": (
        lambda **how: network(optimizer=ks.optimizers.AdamW(), **how), changed_step(without_decay), BOTH, "weight",
    ),
    "decay dropped in sgd": (
        lambda **how: network(optimizer=ks.optimizers.SGD(0.01, weight_decay=1e-4), **how),
        changed_step(without_decay), BOTH, "weight",
    ),
    "a bias gradient zeroed": (network, patched(functional_step, "clipped", zero_in_gradient), BOTH, "bias"),
    "a bias gradient zeroed in sgd": (
        lambda **how: network(optimizer="sgd", **how), patched(functional_step, "clipped", zero_in_gradient), BOTH, "bias",
    ),
    "clipping dropped": (
        lambda **how: network(optimizer=ks.optimizers.SGD(clipvalue=1e-3), **how),
        patched(functional_step, "clipped", lambda own: lambda optimizer, gradients: gradients), BOTH, "weight",
    ),
    "wrong beta": (network, patched(functional_step, "pure_step", wrong_beta), BOTH, "momentum|weight"),
    "wrong momentum": (
        lambda **how: network(optimizer=ks.optimizers.SGD(0.01, momentum=0.9), **how),
        patched(functional_step, "pure_step", wrong_slots("momentum")), BOTH, "momentum",
    ),
    "wrong velocity": (network, patched(functional_step, "pure_step", wrong_slots("velocity")), BOTH, "velocity"),
    "swapped slots": (network, patched(functional_step, "pure_step", swapped_slots), BOTH, "momentum"),
    "wrong running means": (
        lambda **how: network(optimizer=ks.optimizers.SGD(use_ema=True), **how),
        patched(functional_step, "pure_step", wrong_slots("average")), BOTH, "average",
    ),
    "frozen statistics": (
        lambda **how: network(layers.BatchNormalization(momentum=0.9999), **how),
        patched(functional_step.StepFunction, "__call__", keeping("buffers")), BOTH, "statistic",
    ),
    "a stale padding mask": (
        reader, patched(sys.modules[__name__], "padding", lambda own: lambda mask: mask.detach().clone().new_tensor(
            WORDS[:12] != 0)), BOTH, "loss|metric state",
    ),
    "a stale dropout mask": (
        lambda **how: network(layers.Dropout(0.5), **how), patched(stateless_random.KeyedDraws, "_uniform", stale_dropout),
        BOTH, "loss|metric state",
    ),
    "a dropped metric update": (
        network, patched(scanned_steps, "update", lambda own: lambda *args: None), OTHER, "metric state",
    ),
    "a dropped update of an output's loss": (
        two_outputs, patched(functional_step.StepFunction, "__call__", keeping("cells")), BOTH, "metric state",
    ),
    "tiny wrong outputs": (tiny, patched(functional_step.StepFunction, "__call__", wrong_outputs), BOTH, "output 0"),
    "a wrong rate": (lambda **how: network(optimizer=schedule(), **how), rates, BOTH, "weight|rates"),
    "a stale rate": (lambda **how: network(optimizer=schedule(), **how), later_rates, OTHER, "rates"),
}  # fmt: skip
ROWS = [(name, tier) for name, (_, _, tiers, _) in MUTATIONS.items() for tier in tiers]


@pytest.mark.parametrize(("name", "tier"), parameters(ROWS, lambda row: row[1], ", ".join))
@pytest.mark.usefixtures("no_compiler")
def test_a_wrong_graph_is_refused(name, tier, monkeypatch):
    make, mutate, _, words = MUTATIONS[name]
    x = WORDS if make is reader else X
    expected = trained(make(jit_compile=False), x)
    mutate(monkeypatch)
    match = f"(by step|without being compiled), because the compiled code gives other numbers: .*({words}).*tolerance"
    with pytest.warns(UserWarning, match=match) as caught:
        got = trained(model := make(**TIERS[tier]), x)
    assert len(caught) == (2 if tier == "epoch" and "step" in MUTATIONS[name][2] else 1)
    if tier == "epoch" and "step" not in MUTATIONS[name][2]:  # its steps are compiled one by one, which is right
        np.testing.assert_allclose(got[0]["loss"], expected[0]["loss"], rtol=1e-5)
    else:
        assert_equal(got, expected)
    assert tier == "epoch" or not any(model._fit.step_engine.whole.calls.values())


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("name", ["tiny wrong outputs", "a stale padding mask"])
def test_a_wrong_forward_pass_is_refused(name, monkeypatch):
    make, x = (tiny, X) if name == "tiny wrong outputs" else (reader, WORDS)
    expected = make(jit_compile=False).predict(x, 12, verbose=0)
    if make is tiny:
        wrong = lambda function, arguments: lambda *args: [output * 1.001 for output in function(*args)]  # noqa: E731
        monkeypatch.setattr(forward_graph, "one_graph", wrong)
    else:
        MUTATIONS[name][1](monkeypatch)
    model = make(**STEP)
    with pytest.warns(UserWarning, match="predicts without being compiled, .*output 0.*tolerance") as caught:
        got = [model.predict(x, 12, verbose=0) for _ in range(2)]
    assert len(caught) == 1
    for each in got:
        np.testing.assert_array_equal(each, expected)


def zero_gradient(graph, inputs):
    return lambda *args: graph(*(arg.detach() if arg.requires_grad and arg.ndim == 1 else arg for arg in args))


def wrong_loss(graph, inputs):
    return lambda *args: [output * 1.0001 if output.ndim == 0 else output for output in graph(*args)]


def wrong_outputs_of_graph(graph, inputs):
    return lambda *args: [output * 1.0001 if output.ndim == 2 else output for output in graph(*args)]


@pytest.mark.parametrize(
    ("backend", "words"),
    [(zero_gradient, "gradient of .*bias"), (wrong_loss, "the loss"), (wrong_outputs_of_graph, "output 0")],
    ids=["a bias gradient zeroed", "loss", "outputs"],
)
def test_a_wrong_forward_and_backward_pass_is_refused(backend, words):
    expected = trained(network(optimizer="nadam", jit_compile=False))
    with pytest.warns(UserWarning, match=f"without being compiled, .*other numbers: .*{words}.*tolerance"):
        got = trained(network(optimizer="nadam", jit_compile={"backend": backend}))
    assert_equal(got, expected)


def no_change(run):
    return run


def last_zeroed(run):
    return lambda *args: (lambda loss, y_pred, *rest: [loss, y_pred, *rest[:-1], rest[-1] * 0])(*run(*args))


def output_off(run):
    return lambda *args: (lambda loss, y_pred, *rest: [loss, y_pred * (1 + 1e-6), *rest])(*run(*args))


def loss_off(run):
    return lambda *args: (lambda loss, *rest: [loss * (1 + 1e-6), *rest])(*run(*args))


@pytest.mark.parametrize("change", [no_change, last_zeroed, output_off, loss_off])
def test_a_wrong_recorded_step_is_refused(change, monkeypatch):
    own = engine.RecordingWriter.write

    def write(*args):
        run, source = own(*args)
        return change(run), source

    monkeypatch.setattr(engine.RecordingWriter, "write", write)
    expected = trained(network(layers.BatchNormalization(), jit_compile=False))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = trained(model := network(layers.BatchNormalization(), jit_compile="record"))
    assert ["gave different results" in str(one.message) for one in caught] == [True] * (change is not no_change)
    assert any(model._fit.step_engine.recordings.values()) == (change is no_change)
    assert_equal(got, expected)


# --------------------------------------------------------------------------------------------------- what is not refused


class Rounding(TorchDispatchMode):
    """Moves a third of the numbers that an operator gives by their last digit: other kernels round half a digit off."""

    def __init__(self):
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        result = call(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point() and not result._is_view():
            if call._schema.is_mutable or call in (torch.ops.aten.detach.default, torch.ops.aten.clone.default):
                return result
            signs = torch.randint(-1, 2, result.shape, generator=self.draws)
            signs *= torch.randint(2, result.shape, generator=self.draws)
            moved = result * (1 + torch.finfo(result.dtype).eps / 2 * signs)
            return verify.like(result, moved.where(result.frac() != 0, result))
        return result


CONVOLUTION = (
    lambda: layers.Reshape((1, 4, 1)), lambda: layers.Conv2D(3, (1, 2)), layers.BatchNormalization, layers.ReLU,
    layers.Flatten,
)  # fmt: skip
RIGHT = {
    "convolution, bias, batch statistics, adam": (CONVOLUTION, "adam"),
    "batch statistics, rmsprop": (CONVOLUTION, lambda: ks.optimizers.RMSprop(centered=True, momentum=0.9)),
    "amsgrad": ((layers.BatchNormalization,), lambda: ks.optimizers.Adam(amsgrad=True, clipnorm=0.01)),
    "adamw": ((lambda: layers.Dropout(0.3),), lambda: ks.optimizers.AdamW(global_clipnorm=0.01, use_ema=True)),
    "noise, constraints": (
        (lambda: layers.GaussianNoise(0.1), lambda: layers.Dense(4, kernel_constraint="unit_norm")),
        lambda: ks.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, clipvalue=0.01),
    ),
    "sgd": ((lambda: layers.LayerNormalization(),), lambda: ks.optimizers.SGD(schedule()._learning_rate)),
}


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(
    ("name", "tier"),
    parameters(
        [*((name, "step") for name in RIGHT), (next(iter(RIGHT)), "epoch"), ("adamw", "epoch")], lambda row: row[1]
    ),
)
def test_a_graph_that_rounds_otherwise_is_used(name, tier, monkeypatch):
    inside, optimizer = RIGHT[name]

    def rounding(function, arguments):
        def run(*args):
            with Rounding():
                return function(*args)

        return run

    for module in (step_graph, epoch_graph):
        monkeypatch.setattr(module, "one_graph", rounding)
    own = optimizer() if callable(optimizer) else optimizer
    model = network(*(layer() for layer in inside), optimizer=own, **TIERS[tier])
    trained(model)
    assert any(model._fit.step_engine.whole.calls.values()) if tier == "step" else not model._fit.epoch_engine.failed


def test_forward_and_backward_passes_with_random_layers_are_used():
    model = network(layers.Dropout(0.3), optimizer="nadam", jit_compile={"backend": "aot_eager"})
    trained(model)
    assert model._fit.step_engine.compiled_for


# ---------------------------------------------------------------------------------------------- failures of the compiler


def failing(graph, inputs):
    torch.rand(3)
    raise RuntimeError("no compiler here\nand a second line")


@pytest.mark.full
@pytest.mark.parametrize(("optimizer", "tier"), [("adam", "step"), ("nadam", "step"), ("adam", "epoch")])
def test_a_compiler_that_fails_leaves_everything_as_it_was(optimizer, tier):
    expected = trained(network(layers.Dropout(0.3), optimizer=optimizer, jit_compile=False))
    switches = {**TIERS[tier], "jit_compile": {"backend": failing}}
    with pytest.warns(UserWarning, match=r"that fails \(RuntimeError: no compiler here\)") as caught:
        got = trained(network(layers.Dropout(0.3), optimizer=optimizer, **switches))
    assert len(caught) == 1 + (tier == "epoch")
    assert_equal(got, expected)


def test_predict_goes_on_where_the_compiler_fails():
    model = network(jit_compile={"backend": failing})
    with pytest.warns(UserWarning, match="predicts without being compiled, .*no compiler here") as caught:
        got = [model.predict(X, 12, verbose=0) for _ in range(2)]
    assert len(caught) == 1
    np.testing.assert_array_equal(got[1], network(jit_compile=False).predict(X, 12, verbose=0))


class Strict(layers.Layer):
    def call(self, x, training=None):
        if training and float(x.detach().abs().max()) > 0.5:
            raise ValueError("too large for me")
        return x


@pytest.mark.filterwarnings("ignore:.*by step", "ignore:.*without being compiled")  # where it is compiled first
@pytest.mark.parametrize("tier", TIERS)
def test_an_error_of_the_users_is_raised_and_changes_nothing(tier):
    model = network(Strict(), layers.BatchNormalization(), **TIERS[tier])
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ValueError, match="too large for me"):
        trained(model)
    assert_same_bits(before, model.weights)
    assert int(model.optimizer.iterations) == 0


def test_one_place_catches_what_a_compiler_raises():
    """Elsewhere in training, exceptions are named or raised again."""
    found = []
    for path in sorted(Path(verify.__file__).parents[1].rglob("*.py")):  # of all of `training`
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            caught = ast.unparse(node.type) if isinstance(node, ast.ExceptHandler) and node.type else ""
            everything = isinstance(node, ast.ExceptHandler) and (not caught or "Exception" in caught.split())
            if everything and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None):
                found.append(path.name)
    assert found == []
