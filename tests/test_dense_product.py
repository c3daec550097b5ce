"""The product of dense layers by oneDNN: the numbers and gradients of torch's own, or torch's own."""

import copy
import unittest.mock
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import kstyle_torch as ks
from kstyle_torch import config, dense_product, layers
from tests.oracle import assert_same_bits, uniform

ROWS, INPUTS, UNITS = 150, 160, 130


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The shapes of the products that go to oneDNN, while that is chosen."""
    if dense_product.onednn_linear is None:
        pytest.skip("this torch has no oneDNN")
    found, own = [], dense_product.onednn_linear

    def counted(x, weight, *rest):
        found.append((tuple(x.shape), tuple(weight.shape)))
        return own(x, weight, *rest)

    monkeypatch.setattr(dense_product, "onednn_linear", counted)
    config.set_matmul("onednn")
    yield found
    config.set_matmul("auto")


def tensors(*batch, rows=ROWS, dtype=torch.float32):
    shapes = (*batch, rows, INPUTS), (UNITS, INPUTS), (UNITS,)
    return [uniform(*shape, seed=seed).to(dtype).requires_grad_() for seed, shape in enumerate(shapes)]


def assert_near(ours, theirs):
    """Equal to 1e-6 of the largest number."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 2e-6 * other.abs().max()


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_numbers_and_gradients_are_torchs(batch, bias, calls):
    given = tensors(*batch)[: 3 if bias else 2]
    ours, theirs = dense_product.dense_product(*given), F.linear(*given)
    assert_near([ours.detach()], [theirs.detach()])
    change = uniform(*theirs.shape, seed=5)
    assert_near(torch.autograd.grad(ours, given, change), torch.autograd.grad(theirs, given, change))
    assert len(calls) == 3  # one forwards and two back


def test_the_gradient_can_be_differentiated():
    x, weight, bias = tensors()

    def second(product):
        (first,) = torch.autograd.grad(product(x, weight, bias).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), [x, weight, bias])

    assert_near(second(dense_product.dense_product), second(F.linear))


def test_only_the_gradients_that_are_needed_are_computed(calls):
    x, weight, _ = tensors()
    dense_product.dense_product(x.detach(), weight).sum().backward()
    assert len(calls) == 2
    assert x.grad is None


def test_results_are_deterministic():
    given = tensors()
    expected = dense_product.dense_product(*given)
    for offset in range(4):  # of the memory
        memory = torch.empty(given[0].numel() + offset)
        x = memory[offset:].view_as(given[0]).copy_(given[0].detach())
        assert torch.equal(dense_product.dense_product(x, *given[1:]), expected)


def autocast(given):
    with torch.autocast("cpu", torch.bfloat16):
        return dense_product.dense_product(*given)


def counted_flops(given):
    with FlopCounterMode(display=False) as counter:
        y = dense_product.dense_product(*given)
    assert counter.get_total_flops() == 2 * ROWS * INPUTS * UNITS
    return y


def dual(given):
    with forward_ad.dual_level():
        x = forward_ad.make_dual(given[0].detach(), torch.ones_like(given[0]))
        return forward_ad.unpack_dual(dense_product.dense_product(x, *given[1:])).tangent


class Subclass(torch.Tensor):
    pass


def without_onednn(given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's flags warn of TF32
        with torch.backends.mkldnn.flags(enabled=False):
            return dense_product.dense_product(*given)


OTHERS = {
    "autocast": autocast,
    "a dispatch mode": counted_flops,
    "jit.trace": lambda given: torch.jit.trace(dense_product.dense_product, tuple(given), check_trace=False)(*given),
    "vmap": lambda given: torch.vmap(dense_product.dense_product, (0, None, None))(given[0][None], *given[1:]),
    "jvp": lambda given: torch.func.jvp(
        lambda x: dense_product.dense_product(x, *given[1:]), (given[0],), (torch.ones_like(given[0]),)
    )[1],
    "dual": dual,
    "float64": lambda given: dense_product.dense_product(*(tensor.double() for tensor in given)),
    "a subclass": lambda given: dense_product.dense_product(given[0].detach().as_subclass(Subclass), *given[1:]),
    "meta": lambda given: dense_product.dense_product(*(tensor.to("meta") for tensor in given)),
    "few rows": lambda given: dense_product.dense_product(given[0][:100], *given[1:]),
    "no rows": lambda given: dense_product.dense_product(given[0][:0], *given[1:]),
    "oneDNN is off": without_onednn,
}


@pytest.mark.parametrize("how", OTHERS.values(), ids=OTHERS)
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
def test_elsewhere_it_is_torchs(how, calls):
    got = how(tensors())
    assert not calls
    with unittest.mock.patch.object(dense_product, "dense_product", F.linear):
        expected = how(tensors())
    assert got.device.type == "meta" or torch.equal(got, expected)


def test_a_size_that_does_not_fit_is_torchs_error():
    x, weight, _ = tensors()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dense_product.dense_product(x[:, :-1], weight)


def test_a_function_that_users_replace_is_called(calls):
    with unittest.mock.patch.object(F, "linear", return_value=torch.zeros(1)):
        assert dense_product.dense_product(*tensors()).tolist() == [0.0]
    assert not calls


def test_the_processor_chooses(monkeypatch):
    def chosen(text, capability="AVX512", mkl=True):
        dense_product.is_faster.cache_clear()
        monkeypatch.setattr(dense_product.Path, "read_text", lambda *args, **kwargs: text)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
        return dense_product.is_faster()

    zen_5 = "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n"
    assert chosen(zen_5)
    assert not chosen(zen_5.replace("26", "25"))
    assert not chosen(zen_5.replace("AuthenticAMD", "GenuineIntel"))
    assert not chosen(zen_5, capability="AVX2")
    assert not chosen(zen_5, mkl=False)
    assert not chosen("Processor: ARMv8")
    dense_product.is_faster.cache_clear()


@pytest.mark.parametrize("choice", ["torch", "auto", "onednn"])
def test_the_setting_chooses(choice, calls, monkeypatch):
    for faster in (True, False):
        monkeypatch.setattr(dense_product, "is_faster", lambda faster=faster: faster)
        config.set_matmul(choice)
        assert config.matmul() == choice
        calls.clear()
        dense_product.dense_product(*tensors())
        assert bool(calls) == (choice == "onednn" or (choice == "auto" and faster))
    with pytest.raises(ValueError, match="'auto', 'onednn', 'torch'; got 'mkl'"):
        config.set_matmul("mkl")


# --------------------------------------------------------------------------------------------------------------- layers

X = uniform(ROWS * 4, INPUTS)
Y = X.sum(1, keepdim=True)


def network(**settings):
    ks.utils.set_random_seed(1)
    hidden = [layers.Dense(UNITS, activation="relu"), layers.EinsumDense("ab,bc->ac", UNITS), layers.Dense(1)]
    model = ks.Sequential([ks.Input((INPUTS,)), *hidden])
    model.compile("adam", "mse", **settings)
    return model


def fitted(**settings):
    model = network(**settings)
    history = model.fit(X, Y, batch_size=ROWS, epochs=3, shuffle=False, verbose=0)
    return [history.history["loss"], model.predict(X, batch_size=ROWS, verbose=0), *model.get_weights()]


@pytest.mark.usefixtures("recorded_soon")
def test_every_tier_has_the_same_bits(calls):
    expected = fitted(jit_compile=False)
    products = {*calls}
    assert ((ROWS, INPUTS), (UNITS, INPUTS)) in products and ((UNITS, ROWS), (INPUTS, ROWS)) in products
    assert_same_bits(fitted(), expected)
    assert_same_bits(fitted(run_eagerly=True), expected)
    config.set_matmul("torch")
    for one, other in zip(fitted(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


@pytest.mark.usefixtures("recorded_soon")
def test_recorded_steps_follow_the_setting(calls):
    model = network()
    fits = {"batch_size": ROWS, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=3, **fits)
    config.set_matmul("torch")
    calls.clear()
    model.fit(X, Y, epochs=3, **fits)
    model.predict(X, verbose=0)
    assert not calls


MAKE = {
    "Dense": (lambda: layers.Dense(UNITS), (ROWS, INPUTS)),
    "EinsumDense": (lambda: layers.EinsumDense("abx,xy->aby", (None, UNITS)), (2, ROWS, INPUTS)),
    "heads": (lambda: layers.MultiHeadAttention(4, 40), (2, ROWS, INPUTS)),
    "recurrent": (lambda: layers.LSTM(UNITS, recurrent_dropout=0.1), (ROWS, 3, INPUTS)),
}


@pytest.mark.parametrize(("make", "shape"), MAKE.values(), ids=MAKE)
def test_layers_use_it(make, shape, calls):
    layer, x = make(), uniform(*shape)
    x = [x, x] if isinstance(layer, layers.MultiHeadAttention) else [x]
    layer.build(*(each.shape for each in x))
    outputs = []
    for choice in ("onednn", "torch"):
        config.set_matmul(choice)
        torch.manual_seed(0)
        outputs.append(layer(*x, training=True))
    assert calls
    assert_near([outputs[0].detach()], [outputs[1].detach()])


def test_hooks_and_other_children_are_called(calls):
    layer, x, seen = layers.Dense(UNITS), uniform(ROWS, INPUTS), []
    expected = layer(x)
    handle = layer.linear.register_forward_hook(lambda module, args, output: seen.append(output))
    assert_near([layer(x).detach()], [expected.detach()])
    handle.remove()
    nn.utils.parametrizations.weight_norm(layer.linear)
    calls.clear()
    assert_near([layer(x).detach()], [expected.detach()])
    assert len(seen) == 1 and not calls


@pytest.mark.full
def test_compiled_and_exported_models_hold_torchs(calls, tmp_path):
    model = network()
    expected = model(X).detach()
    calls.clear()
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    assert_near([torch.compile(twin, backend="aot_eager", fullgraph=True)(X).detach()], [expected])
    model.export(tmp_path / "m.pt2")
    program = torch.export.load(tmp_path / "m.pt2").module()
    assert_near([program(X).detach()], [expected])
    assert not calls
