"""Optimizers against Keras: twenty steps on the same gradients.

Adam's rates stay at 0.01: Keras takes `1 - beta**step` in float32, which loses up to 6e-5 of the first steps' size; here
it is taken exactly.
"""

import keras
import numpy as np
import pytest
import torch
from torch import nn

from kstyle_torch import optimizers, tree
from kstyle_torch.optimizers import adam, adam_step
from tests.oracle import assert_close, uniform

SHAPES = [(4, 3), (3,), (2, 3, 2), ()]
SLOW = {"learning_rate": 0.01}
CASES = [
    ("sgd", "SGD", {}),
    ("sgd-momentum", "SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    ("sgd-nesterov", "SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    ("sgd-decay", "SGD", {"learning_rate": 0.1, "weight_decay": 0.05}),
    ("adam", "Adam", {}),
    ("adam-betas", "Adam", {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    ("adam-amsgrad", "Adam", {"learning_rate": 0.01, "amsgrad": True}),
    ("adam-decay", "Adam", {"learning_rate": 0.01, "weight_decay": 0.05}),
    ("adamw", "AdamW", {}),
    ("adamw-decay", "AdamW", {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("adamw-amsgrad", "AdamW", {"learning_rate": 0.01, "amsgrad": True}),
    ("nadam", "Nadam", {}),
    ("nadam-betas", "Nadam", {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    ("nadam-decay", "Nadam", {"weight_decay": 0.05}),
    ("adamax", "Adamax", {}),
    ("adamax-betas", "Adamax", {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    ("rmsprop", "RMSprop", {}),
    ("rmsprop-momentum", "RMSprop", {"learning_rate": 0.01, "momentum": 0.9}),
    ("rmsprop-centered", "RMSprop", {"learning_rate": 0.01, "centered": True, "rho": 0.8}),
    ("rmsprop-both", "RMSprop", {"learning_rate": 0.01, "centered": True, "momentum": 0.5, "epsilon": 1e-4}),
    ("rmsprop-decay", "RMSprop", {"weight_decay": 0.05}),
    ("adagrad", "Adagrad", {}),
    ("adagrad-zero", "Adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0.0, "epsilon": 1e-3}),
    ("adadelta", "Adadelta", {}),
    ("adadelta-paper", "Adadelta", {"learning_rate": 1.0, "rho": 0.9, "epsilon": 1e-4}),
    ("ftrl", "Ftrl", {}),
    ("ftrl-power", "Ftrl", {"learning_rate": 0.1, "learning_rate_power": -0.7, "beta": 0.3}),
    (
        "ftrl-penalties",
        "Ftrl",
        {
            "learning_rate": 0.1,
            "l1_regularization_strength": 0.02,
            "l2_regularization_strength": 0.3,
            "l2_shrinkage_regularization_strength": 0.1,
            "initial_accumulator_value": 0.5,
        },
    ),
    ("lion", "Lion", {}),
    ("lion-betas", "Lion", {"learning_rate": 0.01, "beta_1": 0.7, "beta_2": 0.9, "weight_decay": 0.05}),
    ("lamb", "Lamb", {}),
    ("lamb-decay", "Lamb", {"learning_rate": 0.01, "weight_decay": 0.05, "beta_1": 0.8, "beta_2": 0.9}),
    ("adafactor", "Adafactor", {}),
    ("adafactor-fast", "Adafactor", {"learning_rate": 0.5, "clip_threshold": 0.5, "beta_2_decay": -0.6}),
    ("adafactor-absolute", "Adafactor", {"learning_rate": 0.01, "relative_step": False, "epsilon_2": 0.5}),
    ("muon", "Muon", {}),
    ("muon-plain", "Muon", {"learning_rate": 0.01, "nesterov": False, "rms_rate": None, "ns_steps": 3}),
    (
        "muon-adam",
        "Muon",
        {"learning_rate": 0.01, "adam_lr_ratio": 0.5, "adam_weight_decay": 0.1, "weight_decay": None},
    ),
    ("schedule-free", "ScheduleFreeAdamW", {}),
    ("schedule-free-warmup", "ScheduleFreeAdamW", {"learning_rate": 0.01, "warmup_steps": 7, "weight_decay": 0.05}),
    *[
        (f"{name.lower()}-{kind}", name, {kind: bound, "learning_rate": 0.01})
        for name in ("SGD", "Adam", "RMSprop", "Lamb")
        for kind, bound in (("clipnorm", 0.7), ("clipvalue", 0.3), ("global_clipnorm", 1.1))
    ],
    ("sgd-clipnorm-decay", "SGD", {"clipnorm": 0.7, "weight_decay": 0.05, "momentum": 0.9}),
    ("sgd-ema", "SGD", {**SLOW, "use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}),
    ("adam-accumulation", "Adam", {**SLOW, "gradient_accumulation_steps": 3, "weight_decay": 0.1, "clipnorm": 1.0}),
    (
        "adamw-all",
        "AdamW",
        {
            **SLOW,
            "gradient_accumulation_steps": 2,
            "use_ema": True,
            "ema_momentum": 0.7,
            "ema_overwrite_frequency": 3,
            "loss_scale_factor": 4.0,
            "global_clipnorm": 1.0,
        },
    ),
    ("muon-accumulation", "Muon", {**SLOW, "gradient_accumulation_steps": 2}),
    ("nadam-accumulation", "Nadam", {**SLOW, "gradient_accumulation_steps": 2, "loss_scale_factor": 8.0}),
    ("adafactor-accumulation", "Adafactor", {**SLOW, "gradient_accumulation_steps": 2}),
]
every_case = pytest.mark.parametrize(("name", "arguments"), [pytest.param(*case[1:], id=case[0]) for case in CASES])


def start():
    """The same weights there and here."""
    values = [uniform(*shape, seed=seed) for seed, shape in enumerate(SHAPES)]
    return [nn.Parameter(value.clone()) for value in values], [keras.Variable(value.clone()) for value in values]


def gradients(step, scale=1.0):
    """Of one step; the second variable's are small."""
    drawn = [scale * uniform(*shape, low=-2.0, high=2.0, seed=100 * step + i) for i, shape in enumerate(SHAPES)]
    drawn[1] *= 1e-3
    return drawn


def assert_equal_runs(name, arguments, steps=20, scale=1.0):
    ours, theirs = getattr(optimizers, name)(**arguments), getattr(keras.optimizers, name)(**arguments)
    parameters, variables = start()
    for step in range(steps):
        ours.apply(gradients(step, scale), parameters)
        theirs.apply(gradients(step, scale), variables)
        for parameter, variable in zip(parameters, variables, strict=True):
            assert_close(parameter, variable)
    assert int(ours.iterations) == int(theirs.iterations)
    assert int(ours.variables[0]) == steps


@every_case
def test_twenty_steps(name, arguments):
    assert_equal_runs(name, arguments)


@pytest.mark.parametrize("scale", [1e-4, 1e-7, 1e-9, 0.0])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Adam", {"learning_rate": 0.01}),
        ("Adam", {"learning_rate": 0.01, "amsgrad": True}),
        ("AdamW", {"learning_rate": 0.01}),
        ("RMSprop", {"learning_rate": 0.1}),
        ("RMSprop", {"learning_rate": 0.1, "centered": True, "momentum": 0.5}),
    ],
    ids=["adam", "amsgrad", "adamw", "rmsprop", "rmsprop-both"],
)
def test_tiny_gradients(name, arguments, scale):
    """Here the steps depend on where epsilon is added."""
    assert_equal_runs(name, arguments, scale=scale)


@pytest.mark.parametrize("scale", [1.0, 1e-7])
@pytest.mark.parametrize("arguments", [{}, {"amsgrad": True}, {"weight_decay": 0.1}], ids=str)
def test_the_path_without_the_fused_kernel(monkeypatch, arguments, scale):
    monkeypatch.setattr(adam, "has_fused_adam", lambda device, dtype: False)
    assert_equal_runs("Adam", {"learning_rate": 0.01, **arguments}, scale=scale)


def test_the_fused_kernel_is_there():
    assert adam.has_fused_adam(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("slots", [["momentum", "velocity"], ["momentum", "velocity", "velocity_hat"]], ids=len)
@pytest.mark.parametrize("form", [adam_step.foreach_step, adam_step.functional_step])
def test_all_forms_of_adam_are_one_formula(form, slots, as_tensor):
    """torch's fused kernel, which most steps take, against the two forms that stand in the code."""
    weights = [parameter.detach() for parameter in start()[0]]
    runs = [(weights, {slot: [torch.zeros_like(each) for each in weights] for slot in slots}) for _ in range(2)]
    fused, other = tree.map_structure(torch.clone, runs)
    for step in range(1, 21):
        grads, beta_1, beta_2 = gradients(step), 0.8, 0.97
        size = 0.05 * adam_step.correction_of(beta_1, beta_2, torch.tensor(float(step)) if as_tensor else step)
        adam_step.fused_step(fused[0], grads, fused[1], size, beta_1, beta_2, 1e-3)
        other = form(other[0], grads, other[1], size, beta_1, beta_2, 1e-3) or other
    for one, two in zip(tree.flatten(fused), tree.flatten(other), strict=True):
        assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_all_forms_of_the_correction_are_one_formula():
    steps = [1, 2, 10, 1000]
    numbers = [adam_step.correction_of(0.9, 0.999, step) for step in steps]
    assert_close(adam_step.correction_of(0.9, 0.999, np.array(steps, float), np.sqrt), numbers, rtol=1e-12)
    assert_close(adam_step.correction_of(0.9, 0.999, torch.tensor(steps).float()), np.float32(numbers), rtol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_learning_rate_set_in_between(name):
    ours, theirs = getattr(optimizers, name)(0.01), getattr(keras.optimizers, name)(0.01)
    parameters, variables = start()
    for step, rate in enumerate((0.01, 0.001, 0.02, 0.0003)):
        for optimizer in (ours, theirs):
            optimizer.learning_rate = rate
        ours.apply(gradients(step), parameters)
        theirs.apply(gradients(step), variables)
    for parameter, variable in zip(parameters, variables, strict=True):
        assert_close(parameter, variable)


@every_case
def test_variable_without_a_gradient(name, arguments):
    """It stays as it is, weight decay and all, and so does its state."""
    ours, theirs = getattr(optimizers, name)(**arguments), getattr(keras.optimizers, name)(**arguments)
    parameters, variables = start()
    for step in range(6):
        given = gradients(step)
        if step % 2:
            given[0] = given[3] = None
        ours.apply(list(given), parameters)
        theirs.apply(list(given), variables)
    for parameter, variable in zip(parameters, variables, strict=True):
        assert_close(parameter, variable)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_excluded_from_weight_decay(name):
    ours = getattr(optimizers, name)(learning_rate=0.01, weight_decay=2.0)
    theirs = getattr(keras.optimizers, name)(learning_rate=0.01, weight_decay=2.0)
    parameters, variables = start()
    ours.exclude_from_weight_decay(var_list=[parameters[0]])
    theirs.exclude_from_weight_decay(var_list=[variables[0]])
    for step in range(5):
        ours.apply(gradients(step), parameters)
        theirs.apply(gradients(step), variables)
    for parameter, variable in zip(parameters, variables, strict=True):
        assert_close(parameter, variable)


@every_case
def test_config_goes_both_ways(name, arguments):
    ours = getattr(optimizers, name)(**arguments)
    theirs = keras.saving.deserialize_keras_object(optimizers.serialize(ours))
    again = optimizers.deserialize(keras.saving.serialize_keras_object(theirs))
    for config in (theirs.get_config(), again.get_config()):
        assert config.keys() == ours.get_config().keys()
        for key, value in ours.get_config().items():
            assert config[key] == (pytest.approx(value) if isinstance(value, float) else value), key
