"""Layers that users write: build, call, add_weight, configs, modes."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch.layers import BatchNormalization, Dense, Dropout, Embedding, Input, InputLayer, InputSpec, Layer
from kstyle_torch.serialization import register_keras_serializable
from tests.oracle import assert_close, uniform

copied = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)


@register_keras_serializable("tests")
class Linear(Layer):
    """The example of Keras' guide."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs):
        return inputs @ self.w + self.b


def built(cls=Linear, *args, **kwargs):
    layer = cls(*args, **kwargs)
    layer(uniform(2, 3))
    return layer


# ------------------------------------------------------------------------------------------------------------- add_weight


def test_weights_are_parameters_and_buffers_of_their_attribute():
    layer = built()
    assert isinstance(layer.w, nn.Parameter) and set(layer.state_dict()) == {"w", "b", "calls"}
    assert [view.name for view in layer.weights] == ["kernel", "bias", "calls"]
    assert [view.path for view in layer.weights] == ["linear/kernel", "linear/bias", "linear/calls"]
    assert len(layer.trainable_weights) == 2 and len(layer.non_trainable_weights) == 1
    assert layer.count_params() == 3 * 4 + 4 + 1


def test_weight_works_in_torch_and_has_the_methods_of_keras():
    layer = built()
    assert_close(torch.relu(layer.w), layer.w.detach().clamp(min=0))
    layer.b.assign([1.0, 2.0, 3.0, 4.0])
    layer.b.assign_add(torch.ones(4))
    layer.b.assign_sub(0.5 * torch.ones(4))
    assert_close(layer.b.numpy(), np.array([1.5, 2.5, 3.5, 4.5], "float32"))
    layer.calls.assign_add(1.0)
    assert float(layer.calls) == 1.0 and float(layer.weights[2]) == 1.0
    layer.weights[1].assign(np.zeros(4))
    assert not layer.b.any()


@copied
def test_methods_survive_copies(copied):
    layer = copied(built())
    layer.b.assign_add(torch.ones(4))
    layer.calls.assign(3.0)
    assert isinstance(layer.w, nn.Parameter) and layer.w.requires_grad and float(layer.calls) == 3.0
    assert_close(layer(uniform(2, 3)), uniform(2, 3) @ layer.w + layer.b)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.to(torch.float64).to(torch.float32),
        lambda layer: layer.load_state_dict(layer.state_dict(), assign=True),
        lambda layer: layer.load_state_dict({k: v.clone() for k, v in layer.state_dict().items()}, assign=True),
        lambda layer: layer.requires_grad_(False).requires_grad_(True),
    ],
    ids=["to", "assign-own", "assign-plain", "requires-grad"],
)
def test_methods_survive_torch(change):
    layer = built()
    expected = layer(uniform(2, 3))
    change(layer)
    layer.calls.assign_add(1.0)
    layer.b.assign_add(torch.zeros(4))
    assert_close(layer(uniform(2, 3)), expected)
    assert isinstance(layer.w, nn.Parameter)
    assert [view.name for view in layer.weights] == ["kernel", "bias", "calls"]


def test_weight_in_functional_call_and_compile():
    layer = built()
    x = uniform(2, 3)
    doubled = {name: 2 * value for name, value in layer.state_dict().items()}
    assert_close(torch.func.functional_call(layer, doubled, (x,)), 2 * layer(x))
    torch.compiler.reset()
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


def test_weights_that_are_not_assigned_count_all_the_same():
    class Careless(Layer):
        def build(self, input_shape):
            self.pair = [self.add_weight(shape=(2,), initializer="ones") for _ in range(2)]
            self.add_weight(shape=(3,), initializer="ones", name="a.b")

        def call(self, x):
            return x * self.pair[0] * self.pair[1]

    layer = Careless()
    layer(uniform(2, 2))
    assert len(layer.weights) == 3 == len(list(layer.parameters()))
    assert layer.count_params() == 7
    layer(uniform(2, 2)).sum().backward()
    assert layer.pair[1].grad is not None


def test_weight_defaults():
    layer = Layer()
    scalar, whole = layer.add_weight(), layer.add_weight(shape=(2,), dtype="int64", trainable=False)
    assert scalar.shape == () and scalar.dtype is torch.float32
    assert whole.dtype is torch.int64 and not whole.any()
    with pytest.raises(TypeError, match="unexpected keyword argument 'initialiser'"):
        layer.add_weight(shape=(2,), initialiser="ones")


def test_plain_parameters_modules_and_buffers_count():
    class Mixed(Layer):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.linear = nn.Linear(3, 2)
            self.register_buffer("steps", torch.zeros(1))
            self.register_buffer("hidden", torch.zeros(1), persistent=False)

        def call(self, x):
            return self.linear(x * self.scale)

    layer = built(Mixed)
    assert [view.path for view in layer.weights] == [
        "mixed/scale",
        "mixed/steps",
        "mixed/linear/weight",
        "mixed/linear/bias",
    ]
    assert len(layer.trainable_weights) == 3


def test_attribute_called_like_a_weight_of_the_base_class():
    class OwnKernel(Dense):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="ones", name="kernel")

        def call(self, x):
            return x @ self.kernel

    layer = OwnKernel(2)
    assert_close(layer(uniform(2, 3)), uniform(2, 3).sum(1, keepdim=True).repeat(1, 2))
    assert isinstance(layer.kernel, nn.Parameter) and len(layer.weights) == 1


def test_regularized_and_constrained_weights():
    class Penalised(Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(3,), initializer="ones", regularizer="l2", constraint="non_neg")

        def call(self, x):
            return x * self.w

    layer = built(Penalised)
    assert_close(sum(layer.losses), torch.tensor(0.03))
    assert layer.weights[0].constraint is not None


# ---------------------------------------------------------------------------------------------------------- build and call


def test_build_happens_once_and_may_be_called_by_hand():
    class Counted(Layer):
        builds = 0

        def build(self, input_shape):
            self.builds += 1
            self.w = self.add_weight(shape=(input_shape[-1],))

        def call(self, x):
            return x * self.w

    layer = Counted()
    assert not layer.built
    layer.build((None, 3))
    layer.build((None, 3))
    layer(uniform(2, 3))
    assert layer.built and layer.builds == 1 and len(layer.weights) == 1


def test_build_with_several_named_shapes():
    class Attend(Layer):
        def build(self, query_shape, value_shape):
            self.shapes = query_shape, value_shape

        def call(self, query, value):
            return query @ value.mT

    layer = Attend()
    layer(uniform(2, 5, 3), value=uniform(2, 4, 3))
    assert layer.shapes == ((2, 5, 3), (2, 4, 3))


def test_count_params_needs_a_built_layer():
    with pytest.raises(ValueError, match="dense is not built yet"):
        Dense(2).count_params()


class Recorder(Layer):
    """Notes the `training` it gets."""

    def call(self, x, training=None):
        self.got = training
        return x


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        lambda layer, x: layer(x),
        lambda layer, x: layer(x, training=None),
        lambda layer, x: layer.call(x),
        lambda layer, x: layer.forward(x),
        lambda layer, x: layer.call(x, None),
        lambda layer, x: layer.forward(x, training=None),
    ],
    ids=["omitted", "none", "call", "forward", "positional", "forward-none"],
)
def test_training_that_is_not_given_is_the_mode(call, mode):
    layer = Recorder().train(mode)
    call(layer, uniform(2, 3))
    assert layer.got is mode


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("mode", [False, True])
def test_training_that_is_given_holds_for_the_call(mode, given):
    class Parent(Layer):
        def __init__(self):
            super().__init__()
            self.child, self.dropout = Recorder(), nn.Dropout(0.0)

        def call(self, x):
            self.seen = self.dropout.training
            return self.child(self.dropout(x))

    layer = Parent().train(mode)
    layer(uniform(2, 3), training=given)
    assert layer.child.got is given and layer.seen is given
    assert all(module.training is mode for module in layer.modules())


def test_super_call_fills_training_too():
    class Child(Recorder):
        def call(self, x):
            return super().call(x)

    layer = Child().train()
    layer(uniform(2, 3))
    assert layer.got is True


def test_super_call_of_a_built_in_layer():
    class Doubled(Dense):
        def call(self, x):
            return 2 * super().call(x)

    class Quadrupled(Doubled):
        def forward(self, x):
            return 2 * super().forward(x)

    plain, doubled, quadrupled = built(Dense, 2), built(Doubled, 2), built(Quadrupled, 2)
    for layer in (doubled, quadrupled):
        layer.set_weights(plain.get_weights())
    assert_close(doubled(uniform(2, 3)), 2 * plain(uniform(2, 3)))
    assert_close(quadrupled(uniform(2, 3)), 4 * plain(uniform(2, 3)))
    assert_close(quadrupled.call(uniform(2, 3)), quadrupled.forward(uniform(2, 3)))


def test_call_of_a_mixin():
    class Shouts:
        def call(self, x):
            return super().call(x) + 100

    class Loud(Shouts, Dense):
        pass

    class Louder(Loud):
        pass

    x = uniform(2, 3)
    for cls in (Loud, Louder):
        layer = built(cls, 2)
        assert (layer(x) > 50).all()
        assert_close(layer(x), layer.call(x))


def test_call_given_to_the_instance_alone_stays_there():
    layer = built()
    layer.forward = lambda x: x * 0
    assert not layer(uniform(2, 3)).any()
    assert built()(uniform(2, 3)).any()


def test_inputs_that_are_no_tensors():
    layer = built()
    expected = layer(uniform(2, 3))
    assert_close(layer(uniform(2, 3).numpy()), expected)
    assert_close(layer(uniform(2, 3).numpy().astype("float64")), expected)
    assert_close(layer([[0.0, 1.0, 2.0]]), layer(torch.tensor([[0.0, 1.0, 2.0]])))


def test_layer_is_called_on_keywords():
    class Two(Layer):
        def call(self, left, right=None):
            return left if right is None else left + right

    assert_close(Two()(uniform(2, 3), right=uniform(2, 3)), 2 * uniform(2, 3))
    assert Two()(Input((3,)), right=Input((3,))).shape == (None, 3)


# -------------------------------------------------------------------------------------------------------- names, configs


def test_names_count_up():
    assert [Dense(1).name, Dense(1).name, Linear().name, Dense(1, name="mine").name] == [
        "dense",
        "dense_1",
        "linear",
        "mine",
    ]


@pytest.mark.parametrize("name", ["a/b", "", 3])
def test_impossible_names(name):
    with pytest.raises(ValueError, match="name must be a string without '/'"):
        Dense(1, name=name)


def test_config_of_a_user_class_is_its_arguments():
    layer = Linear(7, name="mine", trainable=False)
    policy = ks.dtype_policies.serialize(layer.dtype_policy)
    assert layer.get_config() == {"units": 7, "name": "mine", "trainable": False, "dtype": policy}
    again = Linear.from_config(layer.get_config())
    assert (again.units, again.name, again.trainable) == (7, "mine", False)


def test_from_config_of_a_class_without_base_arguments():
    class Strict(Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

        def call(self, x):
            return x

    layer = Strict(3)
    layer.name, layer.trainable = "renamed", False
    again = Strict.from_config(layer.get_config())
    assert (again.units, again.name, again.trainable) == (3, "renamed", False)


def test_config_with_a_nested_layer_and_function():
    @register_keras_serializable("tests")
    class Wrap(Layer):
        def __init__(self, inner, others=(), **kwargs):
            super().__init__(**kwargs)
            self.inner, self.others = inner, list(others)

        def call(self, x):
            return self.inner(x)

    layer = Wrap(Linear(5, name="inside"), others=[Dense(3, activation="relu")])
    again = Wrap.from_config(layer.get_config())
    assert again.inner.units == 5 and again.inner.name == "inside"
    assert again.others[0].get_config() == layer.others[0].get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(3, activaton="relu"), "Dense has no argument 'activaton'. Did you mean .*'activation'"),
        (lambda: Dense(3, kernel_regulariser="l2"), "Did you mean .*'kernel_regularizer'"),
        (lambda: Linear(3, unit=3), "Linear has no argument 'unit'. Did you mean .*'units'"),
        (lambda: Dropout(0.5, sead=1), "Did you mean 'seed'"),
    ],
    ids=["dense", "regularizer", "custom", "dropout"],
)
def test_unknown_argument_suggests(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"input_shape": (8,)}, (None, 8)),
        ({"input_dim": 8}, (None, 8)),
        ({"batch_input_shape": (4, 8)}, (4, 8)),
        ({"input_shape": [8], "batch_size": 4}, (4, 8)),
    ],
    ids=["input_shape", "input_dim", "batch_input_shape", "batch_size"],
)
def test_older_spellings_of_the_input_shape(arguments, expected):
    assert Dense(4, **arguments)._batch_input_shape == expected


def test_input_length_of_an_embedding():
    assert Embedding(9, 4, input_length=5)._batch_input_shape == (None, 5)


# --------------------------------------------------------------------------------------------------------- get/set weights


def test_set_weights_checks_before_it_changes():
    layer = built(Dense, 2)
    before = layer.get_weights()
    with pytest.raises(ValueError, match="has 2 weights; set_weights.* got 1"):
        layer.set_weights(before[:1])
    with pytest.raises(ValueError, match=r"dense/bias has shape \(2,\).*got \(3,\)"):
        layer.set_weights([before[0] * 0, np.zeros(3)])
    assert all((a == b).all() for a, b in zip(before, layer.get_weights(), strict=True))


def test_get_weights_is_a_copy():
    layer = built(Dense, 2)
    layer.get_weights()[0][:] = 7
    assert not (layer.get_weights()[0] == 7).any()


def test_views_read_and_write_the_torch_parameter():
    layer = built(Dense, 2)
    kernel = layer.kernel
    assert kernel is layer.kernel is layer.weights[0]
    assert kernel.shape == (3, 2) and layer.linear.weight.shape == (2, 3)
    assert (kernel.name, kernel.path, kernel.dtype) == ("kernel", "dense/kernel", "float32")
    kernel.assign(np.arange(6.0).reshape(3, 2))
    assert_close(layer.linear.weight, torch.arange(6.0).reshape(3, 2).T)
    kernel.assign_add(torch.ones(3, 2))
    assert_close(torch.sum(kernel), torch.tensor(21.0))
    assert_close(uniform(4, 3) @ kernel, uniform(4, 3) @ layer.linear.weight.T)
    with pytest.raises(ValueError, match=r"dense/kernel: cannot assign shape \(2, 3\) to \(3, 2\)"):
        kernel.assign(np.zeros((2, 3)))


def test_state_dict_keys_are_those_of_torch():
    assert set(built(Dense, 2).state_dict()) == {"linear.weight", "linear.bias"}
    assert set(built(BatchNormalization).state_dict()) == {"weight", "bias", "running_mean", "running_var"}


def test_input_layer_gives_back_what_it_gets():
    x = uniform(2, 3)
    assert InputLayer((3,))(x) is x


def test_input_spec_is_checked_before_the_layer_is_built():
    class Picky(Layer):
        def __init__(self):
            super().__init__(name="picky")
            self.input_spec = InputSpec(min_ndim=2, max_ndim=3, axes={-1: 4})

        def call(self, x):
            return x

    layer = Picky()
    for shape, problem in [((4,), "at least 2"), ((1, 1, 1, 4), "at most 3"), ((2, 3), "size 4 on axis -1")]:
        with pytest.raises(ValueError, match=f"picky: expected {problem}"):
            layer(torch.ones(shape))
    assert not layer.built
    assert layer(torch.ones(2, 4)).shape == (2, 4)


SET_LATER = {
    "activation": ("Dense", {"units": 2, "activation": "relu"}, lambda k: k.activations.tanh),
    "regularizer": ("Dense", {"units": 2}, lambda k: k.regularizers.L2(0.5)),
    "constraint": ("Dense", {"units": 2}, lambda k: k.constraints.NonNeg()),
    "rate": ("Dropout", {"rate": 0.1}, lambda k: 0.7),
    "momentum": ("BatchNormalization", {}, lambda k: 0.5),
    "epsilon": ("BatchNormalization", {}, lambda k: 0.5),
    "negative_slope": ("LeakyReLU", {}, lambda k: 0.75),
}


@pytest.mark.parametrize("name", SET_LATER)
def test_an_attribute_that_was_set_is_in_the_config(name):
    """So that saved, loaded and cloned models are what the model is, as in Keras."""
    cls, arguments, value = SET_LATER[name]
    attribute = {"regularizer": "kernel_regularizer", "constraint": "kernel_constraint"}.get(name, name)
    configs = []
    for library in (ks, keras):
        layer = getattr(library.layers, cls)(**arguments)
        setattr(layer, attribute, value(library))
        configs.append(layer.get_config()[attribute])
    assert configs[0] == configs[1]
    layer = getattr(ks.layers, cls)(**arguments)
    model = ks.Sequential([ks.Input((3,)), layer])
    setattr(layer, attribute, value(ks))
    assert ks.models.clone_model(model).layers[0].get_config()[attribute] == configs[0]
    assert ks.models.model_from_json(model.to_json()).layers[0].get_config()[attribute] == configs[0]


def test_a_class_of_code_without_a_module():
    """As `exec` makes it where its globals have no `__name__`."""
    names = {"Layer": Layer}
    exec(
        "class Twice(Layer):\n"
        "    def build(self, input_shape):\n"
        "        self.w = self.add_weight(shape=(input_shape[-1],), initializer='ones')\n"
        "    def call(self, x):\n"
        "        return x * 2 * self.w\n",
        names,
    )
    layer = names["Twice"]()
    assert torch.equal(layer(torch.ones(2, 3)), torch.full((2, 3), 2.0))
    assert layer(Input((3,))).shape == (None, 3)
