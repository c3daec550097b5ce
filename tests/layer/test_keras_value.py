"""`variable.value`: in Keras' layout, written through to the parameter, with the parameter's gradient."""

import copy
import gc
import pickle
import threading
import weakref

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers, optimizers
from kstyle_torch.layer.keras_value import KerasValue
from kstyle_torch.optimizers.variables import layout_of
from tests.layers.case import Case
from tests.layers.layer_cases import CASES
from tests.oracle import assert_close, uniform


def weight_norm(layer):
    nn.utils.parametrizations.weight_norm(layer.linear)


def made(kind):
    """A layer whose kernel torch holds transposed, with its gates in another order, or computes."""
    layer = layers.GRUCell(3) if kind == "copy" else layers.Dense(3)
    layer.build((None, 4))
    if kind == "computed":
        weight_norm(layer)
    return layer


def called(layer, seed=0):
    x = uniform(2, 4, seed=seed)
    return layer(x, [torch.ones(2, 3)])[0] if isinstance(layer, layers.GRUCell) else layer(x)


kinds = pytest.mark.parametrize("kind", ["view", "copy", "computed"])
leaves = pytest.mark.parametrize("kind", ["view", "copy"])


def fill_detached(value):
    value.detach()[1:, 0] = 5


def fill_rows(value):
    for row in value:
        row.fill_(4)


def fill_halves(value):
    first, second = value[:2], value[2:]
    first.fill_(3)
    for part in second.chunk(3, -1):
        part.add_(1)


def add_in_place(value):
    value += 3
    value += 4


WRITES = {
    "copy_": lambda value: value.copy_(torch.arange(value.numel()).view(value.shape)),
    "mul_": lambda value: value.mul_(2),
    "setitem": lambda value: value.__setitem__((..., 0), 7),
    "iadd": add_in_place,
    "out": lambda value: torch.add(torch.ones(value.shape), 2, out=value),
    "foreach": lambda value: torch._foreach_mul_([value, value], 3.0),
    "init": lambda value: nn.init.constant_(value, 0.5),
    "data": lambda value: value.data.fill_(6),
    "detach": fill_detached,
    "row": lambda value: value[0].fill_(7),
    "rows": fill_rows,
    "parts": fill_halves,
    "transposed": lambda value: value.T.mul_(3),
    "view": lambda value: value.view(-1)[1:3].fill_(7),
    "flatten": lambda value: value.flatten()[1:3].fill_(7),
    "reshape": lambda value: torch.reshape(value, (1, -1))[0, 1:3].fill_(7),
    "contiguous": lambda value: value.contiguous().view(-1)[1:3].fill_(7),
}


@kinds
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_writing_the_value_sets_the_parameter(kind, write, mode):
    """As writing an ordinary tensor of these numbers does."""
    layer = made(kind)
    expected = layer.kernel.read().detach().clone(memory_format=torch.contiguous_format)
    with mode():
        value = layer.kernel.value
        WRITES[write](value)
        WRITES[write](expected)
        assert_close(value, expected, rtol=1e-4)
    assert_close(layer.kernel.numpy(), expected, rtol=1e-4)


@kinds
def test_an_old_value_reads_what_the_weight_is_now(kind):
    layer = made(kind)
    value, row = layer.kernel.value, layer.kernel.value[0]
    layer.kernel.assign(torch.full((layer.kernel.shape), 0.25))
    assert_close(value, np.full(layer.kernel.shape, 0.25))
    assert_close(row, np.full(layer.kernel.shape[1:], 0.25))
    assert_close(torch.as_tensor(layer.kernel.value, dtype=torch.float64), np.full(layer.kernel.shape, 0.25))


def test_the_value_is_the_parameter_where_the_layouts_agree():
    for layer in (layers.Dense(3), layers.LayerNormalization(), layers.EinsumDense("ab,bc->ac", 3)):
        layer.build((None, 4))
        same = [view for view in layer.weights if view.layout.to_keras(view.parameter) is view.parameter]
        assert same and all(view.value is view.parameter for view in same)
    assert layer.kernel.value is layer.kernel.value


@leaves
def test_the_gradient_is_the_parameters(kind):
    layer = made(kind)
    kernel = layer.kernel
    assert kernel.value.grad is None and kernel.value.is_leaf and kernel.value.requires_grad
    called(layer).square().sum().backward()
    expected = kernel.layout.to_keras(kernel.parameter.grad).clone()
    assert_close(kernel.value.grad, expected)
    kernel.value.grad.mul_(2)
    assert_close(kernel.layout.to_keras(kernel.parameter.grad), 2 * expected)
    nn.utils.clip_grad_norm_([kernel.value], 0.1)
    assert_close(kernel.parameter.grad.norm(), torch.tensor(0.1), rtol=1e-4)
    kernel.value.grad.zero_()
    assert not kernel.parameter.grad.any()
    kernel.value.grad = expected
    assert_close(kernel.layout.to_keras(kernel.parameter.grad), expected)
    with pytest.raises(ValueError, match=r"shape \(4, .* got shape \(1,\)"):
        kernel.value.grad = torch.ones(1)
    layer.zero_grad()
    assert kernel.value.grad is None
    kernel.value.grad = expected
    kernel.value.grad = None
    assert kernel.parameter.grad is None
    layer.trainable = False
    assert not kernel.value.requires_grad and kernel.value.grad is None


@leaves
def test_gradients_asked_for_by_value(kind):
    layer = made(kind)
    kernel = layer.kernel
    expected = torch.autograd.grad(called(layer).square().sum(), kernel.parameter)[0]
    (got,) = torch.autograd.grad(called(layer).square().sum(), [kernel.value])
    assert_close(got, kernel.layout.to_keras(expected))
    assert torch.autograd.grad(kernel.value.new_ones(1, requires_grad=True), kernel.value, allow_unused=True) == (None,)
    called(layer).square().sum().backward(inputs=[kernel.value])
    assert_close(kernel.value.grad, kernel.layout.to_keras(expected))
    assert layer.bias.value.grad is None
    kernel.value.grad = None
    (kernel.value**3).sum().backward()
    assert_close(kernel.value.grad, 3 * kernel.value.detach() ** 2)


def test_a_computed_weight_says_that_it_has_no_gradient():
    layer = made("computed")
    assert layer.kernel.value.grad is None and not layer.kernel.value.is_leaf
    with pytest.raises(RuntimeError, match="has no gradient: it is computed .*variable.parameter"):
        torch.autograd.grad(called(layer).sum(), [layer.kernel.value])
    with pytest.raises(ValueError, match="can't optimize a non-leaf"):
        torch.optim.SGD([layer.kernel.value], 0.1)
    (layer.kernel.value**2).sum().backward()
    assert all(view.value.grad is not None for view in layer.trainable_weights if "original" in view.path)


@leaves
@pytest.mark.parametrize("arguments", [{}, {"foreach": True}, {"fused": True}], ids=["plain", "foreach", "fused"])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_torch_optimizers_train_values(kind, make, arguments):
    """In every form that torch has, as they train the parameters."""
    layer = made(kind)
    twin = copy.deepcopy(layer)
    ours = make([layer.kernel.value, layer.bias.value], lr=0.1, weight_decay=0.1, **arguments)
    theirs = make([twin.kernel.parameter, twin.bias.parameter], lr=0.1, weight_decay=0.1, **arguments)
    for optimizer, each in ((ours, layer), (theirs, twin)):
        for seed in range(3):
            optimizer.zero_grad()
            called(each, seed).square().sum().backward()
            optimizer.step()
    for mine, other in zip(layer.get_weights(), twin.get_weights(), strict=True):
        assert_close(mine, other)


@kinds
def test_writing_asks_for_no_grad_as_torch_does(kind):
    layer = made(kind)
    before = layer.kernel.numpy().copy()
    if kind != "computed":
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            layer.kernel.value.mul_(2)
    for refused in (lambda value: value.t_(), lambda value: value.resize_(1), lambda value: value.set_(torch.ones(1))):
        with pytest.raises(RuntimeError, match=r"cannot change a weight in Keras' layout; .*assign"):
            refused(layer.kernel.value)
    assert_close(layer.kernel.numpy(), before)


@kinds
def test_values_are_flattened_as_keras(kind):
    """Keras' variables are contiguous, so `view(-1)` is there for all of them."""
    values = [view.value for view in made(kind).trainable_weights]
    vector = nn.utils.parameters_to_vector(values)
    assert_close(vector.detach(), torch.cat([value.detach().reshape(-1) for value in values]))
    vector.square().sum().backward()
    assert all(value.grad is None or torch.equal(value.grad, 2 * value.detach()) for value in values)
    if kind != "computed":
        assert all(value.grad is not None for value in values)
        nn.utils.vector_to_parameters(vector.detach() * 2, values)
        assert_close(nn.utils.parameters_to_vector(values).detach(), vector.detach() * 2)


@leaves
def test_hooks_get_gradients_in_keras_layout(kind):
    layer = made(kind)
    seen = []
    handle = layer.kernel.value.register_hook(lambda gradient: seen.append(gradient.clone()))
    called(layer).sum().backward()
    assert_close(seen[0], layer.kernel.value.grad)
    handle.remove()
    layer.kernel.value.register_hook(torch.zeros_like)
    layer.zero_grad()
    called(layer).sum().backward()
    assert not layer.kernel.value.grad.any()


@kinds
def test_copies_and_pickles_of_values_are_plain(kind):
    value = made(kind).kernel.value
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), value.clone(), value + 0):
        assert not isinstance(other, KerasValue) and other.requires_grad
        assert_close(other.detach(), value.detach())


@leaves
def test_copies_of_layers_have_values_of_their_own(kind):
    layer = made(kind)
    kept = layer.kernel
    assert kept.value is not None
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        with torch.no_grad():
            other.kernel.value.fill_(9)
        assert (other.kernel.numpy() == 9).all() and not (layer.kernel.numpy() == 9).any()
    other = copy.deepcopy(kept)
    with torch.no_grad():
        other.value.fill_(8)
    assert (other.numpy() == 8).all() and not (kept.numpy() == 8).any()


@leaves
def test_values_follow_their_parameter(kind):
    layer = made(kind)
    held = layer.kernel.value
    layer.double()
    assert held.dtype == layer.kernel.value.dtype == torch.float64
    layer.kernel.assign(torch.ones(layer.kernel.shape))
    assert_close(torch.as_tensor(layer.kernel.value, dtype=torch.float32), np.ones(layer.kernel.shape, "float32"))
    assert_close(held, np.ones(layer.kernel.shape))
    layer.load_state_dict({key: 2 * each for key, each in layer.state_dict().items()}, assign=True)
    assert_close(layer.kernel.value, 2 * np.ones(layer.kernel.shape))
    layer.bfloat16()
    with torch.no_grad():
        layer.kernel.value.fill_(3)
    assert layer.kernel.value.dtype == torch.bfloat16 and (layer.kernel.parameter == 3).all()


@leaves
def test_values_keep_no_layer_alive(kind):
    layer = made(kind)
    value = layer.kernel.value
    layer_ref, parameter_ref = weakref.ref(layer), weakref.ref(layer.kernel.parameter)
    gc.disable()
    try:
        del layer
        assert layer_ref() is None
        value.sum().backward()
        assert value.grad is not None
        del value
        assert parameter_ref() is None
    finally:
        gc.enable()


@pytest.mark.full
@kinds
def test_values_inside_compiled_functions(kind):
    layer = made(kind)
    expected = (layer.kernel.value * 2).sum()
    expected.backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    got = torch.compile(lambda: (layer.kernel.value * 2).sum(), backend="eager")()
    assert_close(got.detach(), expected.detach())
    got.backward()
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        if gradient is not None:
            assert_close(parameter.grad, gradient)


@pytest.mark.full
def test_a_value_as_an_argument_of_a_compiled_function_is_refused():
    value = made("view").kernel.value
    with pytest.raises(Exception, match=r"cannot be an input of a compiled function. Pass `variable.parameter`"):
        torch.compile(lambda weight: weight.sum(), backend="eager")(value)


def test_values_in_threads():
    layer = made("copy")
    failures = []

    def add():
        try:
            with torch.no_grad():
                for _ in range(50):
                    assert layer.kernel.value.sum().isfinite()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_state_of_optimizers_is_in_keras_layout():
    layer = made("copy")
    optimizer = optimizers.Adam(0.1)
    optimizer.build(layer.trainable_variables)
    slots = [variable for variable in optimizer.variables if variable.path.endswith("momentum")]
    with torch.no_grad():
        slots[0].value[0].fill_(7)
    assert slots[0].value.shape == layer.kernel.shape
    assert (slots[0].numpy()[0] == 7).all() and slots[0].numpy().sum() == 7 * slots[0].shape[1]


def assigned(library):
    layer = library.layers.Dense(3, kernel_initializer="ones")
    layer.build((None, 3))
    layer.kernel.assign(torch.arange(9.0).view(3, 3))
    layer.kernel.assign(layer.kernel.value * 0.5)
    other = library.layers.Dense(3)
    other.build((None, 3))
    other.kernel.assign(layer.kernel.value)
    other.kernel.assign_add(layer.kernel.value)
    other.kernel.assign_sub(layer.kernel.value / 2)
    return other.kernel.numpy()


def test_assigning_values_keeps_their_layout():
    assert_close(assigned(ks), assigned(keras))


class KerasLoop:
    """The training step of Keras' guide for torch."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        trainable_weights = list(self.trainable_weights)
        gradients = [weight.value.grad for weight in trainable_weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, trainable_weights)
        return {"loss": loss}


NETWORKS = {
    "vectors": (
        (6,),
        lambda layers: [layers.Dense(6, activation="tanh"), layers.LayerNormalization(), layers.Dense(6)],
    ),
    "images": (
        (8, 8, 2),
        lambda layers: [
            layers.Conv2D(2, 3, padding="same"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.SeparableConv2D(3, 2),
            layers.Conv2DTranspose(2, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6),
        ],
    ),
    "sequences": (
        (5, 4),
        lambda layers: [
            layers.Conv1D(4, 2),
            layers.LSTM(4, return_sequences=True),
            layers.GRU(4, return_sequences=True),
            layers.Bidirectional(layers.SimpleRNN(3)),
            layers.Dense(6),
        ],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_in_keras_manner_trains_as_keras(name):
    shape, network = NETWORKS[name]
    models = []
    for library in (ks, keras):
        model = type("Model", (KerasLoop, library.Sequential), {})([library.Input(shape), *network(library.layers)])
        model.compile(library.optimizers.SGD(0.05, momentum=0.9), "mse")
        models.append(model)
    models[1].set_weights(models[0].get_weights())
    x, y = uniform(8, *shape).numpy(), uniform(8, 6, seed=1).numpy()
    for model in models:
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for mine, other in zip(*(model.get_weights() for model in models), strict=True):
        assert_close(mine, other, rtol=1e-4, atol=1e-5)


def shares_memory(view):
    return layout_of(view).to_keras(view.parameter).untyped_storage().data_ptr() == view.parameter.data_ptr()


def weights_of_cases():
    seen = set()
    for case in CASES:
        if case.layer not in seen and not callable(case.arguments):
            seen.add(case.layer)
            yield pytest.param(case, id=case.layer)


@pytest.mark.parametrize("case", [*weights_of_cases()])
def test_layouts_tell_whether_they_copy(case: Case):
    """What they say is relied on: a view reaches the parameter by itself."""
    layer = getattr(layers, case.layer)(**case.arguments_for(ks))
    layer(*case.args(), **case.call())
    for view in layer.weights:
        if isinstance(view.parameter, nn.Parameter):
            assert layout_of(view).copies is not shares_memory(view), view.path


@leaves
def test_detached_values_are_changed_where_gradients_are_on(kind):
    layer = made(kind)
    value = layer.weights[0].value
    value.data.fill_(5.0)
    value.detach().mul_(3.0)
    assert np.unique(layer.weights[0].numpy()) == 15
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        value.mul_(2.0)
    assert np.unique(layer.weights[0].numpy()) == 15
