"""What `add_weight` returns: the object that `layer.weights` lists, a torch parameter and a variable of Keras in one."""

import copy
import operator
import pickle

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers, optimizers
from tests.oracle import assert_close, uniform

ARRAY = np.array([3.0, 0.5, 2.0], "float32")


def scale_class(library):
    """A layer of a user's own with weights of every kind, made in the constructor and in `build`."""

    class Scale(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

        def build(self, input_shape):
            self.factor = self.add_weight(
                shape=(input_shape[-1],), initializer="ones", name="factor", regularizer="l2", constraint="non_neg"
            )
            self.offset = self.add_weight(shape=(3,), initializer="zeros", name="offset")

        def call(self, x):
            return x * self.factor + self.offset

    return Scale


Scale = scale_class(ks)
Scale.__qualname__ = "Scale"  # where pickle looks for it


def scale(library):
    layer = (Scale if library is ks else scale_class(library))(name="scale")
    layer.build((None, 3))
    return layer


def facts(layer):
    return [
        (w.name, w.path, w.trainable, tuple(w.shape), w.regularizer is None, w.constraint is None)
        for w in (layer.factor, layer.offset, layer.count)
    ]


def test_the_weight_is_what_layer_weights_lists():
    layer = scale(ks)
    assert layer.weights == [layer.factor, layer.offset, layer.count]
    assert all(a is b for a, b in zip(layer.weights, [layer.factor, layer.offset, layer.count], strict=True))
    assert layer.factor is layer.weights[0] is layer.trainable_weights[0] is layer.trainable_variables[0]
    assert layer.factor is layer.factor.value is layer.factor.parameter is next(layer.parameters())
    assert layer.count is layer.non_trainable_weights[0] is next(layer.buffers())
    model = ks.Sequential([ks.Input((3,)), layer])
    assert model.weights[0] is layer.factor and next(model.parameters()) is layer.factor


def test_attributes_are_keras():
    assert facts(scale(ks)) == facts(scale(keras))


def test_the_dtype_stays_torchs():
    layer = scale(ks)
    assert layer.factor.dtype is torch.float32 and layer.factor.layout is torch.strided
    assert layer.factor.dtype == layer.compute_dtype == layer.variable_dtype


def changed(how, layer):
    if how == "double":
        return layer.double()
    if how == "assign":
        layer.load_state_dict({key: value.clone() for key, value in layer.state_dict().items()}, assign=True)
        return layer
    if how == "meta":
        return layer.to("meta").to_empty(device="cpu")
    return {"deepcopy": copy.deepcopy, "pickle": lambda layer: pickle.loads(pickle.dumps(layer))}[how](layer)


@pytest.mark.parametrize("how", ["double", "assign", "meta", "deepcopy", "pickle"])
def test_it_stays_a_variable(how):
    original = scale(ks)
    expected = facts(original)
    layer = changed(how, original)
    assert facts(layer) == expected
    assert all(a is b for a, b in zip(layer.weights, [layer.factor, layer.offset, layer.count], strict=True))
    layer.factor.assign(2 * torch.ones(3))
    layer.count.assign(5)
    assert layer.get_weights()[0].tolist() == [2, 2, 2] and layer.get_weights()[2] == 5
    assert layer is original or original.factor.tolist() == [1, 1, 1]


def test_freezing():
    layer = scale(ks)
    layer.factor.trainable = False
    assert not layer.factor.requires_grad and layer.trainable_weights == [layer.offset]
    layer.factor.trainable = True
    layer.trainable = False
    assert layer.trainable_weights == [] and not layer.factor.trainable
    layer.trainable = True
    assert len(layer.trainable_weights) == 2
    layer.count.trainable = False
    with pytest.raises(ValueError, match=r"scale/count is a buffer.* pass trainable=True"):
        layer.count.trainable = True


def test_assigning():
    for library in (ks, keras):
        layer = scale(library)
        layer.factor.assign(ARRAY)
        layer.factor.assign_add([1.0, 1.0, 1.0])
        layer.factor.assign_sub(layer.offset + 0.5)
        assert_close(layer.factor.numpy(), ARRAY + 0.5)
        with pytest.raises(ValueError):
            layer.factor.assign(np.ones(1, "float32"))
        with pytest.raises(ValueError):
            layer.factor.assign(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match=r"scale/factor: cannot assign shape \(1,\) to \(3,\)"):
        scale(ks).factor.assign(np.ones(1, "float32"))


BINARY = "add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne".split()
OPERANDS = {
    "array": ARRAY,
    "tensor": torch.from_numpy(ARRAY),
    "list": ARRAY.tolist(),
    "tuple": (*ARRAY.tolist(),),
    "number": 2.0,
    "numpy number": np.float32(2),
    "variable": None,
}


def operand(kind, library):
    return library.Variable(ARRAY) if kind == "variable" else OPERANDS[kind]


def outcome(kind, library, function, reflected):
    weight = scale(library).factor
    weight.assign([1.5, 2.0, -0.5])
    args = (operand(kind, library), weight) if reflected else (weight, operand(kind, library))
    result = function(*args)
    return result.detach() if isinstance(result, torch.Tensor) else result


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", OPERANDS)
def test_operators_are_keras(name, kind):
    if name == "matmul" and "number" in kind:
        return
    function = getattr(operator, name)
    assert_close(outcome(kind, ks, function, False), outcome(kind, keras, function, False))
    assert_close(outcome(kind, ks, function, True), outcome(kind, keras, function, True))


@pytest.mark.parametrize("name", "add sub mul truediv mod pow".split())
def test_a_tensor_on_the_left_gives_the_bits_of_a_plain_parameter(name):
    weight = scale(ks).factor
    weight.assign(ARRAY * 0.7)
    x, plain, function = uniform(3), nn.Parameter(weight.detach().as_subclass(torch.Tensor)), getattr(operator, name)
    assert torch.equal(function(x, weight).nan_to_num(), function(x, plain).nan_to_num())
    (want,) = torch.autograd.grad(function(x, plain).nan_to_num().sum(), plain)
    (got,) = torch.autograd.grad(function(x, weight).nan_to_num().sum(), weight)
    assert torch.equal(got.nan_to_num(), want.nan_to_num())


def test_other_operators():
    for library in (ks, keras):
        weight = scale(library).factor
        weight.assign([1.5, 2.0, -0.5])
        assert_close((-weight).detach(), [-1.5, -2.0, 0.5])
        assert_close(abs(weight).detach(), [1.5, 2.0, 0.5])
        assert_close(round(weight).detach(), [2, 2, 0])
        assert_close(weight[1:].detach(), [2.0, -0.5])
        assert_close(np.asarray(weight), np.array([1.5, 2.0, -0.5], "float32"))
        assert_close(np.sin(weight), np.sin(np.array([1.5, 2.0, -0.5], "float32")))
        assert np.asarray(weight, "float64").dtype == "float64"
        flags = library.layers.Layer().add_weight(shape=(2,), dtype="bool", initializer="zeros", trainable=False)
        flags.assign(np.array([True, False]))
        mask = np.array([True, True])
        results = [flags & mask, flags | mask, flags ^ mask, ~flags]
        assert [result.tolist() for result in results] == [[True, False], [True, True], [False, True], [False, True]]


def test_gradients_go_through_operators_with_arrays():
    weight = scale(ks).factor
    for result in (weight * ARRAY, ARRAY * weight):
        weight.grad = None
        result.sum().backward()
        assert_close(weight.grad, ARRAY)


def test_it_is_found_by_identity():
    """Comparisons are by element, as in Keras; sets, dicts and lists of weights work."""
    layer = scale(ks)
    assert {layer.factor: 1}[layer.factor] == 1 and len({*layer.weights, layer.factor}) == 3
    assert layer.factor in layer.weights and layer.weights.index(layer.factor) == 0
    assert (layer.factor == None) is False  # noqa: E711, as programs write it


def test_a_shared_weight_is_one():
    first, second = scale(ks), layers.Layer()
    second.factor = first.factor
    assert second.weights[0] is first.factor and second.weights[0].path == "scale/factor"
    model = ks.Sequential([first, second])
    assert [weight.path for weight in model.weights] == ["scale/factor", "scale/offset", "scale/count"]
    bare = nn.Module()
    bare.weight = first.factor
    holder = layers.Layer()
    holder.bare = bare
    assert holder.weights[0] is first.factor


class Positive(nn.Module):
    def forward(self, weight):
        return weight.abs()


def test_a_parametrized_weight_is_shown_by_a_view():
    layer = scale(ks)
    nn.utils.parametrize.register_parametrization(layer, "factor", Positive())
    assert [weight.name for weight in layer.weights] == ["factor", "offset", "count"]
    assert layer.weights[0].computed is not None and tuple(layer.weights[0].shape) == (3,)
    nn.utils.parametrize.remove_parametrizations(layer, "factor")
    assert layer.weights[0] is layer.factor


def test_a_weight_outlives_its_layer():
    weight = scale(ks).factor
    assert weight.path == "scale/factor" and weight.trainable and weight.regularizer is not None


def trained(library, jit_compile):
    model = library.Sequential(
        [library.Input((3,)), scale(library), library.layers.Dense(2, kernel_initializer="ones")]
    )
    model.compile(library.optimizers.Adam(0.1), "mse", jit_compile=jit_compile)
    x, y = uniform(32, 3).numpy(), uniform(32, 2, seed=1).numpy()
    model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    names = [variable.path.split("/", 1)[1] for variable in model.optimizer.variables]
    return model.get_weights(), [name for name in names if "dense" not in name]


@pytest.mark.parametrize("jit_compile", [False, "record"])
def test_training_is_keras(jit_compile):
    (ours, our_names), (theirs, their_names) = trained(ks, jit_compile), trained(keras, False)
    assert our_names == their_names
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.full
def test_inside_a_compiled_function():
    layer = scale(ks)
    layer.factor.assign(ARRAY)
    x = uniform(2, 3)

    def function(x):
        y = layer.factor * x + x * layer.factor - x / layer.factor + layer.factor**2
        return torch.where(layer.factor > 1, y, 0).sum()

    expected = function(x)
    got = torch.compile(function, backend="eager", fullgraph=True)(x)
    assert_close(got.detach(), expected.detach())
    (want,) = torch.autograd.grad(expected, layer.factor)
    assert_close(torch.autograd.grad(got, layer.factor)[0], want)


def test_spectral_normalization_takes_it():
    class Product(layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")

        def call(self, x):
            return x @ self.kernel

    layer = layers.SpectralNormalization(Product())
    layer(torch.ones(2, 3), training=True)
    norms = []
    for _ in range(20):
        layer(torch.ones(2, 3), training=True)
        norms.append(float(torch.linalg.matrix_norm(layer.layer.kernel.detach(), 2)))
    assert norms[-1] == pytest.approx(1, rel=1e-3)


def test_an_optimizer_keeps_its_state_by_it():
    layer = scale(ks)
    optimizer = optimizers.SGD(1.0, momentum=0.5)
    optimizer.apply([torch.ones(3), torch.ones(3)], layer.trainable_weights)
    optimizer.apply_gradients([(torch.ones(3), layer.offset)])
    assert_close(layer.offset.detach(), -2.5 * np.ones(3, "float32"))
    assert_close(layer.factor.detach(), np.zeros(3, "float32"))  # no constraint was in the way
    twin_layer, twin = copy.deepcopy((layer, optimizer))
    twin.apply_gradients([(torch.ones(3), twin_layer.offset)])
    assert len(twin.variables) == len(optimizer.variables)
    assert_close(layer.offset.detach(), -2.5 * np.ones(3, "float32"))
    assert_close(twin_layer.offset.detach(), -4.25 * np.ones(3, "float32"))
