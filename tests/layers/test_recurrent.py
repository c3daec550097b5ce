"""Recurrent layers beside what holds for every layer: cells of a user, states, masks, dropout, kernels."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch
from kstyle_torch import layers
from kstyle_torch.layers.recurrent import simple_rnn
from kstyle_torch.layers.recurrent.cell import FusedCell
from tests.layers.twins import assert_equal_outputs, twins
from tests.oracle import assert_close, integers, uniform

LAYERS = ("SimpleRNN", "GRU", "LSTM")
MASK = torch.tensor([[True, False, True, True, False], [False] * 5])
each_layer = pytest.mark.parametrize("name", LAYERS)


# -------------------------------------------------------------------------------------------------- cells of a user


def minimal_cell(lib):
    """A cell as Keras' documentation writes it."""

    class MinimalCell(lib.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.state_size = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

        def call(self, inputs, states):
            output = inputs @ self.kernel + states[0] @ self.recurrent_kernel
            return output, [output]

    return MinimalCell


def counting_cell(lib):
    """A cell with two states of other sizes than its output, one of which starts at 1."""

    class CountingCell(lib.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.state_size = [1, 4]
            self.output_size = 5

        def get_initial_state(self, batch_size=None):
            return [torch.ones(batch_size, 1), torch.zeros(batch_size, 4)]

        def call(self, inputs, states, training=None):
            count, total = states
            total = total + inputs * (2.0 if training else 1.0)
            return torch.cat([count, total], -1), [count + 1, total]

    return CountingCell


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("training", [False, True])
def test_users_cells_equal_keras(mask, training):
    x = uniform(2, 5, 4)
    for make in (lambda lib: minimal_cell(lib)(3), lambda lib: counting_cell(lib)()):

        def layer(lib, make=make):
            return lib.layers.RNN(make(lib), return_sequences=True, return_state=True)

        ours, theirs = twins(layer, x)
        assert_equal_outputs(ours(x, mask=mask, training=training), theirs(x, mask=mask, training=training))


def test_users_cells_stack():
    def layer(lib):
        return lib.layers.RNN([minimal_cell(lib)(3), lib.layers.LSTMCell(2)], return_state=True)

    x = uniform(2, 5, 4)
    ours, theirs = twins(layer, x)
    ours, theirs = ours(x, mask=MASK), theirs(x, mask=MASK)
    assert_close(ours[0], theirs[0])
    assert_close(ours[1], theirs[1][0] if isinstance(theirs[1], (list, tuple)) else theirs[1])
    assert_equal_outputs(ours[2], theirs[2])


def test_a_cell_may_be_any_object():
    class Sum:
        state_size = 4

        def call(self, inputs, states):
            return inputs + states[0], inputs + states[0]  # a state that is in no list

        __call__ = call

    x = uniform(2, 5, 4)
    assert_close(layers.RNN(Sum())(x), x.sum(1))
    assert_close(layers.RNN([Sum(), Sum()])(x), x.cumsum(1).sum(1))


def test_a_subclass_of_a_cell_keeps_its_call():
    def layer(lib):
        class Halved(lib.layers.LSTMCell):
            def call(self, inputs, states, training=False):
                output, states = super().call(inputs, states, training=training)
                return output / 2, states

        return lib.layers.RNN(Halved(3), return_sequences=True)

    x = uniform(2, 5, 4)
    ours, theirs = twins(layer, x)
    assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("missing", ["call", "state_size"])
def test_what_is_no_cell_is_refused(missing):
    attributes = {"call": lambda self, inputs, states: None, "state_size": 3}
    del attributes[missing]
    with pytest.raises(ValueError, match=missing):
        layers.RNN(type("NoCell", (), attributes)())
    with pytest.raises(ValueError, match=missing):
        layers.StackedRNNCells([layers.GRUCell(2), type("NoCell", (), attributes)()])


# ----------------------------------------------------------------------------------------------------------- states


@each_layer
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_stateful_layers_go_on_where_they_were(name, mask):
    def layer(lib):
        return getattr(lib.layers, name)(3, stateful=True, return_sequences=True)

    xs = [uniform(2, 5, 4, seed=seed) for seed in range(3)]
    ours, theirs = twins(layer, xs[0])
    for half in (ours, theirs):
        half.reset_state()
    for x in xs:
        assert_close(ours(x, mask=mask), theirs(x, mask=mask))
    ours.reset_states()
    assert all(not state.any() for state in ours.states)
    theirs.reset_states()
    assert_close(ours(xs[0]), theirs(xs[0]))


def test_stateful_layers_train_over_batches():
    model = kstyle_torch.Sequential(
        [kstyle_torch.Input(batch_shape=(2, 5, 4)), layers.LSTM(3, stateful=True), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.fit(uniform(8, 5, 4).numpy(), uniform(8, 1).numpy(), batch_size=2, shuffle=False, verbose=0)
    assert all(state.abs().sum() > 0 for state in model.layers[0].states)
    assert not any("state" in key for key in model.state_dict())


def test_stateful_stacks_and_bidirectional_layers():
    x = uniform(2, 5, 4)
    stack = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], stateful=True)
    first = stack(x)
    assert not torch.equal(stack(x), first)
    stack.reset_state()
    assert_close(stack(x), first)
    both = layers.Bidirectional(layers.GRU(3, stateful=True))
    first = both(x)
    assert not torch.equal(both(x), first) and len(both.states) == 2
    both.reset_states()
    assert_close(both(x), first)
    with pytest.raises(ValueError, match="stateful"):
        layers.Bidirectional(layers.GRU(3)).reset_state()


def test_stateful_layers_know_their_batch_size():
    with pytest.raises(ValueError, match="batch_shape"):
        layers.LSTM(3, stateful=True)(kstyle_torch.Input((5, 4)))
    layer = layers.LSTM(3, stateful=True)
    layer(uniform(2, 5, 4))
    with pytest.raises(ValueError, match="batches of 2; got one of 3"):
        layer(uniform(3, 5, 4))


def test_an_initial_state_must_be_complete():
    with pytest.raises(ValueError, match="2 states; got 1"):
        layers.LSTM(3)(uniform(2, 5, 4), initial_state=torch.zeros(2, 3))


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (1, 3)], ids=str)
def test_an_initial_state_of_another_shape_is_refused(name, shape):
    """torch's kernel for LSTM does not look, and reads beyond the memory of a smaller one."""
    layer = getattr(layers, name)(3)
    states = [torch.zeros(shape) for _ in layer.state_size]
    with pytest.raises(ValueError, match=r"shape \(batch, units\), \(2, 3\); got"):
        layer(uniform(2, 5, 4), initial_state=states)


def test_encoder_and_decoder_equal_keras():
    """Masks, symbolic initial states and several outputs in one graph."""

    def model(lib):
        source, target = lib.Input((None,), dtype="int32"), lib.Input((None,), dtype="int32")
        embedding = lib.layers.Embedding(7, 4, mask_zero=True)
        _, h, c = lib.layers.LSTM(3, return_state=True)(embedding(source))
        decoded = lib.layers.LSTM(3, return_sequences=True)(embedding(target), initial_state=[h, c])
        return lib.Model([source, target], lib.layers.TimeDistributed(lib.layers.Dense(7))(decoded))

    inputs = [integers(4, 6, high=7), integers(4, 5, high=7, seed=1)]
    ours, theirs = twins(model, inputs)
    assert_close(ours(inputs), theirs(inputs))


def test_a_mask_reaches_every_recurrent_layer():
    def model(lib):
        stack = [
            lib.layers.Embedding(4, 3, mask_zero=True),
            lib.layers.Bidirectional(lib.layers.GRU(3, return_sequences=True)),
        ]
        return lib.Sequential([lib.Input((6,), dtype="int32"), *stack, lib.layers.LSTM(2), lib.layers.Dense(1)])

    x = integers(5, 6, high=4)
    ours, theirs = twins(model, x)
    assert_close(ours(x), theirs(x))


# ------------------------------------------------------------------------------------------------------------ masks


@each_layer
def test_a_row_without_valid_steps(name):
    layer = getattr(layers, name)(3, return_sequences=True, return_state=True)
    x = uniform(2, 5, 4)
    initial = [uniform(2, 3, seed=i) for i in range(2 if name == "LSTM" else 1)]
    output, *states = layer(x, initial_state=initial, mask=MASK)
    assert not output[1].any()
    for state, before in zip(states, initial, strict=True):
        assert torch.equal(state[1], before[1])
        assert not torch.equal(state[0], before[0])


@each_layer
@pytest.mark.parametrize("use_cudnn", ["auto", False])
def test_masked_steps_are_never_looked_at(name, use_cudnn):
    layer = getattr(layers, name)(3, return_sequences=True, return_state=True, use_cudnn=use_cudnn)
    x = uniform(2, 5, 4)
    expected = layer(x, mask=MASK)
    x[~MASK] = float("nan")
    outputs = layer(x, mask=MASK)
    assert_equal_outputs(outputs, expected)
    sum(output.sum() for output in outputs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize(
    "mask", [MASK.int(), MASK.float(), MASK.unsqueeze(-1), MASK.numpy()], ids=["int", "float", "3d", "numpy"]
)
def test_masks_of_every_kind(mask):
    layer, x = layers.GRU(3), uniform(2, 5, 4)
    assert_close(layer(x, mask=mask), layer(x, mask=MASK))


def test_a_mask_of_another_length_is_refused():
    for layer in (layers.LSTM(3), layers.TimeDistributed(layers.Dense(2))):
        with pytest.raises(ValueError, match=r"mask.*\(2, 5\).*\(2, 4\)"):
            layer(uniform(2, 5, 4), mask=torch.ones(2, 4))


# ------------------------------------------------------------------------------------------------------------ kernels


@pytest.fixture
def kernel_calls(monkeypatch):
    """The names of torch's fused kernels, in the order of their calls."""
    calls = []

    def counted(name):
        kernel = getattr(torch, name)

        def call(*args):
            calls.append(name)
            return kernel(*args)

        return call

    for name in ("lstm", "gru"):
        monkeypatch.setattr(torch, name, counted(name))
    for activation, kernel in [*simple_rnn.KERNELS.items()]:
        monkeypatch.setitem(simple_rnn.KERNELS, activation, counted(kernel.__name__))
    return calls


KERNELS = {"SimpleRNN": "rnn_tanh", "GRU": "gru", "LSTM": "lstm"}


@each_layer
def test_the_common_cases_run_on_one_fused_kernel(name, kernel_calls):
    x = uniform(2, 5, 4)
    states = [torch.zeros(2, 3)] * (2 if name == "LSTM" else 1)
    for arguments in ({}, {"return_sequences": True, "return_state": True}, {"dropout": 0.3}, {"use_bias": False}):
        layer = getattr(layers, name)(3, go_backwards=True, **arguments)
        layer(x, mask=MASK, initial_state=states, training=True)
        layers.RNN(getattr(layers, f"{name}Cell")(3))(x)
    getattr(layers, name)(3, recurrent_dropout=0.3)(x)  # outside training it is like any other
    assert kernel_calls == [KERNELS[name]] * 9


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("LSTM", {"activation": "relu"}),
        ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
        ("LSTM", {"use_cudnn": False}),
        ("LSTM", {"recurrent_dropout": 0.3}),
        ("LSTM", {"dropout": 0.3, "implementation": 1}),
        ("GRU", {"reset_after": False}),
        ("SimpleRNN", {"activation": "sigmoid"}),
    ],
)
def test_what_has_no_kernel_runs_in_a_loop(name, arguments, kernel_calls):
    getattr(layers, name)(3, **arguments)(uniform(2, 5, 4), training=True)
    assert kernel_calls == []


def test_stacks_run_one_kernel_a_cell(kernel_calls):
    layers.RNN([layers.LSTMCell(3), layers.GRUCell(3)])(uniform(2, 5, 4), mask=MASK)
    assert kernel_calls == ["lstm", "gru"]


def test_use_cudnn_says_when_there_is_no_kernel():
    with pytest.raises(ValueError, match="use_cudnn=True"):
        layers.LSTM(3, activation="relu", use_cudnn=True)
    with pytest.raises(ValueError, match="'auto', True or False; got 'yes'"):
        layers.LSTM(3, use_cudnn="yes")


@pytest.mark.parametrize(("name", "native"), [("SimpleRNN", nn.RNN), ("LSTM", nn.LSTM)])
def test_weights_fit_torchs_modules(name, native):
    layer, module, x = getattr(layers, name)(3, return_sequences=True), native(4, 3, batch_first=True), uniform(2, 5, 4)
    expected = layer(x)
    zeros = {"bias_hh_l0": torch.zeros_like(module.bias_hh_l0)}
    module.load_state_dict({**layer.cell.state_dict(), **zeros})
    assert_close(module(x)[0], expected)


def test_weights_fit_torchs_gru():
    layer, module, x = layers.GRU(3, bias_initializer="normal"), nn.GRU(4, 3, batch_first=True), uniform(2, 5, 4)
    expected = layer(x)
    state = layer.cell.state_dict()
    module.load_state_dict({**dict(zip(("bias_ih_l0", "bias_hh_l0"), state.pop("bias_l0"), strict=True)), **state})
    assert_close(module(x)[0][:, -1], expected)


def test_only_keras_weights_are_trained():
    layer = layers.LSTM(3)
    layer.build((None, 5, 4))
    assert layer.count_params() == sum(p.numel() for p in layer.parameters()) == 4 * 3 * (4 + 3 + 1)
    assert [*layer.state_dict()] == ["cell.weight_ih_l0", "cell.weight_hh_l0", "cell.bias_ih_l0"]
    assert [w.path for w in layer.weights] == [
        f"{layer.name}/lstm_cell/{w}" for w in ("kernel", "recurrent_kernel", "bias")
    ]


def test_initial_weights():
    layer = layers.LSTM(4)
    layer.build((None, 5, 4))
    kernel, recurrent, bias = layer.get_weights()
    assert_close(recurrent @ recurrent.T, np.eye(4), atol=1e-5)
    assert kernel.shape == (4, 16) and 0 < np.abs(kernel).max() <= np.sqrt(6 / 20)
    assert bias.tolist() == [0] * 4 + [1] * 4 + [0] * 8
    bias = layers.LSTM(4, unit_forget_bias=False)
    bias.build((None, 5, 4))
    assert not bias.get_weights()[2].any()


@each_layer
def test_weights_in_one_piece_are_the_same_weights(name, monkeypatch):
    """What happens on a GPU, done here."""
    x = uniform(2, 5, 4)
    layer = getattr(layers, name)(3)
    expected = layer(x)
    parameters = [*layer.parameters()]
    monkeypatch.setattr(FusedCell, "_is_on_gpu", lambda cell: cell.built)
    layer.float()
    for one in (layer, copy.deepcopy(layer)):
        tensors = [*one.cell.parameters(), *one.cell.buffers()]
        assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
        ends = [tensor.data_ptr() + tensor.nbytes for tensor in tensors]
        assert [tensor.data_ptr() for tensor in tensors[1:]] == ends[:-1]
        assert_close(one(x), expected)
    assert all(one is other for one, other in zip(parameters, layer.parameters(), strict=True))
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)


def test_the_loop_can_be_differentiated_twice():
    layer, x = layers.LSTM(2, use_cudnn=False), uniform(1, 3, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert layer.cell.weight_ih_l0.grad.abs().sum() > 0


# ------------------------------------------------------------------------------------------------------------ dropout


def copying(rate_of, steps=4, **arguments):
    """A SimpleRNN that gives what is left of ones after dropout of inputs or, after every step, of the state."""
    kernel, recurrent = ("identity", "zeros") if rate_of == "dropout" else ("zeros", "identity")
    arguments = {"activation": "relu", "return_sequences": True, rate_of: 0.25, **arguments}
    layer = layers.SimpleRNN(50, kernel_initializer=kernel, recurrent_initializer=recurrent, **arguments)
    return layer, torch.ones(40, steps, 50), [torch.ones(40, 50)]


@pytest.mark.parametrize("activation", ["relu", "linear"], ids=["kernel", "loop"])
def test_inputs_are_dropped_once_a_sequence(activation):
    layer, x, states = copying("dropout", activation=activation)
    y = layer(x, initial_state=states, training=True)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert y.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert (y[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert not torch.equal(layer(x, initial_state=states, training=True), y)
    assert torch.equal(layer(x, initial_state=states), x)


def test_the_state_is_dropped_once_a_sequence():
    layer, x, states = copying("recurrent_dropout")
    y = layer(x, initial_state=states, training=True)
    kept = y[:, 0] > 0
    assert torch.equal(y > 0, kept.unsqueeze(1).expand_as(y))
    assert_close(y[:, 3][kept], torch.full_like(y[:, 3][kept], 0.75**-4))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.04)
    assert torch.equal(layer(x, initial_state=states), x)


@pytest.mark.parametrize("rate_of", ["dropout", "recurrent_dropout"])
def test_a_seed_repeats_the_dropout(rate_of):
    outputs = []
    for _ in range(2):
        layer, x, states = copying(rate_of, seed=3)
        outputs.append([layer(x, initial_state=states, training=True) for _ in range(2)])
    assert_equal_outputs(outputs[0], outputs[1])
    assert not torch.equal(outputs[0][0], outputs[0][1])


@pytest.mark.parametrize(("name", "gates"), [("LSTM", 4), ("GRU", 3), ("SimpleRNN", 1)])
def test_each_gate_has_its_own_dropout(name, gates):
    cell = getattr(layers, f"{name}Cell")(6, dropout=0.5, recurrent_dropout=0.5)
    masks = cell.dropout_masks("dropout", torch.ones(8, 4), training=True)
    assert len(masks) == gates and len({mask.sum().item() for mask in masks}) > (gates > 1)
    assert cell.dropout_masks("dropout", torch.ones(8, 4), training=True) is masks
    cell.reset_dropout_mask()
    assert not torch.equal(cell.dropout_masks("dropout", torch.ones(8, 4), training=True)[0], masks[0])
    if name != "SimpleRNN":
        assert len(getattr(layers, f"{name}Cell")(6, dropout=0.5).dropout_masks("dropout", torch.ones(8, 4), True)) == 1


GATED = [(name, arguments) for name in ("LSTM", "GRU") for arguments in ({}, {"use_bias": False})]
GATED.append(("GRU", {"reset_after": False}))


@pytest.mark.parametrize(("name", "arguments"), GATED, ids=str)
def test_gates_of_their_own_with_nothing_dropped_change_nothing(name, arguments):
    """The way of recurrent_dropout, at a rate too small to drop anything."""
    layer, x = getattr(layers, name)(3, dropout=1e-12, recurrent_dropout=1e-12, **arguments), uniform(2, 5, 4)
    assert_close(layer(x, training=True), layer(x))


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.5, "a"])
def test_bad_rates_are_refused(name, rate):
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 1"):
        layers.LSTM(3, **{name: rate})


@pytest.mark.parametrize("arguments", [{"dropout": 0.3}, {"recurrent_dropout": 0.3, "return_sequences": True}], ids=str)
def test_dropout_compiles_to_one_graph(arguments):
    layer, x = layers.LSTM(3, **arguments), uniform(2, 5, 4)
    expected = layer(x)
    layer.train()
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        outputs = torch.compile(layer, fullgraph=True, backend="eager")(x)
    assert outputs.shape == expected.shape and not torch.equal(outputs, expected)


# ------------------------------------------------------------------------------------------------------------ mistakes


@each_layer
def test_vectors_are_no_sequences(name):
    with pytest.raises(ValueError, match=r"\(batch, timesteps, features\); got shape \(2, 4\).*return_sequences=True"):
        getattr(layers, name)(3)(uniform(2, 4))
    layer = getattr(layers, name)(3)
    layer(uniform(2, 5, 4))
    with pytest.raises(ValueError, match=r"got shape \(2, 4\)"):
        layer(uniform(2, 4))


def test_a_stack_needs_return_sequences():
    with pytest.raises(ValueError, match="return_sequences=True"):
        kstyle_torch.Sequential([kstyle_torch.Input((5, 4)), layers.LSTM(3), layers.LSTM(3)])


def test_images_must_have_their_axes_and_sizes():
    with pytest.raises(ValueError, match=r"\(batch, timesteps, rows, columns, channels\); got shape \(2, 5, 4\)"):
        layers.ConvLSTM2D(3, 2)(uniform(2, 5, 4))
    with pytest.raises(ValueError, match="sizes of the images must be known"):
        layers.ConvLSTM2D(3, 2)(kstyle_torch.Input((5, None, 8, 3)))
    with pytest.raises(ValueError, match="cannot both exceed 1"):
        layers.ConvLSTM2D(3, 2, strides=2, dilation_rate=2)


def test_typing_errors_are_named():
    with pytest.raises(ValueError, match="LSTM has no argument 'dropuot'. Did you mean 'dropout'"):
        layers.LSTM(3, dropuot=0.3)
    with pytest.raises(ValueError, match="units must be a positive int"):
        layers.GRU(0)


def test_layers_show_what_their_cell_has():
    layer = layers.GRU(3, activation="relu", dropout=0.1, seed=4)
    assert (layer.units, layer.dropout, layer.seed, layer.reset_after) == (3, 0.1, 4, True)
    assert layer.activation is kstyle_torch.activations.relu
    assert layers.ConvLSTM1D(3, 2).kernel_size == (2,)


def test_regularizers_count():
    layer = layers.LSTM(3, kernel_regularizer="l2", recurrent_regularizer="l1", bias_regularizer="l2")
    layer.build((None, 5, 4))
    kernel, recurrent, bias = layer.get_weights()
    expected = [0.01 * (kernel**2).sum(), 0.01 * np.abs(recurrent).sum(), 0.01 * (bias**2).sum()]
    assert_close(torch.stack(layer.losses), np.float32(expected))


@pytest.mark.parametrize("policy", ["float64", "bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_cells_follow_their_policy(policy, mask):
    x = uniform(2, 5, 4)
    reference = layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)])
    expected = reference(x, mask=mask)
    layer = layers.RNN([layers.GRUCell(3, dtype=policy), layers.LSTMCell(2, dtype=policy)])
    layer.build((None, 5, 4))
    layer.set_weights(reference.get_weights())
    output = layer(x, mask=mask)
    assert output.dtype == getattr(torch, policy.removeprefix("mixed_"))
    assert_close(output.float(), expected, rtol=0.05, atol=0.02)
