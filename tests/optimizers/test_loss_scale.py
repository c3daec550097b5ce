"""Loss scaling and mixed precision, against Keras on the CPU."""

import copy

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import optimizers
from kstyle_torch.optimizers import LossScaleOptimizer, adam
from tests.oracle import assert_close, assert_same_bits, uniform


def both(inner="Adam", **arguments):
    return [
        library.optimizers.LossScaleOptimizer(getattr(library.optimizers, inner)(0.01), **arguments)
        for library in (ks, keras)
    ]


def broken(step):
    """Gradients of a step; some are not finite."""
    gradients = [uniform(3, seed=step), uniform(2, 2, seed=100 + step)]
    if step in (0, 1, 5, 9):
        gradients[step % 2].view(-1)[0] = float("inf") if step % 3 else float("nan")
    return gradients


def run(ours, theirs, steps=16):
    parameters = [nn.Parameter(uniform(3)), nn.Parameter(uniform(2, 2))]
    variables = [keras.Variable(parameter.detach().clone()) for parameter in parameters]
    for step in range(steps):
        for optimizer, weights in ((ours, parameters), (theirs, variables)):
            optimizer.apply([gradient * 64 for gradient in broken(step)], weights)
        for parameter, variable in zip(parameters, variables, strict=True):
            assert_close(parameter, variable)
        assert int(ours.iterations) == int(theirs.iterations)
        for a, b in zip(ours.variables[2:4], theirs.variables[2:4], strict=True):
            assert a.numpy() == b.numpy(), a.path


@pytest.mark.parametrize("inner", ["SGD", "Adam", "Nadam", "RMSprop", "Adafactor", "Muon"])
def test_steps_that_are_not_finite_are_left_out(inner):
    run(*both(inner, initial_scale=64.0, dynamic_growth_steps=3))


class OnDevice(LossScaleOptimizer):
    def _step_by_host(self, finite, scale, gradients):
        self._step_by_device(torch.tensor(finite), scale, gradients)


@pytest.mark.parametrize("inner", ["SGD", "AdamW", "Nadam", "RMSprop", "Adafactor", "Muon"])
def test_the_device_takes_a_step_back(inner):
    """What happens on an accelerator, asked of the CPU: weights and state stay, and the count is right when looked at."""

    ours = OnDevice(getattr(optimizers, inner)(0.01), initial_scale=64.0, dynamic_growth_steps=3)
    run(ours, both(inner, initial_scale=64.0, dynamic_growth_steps=3)[1])


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "foreach"])
@pytest.mark.parametrize(
    "make",
    [
        lambda of: of.AdamW(0.01, beta_1=0.0),
        lambda of: of.Adam(0.01, amsgrad=True),
        lambda of: of.MultiOptimizer(of.OptimizerMap(of.Adam(0.01))),
        lambda of: of.SGD(0.01, momentum=0.9),
    ],
    ids=["adamw", "adam", "several", "sgd"],
)
def test_steps_taken_back_do_not_count_before_the_host_looks(monkeypatch, make, fused):
    """Thirty of them would make Adam's first step three times too small."""
    monkeypatch.setattr(adam, "has_fused_adam", lambda device, dtype: fused)
    ours, expected = OnDevice(make(optimizers), initial_scale=2.0**40), make(optimizers)
    weights, others = ([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))] for _ in range(2))
    ours.track(weights)
    for step in range(40):
        gradients = [uniform(3, seed=step), uniform(2, seed=100 + step)]
        if step < 30 or step == 35:
            ours.step([gradients[0], gradients[1] * float("inf")])
        else:
            ours.step([gradient * ours.dynamic_scale.value for gradient in gradients])
            expected.apply(gradients, others)
    for weight, other in zip(weights, others, strict=True):
        assert_close(weight, other, rtol=1e-6, atol=1e-7)
    assert int(ours.iterations) == int(expected.iterations) == 9


def test_scale_of_the_loss():
    ours, theirs = both(initial_scale=8.0)
    assert ours.scale_loss(torch.tensor(2.0)) == 16
    ours.build([nn.Parameter(torch.ones(2))])
    ours.variables[3].assign(4.0)
    assert ours.scale_loss(torch.tensor(2.0)) == 8
    assert float(theirs.scale_loss(2.0)) == 16


def test_config_goes_both_ways():
    ours, theirs = both(initial_scale=4.0, dynamic_growth_steps=7)
    assert ours.get_config().keys() == theirs.get_config().keys()
    again = optimizers.deserialize(keras.saving.serialize_keras_object(theirs))
    assert again.initial_scale == 4 and again.dynamic_growth_steps == 7
    assert type(again.inner_optimizer) is optimizers.Adam
    assert keras.saving.deserialize_keras_object(optimizers.serialize(ours)).dynamic_growth_steps == 7


def test_learning_rate_is_the_inner_one():
    ours, _ = both()
    ours.learning_rate = 0.5
    assert float(ours.inner_optimizer.learning_rate) == 0.5 == float(ours.learning_rate)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inner_optimizer": "adam"}, TypeError, "needs another optimizer inside; got 'adam'"),
        ({"dynamic": False}, ValueError, "always dynamic; for a fixed scale set loss_scale_factor"),
        ({"clipnorm": 1.0}, ValueError, "takes no clipnorm; set it on the inner optimizer"),
        ({"initial_scal": 1.0}, ValueError, "no argument 'initial_scal'. Did you mean .*'initial_scale'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LossScaleOptimizer(**{"inner_optimizer": optimizers.Adam(), **arguments})


# ---------------------------------------------------------------------------------------------------- mixed precision


def data():
    x = uniform(64, 5).numpy()
    return x, (x.sum(axis=1) > 0).astype("float32")


def model_of(library, policy, **arguments):
    library.config.set_dtype_policy(policy)
    try:
        model = library.Sequential(
            [
                library.Input((5,)),
                library.layers.Dense(8, "tanh", name="first"),
                library.layers.Dense(1, "sigmoid", name="last", dtype=arguments.pop("last", None)),
            ]
        )
    finally:
        library.config.set_dtype_policy("float32")
    model.compile(library.optimizers.SGD(0.5), "mse", **arguments)
    return model


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("last", ["float32", None], ids=["last-float32", "last-mixed"])
def test_training_in_mixed_precision_is_keras(policy, last):
    ours, theirs = model_of(ks, policy, last=last), model_of(keras, policy, last=last)
    ours.set_weights([weight.numpy() for weight in theirs.weights])
    x, y = data()
    histories = [
        model.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0).history["loss"] for model in (ours, theirs)
    ]
    np.testing.assert_allclose(*histories, rtol=5e-3)
    assert histories[0][-1] < histories[0][0]
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        assert a.dtype == b.dtype == "float32"
        assert_close(a.read(), b, rtol=2e-2, atol=2e-3)
    assert isinstance(ours.optimizer, LossScaleOptimizer) == (policy == "mixed_float16")
    assert ours.optimizer.name == theirs.optimizer.name or policy != "mixed_float16"


def test_loss_is_not_scaled_where_not_wanted():
    assert type(model_of(ks, "mixed_float16", auto_scale_loss=False).optimizer) is optimizers.SGD
    assert type(model_of(ks, "float32").optimizer) is optimizers.SGD


def test_reported_loss_is_not_the_scaled_one():
    model, (x, y) = model_of(ks, "mixed_float16"), data()
    before = model.evaluate(x, y, verbose=0)
    assert model.fit(x, y, batch_size=64, verbose=0).history["loss"][0] == pytest.approx(before, rel=1e-3)


def test_a_step_that_overflows_is_left_out_in_fit():
    model, (x, y) = model_of(ks, "mixed_float16"), data()
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(2.0**120)
    before = [weight.numpy().copy() for weight in model.weights]
    model.fit(x, y, batch_size=64, verbose=0)
    assert_same_bits(model.weights, before)
    assert float(model.optimizer.dynamic_scale) == 2.0**119 and int(model.optimizer.iterations) == 0


def test_scaled_model_trains_on_after_a_copy():
    model, (x, y) = model_of(ks, "mixed_float16"), data()
    model.fit(x, y, verbose=0)
    twin = copy.deepcopy(model)
    for each in (model, twin):
        each.fit(x, y, shuffle=False, verbose=0)
    assert_same_bits(model.weights, twin.weights)


def test_torch_optimizer_of_a_mixed_model():
    model, (x, y) = model_of(ks, "mixed_float16"), data()
    model.compile(torch.optim.SGD(model.parameters(), lr=0.5), "mse")
    losses = model.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and int(model.optimizer.iterations) == 8
