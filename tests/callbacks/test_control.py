"""The callbacks that steer and log training do what Keras' do, in the same epochs, with the same values."""

import csv
import http.server
import json
import re
import threading
import urllib.parse
import warnings

import numpy as np
import pytest

import kstyle_torch as ks
from tests.models_to_train import logistic_regression, rows_with_signs

X, Y = rows_with_signs(64, 5, noise=1.0)


def fit(model, callbacks, **kwargs):
    kwargs = {"batch_size": 16, "epochs": 8, "shuffle": False, "verbose": 0, "validation_split": 0.5, **kwargs}
    return model.fit(X, Y, callbacks=callbacks, **kwargs)


CALLBACKS = {
    "stop": ("EarlyStopping", {}),
    "stop-patience": ("EarlyStopping", {"patience": 2, "restore_best_weights": True}),
    "stop-late": ("EarlyStopping", {"patience": 1, "start_from_epoch": 3, "restore_best_weights": True}),
    "stop-baseline": ("EarlyStopping", {"patience": 3, "baseline": 0.3}),
    "stop-baseline-met": ("EarlyStopping", {"patience": 3, "baseline": 3.0}),
    "stop-delta": ("EarlyStopping", {"patience": 1, "min_delta": 0.2, "monitor": "loss"}),
    "stop-accuracy": ("EarlyStopping", {"patience": 1, "monitor": "val_accuracy", "restore_best_weights": True}),
    "stop-max": ("EarlyStopping", {"patience": 2, "monitor": "val_loss", "mode": "max"}),
    "reduce": ("ReduceLROnPlateau", {"patience": 1, "factor": 0.5}),
    "reduce-at-once": ("ReduceLROnPlateau", {"patience": 0, "factor": 0.1, "min_lr": 0.3}),
    "reduce-cooldown": ("ReduceLROnPlateau", {"patience": 1, "factor": 0.5, "cooldown": 2, "min_delta": 0.5}),
    "reduce-accuracy": ("ReduceLROnPlateau", {"patience": 1, "monitor": "accuracy", "min_delta": 0.1}),
    "schedule": ("LearningRateScheduler", {"schedule": lambda epoch, rate: rate * 0.7}),
    "schedule-of-epoch": ("LearningRateScheduler", {"schedule": lambda epoch: 1.0 / (epoch + 1)}),
    "nan": ("TerminateOnNaN", {}),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_training_goes_as_in_keras(keras, name):
    kind, arguments = CALLBACKS[name]
    results = []
    for library in (keras, ks):
        callback = getattr(library.callbacks, kind)(**arguments)
        model = logistic_regression(library)
        history = fit(model, [callback])
        results.append((history, model.get_weights(), callback))
    (theirs, their_weights, their_callback), (ours, our_weights, our_callback) = results
    assert ours.epoch == theirs.epoch
    assert list(ours.history) == list(theirs.history)
    for key, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[key], values, rtol=1e-4, atol=1e-6, err_msg=key)
    for a, b in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for attribute in ("wait", "stopped_epoch", "best_epoch", "cooldown_counter"):
        assert getattr(our_callback, attribute, None) == getattr(their_callback, attribute, None), attribute


@pytest.mark.parametrize("kind", ["ReduceLROnPlateau", "LearningRateScheduler"])
def test_each_part_of_a_multi_optimizer_gets_its_rate(keras, kind):
    results = []
    for library in (keras, ks):
        names = library.optimizers
        parts = names.OptimizerMap(names.SGD(0.5, name="rest"), {".*kernel": names.SGD(4.0, name="kernels")})
        model = logistic_regression(library, optimizer=names.MultiOptimizer(parts))
        arguments = {"patience": 0} if kind == "ReduceLROnPlateau" else {"schedule": lambda epoch, rate: rate * 0.5}
        history = fit(model, [getattr(library.callbacks, kind)(**arguments)], epochs=4)
        results.append({key: history.history[key] for key in sorted(history.history) if "learning_rate" in key})
    assert results[1].keys() == results[0].keys() == {"learning_rate_kernels", "learning_rate_rest"}
    for key, values in results[0].items():
        assert results[1][key] == pytest.approx(values)


@pytest.mark.parametrize("raise_error", [False, True])
def test_nan_ends_training_at_the_batch_where_keras_ends_it(keras, raise_error, capsys):
    x = X.copy()
    x[20] = np.nan
    calls = []
    for library in (keras, ks):
        seen = []
        watch = library.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, seen=seen: seen.append(("batch", batch)),
            on_train_end=lambda logs, seen=seen: seen.append(("end", None)),
        )
        model = logistic_regression(library)
        model.compile("sgd", "mse")
        stop = library.callbacks.TerminateOnNaN(raise_error=raise_error)
        arguments = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0, "callbacks": [stop, watch]}
        if raise_error:
            with pytest.raises(RuntimeError, match="batch 1"), np.errstate(all="ignore"):
                _fit_nan(model, x, arguments)
        else:
            _fit_nan(model, x, arguments)
        calls.append(seen)
    assert calls[1] == calls[0]


def _fit_nan(model, x, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaN, which ours finds before
        model.fit(x, Y, **arguments)


def test_a_schedule_must_give_a_float():
    with pytest.raises(ValueError, match="must return a float; got '0.1'"):
        fit(logistic_regression(ks), [ks.callbacks.LearningRateScheduler(lambda epoch, rate: "0.1")])


def test_a_factor_of_one_reduces_nothing():
    with pytest.raises(ValueError, match="factor must be below 1; got 1"):
        ks.callbacks.ReduceLROnPlateau(factor=1)


def test_what_they_say(capsys):
    callbacks = [
        ks.callbacks.LearningRateScheduler(lambda epoch, rate: rate, verbose=1),
        ks.callbacks.ReduceLROnPlateau(patience=0, verbose=1, mode="max"),
        ks.callbacks.EarlyStopping(patience=0, verbose=1, mode="max", restore_best_weights=True),
    ]
    fit(logistic_regression(ks), callbacks)
    text = capsys.readouterr().out
    for part in ("Scheduler sets the learning rate to 4.0", "Plateau sets the learning rate to 0.4", "early stopping"):
        assert part in text


# --------------------------------------------------------------------------------------------------------- CSVLogger


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("split", [0.0, 0.5], ids=["train", "validation"])
def test_the_table_is_that_of_keras(keras, tmp_path, separator, append, split):
    tables = []
    for library in (keras, ks):
        path = tmp_path / f"{library.__name__}.csv"
        logger = library.callbacks.CSVLogger(path, separator=separator, append=append)
        for _ in range(2):
            fit(logistic_regression(library, rate=0.1), [logger], epochs=2, validation_split=split)
        with path.open(newline="") as file:
            tables.append((list(csv.reader(file, delimiter=separator)), path.read_bytes().count(b"\r\n")))
    (theirs, their_ends), (ours, our_ends) = tables
    assert our_ends == their_ends
    assert ours[0] == theirs[0]
    assert len(ours) == len(theirs) == (5 if append else 3)
    for our_row, their_row in zip(ours[1:], theirs[1:], strict=True):
        for a, b in zip(our_row, their_row, strict=True):
            assert a == b or float(a) == pytest.approx(float(b), rel=1e-4)


def test_epochs_without_validation_have_na(tmp_path):
    path = tmp_path / "log.csv"
    fit(logistic_regression(ks), [ks.callbacks.CSVLogger(path)], epochs=3, validation_freq=2)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["val_loss"] == "NA" for row in rows] == [True, False, True]


def test_values_that_are_no_numbers(tmp_path):
    logger = ks.callbacks.CSVLogger(tmp_path / "log.csv")
    logger.on_train_begin()
    logger.on_epoch_end(0, {"a": np.array([1, 2]), "b": "text", "c": np.array(3)})
    logger.on_train_end()
    (row,) = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
    assert (row["a"], row["b"], row["c"]) == ('"[1, 2]"', "text", "3")


# ------------------------------------------------------------------------------------------------------ RemoteMonitor


@pytest.fixture
def server():
    """A server on this machine that keeps what it is sent."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.append((self.path, self.headers.get_content_type(), self.headers.get("X-Key"), body))
            self.send_response(500 if "refuse" in self.path else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", received
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("send_as_json", [False, True])
def test_the_server_gets_the_metrics(server, send_as_json):
    root, received = server
    monitor = ks.callbacks.RemoteMonitor(root, headers={"X-Key": "k"}, send_as_json=send_as_json)
    history = fit(logistic_regression(ks), [monitor], epochs=2)
    for epoch, (path, kind, key, body) in enumerate(received):
        assert (path, key) == ("/publish/epoch/end/", "k")
        assert kind == ("application/json" if send_as_json else "application/x-www-form-urlencoded")
        sent = json.loads(body if send_as_json else urllib.parse.parse_qs(body)["data"][0])
        assert sent == {"epoch": epoch, **{name: values[epoch] for name, values in history.items()}}
    assert len(received) == 2


def test_a_server_that_refuses_or_is_not_there_does_not_end_training(server):
    root, received = server
    fit(logistic_regression(ks), [ks.callbacks.RemoteMonitor(root, path="/refuse")], epochs=1)
    assert len(received) == 1
    with pytest.warns(UserWarning, match="cannot reach the server at http://127.0.0.1:1"):
        assert (
            len(fit(logistic_regression(ks), [ks.callbacks.RemoteMonitor("http://127.0.0.1:1")], epochs=1).epoch) == 1
        )


def test_early_stopping_monitors_what_a_subclass_computes(keras):
    stopped = []
    for lib in (ks, keras):

        class Gap(lib.callbacks.EarlyStopping):
            def get_monitor_value(self, logs):
                assert super().get_monitor_value(logs) == logs["val_loss"]
                return abs(logs["val_loss"] - logs["loss"])

        callback = Gap(patience=1)
        fit(logistic_regression(lib), [callback])
        stopped.append((callback.stopped_epoch, round(float(callback.best), 4)))
    assert stopped[0] == stopped[1] and stopped[0][0] > 0


def test_max_time_ends_training_within_an_epoch(capsys):
    """The clock is at 0 when training begins, and goes on by a second with each batch."""
    seconds = iter(range(100))
    model = ks.Sequential([ks.Input((2,)), ks.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = []
    counter = ks.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    limit = ks.callbacks.MaxTime(6, verbose=1, clock=lambda: next(seconds))
    x, y = np.ones((16, 2), "float32"), np.ones((16, 1), "float32")
    history = model.fit(x, y, batch_size=4, epochs=9, verbose=0, callbacks=[limit, counter])
    assert batches == [0, 1, 2, 3, 0, 1] and history.epoch == [0, 1]
    assert capsys.readouterr().out.splitlines()[-1] == "Batch 2: 6 seconds are over, training ends."
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[limit, counter])  # a `fit` has its own time
    assert batches[6:] == [0, 1, 2, 3]


def test_max_time_takes_positive_numbers():
    for wrong in (0, -1.0, "3", None, True, float("nan")):
        with pytest.raises(ValueError, match=re.escape(f"must be a positive number; got {wrong!r}")):
            ks.callbacks.MaxTime(wrong)
