"""torch's learning rate schedulers in fit, against the same training by hand."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import kstyle_torch as ks
from kstyle_torch import callbacks, layers
from tests.oracle import assert_close, uniform

X, Y = uniform(32, 4), uniform(32, 1, seed=1)


def network(optimizer=None):
    ks.utils.set_random_seed(1)
    model = ks.Sequential([ks.Input((4,)), layers.Dense(1)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if optimizer is None else optimizer
    model.compile(optimizer, "mse")
    return model, optimizer


def by_hand(make, per="epoch"):
    model, optimizer = network()
    scheduler, rates = make(optimizer), []
    for _ in range(4):
        for rows in (slice(0, 16), slice(16, 32)):
            loss = nn.functional.mse_loss(model(X[rows]), Y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if per == "batch":
                scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
        if per == "epoch":
            scheduler.step()
    return model, rates


def fitted(model, scheduler):
    history = model.fit(X, Y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=[scheduler])
    return history.history["learning_rate"]


MAKERS = {
    "step": functools.partial(lr_scheduler.StepLR, step_size=2, gamma=0.5),
    "cosine": functools.partial(lr_scheduler.CosineAnnealingLR, T_max=4),
    "warmup": functools.partial(lr_scheduler.LinearLR, start_factor=0.1, total_iters=3),
    "lambda": functools.partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 0.9**epoch),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_a_scheduler_in_fit_is_that_by_hand(make, per):
    model, optimizer = network()
    scheduler = make(optimizer)
    rates = fitted(model, scheduler if per == "epoch" else callbacks.TorchScheduler(scheduler, per="batch"))
    expected, expected_rates = by_hand(make, per)
    np.testing.assert_allclose(rates, expected_rates)
    for a, b in zip(model.weights, expected.weights, strict=True):
        assert_close(a.read(), b.read())


def test_optimizer_and_scheduler_made_by_partials():
    model, _ = network(functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    rates = fitted(model, callbacks.TorchScheduler(MAKERS["warmup"]))
    np.testing.assert_allclose(rates, by_hand(MAKERS["warmup"])[1])


def test_plateau_looks_at_the_logs():
    model, optimizer = network()
    plateau = functools.partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=0, threshold=0.5)
    scheduler = plateau(optimizer)
    rates = fitted(model, callbacks.TorchScheduler(scheduler, monitor="loss"))
    _, by_itself = network()
    reference, expected = plateau(by_itself), []
    for loss in model.history.history["loss"]:
        expected.append(by_itself.param_groups[0]["lr"])
        reference.step(loss)
    assert rates == expected and len({*rates}) > 1
    with pytest.raises(ValueError, match="monitors 'val_loss', but the logs have loss"):
        fitted(model, scheduler)


def test_mistakes():
    model, _ = network("sgd")
    _, other = network()
    scheduler = MAKERS["step"](other)
    with pytest.raises(ValueError, match="needs a torch optimizer in compile.*; the model has SGD"):
        fitted(model, scheduler)
    model, _ = network()
    with pytest.raises(ValueError, match="StepLR belongs to another optimizer than the model's"):
        fitted(model, scheduler)
    with pytest.raises(ValueError, match="per must be 'epoch' or 'batch'; got 'step'"):
        callbacks.TorchScheduler(scheduler, per="step")
