import io
import sys
import types

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch.callbacks import base, progress
from tests.models_to_train import logistic_regression, rows_with_signs

X, Y = rows_with_signs(64, 5)


def network(rate=0.01):
    return logistic_regression(rate=rate)


def recorder(library, calls):
    def hook(name):
        def with_number(self, number, logs=None):
            calls.append((name, number))

        def without(self, logs=None):
            calls.append((name, None))

        return with_number if "batch" in name or "epoch" in name else without

    return type("Recorder", (library.callbacks.Callback,), {name: hook(name) for name in base.HOOKS})()


def test_hooks_are_called_in_the_order_of_keras(keras):
    results = []
    for library in (keras, ks):
        model = library.Sequential([library.Input((5,)), library.layers.Dense(1, activation="sigmoid")])
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
        calls = []
        callback = recorder(library, calls)
        model.fit(X, Y, epochs=2, validation_split=0.25, verbose=0, callbacks=[callback])
        model.evaluate(X, Y, verbose=0, callbacks=[callback])
        model.predict(X, verbose=0, callbacks=[callback])
        results.append(calls)
    assert results[1] == results[0]


def test_batch_logs_are_the_running_means():
    seen = []
    model = network()
    keep = ks.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(dict(logs)))
    history = model.fit(X, Y, batch_size=16, verbose=0, callbacks=[keep])
    assert len(seen) == 4
    assert seen[-1] == {name: values[0] for name, values in history.items()}
    assert seen[0] != seen[-1]


def test_hooks_that_nobody_overrides_are_not_called():
    listed = ks.callbacks.CallbackList([ks.callbacks.History(), ks.callbacks.EarlyStopping("loss")], model=network())
    assert listed.hooks("on_train_batch_end") == ()
    assert len(listed.hooks("on_epoch_end")) == 2


def test_stop_training_ends_within_an_epoch():
    model = network()

    class Stop(ks.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model.fit(X, Y, epochs=3, batch_size=16, verbose=0, callbacks=[Stop()])
    assert int(model.optimizer.iterations) == 2


@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping_like_keras(keras, restore):
    weights = network().get_weights()
    epochs, results = [], []
    for library in (keras, ks):
        model = library.Sequential([library.Input((5,)), library.layers.Dense(1, activation="sigmoid")])
        model.set_weights(weights)
        model.compile(library.optimizers.SGD(8.0), "binary_crossentropy", metrics=["accuracy"])
        stop = library.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=restore)
        history = model.fit(
            X[:32], 1 - Y[:32], epochs=40, validation_data=(X, Y), shuffle=False, verbose=0, callbacks=[stop]
        )
        epochs.append((history.epoch, stop.best_epoch, stop.stopped_epoch))
        results.append(model.get_weights())
    assert epochs[0] == epochs[1]
    assert len(epochs[0][0]) < 40
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_early_stopping_expects_accuracy_to_rise():
    model = network(0.5)
    stop = ks.callbacks.EarlyStopping("accuracy", patience=1)
    history = model.fit(X, Y, epochs=50, verbose=0, callbacks=[stop])
    assert stop.best == max(history["accuracy"])


def test_lambda_callback_refuses_unknown_hooks():
    with pytest.raises(ValueError, match="no hook 'on_epoch_ends'"):
        ks.callbacks.LambdaCallback(on_epoch_ends=print)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Ascii(Terminal):
    encoding = "ascii"


class Clock:
    """A clock that goes on by a fixed time whenever it is read: what is printed does not depend on the machine."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self):
        self.now += self.seconds
        return self.now


def printed(monkeypatch, stream, seconds=1e-6, batches=None, **kwargs):
    """Returns what `fit` prints, and its history; the clock goes on by so many seconds whenever it is read."""
    model = network()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(progress, "time", Clock(seconds))
        data = {"x": X, "y": Y, "batch_size": 16} if batches is None else {"x": batches()}
        history = model.fit(**data, **{"epochs": 2, "verbose": 1, **kwargs})
    return stream.getvalue(), history


def test_the_bar_reads_like_that_of_keras(monkeypatch):
    text, history = printed(monkeypatch, Terminal(), validation_split=0.5)
    assert text.startswith("Epoch 1/2\n")
    last = text.strip().split("\r")[-1]
    expected = " - ".join(f"{name}: {values[-1]:.4f}" for name, values in history.items())
    assert last.startswith("2/2 " + "━" * 20)
    assert last.endswith(expected)
    assert "/step - accuracy" in last
    assert list(history) == ["accuracy", "loss", "val_accuracy", "val_loss"]


def test_the_bar_falls_back_to_ascii(monkeypatch):
    text, _ = printed(monkeypatch, Ascii())
    text.encode("ascii")
    assert "4/4 " + "=" * 20 in text


def test_two_lines_an_epoch_without_a_terminal(monkeypatch):
    text, _ = printed(monkeypatch, io.StringIO())
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("4/4 - 0s - ")


def test_the_line_of_a_slow_epoch_says_how_long_it_took(monkeypatch):
    text, _ = printed(monkeypatch, io.StringIO(), seconds=7.0, epochs=1)
    seconds, each = text.split(" - ")[1:3]
    assert int(seconds.removesuffix("s")) >= 14 and int(each.removesuffix("s/step")) >= 2


@pytest.mark.parametrize("seconds", [1e-6, 0.2], ids=["quick", "slow"])
def test_one_bar_serves_all_epochs(monkeypatch, seconds):
    """Making one takes as long as a short epoch; each epoch still has a whole line of its own."""
    made = []
    monkeypatch.setattr(
        progress._Tqdm,
        "__init__",
        lambda self, *a, init=progress._Tqdm.__init__, **k: made.append(1) or init(self, *a, **k),
    )
    text, _ = printed(monkeypatch, Terminal(), seconds, epochs=4)
    assert len(made) == 1
    assert (text.count("4/4 ━") == 4) == (seconds < progress.REDRAW_SECONDS)  # slow ones are drawn in between, too
    ends = [line.rpartition("\r")[2] for line in text.split("\n") if "loss" in line]
    assert len(ends) == 4 and all(line.startswith("4/4 ━") for line in ends)


@pytest.mark.parametrize("verbose", [0, 2])
def test_verbose(monkeypatch, verbose):
    text, _ = printed(monkeypatch, Terminal(), verbose=verbose)
    assert len(text.splitlines()) == 2 * verbose


def test_no_thread_is_started(monkeypatch):
    import threading

    before = threading.active_count()
    printed(monkeypatch, Terminal())
    assert threading.active_count() == before


def test_an_error_ends_the_bar_on_a_line_of_its_own(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)

    def fail(batch, logs):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        network().fit(X, Y, verbose=1, callbacks=[ks.callbacks.LambdaCallback(on_train_batch_end=fail)])
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "12ms/step"), (2.4, "2s/step"), (5e-5, "50us/step")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_the_bar_is_drawn_when_it_is_due_and_metrics_are_read_only_then(monkeypatch):
    drawn = []
    monkeypatch.setattr(progress.Bar, "_draw", lambda self, logs, ended: drawn.append((self.done, dict(logs), ended)))
    printed(monkeypatch, Terminal(), seconds=1.0, epochs=1)
    assert [done for done, _, _ in drawn] == [1, 2, 3, 4, 4]
    drawn.clear()
    _, history = printed(monkeypatch, Terminal(), epochs=1)
    assert drawn == [(4, {name: values[0] for name, values in history.items()}, True)]


class Notebook(io.StringIO):
    """The stream of a notebook's cell."""

    __module__ = "ipykernel.iostream"


def test_a_notebook_keeps_one_line_of_each_epoch(monkeypatch):
    """Outputs of their own are replaced, so that exported notebooks have the last line only; the stream has the titles."""
    outputs, redraws = [], []

    def display(content, raw, display_id):
        assert raw and display_id
        outputs.append(content["text/plain"])

        def update(content, raw):
            assert raw
            outputs[-1] = content["text/plain"]
            redraws.append(1)

        return types.SimpleNamespace(update=update)

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    text, history = printed(monkeypatch, Notebook(), seconds=1.0)
    assert text == "Epoch 1/2\nEpoch 2/2\n" and len(redraws) == 8
    for line, loss in zip(outputs, history["loss"], strict=True):
        assert line.startswith(f"4/4 {'━' * 20} ") and f"loss: {loss:.4f}" in line

    outputs.clear()
    printed(monkeypatch, Notebook(), seconds=1e-6, epochs=1)  # a short epoch is drawn once
    assert len(outputs) == 1 and len(redraws) == 8


def test_a_bar_of_unknown_length_ends_with_its_length(monkeypatch):
    text, _ = printed(monkeypatch, Terminal(), epochs=1, seconds=1.0, batches=lambda: iter([(X[:16], Y[:16])] * 3))
    assert "2/Unknown" in text and f"3/3 {'━' * 20}" in text.rsplit("\r", 1)[-1]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_an_unknown_number_of_steps_is_known_after_an_epoch(monkeypatch, stream):
    class Endless:
        def __iter__(self):
            return iter([(X[:16], Y[:16])] * 3)

    out = stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 1e-9)
    network().fit(Endless(), epochs=2, verbose=1)
    first, second = out.getvalue().split("Epoch 2/2")
    assert ("2/Unknown" in first) == (stream is Terminal)
    assert first.split("\r")[-1].startswith("3") or stream is not Terminal
    assert "3/3" in second and "Unknown" not in second


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_an_epoch_that_is_stopped_says_where(monkeypatch, stream):
    out = stream()
    monkeypatch.setattr(sys, "stdout", out)
    model = network()
    stop = ks.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", batch == 1)
    )
    model.fit(X, Y, batch_size=16, verbose=1, callbacks=[stop])
    assert out.getvalue().split("\r")[-1].startswith("2/4" if stream is Terminal else "2/2")
