"""Every optimizer on the simulated accelerator: checks that accelerator.py runs."""

import functools

import numpy as np
import torch
from accelerator_checks import EPOCHS, assert_on, assert_same, built, data_for, fit
from simulated_device import NAME, counting
from torch import nn

import kstyle_torch as keras
from kstyle_torch.optimizers import schedules

of = keras.optimizers
MAKERS = {
    "SGD nesterov": lambda: of.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=1.0),
    "Adam": lambda: of.Adam(0.01, amsgrad=True, global_clipnorm=1.0),
    "AdamW averages": lambda: of.AdamW(0.01, use_ema=True, ema_overwrite_frequency=3, clipvalue=0.5),
    "Adam accumulation": lambda: of.Adam(0.01, gradient_accumulation_steps=2, loss_scale_factor=8.0),
    "Nadam": lambda: of.Nadam(0.01),
    "Adamax": lambda: of.Adamax(0.01),
    "RMSprop": lambda: of.RMSprop(schedules.CosineDecay(0.01, 20), momentum=0.5, centered=True),
    "Adagrad": lambda: of.Adagrad(0.05),
    "Adadelta": lambda: of.Adadelta(1.0),
    "Ftrl": lambda: of.Ftrl(0.1, l1_regularization_strength=0.001),
    "Lion": lambda: of.Lion(0.001),
    "Lamb": lambda: of.Lamb(0.01),
    "Adafactor": lambda: of.Adafactor(0.05),
    "Muon": lambda: of.Muon(0.01),
    "ScheduleFreeAdamW": lambda: of.ScheduleFreeAdamW(0.01),
    "own schedule": lambda: of.SGD(Warmup()),
    "own optimizer": lambda: KerasStyle(0.05),
    "several": lambda: of.MultiOptimizer(of.OptimizerMap(of.Adam(0.01), {".*bias": of.SGD(0.05, momentum=0.9)})),
    "loss scale": lambda: of.LossScaleOptimizer(of.Adam(0.01), initial_scale=8.0, dynamic_growth_steps=3),
}


class Warmup(schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.05 * keras.ops.minimum(keras.ops.cast(step + 1, "float32") / 5.0, 1.0)


class KerasStyle(of.Optimizer):
    def build(self, variables):
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.momentums[self._get_variable_index(variable)]
        self.assign(momentum, 0.9 * momentum - gradient * learning_rate)
        self.assign_add(variable, momentum)


def check_numbers(make):
    """Training gives the CPU's losses and weights; so it does after a move there and back."""
    on_host, on_device = built("mlp", "cpu", make()), built("mlp", NAME, make())
    for device in (NAME, "cpu", NAME):
        on_device.to(device)
        assert_same(fit(on_host, "mlp").history, fit(on_device, "mlp").history)
        assert_on(on_device, device)
    for ours, theirs in zip(on_host.optimizer.variables, on_device.optimizer.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-5, err_msg=ours.path)


def check_waits(make):
    """The steps of an epoch wait for nothing and copy nothing."""
    model = built("mlp", NAME, make())
    x, y = data_for("mlp")
    fit(model, "mlp")
    counts = []
    for batch_size in (50, 5):
        with counting() as counted:
            model.fit(x, y, epochs=EPOCHS, batch_size=batch_size, verbose=0, shuffle=False)
        counts.append((counted.sync + counted.d2h, counted.h2d))
    assert counts[0] == counts[1], f"more waits or copies with more steps: {counts}"


def check_skipped_steps():
    """A step that is not finite is taken back on the device; scale, state and count are those of the CPU."""
    models = []
    for device in ("cpu", NAME):
        inner = of.Adam(0.01)
        optimizer = of.LossScaleOptimizer(inner, initial_scale=64.0, dynamic_growth_steps=3)
        weights = [nn.Parameter(torch.ones(3, device=device)), nn.Parameter(torch.ones(2, 2, device=device))]
        optimizer.track(weights)
        with counting() as counted:
            for step in range(12):
                gradients = [torch.full((3,), 64.0 + step), torch.full((2, 2), 32.0)]
                if step in (0, 5, 6):
                    gradients[step % 2].view(-1)[0] = float("inf")
                gradients = [gradient.to(device) for gradient in gradients]
                optimizer.step(gradients)
        assert counted.sync + counted.d2h == 0, counted
        models.append((optimizer, weights))
    (ours, our_weights), (theirs, their_weights) = models
    assert int(ours.iterations) == int(theirs.iterations) == 9
    for a, b in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().cpu().numpy(), rtol=1e-6)
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, err_msg=a.path)


CHECKS = {
    **{f"numbers of {name}": functools.partial(check_numbers, make) for name, make in MAKERS.items()},
    **{f"waits of {name}": functools.partial(check_waits, make) for name, make in MAKERS.items()},
    "skipped steps": check_skipped_steps,
}
