"""Shapes from running: open sizes, refusals of zero rows, and a world left as it was."""

import pytest
import torch
from torch import nn

from kstyle_torch.layers import (
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
    TorchModule,
)

OPEN = [
    ("dense", lambda: Dense(3), (None, 5), (None, None, 3)),
    ("conv", lambda: Conv2D(6, 3), (None, None, 3), (None, None, None, 6)),
    ("conv-one-open", lambda: Conv2D(6, 3), (8, None, 3), (None, 6, None, 6)),
    ("conv-same-strides", lambda: Conv2D(6, 3, strides=2, padding="same"), (None, None, 3), (None, None, None, 6)),
    ("max-pooling", lambda: MaxPooling2D(), (None, 7, 3), (None, None, 3, 3)),
    ("global", lambda: GlobalAveragePooling2D(), (None, None, 3), (None, 3)),
    ("embedding", lambda: Embedding(9, 4), (None,), (None, None, 4)),
    ("batch-norm", lambda: BatchNormalization(), (None, None, 3), (None, None, None, 3)),
    ("flatten", lambda: Flatten(), (None, 3), (None, None)),
    ("linear", lambda: TorchModule(nn.Linear(5, 2)), (None, 5), (None, None, 2)),
]


@pytest.mark.parametrize(("make", "shape", "expected"), [row[1:] for row in OPEN], ids=[row[0] for row in OPEN])
def test_open_sizes_stay_open(make, shape, expected):
    layer = make()
    assert layer(Input(shape, dtype="int64" if isinstance(layer, Embedding) else "float32")).shape == expected


def test_two_open_inputs():
    assert Concatenate(axis=1)([Input((None, 3)), Input((4, 3))]).shape == (None, None, 3)


def test_fixed_batch_size_is_not_kept_out():
    assert Dense(2)(Input((3,), batch_size=8)).shape == (8, 2)


class NoEmptyBatch(Layer):
    """Reads a value of its first row."""

    def call(self, x):
        return x.reshape(x.shape[0], -1) * (1 + 0 * x[0].max().item())


def test_call_that_refuses_zero_rows():
    assert NoEmptyBatch()(Input((3, 4))).shape == (None, 12)


def test_call_that_always_fails_says_why():
    class Broken(Layer):
        def call(self, x):
            raise RuntimeError("out of coffee")

    with pytest.raises(ValueError, match=r"'broken' \(Broken\) cannot be called on shape \(None, 4\).*out of coffee"):
        Broken()(Input((4,)))


class Restless(Layer):
    """Draws, counts its calls in buffers, and replaces one of them."""

    def build(self, input_shape):
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(1))
        self.seen_training = []

    def call(self, x, training=None):
        self.calls += 1
        self.last = x.detach().sum(0)
        self.seen_training.append(training)
        return x + torch.rand(())


def test_random_state_buffers_and_mode_are_left_alone():
    layer = Restless()
    layer.build((None, 3))
    layer.train()
    state = torch.get_rng_state()
    layer(Input((3,)))
    assert torch.equal(torch.get_rng_state(), state)
    assert float(layer.calls) == 0.0 and layer.last.shape == (1,)
    assert layer.training and layer.seen_training == [False]


@pytest.mark.parametrize(
    "make", [lambda: Dropout(0.5), lambda: Dropout(0.5, seed=1), lambda: nn.Dropout()], ids=["layer", "seeded", "torch"]
)
def test_dropout_draws_nothing(make):
    module = make()
    layer = module if isinstance(module, Layer) else TorchModule(module)
    state = torch.get_rng_state()
    layer.train()
    layer(Input((3,)))
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_norm_statistics_are_left_alone():
    layer = BatchNormalization()
    layer.build((None, 3))
    layer.train()
    before = layer.get_weights()
    layer(Input((3,)))
    assert all((a == b).all() for a, b in zip(before, layer.get_weights(), strict=True))


def test_no_gradients_and_no_losses_are_left():
    class Penalised(Layer):
        def call(self, x):
            self.add_loss(x.abs().sum())
            return x

    layer, dense = Penalised(), Dense(2, activity_regularizer="l2")
    layer(Input((3,)))
    assert not dense(Input((3,))).node.target.losses
    assert layer.losses == []
    assert all(parameter.grad is None for parameter in dense.parameters())


def test_several_outputs():
    class Pair(Layer):
        def call(self, x):
            return {"sum": x.sum(-1), "parts": [x, (x[:, :2], 3)]}

    outputs = Pair()(Input((4,)))
    assert outputs["sum"].shape == (None,)
    assert outputs["parts"][0].shape == (None, 4)
    assert outputs["parts"][1][0].shape == (None, 2) and outputs["parts"][1][1] == 3
