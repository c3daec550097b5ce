import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import assert_same_bits


def by_input():
    return ks.Sequential([ks.Input((10,), name="features"), layers.Dense(4), layers.Dense(1)])


def by_input_shape():
    return ks.Sequential([layers.Dense(4, input_shape=(10,)), layers.Dense(1)])


def by_input_dim():
    return ks.Sequential([layers.Dense(4, input_dim=10), layers.Dense(1)])


def by_batch_input_shape():
    return ks.Sequential([layers.Dense(4, batch_input_shape=(None, 10)), layers.Dense(1)])


def by_add():
    model = ks.Sequential()
    model.add(layers.InputLayer((10,)))
    model.add(layers.Dense(4))
    model.add(layers.Dense(1))
    return model


def by_data():
    model = ks.Sequential([layers.Dense(4), layers.Dense(1)])
    model(np.ones((2, 10)))
    return model


FORMS = [by_input, by_input_shape, by_input_dim, by_batch_input_shape, by_add, by_data]


@pytest.mark.parametrize("make", FORMS)
def test_every_way_of_saying_the_size_gives_the_same_model(make):
    model = make()
    assert model.built
    assert model.input_shape == (None, 10)
    assert model.output_shape == (None, 1)
    assert [tuple(p.shape) for p in model.parameters()] == [(4, 10), (4,), (1, 4), (1,)]
    assert len(model.layers) == 2
    assert list(model.state_dict()) == [
        "dense.linear.weight",
        "dense.linear.bias",
        "dense_1.linear.weight",
        "dense_1.linear.bias",
    ]
    assert isinstance(next(model.children()), layers.InputLayer)


@pytest.mark.parametrize("make", FORMS)
def test_it_computes_what_its_layers_compute(make):
    model = make()
    x = torch.randn(3, 10)
    first, second = (child.linear for child in list(model.children())[1:])
    torch.testing.assert_close(model(x), second(first(x)))


def test_state_dict_goes_into_a_second_model():
    a, b = by_input(), by_input()
    b.load_state_dict(a.state_dict())
    x = torch.randn(3, 10)
    assert torch.equal(a(x), b(x))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(again):
    model = by_input()
    model.compile("adam", "mse", metrics=["mae"])
    x, y = np.ones((8, 10)), np.ones(8)
    model.fit(x, y, verbose=0)
    other = again(model)
    np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))
    before = model.get_weights()
    other.fit(x, y, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.fit(x, y, verbose=0)  # the copy took the optimizer's state along
    assert_same_bits(model.get_weights(), other.get_weights())


def test_pop_and_add():
    model = by_input()
    last = model.pop()
    assert model.output_shape == (None, 4)
    assert last not in list(model.children())
    model.add(layers.Dense(7))
    assert model.output_shape == (None, 7)
    with pytest.raises(IndexError, match="no layer"):
        ks.Sequential().pop()


def test_a_layer_that_does_not_fit_leaves_the_model_as_it_was():
    model = by_input()
    with pytest.raises(ValueError, match="max_pooling2d"):
        model.add(layers.MaxPooling2D())
    assert len(model.layers) == 2
    assert model(torch.ones(1, 10)).shape == (1, 1)


def test_bare_torch_modules():
    model = ks.Sequential([ks.Input((10,)), nn.Linear(10, 4), nn.ReLU(), layers.Dense(2)])
    assert list(model.state_dict()) == ["linear.weight", "linear.bias", "dense.linear.weight", "dense.linear.bias"]
    assert model.output_shape == (None, 2)
    model.compile("adam", "mse")
    losses = model.fit(np.ones((16, 10)), np.ones((16, 2)), epochs=20, verbose=0)["loss"]
    assert losses[-1] < losses[0]


def test_names():
    model = ks.Sequential([ks.Input((3,)), layers.Dense(2, name="a.b"), layers.Dense(2, name="weights")])
    assert [layer.name for layer in model.layers] == ["a.b", "weights"]
    assert model.get_layer("weights") is model.layers[1]
    assert set(model.state_dict()) == {
        "a_b.linear.weight",
        "a_b.linear.bias",
        "weights_.linear.weight",
        "weights_.linear.bias",
    }
    with pytest.raises(ValueError, match="no layer 'wieghts'.*Did you mean 'weights'"):
        model.get_layer("wieghts")
    with pytest.raises(ValueError, match="the name 'same'"):
        ks.Sequential([layers.Dense(2, name="same"), layers.Dense(2, name="same")])


def test_hostile_names_stay_out_of_the_code():
    name = "x'];__import__('os').abort();["
    model = ks.Sequential([ks.Input((3,), name="in put"), layers.Dense(2, name=name)])
    assert "'" not in model.code
    assert model(torch.ones(1, 3)).shape == (1, 2)


@pytest.mark.parametrize("thing", [layers.Dense, "dense", 3], ids=str)
def test_what_is_no_layer_is_refused(thing):
    with pytest.raises(ValueError, match="Sequential takes layers"):
        ks.Sequential([thing])


def test_a_model_as_first_layer_and_nested():
    inner = by_input()
    model = ks.Sequential([inner, layers.Dense(3)])
    assert model.input_shape == (None, 10)
    assert model.output_shape == (None, 3)
    assert len(model.get_weights()) == 6


def test_the_model_compiles_and_exports_without_a_break():
    model = by_input()
    x = torch.randn(3, 10)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def test_inputs_of_other_dtypes_reach_a_built_model():
    model = by_input()
    for x in (np.ones((2, 10)), np.ones((2, 10), int), torch.ones(2, 10).double(), torch.ones(2, 10).int()):
        torch.testing.assert_close(model(x), model(torch.ones(2, 10)))


def test_fitting_builds_an_unbuilt_model():
    model = ks.Sequential([layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 2, 3)), np.ones(8), verbose=0)
    assert model.input_shape == (None, 2, 3)
