"""The same program in Keras and here calls the same hooks with the same logs."""

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch.callbacks import base
from tests.models_to_train import SLOPES, logistic_regression, rows_with_signs
from tests.test_public_names import BEYOND

X, Y = rows_with_signs(40, 5)


def recorder(library, calls, act=lambda name, number, model: None):
    """A callback that writes down each hook with its number and logs, then acts."""

    def note(self, name, number, logs):
        values = {key: np.asarray(value).shape if key == "outputs" else value for key, value in (logs or {}).items()}
        calls.append((name, number, type(logs) is dict or isinstance(logs, dict), dict(sorted(values.items()))))
        act(name, number, self.model)

    def hook(name):
        def with_number(self, number, logs=None):
            note(self, name, number, logs)

        def without(self, logs=None):
            note(self, name, None, logs)

        return with_number if "batch" in name or "epoch" in name else without

    return type("Recorder", (library.callbacks.Callback,), {name: hook(name) for name in base.HOOKS})()


def fit(model, recorder, **kwargs):
    kwargs = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(X, Y, callbacks=recorder, **kwargs)


def stop_at(hook, wanted, attribute="stop_training"):
    def act(name, number, model):
        if name == hook and number == wanted:
            setattr(model, attribute, True)

    return act


def halve(name, number, model):
    if name in ("on_train_batch_begin", "on_train_batch_end"):
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) * 0.5


def assign(name, number, model):
    if name == "on_epoch_begin":
        model.optimizer.learning_rate.assign(0.1 * (number + 1))


def reset_weights(when):
    def act(name, number, model):
        if name == when and number == 1:
            model.set_weights([SLOPES, np.zeros(1, "float32")])

    return act


def nothing(name, number, model):
    pass


def reset_metrics(when):
    def act(name, number, model):
        if name == when:
            model.reset_metrics()

    return act


PROGRAMS = {
    "fit": (nothing, fit),
    "validation": (nothing, lambda m, c: fit(m, c, validation_split=0.25)),
    "validation-freq": (nothing, lambda m, c: fit(m, c, epochs=3, validation_data=(X, Y), validation_freq=[2])),
    "initial-epoch": (nothing, lambda m, c: fit(m, c, initial_epoch=1, epochs=3)),
    "no-epoch-left": (nothing, lambda m, c: fit(m, c, initial_epoch=2, epochs=2)),
    "steps-per-epoch": (nothing, lambda m, c: fit(m, c, steps_per_epoch=2, epochs=1)),
    "evaluate": (nothing, lambda m, c: m.evaluate(X, Y, batch_size=16, verbose=0, callbacks=c)),
    "predict": (nothing, lambda m, c: m.predict(X, batch_size=16, verbose=0, callbacks=c)),
    "on-batch": (nothing, lambda m, c: (m.train_on_batch(X, Y), m.test_on_batch(X, Y), m.predict_on_batch(X))),
    "stop-at-batch": (stop_at("on_train_batch_end", 1), lambda m, c: fit(m, c, validation_split=0.25)),
    "stop-at-batch-begin": (stop_at("on_train_batch_begin", 0), fit),
    "stop-at-epoch": (stop_at("on_epoch_end", 0), fit),
    "stop-at-epoch-begin": (stop_at("on_epoch_begin", 0), fit),
    "stop-evaluating": (
        stop_at("on_test_batch_end", 0, "stop_evaluating"),
        lambda m, c: m.evaluate(X, Y, batch_size=16, verbose=0, callbacks=c),
    ),
    "stop-predicting": (
        stop_at("on_predict_batch_end", 1, "stop_predicting"),
        lambda m, c: m.predict(X, batch_size=16, verbose=0, callbacks=c),
    ),
    "learning-rate-set": (halve, fit),
    "learning-rate-assigned": (assign, fit),
    "metrics-reset-at-batch-begin": (reset_metrics("on_train_batch_begin"), fit),
    "metrics-reset-at-batch-end": (reset_metrics("on_train_batch_end"), fit),
    "metrics-reset-in-validation": (
        reset_metrics("on_test_batch_begin"),
        lambda m, c: fit(m, c, validation_split=0.5, epochs=1),
    ),
    "weights-at-batch-end": (reset_weights("on_train_batch_end"), fit),
    "weights-at-epoch-begin": (reset_weights("on_epoch_begin"), fit),
    "weights-at-epoch-end": (reset_weights("on_epoch_end"), lambda m, c: fit(m, c, epochs=3)),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_hooks_and_logs_are_those_of_keras(keras, program):
    act, run = PROGRAMS[program]
    results = []
    for library in (keras, ks):
        model, calls = logistic_regression(library), []
        run(model, [recorder(library, calls, act)])
        results.append((calls, model.get_weights()))
    (theirs, their_weights), (ours, our_weights) = results
    assert [call[:3] for call in ours] == [call[:3] for call in theirs]
    for our_call, their_call in zip(ours, theirs, strict=True):
        assert our_call[3].keys() == their_call[3].keys(), our_call[:2]
        for key, value in their_call[3].items():
            assert our_call[3][key] == pytest.approx(value, rel=1e-4, abs=1e-6), (our_call[:2], key)
    for a, b in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def by_name_only(seen):
    return {
        "any": lambda self, batch, **kw: seen.append((batch, sorted(kw), sorted(kw["logs"]))),
        "logs": lambda self, batch, *, logs=None: seen.append((batch, sorted(logs))),
        "logs behind another": lambda self, batch, more=3, *, logs: seen.append((batch, more, sorted(logs))),
        "all": lambda self, *args, **kw: seen.append((args, sorted(kw["logs"]))),
        "by place too": lambda self, batch, logs=None, **kw: seen.append((batch, sorted(logs), kw)),
    }


@pytest.mark.parametrize("form", by_name_only([]))
@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end", "on_batch_end", "on_test_batch_end"])
def test_hooks_of_batches_get_their_logs_by_name(keras, form, hook):
    seen_by = []
    for library in (keras, ks):
        seen = []
        watch = type("Watch", (library.callbacks.Callback,), {hook: by_name_only(seen)[form]})()
        fit(logistic_regression(library), [watch], epochs=1, validation_split=0.25)
        getattr(library.callbacks.CallbackList([watch]), hook)(7, {"loss": 1.0})
        seen_by.append(seen)
    assert seen_by[1] == seen_by[0] and seen_by[0]


def test_what_a_callback_adds_to_the_logs_reaches_those_after_it(keras):
    orders = []
    for library in (keras, ks):
        seen = []
        watch = library.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, seen=seen: seen.append(sorted(logs)),
            on_train_end=lambda logs, seen=seen: seen.append(sorted(logs)),
        )
        schedule = library.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
        model = logistic_regression(library)
        history = fit(model, [watch, schedule, watch])
        orders.append((seen, sorted(history.history), history.history["learning_rate"]))
    assert orders[1] == orders[0]


def test_an_error_in_a_callback_leaves_the_model_usable(keras):
    """As in Keras no further hook is called; the History so far is kept, and training can go on."""
    results = []
    for library in (keras, ks):
        model, calls = logistic_regression(library), []

        def interrupt(epoch, logs):
            if epoch == 1:
                raise KeyboardInterrupt

        callbacks = [library.callbacks.LambdaCallback(on_epoch_end=interrupt), recorder(library, calls)]
        with pytest.raises(KeyboardInterrupt):
            fit(model, callbacks, epochs=4)
        results.append([call[:2] for call in calls])
        assert model.history.epoch == [0]
        assert len(model.history.history["loss"]) == 1
        model.fit(X, Y, verbose=0)
        assert model.history.epoch == [0]
    assert results[1] == results[0]
    assert not model.training


def test_a_callback_list_is_used_as_it_is():
    model, calls = logistic_regression(ks), []
    history = ks.callbacks.History()
    listed = ks.callbacks.CallbackList([recorder(ks, calls), history])
    assert fit(model, listed) is history
    assert model.history is history
    assert listed.params["epochs"] == 2
    model.evaluate(X, Y, verbose=0, callbacks=listed)
    assert [call[0] for call in calls][-1] == "on_test_end"
    assert listed.params["epochs"] == 1


def test_the_list_adds_what_is_asked_for(keras):
    for library in (keras, ks):
        names = library.callbacks
        listed = names.CallbackList([names.LambdaCallback(), names.History()], add_history=True, add_progbar=True)
        assert [type(callback).__name__ for callback in listed.callbacks] == [
            "LambdaCallback",
            "History",
            "ProgbarLogger",
        ]


def test_callbacks_of_another_library_with_the_same_hooks_are_called(keras):
    """Such as those of experiment trackers, which subclass Keras' own Callback."""
    calls = []
    fit(logistic_regression(ks), [recorder(keras, calls)], epochs=1)
    assert [call[0] for call in calls][:3] == ["on_train_begin", "on_epoch_begin", "on_train_batch_begin"]


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([ks.callbacks.EarlyStopping], r"the class EarlyStopping; pass EarlyStopping\("),
        (ks.callbacks.EarlyStopping, r"the class EarlyStopping"),
        ("early_stopping", "got 'early_stopping'"),
        ([lambda epoch, logs: None], "must hold Callback objects"),
    ],
    ids=["class", "bare-class", "text", "function"],
)
def test_what_is_no_callback_is_refused(callbacks, message):
    model = logistic_regression(ks)
    with pytest.raises(TypeError, match=message):
        fit(model, callbacks)
    np.testing.assert_array_equal(model.get_weights()[0], SLOPES)


def test_the_public_callbacks_are_those_of_keras(keras):
    theirs = {name for name in dir(keras.callbacks) if not name.startswith("_")} - {"OrbaxCheckpoint"}
    assert set(ks.callbacks.__all__) - BEYOND["callbacks"] == theirs


@pytest.mark.parametrize("save_freq", [2, "epoch"])
def test_a_subclass_may_override_the_batch_hook_of_a_checkpoint(keras, tmp_path, save_freq):
    def train(library):
        calls, folder = [], tmp_path / library.__name__
        folder.mkdir()

        class Counting(library.callbacks.ModelCheckpoint):
            def on_train_batch_end(self, batch, logs=None):
                super().on_train_batch_end(batch, logs)
                calls.append(batch)

        path = folder / ("{epoch}-{batch}.weights.h5" if save_freq == 2 else "{epoch}.weights.h5")
        # in a list: Keras looks for hooks only there, and calls others from several threads
        fit(logistic_regression(library), [Counting(str(path), save_weights_only=True, save_freq=save_freq)])
        return calls, sorted(file.name for file in folder.iterdir())

    batches, files = train(ks)
    assert (batches, files) == train(keras)
    assert len(batches) == 6
    assert files


@pytest.mark.parametrize("save_freq", [2, "epoch"])
def test_the_batch_hook_of_a_checkpoint_is_skipped_where_it_has_nothing_to_do(tmp_path, save_freq):
    checkpoint = ks.callbacks.ModelCheckpoint(tmp_path / "a.keras", save_freq=save_freq)
    hooks = ks.callbacks.CallbackList([checkpoint]).hooks("on_train_batch_end")
    assert len(hooks) == (save_freq == 2)
