"""Modes and hooks of torch that are in force around `fit`, or from a callback on: they see what an eager step shows them."""

import contextlib

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch._torch import TorchDispatchMode

X = np.random.default_rng(0).normal(size=(16 * 50, 6)).astype("float32")


class Halving(torch.autograd.graph.saved_tensors_hooks):
    """Halves what the backward pass reads."""

    def __init__(self):
        super().__init__(lambda tensor: tensor, lambda tensor: tensor * 0.5)


class Ones(TorchDispatchMode):
    """Puts ones in the place of activations."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return torch.ones_like(result) if func is torch.ops.aten.tanh.default else result


class Zeros(TorchFunctionMode):
    """Puts zeros in the place of activations."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result * 0 if getattr(func, "__name__", "") == "tanh" else result


MODES = {
    "saved tensors": Halving,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "dispatch": Ones,
    "function": Zeros,
}


def fitted(mode, where, **how):
    torch.manual_seed(0)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    model.compile(ks.optimizers.SGD(0.05), "mse", **how)

    def enter(number, logs=None):
        if number == {"epoch": 2, "batch": 20}[where]:
            mode.__enter__()

    def leave(number, logs=None):
        if number == {"epoch": 2, "batch": 40}[where]:
            mode.__exit__(None, None, None)

    callbacks = [ks.callbacks.LambdaCallback(on_epoch_begin=enter, on_epoch_end=leave)] if where == "epoch" else []
    if where == "batch":
        callbacks = [ks.callbacks.LambdaCallback(on_train_batch_begin=enter, on_train_batch_end=leave)]
    with mode if where == "around" else contextlib.nullcontext():
        fits = {"epochs": 4, "batch_size": 16, "shuffle": False, "verbose": 0}
        return model.fit(X, X[:, :1], callbacks=callbacks, **fits).history["loss"]


@pytest.mark.filterwarnings("ignore:jit_compile")
@pytest.mark.parametrize("how", [{}, pytest.param({"jit_compile": "record"}, marks=pytest.mark.full)], ids=str)
@pytest.mark.parametrize(
    "where", ["epoch", *(pytest.param(where, marks=pytest.mark.full) for where in ("around", "batch"))]
)
@pytest.mark.parametrize("name", MODES)
def test_a_mode_counts_in_every_step(name, where, how):
    expected = fitted(MODES[name](), where, jit_compile=False)
    assert fitted(MODES[name](), where, **how) == expected
    assert fitted(contextlib.nullcontext(), where, jit_compile=False) != expected


def test_all_flops_are_counted():
    counts = []
    for how in (False, "auto"):
        with FlopCounterMode(display=False) as counter:
            fitted(contextlib.nullcontext(), "around", jit_compile=how)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("where", ["epoch", "batch"])
def test_weights_move_under_autocast_that_a_callback_enters(where):
    """Autocast keeps casts of weights, which `fit` would train without effect on the loss."""
    exact, cast = (fitted(mode, where) for mode in (contextlib.nullcontext(), MODES["autocast"]()))
    np.testing.assert_allclose(cast, exact, rtol=0.05)
