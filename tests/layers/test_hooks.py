"""Methods that subclasses of layers override or call, as Keras documents them: the same program on both."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, tree
from tests.oracle import assert_close, uniform

LIBRARIES = (keras, ks)


def with_weights(layer):
    """The layer, its weights set to numbers that depend on their place only."""
    for seed, weight in enumerate(layer.weights):
        weight.assign(uniform(*weight.shape, seed=seed).numpy())
    return layer


def on_both(program):
    """Checks that a program, called with either library, gives the same numbers, and returns what ours gave."""
    theirs, ours = (tree.flatten(program(library)) for library in LIBRARIES)
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(other, torch.Tensor):
            assert mine.dtype == other.dtype
            assert_close(mine, other, atol=1e-5)
        else:
            assert mine == other
    return ours


# ------------------------------------------------------------------------------------------------------- convolutions

CONVOLUTIONS = {
    "2d": ("Conv2D", (2, 9, 8, 4), {"padding": "same", "strides": 2, "activation": "relu"}),
    "2d-groups": ("Conv2D", (2, 9, 8, 4), {"groups": 2, "use_bias": False, "activation": "relu"}),
    "2d-first": ("Conv2D", (2, 4, 9, 8), {"data_format": "channels_first", "dilation_rate": 2}),
    "3d": ("Conv3D", (2, 5, 5, 5, 4), {"activation": "tanh"}),
}


def standardizing(library, name):
    """A subclass that standardizes the kernel first, the example in Keras' documentation."""
    base = getattr(library.layers, name)

    class Standardizing(base):
        def convolution_op(self, inputs, kernel):
            axes = list(range(len(kernel.shape) - 1))
            mean, variance = library.ops.moments(kernel, axes=axes, keepdims=True)
            return super().convolution_op(inputs, (kernel - mean) / library.ops.sqrt(variance + 1e-10))

    return Standardizing


@pytest.mark.parametrize(("name", "shape", "arguments"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_an_overridden_convolution_op_is_called(name, shape, arguments):
    def program(library):
        layer = standardizing(library, name)(6, 3, **arguments)
        layer.build(shape)
        return with_weights(layer)(uniform(*shape))

    on_both(program)


@pytest.mark.parametrize(
    "pool", [{}, {"strides": 3}], ids=["relu-after-pool", "cropped"]
)  # what graphs do to convolutions that they know
def test_an_overridden_convolution_op_trains_in_a_model(pool):
    def program(library):
        layer = standardizing(library, "Conv2D")(4, 3, activation="relu")
        inputs = library.Input((13, 13, 2))
        x = library.layers.Flatten()(library.layers.MaxPooling2D(2, **pool)(layer(inputs)))
        model = with_weights(library.Model(inputs, library.layers.Dense(1)(x)))
        model.compile(library.optimizers.SGD(0.01), "mse")
        data = uniform(4, 13, 13, 2).numpy()
        before = torch.tensor(model.predict(data, verbose=0))
        losses = model.fit(data, np.ones((4, 1)), epochs=2, verbose=0).history["loss"]
        return before, torch.tensor(losses, dtype=torch.float32)

    on_both(program)


def test_a_convolution_op_of_one_layer_or_with_causal_padding_is_called():
    layer = with_weights(build(layers.Conv1D(3, 2, padding="causal", activation="relu"), (2, 5, 4)))
    x = uniform(2, 5, 4)
    expected = layer(x)
    plain = layer.convolution_op
    layer.convolution_op = lambda inputs, kernel: plain(inputs, kernel.value * 2) / 2
    assert_close(layer(x), expected)
    layer.convolution_op = lambda inputs, kernel: plain(inputs, kernel.value) * 0
    assert_close(layer(x), torch.relu(layer.bias.value).expand(2, 5, 3))


def build(layer, shape):
    layer.build(shape)
    return layer


@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [*CONVOLUTIONS.values(), ("Conv1D", (2, 7, 4), {"padding": "causal"})],
    ids=[*CONVOLUTIONS, "1d-causal"],
)
def test_lora_of_convolutions(name, shape, arguments):
    def program(library):
        layer = build(getattr(library.layers, name)(6, 3, **arguments), shape)
        layer.enable_lora(2, lora_alpha=3.0)
        named = [(weight.name, tuple(weight.shape)) for weight in layer.weights]
        config = layer.get_config()
        trained = len(layer.trainable_variables)
        return with_weights(layer)(uniform(*shape)), str(named), trained, config["lora_rank"], config["lora_alpha"]

    on_both(program)


def test_lora_of_convolutions_in_files(tmp_path):
    path = str(tmp_path / "model.weights.h5")
    x = uniform(2, 6, 6, 3)
    model = ks.Sequential([ks.Input((6, 6, 3)), layers.Conv2D(4, 3, lora_rank=2)])
    with_weights(model)
    model.save_weights(path)
    theirs = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3)])
    theirs.load_weights(path)
    assert_close(model(x), theirs(x), atol=1e-5)
    with pytest.raises(ValueError, match="adapted already"):
        model.layers[0].enable_lora(2)
    with pytest.raises(ValueError, match="not built yet"):
        layers.Conv2D(4, 3).enable_lora(2)


# ---------------------------------------------------------------------------------------------------------- attention


def own_attention(library, base):
    class Own(base):
        def _compute_attention(
            self, query, key, value, attention_mask=None, training=None, return_attention_scores=False
        ):
            pair = (query, key) if base is library.layers.GroupQueryAttention else (key, query)
            scores = library.ops.einsum(self._dot_product_equation, *pair) * 0.5
            scores = self._masked_softmax(scores, attention_mask)
            dropped = self._dropout_layer(scores, training=training)
            return library.ops.einsum(self._combine_equation, dropped, value), scores

    return Own


def on_top(library, base):
    class OnTop(base):
        def _compute_attention(self, query, *args, **kwargs):
            return super()._compute_attention(query * 2, *args, **kwargs)

    return OnTop


def sharper(library, base):
    class Sharper(base):
        def _masked_softmax(self, attention_scores, attention_mask=None):
            return super()._masked_softmax(attention_scores * 3, attention_mask)

    return Sharper


def backwards(library, base):
    class Backwards(base):
        def _compute_causal_mask(self, query, value=None):
            return library.ops.flip(super()._compute_causal_mask(query, value), axis=-1)

        def _compute_attention(self, *args, **kwargs):  # else Keras takes its kernel's causal mask
            return super()._compute_attention(*args, **kwargs)

    return Backwards


def by_parts(library, base):
    class ByParts(base):
        def call(self, query, value, key=None, attention_mask=None, training=None, **kwargs):
            key = value if key is None else key
            heads = self._query_dense(query), self._key_dense(key), self._value_dense(value)
            output, _ = self._compute_attention(*heads, attention_mask=attention_mask, training=training)
            return self._output_dense(output)

    return ByParts


MULTI_HEAD = ("MultiHeadAttention", (2, 4))
ATTENTIONS = {
    "own": (own_attention, *MULTI_HEAD, {}),
    "own-dropout": (own_attention, *MULTI_HEAD, {"dropout": 0.5}),
    "own-window": (own_attention, *MULTI_HEAD, {"sliding_window": 2}),
    "own-gate": (own_attention, *MULTI_HEAD, {"use_gate": True}),
    "own-groups": (own_attention, "GroupQueryAttention", (4, 4, 2), {}),
    "on-top": (on_top, *MULTI_HEAD, {}),
    "on-top-dropout": (on_top, *MULTI_HEAD, {"dropout": 0.5}),
    "on-top-groups": (on_top, "GroupQueryAttention", (4, 4, 2), {"dropout": 0.5}),
    "softmax": (sharper, *MULTI_HEAD, {"dropout": 0.5}),
    "softmax-unused": (sharper, *MULTI_HEAD, {}),
    "causal-mask": (backwards, *MULTI_HEAD, {}),
    "parts": (by_parts, *MULTI_HEAD, {}),
}


@pytest.mark.parametrize(("subclass", "name", "sizes", "arguments"), ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_by_methods_of_a_subclass(subclass, name, sizes, arguments):
    query, value = uniform(2, 5, 8), uniform(2, 4, 8, seed=1)
    mask = uniform(2, 5, 4, seed=2) > -0.5

    def program(library):
        layer = subclass(library, getattr(library.layers, name))(*sizes, **arguments)
        layer(query, value)
        with_weights(layer)
        outputs = [layer(query, value), layer(query, value, attention_mask=mask)]
        if subclass is not by_parts:
            outputs += layer(query, value, attention_mask=mask, use_causal_mask=True, return_attention_scores=True)
        return *outputs, str(layer.compute_output_shape((2, 5, 8), (2, 4, 8)))

    on_both(program)


def test_attention_over_other_axes_by_methods_of_a_subclass():
    query, value = uniform(2, 3, 5, 8), uniform(2, 3, 4, 8, seed=1)

    def program(library):
        layer = own_attention(library, library.layers.MultiHeadAttention)(2, 4, attention_axes=2)
        layer(query, value)
        return with_weights(layer)(query, value, return_attention_scores=True)

    on_both(program)


def test_attention_with_a_function_or_a_projection_of_its_own():
    layer = layers.MultiHeadAttention(2, 4)
    assert layer.query_dense is None
    x = uniform(2, 5, 8)
    expected = layer(x, x)
    plain, calls = layer._compute_attention, []
    layer._compute_attention = lambda *args, **kwargs: calls.append(len(args)) or plain(*args, **kwargs)
    assert_close(layer(x, x), expected)
    assert len(calls) == 1
    assert layer._query_dense is layer.query_dense
    layer._output_dense = layers.Identity()
    assert layer.output_dense is layer._output_dense
    assert layer(x, x).shape == (2, 5, 2, 4)


# ---------------------------------------------------------------------------------------------------------- recurrent

RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN")
SETTINGS = {
    "last": {},
    "all": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "zero_output_for_mask": True},
    "stateful": {"stateful": True, "return_sequences": True},
}


@pytest.mark.parametrize("arguments", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("name", RECURRENT)
def test_an_overridden_inner_loop_is_called(name, arguments):
    x = uniform(2, 5, 3)
    mask = torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]]).bool()

    def program(library):
        calls = []

        class Doubling(getattr(library.layers, name)):
            def inner_loop(self, sequences, initial_state, mask, training=False):
                calls.append((tuple(sequences.shape), len(initial_state), mask is None, bool(training)))
                return super().inner_loop(sequences * 2, initial_state, mask, training)

        units = [library.layers.LSTMCell(4), library.layers.GRUCell(2)] if name == "RNN" else 4
        layer = build(Doubling(units, **arguments), (2, 5, 3))
        with_weights(layer)
        outputs = [layer(x), layer(x, mask=mask)]
        last, every, states = layer.inner_loop(x, layer.get_initial_state(2), None)
        shapes = layer.compute_output_shape((2, 5, 3)), layer.compute_output_shape((None, 7, 3))
        return *tree.flatten(outputs), last, every[:, -1], *tree.flatten(states), str(calls), str(shapes)

    on_both(program)


def test_inner_loops_inside_bidirectional():
    x = uniform(2, 5, 3)

    def program(library):
        @library.saving.register_keras_serializable("test_hooks")
        class Doubling(library.layers.LSTM):
            def inner_loop(self, sequences, initial_state, mask, training=False):
                return super().inner_loop(sequences * 2, initial_state, mask, training)

        pair = [Doubling(4, return_sequences=True, go_backwards=back) for back in (False, True)]
        layer = build(library.layers.Bidirectional(pair[0], backward_layer=pair[1]), (2, 5, 3))
        shape = layer.compute_output_shape((None, 5, 3), [(None, 4)] * 4)
        return with_weights(layer)(x), str(shape)

    on_both(program)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_dropout_masks_of_cells(name):
    def program(library):
        dropping = getattr(library.layers, name)(4, dropout=0.5, recurrent_dropout=0.5)
        keeping = getattr(library.layers, name)(4)
        ones = torch.ones(2, 3)
        masks = [dropping.get_dropout_mask(ones), dropping.get_recurrent_dropout_mask(torch.ones(2, 4))]
        kinds = [len(mask) if isinstance(mask, list) else tuple(mask.shape) for mask in masks]
        values = {value for mask in tree.flatten(masks) for value in mask.flatten().tolist()}
        again = tree.flatten(dropping.get_dropout_mask(ones))[0] is tree.flatten(masks[0])[0]
        return str(kinds), str(values <= {0.0, 2.0}), str(again), str(keeping.get_dropout_mask(ones))

    on_both(program)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_a_dropout_mask_of_a_subclass_is_used(name):
    def program(library):
        class Halving(getattr(library.layers, name + "Cell")):
            def get_dropout_mask(self, step_input):
                return step_input * 0 + 0.5

        layer = build(library.layers.RNN(Halving(4, dropout=0.5)), (2, 5, 3))
        with_weights(layer)
        return layer(uniform(2, 5, 3), training=True), layer(uniform(2, 5, 3))

    on_both(program)


def test_a_subclass_with_another_name_for_the_sequences():
    class Renamed(layers.LSTM):
        def call(self, x, mask=None, training=None):
            return super().call(x * 2, mask=mask, training=training)

    layer = Renamed(3)
    plain = layers.LSTM(3)
    x = uniform(2, 5, 4)
    assert layer(x).shape == (2, 3)
    plain.build((2, 5, 4))
    plain.set_weights(layer.get_weights())
    assert_close(layer(x), plain(x * 2))
