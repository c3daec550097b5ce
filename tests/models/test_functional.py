import copy
import pickle

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import assert_close, uniform


def two_in_two_out():
    a, b = ks.Input((4,), name="a"), ks.Input((3,), name="b")
    h = layers.Concatenate(name="join")([a, b])
    return ks.Model([a, b], [layers.Dense(1, name="p")(h), layers.Dense(2, name="q")(h)])


A, B = np.ones((6, 4), "float32"), np.zeros((6, 3), "float32")


def test_type_names_and_layers():
    model = two_in_two_out()
    assert type(model) is ks.Functional
    assert isinstance(model, ks.Model)
    assert [layer.name for layer in model.layers] == ["a", "b", "join", "p", "q"]
    assert model.output_names == ["p", "q"]
    assert model.input_names == ["a", "b"]
    assert model.output_shape == [(None, 1), (None, 2)]


@pytest.mark.parametrize(
    "x", [[A, B], (A, B), {"a": A, "b": B}, {"b": B, "a": A}], ids=["list", "tuple", "dict", "dict-other-order"]
)
def test_inputs_as_lists_and_dicts(x):
    model = two_in_two_out()
    p, q = model.predict(x, verbose=0)
    expected = model([torch.tensor(A), torch.tensor(B)])
    np.testing.assert_allclose(p, expected[0].detach(), rtol=1e-6)
    np.testing.assert_allclose(q, expected[1].detach(), rtol=1e-6)


def test_a_dict_of_inputs_is_read_by_its_keys_in_whatever_order_they_stand():
    late, early = ks.Input((2,), name="late"), ks.Input((3,), name="early")
    model = ks.Model({"late": late, "early": early}, [late, early])
    x = {"late": np.ones((4, 2), "float32"), "early": np.zeros((4, 3), "float32")}
    for outputs in (model(x), model.predict(x, verbose=0)):
        assert [tuple(output.shape) for output in outputs] == [(4, 2), (4, 3)]
        np.testing.assert_array_equal(outputs[0], x["late"])


def test_inputs_and_outputs_are_lists_and_input_and_output_are_as_given():
    a, b = ks.Input((2,), name="a"), ks.Input((3,), name="b")
    for given, flat in ((a, [a]), ([b, a], [b, a]), ({"b": b, "a": a}, [a, b])):
        model = ks.Model(given, given)
        assert model.input is given and model.output is given
        assert model.inputs == flat and model.outputs == flat
        assert [tensor.name for tensor in copy.deepcopy(model).inputs] == [tensor.name for tensor in flat]


def test_dicts_of_outputs():
    a = ks.Input((4,))
    model = ks.Model(a, {"x": layers.Dense(1)(a), "y": layers.Dense(2)(a)})
    model.compile("sgd", {"x": "mse", "y": "mae"})
    history = model.fit(A, {"x": np.ones(6), "y": np.ones((6, 2))}, verbose=0)
    assert set(history.history) == {"loss", "x_loss", "y_loss"}
    assert {key: value.shape for key, value in model.predict(A, verbose=0).items()} == {"x": (6, 1), "y": (6, 2)}


def test_shared_layers_count_once():
    shared = layers.Dense(4)
    a, b = ks.Input((4,)), ks.Input((4,))
    model = ks.Model([a, b], layers.Add()([shared(a), shared(b)]))
    assert model.count_params() == 20
    assert len(list(model.parameters())) == 2
    x = torch.ones(2, 4)
    torch.testing.assert_close(model([x, x]), 2 * shared(x))


def test_a_model_cut_out_of_another():
    model = two_in_two_out()
    cut = ks.Model(model.inputs, model.get_layer("join").output)
    torch.testing.assert_close(cut([torch.tensor(A), torch.tensor(B)]), torch.tensor(np.hstack([A, B])))


def test_torch_functions_and_operators_are_layers():
    x = ks.Input((4,))
    y = torch.relu(layers.Dense(4)(x)) * 2 + x[:, :1]
    model = ks.Model(x, torch.cat([y, x], dim=-1))
    value = torch.randn(3, 4)
    dense = model.layers[1]
    expected = torch.cat([torch.relu(dense(value)) * 2 + value[:, :1], value], -1)
    torch.testing.assert_close(model(value), expected)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(again):
    x = ks.Input((4,))
    y = torch.relu(layers.Dense(4)(x)) * 2 + x
    model = ks.Model(x, y)
    other = again(model)
    assert torch.equal(other(torch.tensor(A)), model(torch.tensor(A)))
    assert other.output_shape == (None, 4)
    assert other.layers[1] is not model.layers[1]


def test_deep_graphs_copy_and_compile():
    x = y = ks.Input((4,))
    for _ in range(400):
        y = y + x
    model = ks.Model(x, y)
    assert torch.equal(pickle.loads(pickle.dumps(model))(torch.ones(1, 4)), torch.full((1, 4), 401.0))


def test_nested_models():
    inner = two_in_two_out()
    a, b = ks.Input((4,)), ks.Input((3,))
    p, q = inner([a, b])
    model = ks.Model([a, b], layers.Concatenate()([p, q]))
    assert model.output_shape == (None, 3)
    np.testing.assert_allclose(model.predict([A, B], verbose=0), np.hstack(inner.predict([A, B], verbose=0)), rtol=1e-6)


def test_outputs_that_need_another_input():
    a, b = ks.Input((4,), name="a"), ks.Input((4,), name="b")
    with pytest.raises(ValueError, match="need the input 'b'"):
        ks.Model(a, layers.Add()([a, b]))


class Doubled(ks.Model):
    def __init__(self, units=3):
        super().__init__()
        self.dense = layers.Dense(units)
        self.blocks = [layers.Dense(units) for _ in range(2)]

    def call(self, x, training=None):
        x = self.dense(x)
        for block in self.blocks:
            x = block(x)
        return x if training else 2 * x


def test_subclassed_models():
    model = Doubled()
    model.compile("adam", "mse", metrics=["mae"])
    losses = model.fit(A, np.ones((6, 3)), epochs=30, verbose=0)["loss"]
    assert losses[-1] < losses[0]
    assert len(model.get_weights()) == 6
    assert next(iter(model.state_dict())) == "dense.linear.weight"
    x = torch.tensor(A)
    torch.testing.assert_close(model(x), 2 * model(x, training=True))
    assert Doubled(4).get_config()["units"] == 4
    other = copy.deepcopy(model)
    assert torch.equal(other(x), model(x))


def test_explicit_build_of_a_subclassed_model():
    model = Doubled()
    model.build((None, 4))
    assert model.count_params() == 4 * 3 + 3 + 2 * 12


def test_a_subclass_that_calls_the_functional_constructor():
    class Mine(ks.Model):
        def train_step(self, data):
            return {**super().train_step(data), "extra": 1.0}

    x = ks.Input((4,))
    model = Mine(x, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    history = model.fit(A, np.ones(6), verbose=0)
    assert history["extra"] == [1.0]
    assert np.isfinite(history["loss"]).all()


def test_compile_fullgraph_and_export():
    model = two_in_two_out()
    inputs = [torch.tensor(A), torch.tensor(B)]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(inputs), model(inputs))
    torch.testing.assert_close(torch.export.export(model, (inputs,)).module()(inputs), model(inputs))


def test_layers_whose_class_is_a_keyword_get_keys_of_their_own():
    x = ks.Input((4,))
    model = ks.Model(x, layers.Lambda(lambda t: t + 1)(layers.Lambda(lambda t: t * 2)(x)))
    assert torch.equal(model(torch.ones(1, 4)), torch.full((1, 4), 3.0))
    assert [*dict(model.named_children())][1:] == ["lambda_", "lambda__1"]


@pytest.mark.parametrize("wrap", [list, tuple], ids=["list", "tuple"])
def test_a_list_of_one_is_that_one(wrap, keras):
    """Many programs write `Model(inputs=[x], outputs=[y])` and go on with `predict(...) > 0.5`."""
    x = uniform(4, 3)
    made = []
    for library in (ks, keras):
        inputs = library.Input((3,))
        model = library.Model(inputs=wrap([inputs]), outputs=wrap([library.layers.Dense(2)(inputs)]))
        model.compile("sgd", "mse")
        model.set_weights([np.ones((3, 2)), np.zeros(2)])
        made.append([model(x), model.predict(x.numpy(), verbose=0), *model.fit([x], [x[:, :2]], verbose=0).history])
    assert [type(part) for part in made[0]] == [type(part) for part in made[1]] == [torch.Tensor, np.ndarray, str]
    assert_close(made[0][1], made[1][1])


def hooked(library, log):
    """Layers that say what they give, with and without a model around them."""

    class Shaped(library.layers.Layer):
        def call(self, x):
            log.append(("call", tuple(x.shape)))
            return x * 2

        def compute_output_shape(self, input_shape):
            log.append(("shape", tuple(input_shape)))
            return (*input_shape[:-1], 7)  # which only the hook says

    class Specified(library.layers.Layer):
        def call(self, x):
            log.append(("call", tuple(x.shape)))
            return x * 2

        def compute_output_spec(self, x, **kwargs):
            log.append(("spec", tuple(x.shape)))
            return library.KerasTensor(x.shape, x.dtype)

    a, b = library.Input((3,), name="a"), library.Input((4,), name="b")
    inner = library.Model(a, Specified()(a))
    return {
        "chain": (library.Model(a, library.layers.Dense(2)(Specified()(Shaped()(a)))), (5, 3)),
        "sequential": (library.Sequential([library.Input((3,)), Shaped()]), (5, 3)),
        "list": (library.Model([a, b], [Shaped()(a), b * 2]), [(5, 3), (6, 4)]),
        "nest": (library.Model({"a": a, "b": b}, {"x": Shaped()(a), "y": b}), {"b": (6, 4), "a": (5, 3)}),
        "nested": (library.Model(b, inner(library.layers.Dense(3)(b))), (5, 4)),
    }


@pytest.mark.parametrize("name", hooked(ks, []))
def test_shapes_of_a_model_are_what_the_hooks_of_its_layers_say(name, keras):
    found = []
    for library in (keras, ks):
        log = []
        model, shape = hooked(library, log)[name]
        log.clear()
        found.append((model.compute_output_shape(shape), list(log)))
    assert found[1] == found[0]
    assert found[1][1], "no hook was called"
