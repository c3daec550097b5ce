"""ModelCheckpoint saves what Keras saves, when Keras saves it."""

import numpy as np
import pytest

import kstyle_torch as ks
from tests.models_to_train import logistic_regression, rows_with_signs

X, Y = rows_with_signs(64, 5, noise=1.0)
ALWAYS = {"batch_size": 16, "epochs": 5, "shuffle": False, "verbose": 0, "validation_split": 0.5}


def fit(model, *callbacks, **kwargs):
    return model.fit(X, Y, **{**ALWAYS, "callbacks": list(callbacks), **kwargs})


PROGRAMS = {
    "every-epoch": {"filepath": "{epoch:02d}-{val_loss:.2f}.keras"},
    "weights": {"filepath": "{epoch}.weights.h5", "save_weights_only": True},
    "folders": {"filepath": "a/{epoch}/{accuracy:.1f}.keras"},
    "best": {"filepath": "{epoch:02d}.keras", "save_best_only": True},
    "best-accuracy": {"filepath": "{epoch}.keras", "save_best_only": True, "monitor": "val_accuracy"},
    "best-max": {"filepath": "{epoch}.keras", "save_best_only": True, "monitor": "val_loss", "mode": "max"},
    "best-min": {"filepath": "{epoch}.keras", "save_best_only": True, "monitor": "accuracy", "mode": "min"},
    "threshold": {"filepath": "{epoch}.keras", "save_best_only": True, "initial_value_threshold": 0.4},
    "threshold-unmet": {"filepath": "{epoch}.keras", "save_best_only": True, "initial_value_threshold": 0.0},
    "batches": {"filepath": "{epoch}-{batch}.weights.h5", "save_weights_only": True, "save_freq": 3},
    "batches-best": {"filepath": "{epoch}-{batch}.weights.h5", "save_weights_only": True, "save_freq": 2},
    "one-file": {"filepath": "model.keras"},
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_files_are_those_of_keras(keras, tmp_path, program):
    arguments = PROGRAMS[program]
    kept = []
    for library in (keras, ks):
        folder = tmp_path / library.__name__
        folder.mkdir()
        save = library.callbacks.ModelCheckpoint(**{**arguments, "filepath": str(folder / arguments["filepath"])})
        fit(logistic_regression(library), save)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        kept.append((files, save.best if save.best is None else pytest.approx(save.best, rel=1e-4), folder))
    assert kept[1][:2] == kept[0][:2]
    for name in kept[0][0]:
        models = [logistic_regression(), logistic_regression()]
        for model, (_, _, folder) in zip(models, kept, strict=True):
            model.load_weights(folder / name)
        np.testing.assert_allclose(models[0].get_weights()[0], models[1].get_weights()[0], rtol=1e-4)


def test_the_whole_model_goes_on_as_the_one_that_was_saved(tmp_path):
    model = logistic_regression(rate=0.5)
    model.compile(ks.optimizers.Adam(0.01), "binary_crossentropy")
    path = tmp_path / "{epoch}.keras"
    fit(model, ks.callbacks.ModelCheckpoint(path))
    resumed = ks.models.load_model(tmp_path / "3.keras")
    fit(resumed, initial_epoch=3)
    np.testing.assert_array_equal(resumed.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("ending", ["h5", "hdf5"])
def test_whole_models_in_the_files_of_older_programs(ending, tmp_path):
    model = logistic_regression()
    fit(model, ks.callbacks.ModelCheckpoint(tmp_path / f"best.{ending}", monitor="loss"), epochs=1)
    loaded = ks.models.load_model(tmp_path / f"best.{ending}")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_the_best_is_loaded_again(tmp_path):
    model = logistic_regression()
    path = tmp_path / "best.safetensors"
    save = ks.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True, save_weights_only=True)
    seen = []
    note = ks.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()[0]))
    history = fit(model, note, save)
    assert save.best == min(history["loss"])
    model.load_weights(path)
    np.testing.assert_array_equal(model.get_weights()[0], seen[int(np.argmin(history["loss"]))])


def test_it_says_what_it_does(tmp_path, capsys):
    save = ks.callbacks.ModelCheckpoint(tmp_path / "m.keras", save_best_only=True, verbose=1)
    history = fit(logistic_regression(), save, epochs=2)
    text = capsys.readouterr().out
    assert f"Epoch 1: val_loss improved from none to {history['val_loss'][0]:.5f}" in text
    assert f"Epoch 1: saved to {tmp_path / 'm.keras'}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filepath": "m"}, r"whole models; .* ends in \.keras, .*; got 'm'"),
        ({"filepath": "m.weights.h5"}, "for weights pass save_weights_only=True"),
        ({"filepath": "m.keras", "save_weights_only": True}, r"ends in \.weights\.h5, .*\.safetensors, \.pt"),
        ({"filepath": "m.keras", "save_freq": "never"}, "got 'never'"),
        ({"filepath": "m.keras", "save_freq": True}, "got True"),
    ],
    ids=["no-ending", "weights-ending", "model-ending", "freq-text", "freq-bool"],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.callbacks.ModelCheckpoint(**arguments)


def test_an_unknown_field_gets_the_nearest_name(tmp_path):
    with pytest.raises(KeyError, match=r"contains 'val_acc', which the logs lack. Did you mean 'val_accuracy'"):
        fit(logistic_regression(), ks.callbacks.ModelCheckpoint(tmp_path / "{val_acc:.2f}.keras"))


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "m.keras").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        fit(logistic_regression(), ks.callbacks.ModelCheckpoint(tmp_path / "m.keras"))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("EarlyStopping", {}),
        ("ReduceLROnPlateau", {}),
        ("ModelCheckpoint", {"filepath": "m.keras", "save_best_only": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("mode", ["auto", "max"])
def test_a_metric_that_is_not_there(keras, tmp_path, monkeypatch, kind, arguments, mode):
    """Where Keras raises we raise, where Keras warns and trains on we do; with the nearest name."""
    monkeypatch.chdir(tmp_path)
    for library in (keras, ks):
        callback = getattr(library.callbacks, kind)(monitor="val_acc", mode=mode, **arguments)
        hint = "the logs lack 'val_acc'. Did you mean 'val_accuracy'" if library is ks else "val_acc"
        if mode == "auto":
            with pytest.raises(ValueError, match=hint):
                fit(logistic_regression(library), callback)
        else:
            found = "Did you mean 'val_accuracy'" if library is ks else "available"
            with pytest.warns(UserWarning, match=found):
                assert len(fit(logistic_regression(library), callback).epoch) == 5


@pytest.mark.parametrize("kind", ["EarlyStopping", "ReduceLROnPlateau"])
def test_no_validation_warns_and_trains_on(kind):
    callback = getattr(ks.callbacks, kind)()
    with pytest.warns(UserWarning, match="runs no validation; pass validation_split"):
        assert len(fit(logistic_regression(), callback, validation_split=0.0).epoch) == 5


def test_an_unknown_mode_warns():
    with pytest.warns(UserWarning, match="mode 'up' is unknown"):
        assert ks.callbacks.EarlyStopping(mode="up").mode == "auto"
