"""`torchinfo.summary` of our models: its totals are those of `count_params`, and it leaves nothing behind."""

import math

import pytest
import torch
import torchinfo
from torch import nn

from kstyle_torch import Input, Model, Sequential, layers
from tests.choice import parameters


def shared():
    x = Input((8,))
    dense = layers.Dense(8, activation="relu")
    return Model(x, layers.Dense(2)(layers.Add()([dense(dense(x)), x])))


class Own(Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4), layers.Dense(2)

    def call(self, x):
        return self.second(self.first(x))


def frozen():
    model = Sequential([Input((8,)), layers.Dense(4), layers.Dense(1)])
    model.layers[0].trainable = False
    return model


def with_lora():
    model = Sequential([Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(1)])
    model.layers[0].enable_lora(2)
    model.layers[2].enable_lora(2)
    return model


def recurrent():
    inside = layers.Bidirectional(layers.GRU(3, dropout=0.5))
    return Sequential([Input((5, 3)), layers.LSTM(4, return_sequences=True), inside, layers.Dense(1)])


def convolutional():
    inside = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.SeparableConv2D(4, 3), layers.Flatten()]
    return Sequential([Input((8, 8, 3)), *inside, layers.Dropout(0.5), layers.Dense(3)])


def attention():
    x = Input((5, 8))
    return Model(x, layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(x, x) + x))


MODELS = {
    "sequential": (convolutional, (2, 8, 8, 3)),
    "shared": (shared, (2, 8)),
    "subclassed": (Own, (2, 8)),
    "recurrent": (recurrent, (2, 5, 3)),
    "frozen": (frozen, (2, 8)),
    "lora": (with_lora, (2, 8, 8, 3)),
    "attention": (attention, (2, 5, 8)),
    "nested": (lambda: Sequential([Input((8,)), Sequential([Input((8,)), layers.Dense(8)]), shared()]), (2, 8)),
}
COLUMNS = ("input_size", "output_size", "num_params", "params_percent", "kernel_size", "mult_adds", "trainable")
OPTIONS = {"plain": {}, "full": {"depth": 6, "col_names": COLUMNS, "row_settings": ("depth", "var_names")}}
ROWS = [
    (f"{name}-{how}-{options}", make, shape, how, OPTIONS[options])
    for name, (make, shape) in MODELS.items()
    for how in ("size", "data")
    for options in OPTIONS
]


def left_behind(model):
    """What a look at a model must leave alone."""
    hooks = [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules()]
    modes = [(each.training, getattr(each, "_mode", None)) for each in model.modules()]
    return hooks, modes, [*vars(model)]


@pytest.mark.parametrize(
    ("name", "make", "shape", "how", "options"), parameters(ROWS, lambda row: row[0].split("-")[0], lambda row: row[0])
)
def test_totals_are_those_of_the_model(name, make, shape, how, options):
    model = make()
    x = torch.ones(shape)
    if name.startswith("subclassed"):
        model(x)
    before, values = left_behind(model), {key: value.clone() for key, value in model.state_dict().items()}
    given = {"input_size": shape} if how == "size" else {"input_data": x}
    found = torchinfo.summary(model, verbose=0, cache_forward_pass=False, **given, **options)
    is_buffer = [not isinstance(weight.parameter, nn.Parameter) for weight in model.weights]
    statistics = sum(math.prod(each.shape) for each, buffer in zip(model.weights, is_buffer, strict=True) if buffer)
    assert found.total_params + statistics == model.count_params()  # torch has moving statistics as buffers
    assert (statistics > 0) is name.startswith("sequential")
    assert found.trainable_params == sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert left_behind(model) == before
    assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())


def test_a_model_that_is_built_by_the_call_is_counted_once():
    model = Sequential([layers.Dense(3), Sequential([layers.Dense(2)])])
    found = torchinfo.summary(model, input_size=(4, 5), verbose=0)
    assert found.total_params == model.count_params() == 26


def test_hooks_of_users_do_not_see_made_up_data():
    model, seen = Sequential([layers.Dense(3), layers.Dense(2)]), []
    for layer in model.layers:
        layer.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
        layer.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    model(torch.ones(4, 5))
    assert seen == [(4, 5), (4, 3), (4, 3), (4, 2)]
