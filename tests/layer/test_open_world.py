"""Layers under what users and other libraries do to modules: attributes set early, children replaced, devices without data."""

import warnings

import numpy as np
import pytest
import torch
import torchinfo
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.nn.utils import parametrizations

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import uniform


def chain():
    return ks.Sequential([ks.Input((6,)), layers.Dense(6, name="first"), layers.Dense(3, name="last")])


def graph():
    x = ks.Input((6,))
    return ks.Model(x, layers.Dense(3, name="last")(layers.Dense(6, name="first")(x)))


# ----------------------------------------------------------------------------------------- attributes that begin as None


@pytest.mark.parametrize("trainable", [True, False], ids=["parameter", "buffer"])
@pytest.mark.parametrize("name", ["w", "other", None], ids=["its-own-name", "another-name", "no-name"])
def test_a_weight_in_the_place_of_none(name, trainable):
    class Late(layers.Layer):
        def __init__(self):
            super().__init__()
            self.w = None
            self.dense = None

        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1],), initializer="ones", trainable=trainable, name=name)
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x * self.w)

    layer = Late()
    layer(torch.ones(1, 3))
    assert layer.w is dict(layer.state_dict(keep_vars=True))["w"] and "w" not in vars(layer)
    assert isinstance(layer.w, nn.Parameter) == trainable and len(layer.weights) == 3
    assert layer._modules["dense"] is layer.dense


class Mixin:
    w = None


class Mixed(Mixin, layers.Layer):
    pass


class Plain(layers.Layer):
    w = None


@pytest.mark.parametrize("base", [Plain, Mixed])
@pytest.mark.parametrize("kind", ["parameter", "weight", "buffer", "module"])
def test_a_class_attribute_that_begins_as_none(kind, base):
    class Late(base):
        def build(self, input_shape):
            if kind == "parameter":
                self.w = nn.Parameter(torch.ones(3))
            elif kind == "module":
                self.w = layers.Dense(3)
            else:
                self.w = self.add_weight(shape=(3,), initializer="ones", trainable=kind == "weight")

        def call(self, x):
            assert self.w is not None
            return self.w(x) if kind == "module" else x * self.w

    model = ks.Sequential([ks.Input((3,)), Late(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.zeros((4, 1)), verbose=0)
    assert Late.w is None
    assert len(model.trainable_variables) == {"parameter": 3, "weight": 3, "buffer": 2, "module": 4}[kind]
    model.layers[0].w = None
    assert model.layers[0].w is None


@pytest.mark.parametrize("value", [3, "three"])
@pytest.mark.parametrize("base", [layers.Layer, ks.Model])
def test_names_that_the_package_keeps_are_refused_by_name(base, value):
    names = (
        "_losses _views _rows _calls _fit _mode _policy _trainable _added_losses _unlisted _masked_call _claim_weight"
    )
    for name in [*names.split(), *(("graph", "_note_child") if base is ks.Model else ())]:
        with pytest.raises(AttributeError, match=rf"{base.__name__}\.{name} .*another name"):
            setattr(base(), name, value)
    layer = base()
    for name in "_seen _tables _history _state _units _count rows calls views".split():
        setattr(layer, name, value)
        assert getattr(layer, name) == value


@pytest.mark.parametrize("value", [3, "three"])
def test_a_layer_may_call_an_attribute_graph(value):
    class Own(layers.Layer):
        def __init__(self):
            super().__init__()
            self.graph = value

        def call(self, x):
            return x * 2

    model = ks.Sequential([ks.Input((3,)), Own(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3)), np.zeros((4, 1)), verbose=0)
    model.predict(np.ones((4, 3)), verbose=0)
    model.summary(print_fn=lambda line: None)
    assert model.layers[0].graph == value


# -------------------------------------------------------------------------------------------------- parameters too early


def unbuilt():
    return nn.Sequential(layers.Dense(3), nn.Linear(3, 2), layers.ReLU(), layers.Dense(4))


@pytest.mark.parametrize(
    "ask",
    [
        lambda net: torch.optim.SGD(net.parameters(), 0.1),
        lambda net: torch.optim.SGD([{"params": net.parameters()}], 0.1),
        lambda net: list(net.parameters()),
        lambda net: dict(net.named_parameters()),
    ],
    ids=["optimizer", "group", "parameters", "named_parameters"],
)
def test_asking_for_the_parameters_of_unbuilt_layers(ask):
    with pytest.warns(
        UserWarning, match=r"parameters\(\) of layers that are not built yet: 'dense', 'dense_1'\. "
    ) as caught:
        ask(unbuilt())
    assert len(caught) == 1
    net = unbuilt()
    net(torch.ones(1, 3))
    ask(net)


@pytest.mark.parametrize(
    "ask",
    [
        lambda net: net.to("cpu"),
        lambda net: net.state_dict(),
        lambda net: net.apply(lambda module: None),
        lambda net: [*net.modules(), *net.buffers()],
        lambda net: net.train(),
        lambda net: torchinfo.summary(net, verbose=0),
        lambda net: ks.Sequential([net])(torch.ones(1, 3)),
    ],
    ids="to state_dict apply modules train torchinfo within-ours".split(),
)
def test_what_does_not_ask_for_them(ask):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(unbuilt())


# ----------------------------------------------------------------------------------------------------- replaced children


def by_attribute(model, module):
    model.first = module


def by_key(model, module):
    model._modules["first"] = module


@pytest.mark.parametrize("put", [by_attribute, by_key])
@pytest.mark.parametrize(
    "new", [lambda old: nn.Linear(6, 6), lambda old: layers.Dense(6), lambda old: nn.Sequential(old, nn.Tanh())],
    ids=["bare", "layer", "wrapper"],
)  # fmt: skip
@pytest.mark.parametrize("make", [chain, graph])
def test_a_replaced_child_runs_everywhere(make, new, put):
    model, x, y = make(), uniform(8, 6), uniform(8, 3)
    model.compile("sgd", "mse")
    before = model.predict(x, verbose=0)
    module = new(model.first)
    put(model, module)
    after = model.predict(x, verbose=0)
    by_hand = model.last(module(torch.as_tensor(x)))
    np.testing.assert_allclose(after, by_hand.detach(), rtol=1e-6)
    np.testing.assert_allclose(model(torch.as_tensor(x)).detach(), after, rtol=1e-6)
    assert np.abs(after - before).max() > 1e-3 and any(layer is module for layer in model.layers)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(np.square(after - y.numpy()).mean(), rel=1e-5)
    model.fit(x, y, verbose=0)
    assert {id(view.parameter) for view in model.trainable_variables} == {id(each) for each in model.parameters()}
    assert (
        np.abs(ks.Model(model.inputs, model.last.output).predict(x, verbose=0) - model.predict(x, verbose=0)).max()
        < 1e-6
    )
    lines = []
    model.summary(print_fn=lines.append)
    assert "last" in "".join(lines)


@pytest.mark.parametrize("make", [chain, graph])
def test_children_may_be_replaced_one_after_the_other(make):
    model = make()
    model.first = nn.Linear(6, 9)
    for use in (
        lambda: model(torch.ones(1, 6)),
        lambda: model.predict(np.ones((2, 6)), verbose=0),
        lambda: model.layers,
    ):
        with pytest.raises(ValueError, match="'last'"):
            use()
    model.last = nn.Linear(9, 2)
    assert model.predict(np.ones((2, 6)), verbose=0).shape == (2, 2)


def test_a_removed_child():
    model = graph()
    del model.first
    with pytest.raises(ValueError, match="needs its child 'first', which was removed"):
        model(torch.ones(1, 6))


def test_a_child_of_a_model_within():
    inner, x = graph(), uniform(4, 6)
    outer = ks.Sequential([ks.Input((6,)), inner, layers.Dense(2)])
    outer.compile("sgd", "mse")
    outer.predict(x, verbose=0)
    inner.first = nn.Linear(6, 6)
    wanted = outer.layers[1](inner.last(inner.first(torch.as_tensor(x)))).detach()
    np.testing.assert_allclose(outer.predict(x, verbose=0), wanted, rtol=1e-5)


class Blocks(ks.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(6), (layers.Dense(6),)]
        self.heads = {"a": layers.Dense(3)}

    def call(self, x):
        return self.heads["a"](self.blocks[1][0](self.blocks[0](x)))


@pytest.mark.parametrize("make", [Blocks, chain, graph])
def test_checkpoint_wrappers(make):
    model, x = make(), uniform(8, 6)
    before = model.predict(x, verbose=0)
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, layers.Dense))
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    wrappers = [module for module in model.modules() if type(module).__name__ == "CheckpointWrapper"]
    assert wrappers and (make is not Blocks or model.blocks[1][0] is wrappers[1])
    seen = []
    wrappers[0].register_forward_hook(lambda *args: seen.append(1))
    model.compile("sgd", "mse")
    model.fit(x, uniform(8, 3), verbose=0)
    assert seen
    if make is not Blocks:
        with pytest.raises(TypeError, match="CheckpointWrapper.*bare|bare.*CheckpointWrapper"):
            model.get_config()


class Wrapper(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.gain = base, nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.base(x) * self.gain


def test_a_native_module_behind_a_wrapper(tmp_path):
    model, x = chain(), uniform(8, 6)
    model.first.linear = Wrapper(model.first.linear)
    assert [view.path.split("/", 1)[1] for view in model.weights][:3] == [
        "first/linear/gain", "first/linear/base.weight", "first/linear/base.bias"
    ]  # fmt: skip
    assert not hasattr(model.first, "kernel")
    model.compile("sgd", "mse")
    model.fit(x, uniform(8, 3), verbose=0)
    assert model.first.linear.gain.item() != 2
    model.save_weights(tmp_path / "x.weights.h5")
    other = chain()
    other.first.linear = Wrapper(other.first.linear)
    other.load_weights(tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(other.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_true_reason_why_a_property_fails():
    class Broken(layers.Layer):
        def _own_views(self):
            return self.missing

    with pytest.raises(RuntimeError, match=r"Broken.weights cannot be determined: .*no attribute 'missing'"):
        Broken().trainable_weights  # noqa: B018


# ---------------------------------------------------------------------------------------------------- devices, and the rest


@pytest.mark.parametrize("layer", [layers.LSTM, layers.SimpleRNN, layers.GRU], ids=lambda layer: layer.__name__)
@pytest.mark.parametrize("assign", [False, True], ids=["to_empty", "assign"])
def test_from_the_meta_device_and_back(layer, assign):
    model = ks.Sequential([ks.Input((5, 3)), layer(4), layers.Dense(2)])
    x, state = torch.as_tensor(uniform(2, 5, 3)), {key: each.clone() for key, each in model.state_dict().items()}
    wanted = model(x)
    model.to("meta")
    if not assign:
        model.to_empty(device="cpu")
        for buffer in model.buffers():
            assert not buffer.any()
    model.load_state_dict(state, assign=assign)
    assert torch.equal(model(x), wanted)


BUFFERS = {
    "Rescaling": lambda: layers.Rescaling(0.5, offset=2.0),
    "Normalization": lambda: layers.Normalization(mean=3.0, variance=4.0),
    "Discretization": lambda: layers.Discretization([0.2, 0.5]),
    "MelSpectrogram": lambda: layers.MelSpectrogram(num_mel_bins=4, fft_length=16, sequence_stride=8),
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_buffers_that_no_file_holds_survive_the_meta_device(make):
    layer, x = make(), torch.as_tensor(uniform(2, 64))
    wanted = layer(x)
    layer.to("meta")
    layer.to_empty(device="cpu")
    assert torch.equal(layer(x), wanted)


@pytest.mark.parametrize("within", [lambda: torch.device("meta"), FakeTensorMode], ids=["meta", "fake"])
def test_models_without_data(within):
    with within():
        parts = [
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(2),
        ]
        model = ks.Sequential([ks.Input((8, 8, 3)), *parts])
        assert model(torch.ones(2, 8, 8, 3)).shape == (2, 2)


def test_the_input_of_a_shared_layer_is_that_of_its_first_call(keras):
    for package in (keras, ks):
        layer, x = package.layers.Dense(3), package.Input((3,))
        outputs = layer(layer(x))  # ours are there for as long as they are in use
        assert layer.input is x and hasattr(layer, "output")
        del outputs


def test_symbolic_tracing_says_what_to_do_instead():
    with pytest.raises(TypeError, match=r"symbolic_trace\(\) cannot trace a model.*torch.export"):
        torch.fx.symbolic_trace(chain())


@pytest.mark.parametrize("value", [np.ones(3), [1.0, 1.0, 1.0], ks.Variable(np.ones(3)), torch.ones(3), 1], ids=str)
def test_adding_to_a_weight(value):
    class Shift(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(3,), initializer="zeros")

        def call(self, x):
            return x + self.w

    layer = Shift()
    layer(torch.ones(1, 3))
    layer.w.assign_add(value)
    layer.w.assign_sub(value)
    layer.w.assign_add(value)
    assert layer.w.tolist() == [1, 1, 1]


@pytest.mark.parametrize("tool", [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN], ids=lambda layer: layer.__name__)
@pytest.mark.filterwarnings("ignore:.*effective values")
def test_parametrized_recurrent_weights_are_used_in_every_call(layer, tool):
    def make():
        return ks.Sequential([ks.Input((5, 3)), layers.Bidirectional(layer(4)), layers.Dense(2)])

    model, plain, x = make(), make(), uniform(8, 5, 3)
    for half in (model.layers[0].forward_layer, model.layers[0].backward_layer):
        tool(half.cell, "weight_hh_l0")
    model.compile("sgd", "mse")
    model.fit(x, uniform(8, 2), verbose=0)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(plain.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
