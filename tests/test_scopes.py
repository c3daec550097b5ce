"""Blocks that change variables and layers inside them."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import array, assert_close


def test_assignments_go_to_the_scope(keras):
    found = []
    for library in (keras, ks):
        a, b = library.Variable(1.0), library.Variable(np.ones(2, "float32"), trainable=False)
        with library.StatelessScope([(a, library.ops.convert_to_tensor(5.0))]) as scope:
            rows = [array(a), array(a.value + 1), scope.get_current_value(b)]
            a.assign_add(1.0)
            b.assign([3.0, 4.0])
            rows += [array(a), array(b), array(b.value), array(b + 1), array(scope.get_current_value(b))]
            with library.StatelessScope() as inner:
                b.assign([7.0, 8.0])
            rows += [array(b), array(inner.get_current_value(b))]
            scope.add_update((b, library.ops.zeros(2)))
            rows += [array(b)]
        rows += [array(a), array(b), array(scope.get_current_value(a)), array(scope.get_current_value(b))]
        found.append(rows)
    for theirs, ours in zip(*found, strict=True):
        if theirs is None:
            assert ours is None
        else:
            np.testing.assert_array_equal(ours, theirs)


def model(library):
    library.utils.set_random_seed(0)
    layers = library.layers
    made = library.Sequential(
        [
            library.Input((4, 4, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3, activation="relu"),
        ]
    )
    for number, weight in enumerate(made.weights):
        drawn = np.random.default_rng(number).uniform(0.1, 1.0, weight.shape)
        weight.assign(drawn.astype("float32"))
    return made


X = np.random.default_rng(9).normal(size=(5, 4, 4, 1)).astype("float32")


@pytest.mark.parametrize("training", [False, True])
def test_a_model_runs_on_other_values(training, keras):
    found = []
    for library in (keras, ks):
        made = model(library)
        before = [array(weight).copy() for weight in made.weights]
        values = [library.ops.convert_to_tensor(array(weight) * 0.5) for weight in made.weights]
        with library.StatelessScope(zip(made.weights, values, strict=True)) as scope:
            outputs = made(X, training=training)
        after = [array(scope.get_current_value(weight)) for weight in made.weights]
        for old, weight in zip(before, made.weights, strict=True):
            np.testing.assert_array_equal(array(weight), old)
        found.append([array(outputs), *after, array(made(X))])
    for theirs, ours in zip(*found, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_flow_to_the_values():
    made = model(ks)
    values = [(weight.value.detach() * 0.5).requires_grad_(weight.trainable) for weight in made.weights]
    with ks.StatelessScope(zip(made.weights, values, strict=True)):
        made(X, training=True).sum().backward()
    assert all(value.grad is not None for value in values if value.requires_grad)
    assert all(weight.value.grad is None for weight in made.trainable_weights)


class Counting(ks.layers.Layer):
    """A layer with weights of `add_weight`, one of which it changes."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs * self.scale


def test_weights_of_add_weight():
    layer = Counting()
    x = torch.ones(2, 3)
    layer(x)
    scale, count = layer.scale, layer.count
    value = torch.full((3,), 2.0, requires_grad=True)
    with ks.StatelessScope([(scale, value), (count, 10.0)]) as scope:
        outputs = layer(x)
        scale.assign([3.0, 3.0, 3.0])
        again = layer(x)
    assert outputs.tolist() == [[2.0] * 3] * 2 and again.tolist() == [[3.0] * 3] * 2
    assert float(scope.get_current_value(count)) == 12.0 and float(count) == 1.0
    assert layer.scale is scale and layer.count is count and scale.tolist() == [1.0] * 3
    outputs.sum().backward()
    assert value.grad.tolist() == [2.0] * 3 and scale.grad is None


def test_assigned_weights_hold_until_the_end():
    layer = ks.layers.Dense(1, use_bias=False)
    layer.build((None, 2))
    before = layer.kernel.numpy().copy()
    x = torch.ones(1, 2)
    with ks.StatelessScope() as scope:
        layer.kernel.assign([[2.0], [3.0]])
        assert float(layer(x)) == 5.0
        layer.kernel.assign_add([[1.0], [1.0]])
        assert float(layer(x)) == 7.0 and layer.kernel.numpy().tolist() == [[3.0], [4.0]]
    np.testing.assert_array_equal(layer.kernel.numpy(), before)
    assert scope.get_current_value(layer.kernel).tolist() == [[3.0], [4.0]]


def test_metrics_and_optimizers_in_a_scope(keras):
    found = []
    for library in (keras, ks):
        metric, optimizer = library.metrics.Mean(), library.optimizers.SGD(0.5)
        metric.update_state([1.0, 2.0])
        with library.StatelessScope() as scope:
            metric.update_state([6.0])
            optimizer.iterations.assign(3)
            inside = [array(metric.result()), array(optimizer.iterations)]
        noted = [array(scope.get_current_value(each)) for each in (*metric.variables, optimizer.iterations)]
        found.append([*inside, *noted, array(metric.result()), array(optimizer.iterations)])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs)


WRONG = {
    "key": lambda library, variable: library.StatelessScope([(3, variable)]),
    "shape": lambda library, variable: library.StatelessScope([(variable, library.ops.ones(3))]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_mappings(wrong, keras):
    for library in (keras, ks):
        with pytest.raises(ValueError):
            wrong(library, library.Variable(np.ones(2)))


def test_a_symbolic_scope():
    from kstyle_torch.scopes import in_symbolic_scope

    assert not in_symbolic_scope()
    with ks.SymbolicScope(), ks.SymbolicScope() as inner:
        assert in_symbolic_scope() and isinstance(inner, ks.SymbolicScope)
    assert not in_symbolic_scope()


def layers_in_scopes(library):
    """The paths of layers and their weights; those made, built and called inside scopes, and of models."""

    class Block(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = (library.layers.Dense(2, name=name) for name in ("first", "second"))

        def build(self, input_shape):
            with library.name_scope("inside"):
                self.scale = self.add_weight(shape=(3,), name="scale")
                self.first.build(input_shape)
            self.nested = library.Sequential([library.Input((2,)), library.layers.Dense(1, name="x")], name="nested")

        def call(self, x):
            with library.name_scope("during"):
                return self.nested(self.second(x) + self.first(x * self.scale))

    x = library.ops.zeros((1, 3))
    outside, late = (library.layers.Dense(1, name=name) for name in ("outside", "late"))
    outside(x)
    with library.name_scope("enc"):
        built, block, made = library.layers.Dense(2, name="built"), Block(name="block"), library.layers.Dense(1)
        built.build((None, 3))
        block(x)
        outside(x)
        inputs = library.Input((3, 1))
        model = library.Model(inputs, library.layers.LSTM(2, name="lstm")(inputs), name="model")
        with library.name_scope("deep"):
            late(x)
            chain = library.Sequential([library.layers.Dense(1, name="d")], name="chain")
            chain.build((None, 3))
    made.name = "made"
    made.build((None, 3))
    parts = [built, block, block.first, block.second, block.nested, outside, late, model, model.layers[1], chain, made]
    return [(part.path, [weight.path for weight in part.weights]) for part in parts]


def test_scopes_begin_the_paths_of_layers(keras):
    theirs, ours = layers_in_scopes(keras), layers_in_scopes(ks)
    assert ours == theirs
    assert ours[0] == ("enc/built", ["enc/built/kernel", "enc/built/bias"])
