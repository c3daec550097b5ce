"""utils.Progbar, against Keras: the same text at the same times."""

import io
import time

import pytest
import torch

import kstyle_torch as ks

LOSSES = [[("loss", 2.0), ("acc", 0.25)], [("loss", 1.0), ("acc", 0.5)], [("loss", 0.0004), ("acc", 1.0)]]


def drawn(package, monkeypatch, arguments, updates, seconds):
    """The text that updates of a bar write, with a clock that each look moves on by the next of `seconds`."""
    now = [1000.0]
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now[0])
        patch.setattr("sys.stdout", stream)
        bar = package.utils.Progbar(**arguments)
        for number, update in enumerate(updates):
            now[0] += seconds[number % len(seconds)]
            if isinstance(update[0], str):
                getattr(bar, update[0])(*update[1:])
            else:
                bar.update(*update)
    return stream.getvalue()


STEPS = [(number + 1, LOSSES[number % 3]) for number in range(12)]
CASES = {
    "a bar": ({"target": 12}, STEPS, [0.1]),
    "wide": ({"target": 12, "width": 33, "unit_name": "batch"}, STEPS, [0.0625]),
    "too fast to draw": ({"target": 12}, STEPS, [0.02]),
    "interval": ({"target": 12, "interval": 0.5}, STEPS, [0.2]),
    "microseconds": ({"target": 12, "interval": 0}, STEPS, [0.0001]),
    "minutes": ({"target": 120}, STEPS, [7.25]),
    "hours": ({"target": 1200}, STEPS, [70.25]),
    "line at the end": ({"target": 12, "verbose": 2}, STEPS, [0.1]),
    "negative in a line": ({"target": 1, "verbose": 2}, [(1, [("loss", -2.0)])], [0.1]),
    "negative in a bar": ({"target": 1}, [(1, [("loss", -2.0), ("small", -1e-5)])], [0.1]),
    "silent": ({"target": 12, "verbose": 0}, STEPS, [0.1]),
    "unknown length": ({"target": None}, STEPS, [0.1]),
    "unknown length, ended": ({"target": None}, [*STEPS, (12, LOSSES[0], True)], [0.1]),
    "target 0": ({"target": 0}, [(0, [], True)], [0.1]),
    "stateful": ({"target": 12, "stateful_metrics": ["acc"]}, STEPS, [0.1]),
    "stateless": ({"target": 12, "stateless_metrics": ["acc"]}, STEPS, [0.1]),
    "jumps": ({"target": 12}, [(3, LOSSES[0]), (7, LOSSES[1]), (11, LOSSES[2]), (12, LOSSES[0])], [0.3]),
    "add": ({"target": 9}, [("add", 2, LOSSES[0]), ("add", 4, LOSSES[1]), ("add", 3)], [0.4]),
    "from nothing": ({"target": 3}, [(0,), (1,), (1,), (2, LOSSES[1]), (3,)], [0.4]),
    "shrinks": ({"target": 5000}, [(1, [("loss", 10000.0)]), (4000, [("loss", 1.0)])], [90, 1]),
    "integers": ({"target": 2}, [(1, [("n", 3)]), (2, [("n", 4)])], [0.1]),
}


@pytest.mark.parametrize(("arguments", "updates", "seconds"), CASES.values(), ids=CASES)
def test_it_draws_what_keras_draws(keras, monkeypatch, arguments, updates, seconds):
    ours, theirs = (drawn(each, monkeypatch, arguments, updates, seconds) for each in (ks, keras))
    assert ours == theirs


def test_tensors_are_drawn(monkeypatch):
    values = [[("loss", torch.tensor(0.5)), ("accs", torch.tensor([0.25, 0.75]))]]
    text = drawn(ks, monkeypatch, {"target": 1}, [(1, values[0])], [0.1])
    assert text.endswith(" - loss: 0.5000 - accs: 0.5000\n")


def test_both_kinds_of_metrics(keras):
    for package in (keras, ks):
        with pytest.raises(ValueError, match="stateful_metrics"):
            package.utils.Progbar(3, stateful_metrics=["a"], stateless_metrics=["b"])


def test_a_stream_without_blocks(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    ks.utils.Progbar(4).update(4)
    assert "=" * 20 in stream.buffer.getvalue().decode("ascii")
