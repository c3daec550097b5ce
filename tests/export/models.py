"""Models to take out of the package, and batches for them."""

import torch

from kstyle_torch import Input, Model, Sequential, layers, ops, tree
from tests.oracle import integers, uniform


def convnet():
    """Images through convolutions, BatchNormalization and Dropout."""
    x = inputs = Input((12, 12, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return Model(inputs, layers.Dense(4, activation="softmax")(x))


def sequential():
    """A Sequential with a bare torch module in it."""
    return Sequential([Input((5,)), layers.Dense(8, activation="gelu"), torch.nn.LayerNorm(8), layers.Dense(1)])


def recurrent():
    """Masked sequences of any length through a recurrent layer."""
    inputs = Input((None,), dtype="int64")
    x = layers.Embedding(20, 6, mask_zero=True)(inputs)
    return Model(inputs, layers.Dense(1)(layers.LSTM(4)(x)))


def bidirectional():
    """Masked sequences of a known length through layers for both directions, on one another."""
    inputs = Input((5,), dtype="int64")
    x = layers.Embedding(20, 6, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    return Model(inputs, layers.Dense(1)(layers.GRU(3)(x)))


def encoder_decoder():
    """States that go from one recurrent layer to another, over short sequences of a known length."""
    source, target = Input((6,), dtype="int64"), Input((4, 3))
    embedded = layers.Embedding(20, 5, mask_zero=True)(source)
    _, *states = layers.LSTM(4, return_state=True)(embedded)
    decoded = layers.LSTM(4, return_sequences=True)(target, initial_state=states)
    return Model([source, target], layers.TimeDistributed(layers.Dense(2))(decoded))


def attention():
    """Sequences of any length through masked, causal attention."""
    inputs = Input((None,), dtype="int64")
    x = layers.Embedding(20, 8, mask_zero=True)(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)])
    return Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))))


def nested():
    """Two inputs in a dict, two outputs, a shared nested model, operators and functions between layers."""
    a, b = Input((4,), name="a"), Input((4,), name="b")
    inner_in = Input((4,))
    encoder = Model(inner_in, layers.BatchNormalization()(layers.Dense(3, activation="tanh")(inner_in)))
    left, right = encoder(a), encoder(b)
    merged = layers.Concatenate()([left, right, ops.abs(left - right) * 2])
    return Model({"a": a, "b": b}, {"p": layers.Dense(1)(merged), "q": torch.relu(left + 1) / (right.square() + 1)})


def two_lists():
    """Two inputs in a list, two outputs in one."""
    a, b = Input((4,)), Input((3,))
    shared = layers.Dense(3)
    return Model([a, b], [shared(a) + b, torch.cat([a, b], dim=-1).sum(1)])


class Subclassed(Model):
    """A model with a `call` of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6, activation="relu")
        self.dropout = layers.Dropout(0.5)
        self.out = layers.Dense(2)

    def call(self, inputs, training=None):
        """(batch, 3) -> (batch, 2)."""
        return self.out(self.dropout(self.dense(inputs), training=training))


def subclassed():
    """The same, built."""
    model = Subclassed()
    model(torch.ones(1, 3))
    return model


MODELS = {
    "convnet": (convnet, lambda n: uniform(n, 12, 12, 3)),
    "sequential": (sequential, lambda n: uniform(n, 5)),
    "recurrent": (recurrent, lambda n: integers(n, 5 + n, high=20)),
    "bidirectional": (bidirectional, lambda n: integers(n, 5, high=4)),
    "encoder-decoder": (encoder_decoder, lambda n: [integers(n, 6, high=4), uniform(n, 4, 3)]),
    "attention": (attention, lambda n: integers(n, 5 + n, high=20)),
    "nested": (nested, lambda n: {"a": uniform(n, 4), "b": uniform(n, 4, seed=1)}),
    "two-lists": (two_lists, lambda n: [uniform(n, 4), uniform(n, 3)]),
}


def randomize(model):
    """The model, with no weight and no statistic left at its first value."""
    with torch.no_grad():
        for seed, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                tensor.copy_(uniform(*tensor.shape, low=0.1, high=0.6, seed=seed))
    return model


def outputs(result):
    """The tensors of a nest, detached."""
    return [leaf.detach() for leaf in tree.flatten(result)]
