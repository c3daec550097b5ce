"""What recorded and compiled code takes for granted: each change is seen, and what counts for nothing is not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training import step as steps
from kstyle_torch.training.engines import user_reads
from kstyle_torch.training.engines.invalidation import Standing


class Own(layers.Layer):
    limits = [1.0, 2.0]

    def __init__(self):
        super().__init__()
        self.array, self.large, self.table = np.ones(3), np.ones(2**18), torch.ones(3)
        self.config, self.options = SimpleNamespace(gain=1.0), {"a": ([1.0], {2.0})}

    def call(self, x):
        return x * self.config.gain


def loss(y_true, y_pred, weights=[1.0]):  # noqa: B006 - that it can be changed is the point
    return weights[0] * (y_true - y_pred) ** 2


def make():
    foreign = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2))
    model = ks.Sequential([ks.Input((3,)), layers.Dense(4, kernel_regularizer="l2"), foreign, Own(), layers.Dense(1)])
    model.compile("adam", loss, metrics=["mae"])
    model.evaluate(np.ones((2, 3)), np.ones((2, 1)), verbose=0)
    steps.prepare(model)
    return model


def replace_weight(model):
    model.layers[0].linear.weight = nn.Parameter(model.layers[0].linear.weight.detach())


def turn_weight(model):
    weight = model.layers[1][0].weight
    weight.data = weight.data.t()


def swap_weights(model):
    first, second = model.layers[0].linear, model.layers[1][0]
    first._parameters["bias"], second._parameters["bias"] = second.bias, first.bias


CHANGES = {
    "attribute": lambda model: setattr(model.layers[3], "units", 2),
    "foreign attribute": lambda model: setattr(model.layers[1][1], "p", 0.5),
    "penalty": lambda model: setattr(model.layers[0].kernel_regularizer, "l2", 0.5),
    "weight": replace_weight,
    "layout of a weight": turn_weight,
    "two weights change places": swap_weights,
    "frozen weight": lambda model: model.layers[1][0].weight.requires_grad_(False),
    "child": lambda model: model.layers[1].__setitem__(1, nn.Identity()),
    "hook": lambda model: model.layers[1].register_forward_hook(print),
    "hook on a weight": lambda model: model.layers[1][0].weight.register_hook(print),
    "compiled anew": lambda model: model.compile("adam", loss),
    "another optimizer": lambda model: setattr(model._compiled, "optimizer", ks.optimizers.Adam()),
    "epsilon": lambda model: ks.config.set_epsilon(1e-3),
    "autocast": lambda model: torch.set_autocast_enabled("cpu", True),
    "user's array": lambda model: model.layers[2].array.__setitem__(1, 2.0),
    "user's tensor": lambda model: model.layers[2].table.add_(1),
    "user's object": lambda model: setattr(model.layers[2].config, "gain", 2.0),
    "user's nest": lambda model: model.layers[2].options["a"][0].append(1.0),
    "user's set": lambda model: model.layers[2].options["a"][1].add(1.0),
    "class attribute": lambda model: Own.limits.append(3.0),
    "default of a loss": lambda model: loss.__defaults__[0].append(1.0),
    "facts": lambda model: "another",
}


@pytest.fixture(autouse=True)
def afterwards():
    yield
    ks.config.set_epsilon(1e-7)
    torch.set_autocast_enabled("cpu", False)
    del Own.limits[2:], loss.__defaults__[0][1:]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change):
    model = make()
    standing = Standing(model)
    assert not standing.holds()
    standing.note()
    assert standing.holds()
    facts = CHANGES[change](model)
    assert not standing.holds(facts if change == "facts" else None)


def step(model):
    steps.train_step(model, torch.ones(2, 3), torch.ones(2, 1), None)


def set_and_back(model):
    model.layers[3].units, units = 2, model.layers[3].units
    model.layers[3].units = units


NOTHING = {
    "a step": step,
    "weights in place": lambda model: model.set_weights(model.get_weights()),
    "views": lambda model: [view.numpy() for view in model.weights],
    "added losses": lambda model: model.layers[3]._losses.append(torch.ones(())),
    "history": lambda model: setattr(model, "history", object()),
    "an equal number": lambda model: setattr(model.layers[1][1], "p", float("0.2")),
    "back and forth": set_and_back,
    "a hook removed": lambda model: model.layers[1].register_forward_hook(print).remove(),
    "another model": lambda model: make(),
    "rate": lambda model: setattr(model.optimizer, "learning_rate", 0.5),
    "user's equal object": lambda model: setattr(model.layers[2].config, "gain", float("1.0")),
}


@pytest.mark.parametrize("change", NOTHING)
def test_what_counts_for_nothing_is_not(change):
    model = make()
    standing = Standing(model)
    standing.note()
    NOTHING[change](model)
    assert standing.holds()


def test_large_arrays_and_numbers_behind_c_code_are_not_looked_at():
    """As `compile` says; the comparison of each epoch finds them."""
    model = make()
    standing = Standing(model)
    standing.note()
    model.layers[2].large[0] = 2.0
    assert standing.holds()


def test_code_of_ours_is_not_looked_into():
    model = ks.Sequential([ks.Input((3,)), layers.Dense(1)])
    model.compile("adam", "mse")
    standing = Standing(model)
    standing.note()
    assert standing.snapshot.roots == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(1, 1, True), (1, True, False), (0.0, -0.0, False), (float("nan"), float("nan"), True), ((1, 2.0), (1, 2.0), True),
     ((1, []), (1, []), False), (1.0, 1, False), ("a", "a", True), ([], [], False)],
    ids=str,
)  # fmt: skip
def test_ordinary_values_are_compared_by_value(one, other, same):
    assert user_reads.is_same([one], [other]) is same


def test_a_cycle_ends():
    held = []
    held.append(held)
    before = user_reads.reads_of([lambda: held], ())
    assert user_reads.is_same(before, user_reads.reads_of([lambda: held], ())) is False  # another function
    read = lambda: held  # noqa: E731
    assert user_reads.is_same(user_reads.reads_of([read], ()), user_reads.reads_of([read], ()))
