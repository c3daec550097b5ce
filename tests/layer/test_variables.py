"""Variables of the user's own as attributes of layers and models: they are weights."""

import copy

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import array

X, Y = np.ones((4, 3), "float32"), np.zeros((4, 3), "float32")


def layer_of(library):
    class Counter(library.Variable):
        def count(self):
            self.assign_add(1)

    class Scale(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.scale = library.Variable(np.array([1.0, 2.0, 3.0], "float32"), name="scale")
            self.count = Counter(0, trainable=False, name="count")
            self.shifts = [library.Variable(2.0, name="first"), library.Variable(3.0, name="second")]
            self.later = []
            self.later.append(library.Variable(0.5, name="later"))
            self.penalized = library.Variable(1.0, name="penalized")
            self.penalized.regularizer = library.regularizers.L2(0.5)
            self.penalized.constraint = library.constraints.NonNeg()

        def call(self, inputs):
            self.count.count()
            return inputs * self.scale + self.shifts[0] - self.shifts[1] * self.later[0] + self.penalized

    return Scale


def model_of(library):
    model = library.Sequential([library.Input((3,)), layer_of(library)(name="scale_layer")])
    model.compile(library.optimizers.SGD(0.1), "mse")
    return model


def names(weights):
    return sorted(weight.name for weight in weights)


def test_variables_are_weights_and_are_trained():
    found = []
    for library in (keras, ks):
        model = model_of(library)
        layer = model.layers[0]
        before = int(layer.count)
        losses = model.fit(X, Y, epochs=3, batch_size=2, verbose=0).history["loss"]
        rows = [array(each) for each in (layer.scale, *layer.shifts, *layer.later, layer.penalized)]
        rows += [np.array(losses), int(layer.count) - before > 5, len(layer.weights)]
        found.append((rows, names(layer.trainable_weights), names(layer.non_trainable_weights)))
    for theirs, ours in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert found[0][1:] == found[1][1:]


def test_the_variable_is_what_weights_list():
    layer = layer_of(ks)()
    assert any(layer.scale is weight for weight in layer.weights)
    assert layer.count.trainable is False and type(layer.count).__name__ == "Counter"
    assert {*layer.state_dict()} == {"scale", "count", "shifts_0", "shifts_1", "later_0", "penalized"}
    assert len([*layer.parameters()]) == 5
    variable = ks.Variable(1.0, name="mine")
    layer.mine = variable
    variable.assign(7.0)
    assert float(layer.mine) == 7.0 and layer.mine is variable
    layer.mine = ks.Variable(8.0, name="mine")
    assert float(layer.mine) == 8.0 and len([*layer.parameters()]) == 6


def test_copies_moves_and_files(tmp_path):
    model = model_of(ks)
    layer = model.layers[0]
    layer.scale.assign([4.0, 5.0, 6.0])
    other = copy.deepcopy(layer)
    other.scale.assign([0.0, 0.0, 0.0])
    other.count.count()
    assert layer.scale.numpy().tolist() == [4.0, 5.0, 6.0] and other.weights[0].numpy().tolist() == [0.0, 0.0, 0.0]
    layer.double()
    assert layer.scale.dtype == "float64" and layer.shifts[0].dtype == "float64"
    fresh = model_of(ks)
    model.save_weights(tmp_path / "w.weights.h5")
    fresh.load_weights(tmp_path / "w.weights.h5")
    assert fresh.layers[0].scale.numpy().tolist() == [4.0, 5.0, 6.0]
    layer.load_state_dict({key: torch.zeros_like(value) for key, value in layer.state_dict().items()})
    assert float(layer.shifts[1]) == 0.0
    layer.trainable = False
    assert layer.trainable_weights == [] and not layer.scale.value.requires_grad


@pytest.mark.parametrize("held", ["metric", "layer"])
def test_variables_of_others_stay_theirs(held):
    metric, dense = ks.metrics.Mean(), ks.layers.Dense(2)
    dense.build((None, 3))
    layer = ks.layers.Layer()
    layer.watched = metric.variables[0] if held == "metric" else dense.kernel
    assert layer.weights == [] and len(dense.weights) == 2
    metric.update_state([1.0])
    assert float(metric.result()) == 1.0
