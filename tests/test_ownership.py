"""Whose code a function, class or object is, which fast paths ask before they trust it."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import activations, layers, ops
from kstyle_torch.codegen.function_writer import FunctionWriter
from kstyle_torch.ownership import is_of_package, is_opaque, is_ours

X = np.random.default_rng(0).normal(size=(16 * 60, 6)).astype("float32")
gain = [1.0]


def copying(original):
    @functools.wraps(original)
    def replacement(*args, **kwargs):
        return original(*args, **kwargs) * gain[0]

    return replacement


@functools.wraps(layers.ReLU, updated=())
class CopyingClass(layers.ReLU):
    pass


class CallableObject:
    def __init__(self, original):
        functools.update_wrapper(self, original)

    def __call__(self, x):
        return x * gain[0]


class UsersModule(nn.Module):
    def forward(self, x):
        return x * 2


def executed():
    scope = {}
    exec("def function(x): return x", scope)
    return scope["function"]


def generated():
    return FunctionWriter("function", ["x"], "a test").finish("x", ["x"])[0]


OURS = {
    "builtin": len,
    "function in C": torch.relu,
    "function of torch": torch.nn.functional.linear,
    "method in C": torch.Tensor.add,
    "class": layers.Dense,
    "class of torch": nn.Linear,
    "call": layers.Dense.call,
    "object": layers.Dense(2),
    "bound method": layers.Dense(2).call,
    "partial": functools.partial(torch.relu),
    "operation": ops.add,
    "object of a generic class": torch.utils.data.DataLoader([1]),
    "generated": generated(),
}
USERS = {
    "copied from a call": copying(layers.Dense.call),
    "copied from a function in C": copying(torch.relu),
    "copied from a function": copying(activations.relu),
    "torch's decorator around it": torch.no_grad()(copying(torch.relu)),
    "class": CopyingClass,
    "object of it": CopyingClass(),
    "its inherited method": CopyingClass().call,
    "callable object": CallableObject(torch.nn.functional.relu),
    "partial of one": functools.partial(copying(torch.relu)),
    "scripted module": torch.jit.RecursiveScriptModule,
    "executed text": executed(),
    "cached": functools.lru_cache(copying(torch.relu)),
}


@pytest.mark.parametrize("value", OURS.values(), ids=OURS)
def test_ours(value):
    assert is_ours(value) and is_opaque(value)


@pytest.mark.parametrize("value", USERS.values(), ids=USERS)
def test_users(value):
    assert not is_ours(value) and not is_of_package(value)


def train(activation, callbacks=(), **how):
    torch.manual_seed(0)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(8, activation), layers.Dense(1)])
    model.compile(ks.optimizers.SGD(0.01), "mse", **how)
    gain[0] = 1.0
    change = ks.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: gain.__setitem__(0, 1.0 + epoch))
    return model.fit(
        X, X[:, :1], batch_size=16, epochs=2, verbose=0, shuffle=False, callbacks=[change, *callbacks]
    ).history


def test_a_wrapped_activation_is_not_recorded():
    assert train(copying(torch.relu)) == train(copying(torch.relu), jit_compile=False) != train(torch.relu)


@pytest.mark.parametrize("of", ["class", pytest.param("object", marks=pytest.mark.full)])
def test_a_hook_set_on_a_callback_of_ours_may_change_the_model(of):
    """Torch's functions are compared between two steps only if users' code runs there."""
    found = []
    for jit_compile in ("auto", False):
        with pytest.MonkeyPatch.context() as patch:

            def hook(self, batch, logs=None, patch=patch):
                if batch == 50:
                    patch.setattr(torch, "tanh", torch.sigmoid)

            functools.update_wrapper(hook, ks.callbacks.TerminateOnNaN.on_train_batch_end)
            callback = ks.callbacks.TerminateOnNaN()
            target, value = (type(callback), hook) if of == "class" else (callback, hook.__get__(callback))
            patch.setattr(target, "on_train_batch_end", value)
            found.append(train("tanh", [callback], jit_compile=jit_compile))
    assert found[0] == found[1] != train("tanh")


def test_a_wrapped_activation_is_not_taken_for_elementwise():
    @functools.wraps(activations.relu)
    def centred(x):
        return x - x.mean((2, 3) if x.shape[1] == 2 else (1, 2), keepdim=True)

    image = np.random.default_rng(0).normal(size=(4, 10, 10, 1)).astype("float32")
    model = ks.Sequential([ks.Input((10, 10, 1)), layers.Conv2D(2, 4, activation=centred), layers.MaxPooling2D(2)])
    model.compile("sgd", "mse")
    with torch.no_grad():
        expected = model(torch.from_numpy(image))
    np.testing.assert_array_equal(model.predict(image, verbose=0), expected.numpy())
