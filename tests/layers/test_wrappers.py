"""Bidirectional and TimeDistributed, beside what holds for every layer."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from kstyle_torch import layers
from tests.layers.twins import twins
from tests.oracle import assert_close, integers, uniform


def test_bidirectional_makes_its_own_layers():
    pattern = layers.LSTM(3, name="lstm_of_mine")
    pattern.build((None, 5, 4))
    both = layers.Bidirectional(pattern)
    both.build((None, 5, 4))
    assert (both.forward_layer.name, both.backward_layer.name) == ("forward_lstm_of_mine", "backward_lstm_of_mine")
    assert both.forward_layer is not pattern and both.backward_layer.go_backwards
    kernels = [layer.get_weights()[0] for layer in (pattern, both.forward_layer, both.backward_layer)]
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(kernels))
    assert both.weights[0].path == f"{both.name}/forward_lstm_of_mine/lstm_cell/kernel"


def test_bidirectional_starts_from_given_weights():
    source = layers.Bidirectional(layers.GRU(3))
    x = uniform(2, 5, 4)
    expected = source(x)
    assert_close(layers.Bidirectional(layers.GRU(3), weights=source.get_weights())(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": nn.LSTM(3, 4)}, "expected a recurrent layer"),
        ({"layer": layers.Dense(3)}, "expected a recurrent layer"),
        ({"layer": layers.LSTM(3), "merge_mode": "add"}, "merge_mode must be one of"),
        ({"layer": layers.LSTM(3), "backward_layer": layers.LSTM(3)}, "go_backwards=True"),
        (
            {"layer": layers.LSTM(3), "backward_layer": layers.LSTM(3, go_backwards=True, return_sequences=True)},
            "the same return_sequences",
        ),
    ],
)
def test_bad_pairs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.Bidirectional(**arguments)


def test_time_distributed_models_and_masks():
    def model(lib):
        inner = lib.Sequential([lib.Input((3, 4)), lib.layers.LSTM(2), lib.layers.Dense(3)])
        return lib.Sequential([lib.Input((5, 3, 4)), lib.layers.TimeDistributed(inner), lib.layers.GRU(2)])

    x = uniform(2, 5, 3, 4)
    ours, theirs = twins(model, x)
    assert_close(ours(x), theirs(x))


def test_time_distributed_gives_each_step_its_mask():
    x, mask = uniform(2, 5, 3, 4), integers(2, 5, 3, high=2).bool()
    ours, theirs = twins(lambda lib: lib.layers.TimeDistributed(lib.layers.LSTM(2)), x)
    assert_close(ours(x, mask=mask), theirs(x, mask=mask))
    assert not torch.equal(ours(x, mask=mask), ours(x))


def test_time_distributed_calls_its_layer_once():
    calls = []
    layer = layers.TimeDistributed(layers.Dense(2))
    layer.build((None, 5, 4))
    layer.layer.register_forward_hook(lambda module, args, output: calls.append(args[0].shape))
    layer(uniform(2, 5, 4), training=True)
    assert calls == [(10, 4)]


def test_wrappers_wrap_layers():
    with pytest.raises(ValueError, match="TorchModule"):
        layers.TimeDistributed(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="expected a layer; got 3"):
        layers.Wrapper(3)
    with pytest.raises(ValueError, match=r"\(batch, timesteps, ...\)"):
        layers.TimeDistributed(layers.Dense(2))(uniform(2, 4))
