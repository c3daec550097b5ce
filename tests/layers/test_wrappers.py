"""Bidirectional and TimeDistributed, beside what holds for every layer."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from kstyle_torch import layers, tree
from kstyle_torch.layers.recurrent.cell import FusedCell
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


# ---------------------------------------------------------------------------------------- both directions in one call


@pytest.fixture
def runs(monkeypatch):
    """In how many directions the kernel ran, call by call."""
    seen, run = [], FusedCell.run_plainly

    def counted(self, x, backward=None):
        seen.append(1 if backward is None else 2)
        return run(self, x, backward)

    monkeypatch.setattr(FusedCell, "run_plainly", counted)
    return seen


@pytest.mark.parametrize("merge_mode", ["concat", "ave", None])
@pytest.mark.parametrize("every_step", [False, True], ids=["last", "all"])
@pytest.mark.parametrize("use_bias", [False, True], ids=["no bias", "bias"])
def test_both_directions_at_once_change_no_bit(use_bias, every_step, merge_mode, runs):
    layer = layers.LSTM(12, use_bias=use_bias, return_sequences=every_step)
    both = layers.Bidirectional(layer, merge_mode=merge_mode)
    x = uniform(8, 20, 5)
    both(x)

    def outputs_and_gradients(call):
        inputs = x.clone().requires_grad_()
        outputs = call(inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum((output.square() * (i + 1)).sum() for i, output in enumerate(outputs))
        return [*outputs, *torch.autograd.grad(loss, [inputs, *both.parameters()])]

    expected = outputs_and_gradients(both)
    del runs[:]
    for mine, other in zip(outputs_and_gradients(both._direct()), expected, strict=True):
        assert torch.equal(mine, other)
    assert runs == [2]


NOT_AT_ONCE = {
    "states are asked for": lambda: layers.Bidirectional(layers.LSTM(3, return_state=True)),
    "other activations": lambda: layers.Bidirectional(layers.LSTM(3, activation="relu")),
    "dropout": lambda: layers.Bidirectional(layers.LSTM(3, dropout=0.5)),
    "two sizes": lambda: layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(2, go_backwards=True)),
    "one bias": lambda: layers.Bidirectional(
        layers.LSTM(3), backward_layer=layers.LSTM(3, use_bias=False, go_backwards=True)
    ),
    "other kernels": lambda: layers.Bidirectional(layers.GRU(3)),
    "backward first": lambda: layers.Bidirectional(layers.LSTM(3, go_backwards=True), backward_layer=layers.LSTM(3)),
    "a cell of the user's": lambda: layers.Bidirectional(layers.RNN(layers.LSTMCell(3))),
}


@pytest.mark.parametrize("case", NOT_AT_ONCE)
def test_others_run_one_after_the_other(case, runs):
    both, x = NOT_AT_ONCE[case](), uniform(4, 6, 5)
    both(x)
    both.train()
    for call in (both._direct(), both):
        torch.manual_seed(1)
        outputs = call(x)
        torch.manual_seed(1)
        expected = both.forward(x)
        for mine, other in zip(tree.flatten(outputs), tree.flatten(expected), strict=True):
            assert torch.equal(mine, other)
    assert 2 not in runs


def test_a_mask_and_a_state_are_minded(runs):
    both, x = layers.Bidirectional(layers.LSTM(3)), uniform(2, 5, 4)
    mask = torch.tensor([[True, False, True, True, False], [True] * 5])
    state = [uniform(2, 3) for _ in range(4)]
    both(x)
    assert_close(both._direct()(x, mask=mask), both(x, mask=mask))
    assert_close(both._direct()(x, initial_state=state), both(x, initial_state=state))
    assert 2 not in runs
