"""Steps as functions: the same numbers as the steps in place."""

import numpy as np
import pytest
import torch

from kstyle_torch import optimizers
from kstyle_torch.optimizers.functional_update import clipped, pure_step, step_sizes, why_not_pure
from kstyle_torch.optimizers.schedules import ExponentialDecay

CASES = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "Nesterov, decay": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "schedule": lambda: optimizers.SGD(ExponentialDecay(0.1, 2, 0.5), momentum=0.9),
    "RMSprop": lambda: optimizers.RMSprop(0.1),
    "RMSprop, all": lambda: optimizers.RMSprop(0.1, momentum=0.5, centered=True),
    "Adam": lambda: optimizers.Adam(0.1),
    "Adam, all": lambda: optimizers.Adam(ExponentialDecay(0.1, 2, 0.5), 0.8, 0.99, 1e-3, amsgrad=True),
    "clipped each": lambda: optimizers.Adam(0.1, clipnorm=0.5),
    "clipped together": lambda: optimizers.SGD(0.1, global_clipnorm=0.5),
    "clipped values": lambda: optimizers.RMSprop(0.1, clipvalue=0.5),
    "mean": lambda: optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
    "AdamW": lambda: optimizers.AdamW(0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_step_as_a_function_gives_the_numbers_of_the_one_in_place(make):
    generator = torch.Generator().manual_seed(1)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(3, 4), (4,)]]
    gradients = [[torch.randn(weight.shape, generator=generator) for weight in weights] for _ in range(5)]
    optimizer = make()
    optimizer.apply(gradients[0], weights)  # from a step that is not the first
    part = optimizer._current()
    mine = [weight.detach().clone() for weight in part.parameters]
    state = {name: [tensor.clone() for tensor in tensors] for name, tensors in part.state.items()}
    assert why_not_pure(optimizer) is None
    sizes = step_sizes(optimizer, 4)
    decayed = [any(weight is other for other in part.decayed) for weight in part.parameters]
    for gradient, size in zip(gradients[1:], sizes, strict=True):
        mine, state = pure_step(optimizer, mine, clipped(optimizer, gradient), state, size, decayed)
        optimizer.apply(gradient)
    for got, expected in zip(mine, part.parameters, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), rtol=2e-5, atol=1e-6)
    for name, tensors in part.state.items():
        for got, expected in zip(state[name], tensors, strict=True):
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optimizers.Nadam(), "Nadam"),
        (optimizers.SGD(loss_scale_factor=2.0), "loss_scale_factor"),
        (optimizers.SGD(gradient_accumulation_steps=2), "gradient_accumulation_steps"),
        (optimizers.SGD(lambda: 0.1), "function"),
    ],
    ids=["another", "scale", "accumulation", "function"],
)
def test_what_cannot_be_a_function_is_named(optimizer, words):
    optimizer.build([torch.nn.Parameter(torch.ones(2))])
    assert words in why_not_pure(optimizer)
