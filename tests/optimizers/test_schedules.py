"""Schedules against Keras, and what a user may make of them."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch
from torch import nn

from kstyle_torch import ops, optimizers
from kstyle_torch.optimizers import schedules
from tests.oracle import uniform

CASES = [
    ("ExponentialDecay", (0.1, 10, 0.9)),
    ("ExponentialDecay", (0.1, 7, 0.5, True)),
    ("InverseTimeDecay", (0.1, 3, 0.5)),
    ("InverseTimeDecay", (0.1, 3, 0.5, True)),
    ("PiecewiseConstantDecay", ([3, 10, 40], [1.0, 0.5, 0.25, 0.1])),
    ("PiecewiseConstantDecay", ([2.5], [1.0, 0.5])),
    ("PolynomialDecay", (0.1, 50)),
    ("PolynomialDecay", (0.1, 30, 0.01, 2.0)),
    ("PolynomialDecay", (0.1, 20, 0.01, 0.5, True)),
    ("CosineDecay", (0.1, 60)),
    ("CosineDecay", (0.0, 40, 0.1, "warm", 0.5, 20)),
    ("CosineDecayRestarts", (0.1, 10)),
    ("CosineDecayRestarts", (0.1, 7, 1.0, 0.9, 0.05)),
    ("CosineDecayRestarts", (0.1, 5, 1.5, 0.8, 0.1)),
    ("CosineDecayRestarts", (0.1, 3, 3.0, 0.5)),
]
every_case = pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)


def both(name, arguments):
    return getattr(schedules, name)(*arguments), getattr(keras.optimizers.schedules, name)(*arguments)


@every_case
def test_values_of_many_steps(name, arguments):
    ours, theirs = both(name, arguments)
    steps = [*range(130), 500, 999, 1000, 123_456]
    expected = [float(theirs(keras.Variable(step, dtype="int32", trainable=False))) for step in steps]
    np.testing.assert_allclose([ours.at(step) for step in steps], expected, rtol=2e-5, atol=1e-7)
    np.testing.assert_array_equal([np.float32(ours.at(step)) for step in steps], [ours(step).item() for step in steps])


@every_case
def test_config_goes_both_ways(name, arguments):
    ours, theirs = both(name, arguments)
    assert schedules.serialize(ours) == keras.optimizers.schedules.serialize(theirs)
    again = schedules.deserialize(keras.optimizers.schedules.serialize(theirs))
    assert type(again) is type(ours) and again.get_config() == ours.get_config()


@every_case
def test_an_optimizer_follows_its_schedule(name, arguments):
    schedule = both(name, arguments)[0]
    optimizer, weight = optimizers.SGD(schedule), nn.Parameter(torch.zeros(1))
    for step in range(12):
        before = weight.item()
        assert float(optimizer.learning_rate) == pytest.approx(schedule.at(step))
        optimizer.apply([torch.ones(1)], [weight])
        assert before - weight.item() == pytest.approx(schedule.at(step), rel=1e-4, abs=1e-6)


def test_accumulation_counts_every_step_for_the_schedule():
    ours = optimizers.SGD(schedules.ExponentialDecay(0.1, 2, 0.5), gradient_accumulation_steps=3)
    theirs = keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), gradient_accumulation_steps=3
    )
    weight, variable = nn.Parameter(torch.ones(3)), keras.Variable(torch.ones(3))
    for step in range(9):
        gradient = uniform(3, seed=step)
        ours.apply([gradient], [weight])
        theirs.apply([gradient], [variable])
        np.testing.assert_allclose(weight.detach(), variable.numpy(), rtol=1e-5)


@every_case
def test_optimizer_with_a_schedule_goes_through_its_config(name, arguments):
    ours, theirs = both(name, arguments)
    optimizer = optimizers.Adam(ours, name="adam")
    assert optimizer.get_config() == keras.optimizers.Adam(theirs, name="adam").get_config()
    for again in (optimizers.Adam.from_config(optimizer.get_config()), optimizers.get(optimizers.serialize(optimizer))):
        assert again.get_config() == optimizer.get_config()


class Noam(schedules.LearningRateSchedule):
    """As in the guide of a transformer: written with tensors."""

    def __init__(self, width, warmup_steps=4):
        super().__init__()
        self.width, self.warmup_steps = ops.cast(width, "float32"), warmup_steps

    def __call__(self, step):
        step = ops.cast(step, dtype="float32")
        return ops.rsqrt(self.width) * ops.minimum(ops.rsqrt(step), step * (self.warmup_steps**-1.5))


def test_schedule_of_the_users_own():
    optimizer, weight = optimizers.SGD(Noam(64)), nn.Parameter(torch.zeros(1))
    seen = []
    for _ in range(8):
        before = weight.item()
        optimizer.apply([torch.ones(1)], [weight])
        seen.append(before - weight.item())
    expected = [0.125 * min((step or np.inf) ** -0.5, step * 4**-1.5) if step else 0.0 for step in range(8)]
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-7)


def test_own_schedule_by_config():
    class Steps(schedules.LearningRateSchedule):
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, step):
            return self.rate / (1 + step)

    optimizer = optimizers.Adam(Steps(0.5))
    again = optimizers.Adam.from_config(optimizer.get_config(), custom_objects={"Steps": Steps})
    assert again.learning_rate == 0.5


def test_rate_from_a_function():
    rates = iter([1.0, 0.25])
    optimizer, weight = optimizers.SGD(lambda: next(rates)), nn.Parameter(torch.zeros(1))
    for expected in (-1.0, -1.25):
        optimizer.apply([torch.ones(1)], [weight])
        assert weight.item() == expected
    assert len(optimizer.variables) == 1  # as in Keras, no learning rate is saved


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_go_on_along_the_schedule(copied):
    optimizer, weight = optimizers.SGD(schedules.CosineDecay(0.5, 6)), nn.Parameter(torch.zeros(1))
    optimizer.apply([torch.ones(1)], [weight])
    twin, other = copied((optimizer, weight))
    for one, parameter in ((optimizer, weight), (twin, other)):
        one.apply([torch.ones(1)], [parameter])
    assert torch.equal(weight, other)


def test_a_schedule_is_not_overwritten_by_a_number():
    optimizer = optimizers.SGD(schedules.CosineDecay(0.5, 6))
    with pytest.raises(TypeError, match="follows a CosineDecay and cannot be set to a number"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = schedules.CosineDecay(0.25, 6)
    assert float(optimizer.learning_rate) == 0.25


def test_a_number_may_become_a_schedule():
    ours, theirs = optimizers.SGD(0.5), keras.optimizers.SGD(0.5)
    ours.learning_rate = schedules.CosineDecay(0.25, 6)
    theirs.learning_rate = keras.optimizers.schedules.CosineDecay(0.25, 6)
    assert len(ours.variables) == len(theirs.variables) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.9), "ExponentialDecay: decay_steps must be positive; got 0"),
        (lambda: schedules.CosineDecayRestarts(0.1, -1), "first_decay_steps must be positive; got -1"),
        (lambda: schedules.PiecewiseConstantDecay([1], [0.1]), "1 boundaries for 1 values"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [1.0, 2.0, 3.0]), "boundaries must ascend"),
        (lambda: schedules.deserialize({"class_name": "CosinDecay", "config": {}}), "Unknown class 'CosinDecay'"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_without_call():
    with pytest.raises(NotImplementedError, match="must define __call__"):
        schedules.LearningRateSchedule()(1)


def test_a_class_in_place_of_a_schedule():
    with pytest.raises(TypeError, match=r"got the class CosineDecay; pass an instance: CosineDecay\(\.\.\.\)"):
        optimizers.Adam(schedules.CosineDecay)
