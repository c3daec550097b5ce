"""Settings of the process, from functions, the environment and `keras.json`; limits of `fit`; shown tracebacks."""

import json
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import config, layers, tracebacks

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def settings_afterwards(monkeypatch):
    """What tests change is put back."""
    for module, names in ((config, ("_max_epochs", "_max_steps_per_epoch", "_unsafe_deserialization")),):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(tracebacks, "_enabled", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    torch.backends.cuda.enable_flash_sdp(True)


# ------------------------------------------------------------------------------------------------- limits of training


class Counter:
    """Counts epochs and batches of one library."""

    def __init__(self, library):
        self.counts = counts = dict.fromkeys(("epochs", "train", "test", "predict"), 0)

        class Callback(library.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                counts["epochs"] += 1

            def on_train_batch_begin(self, batch, logs=None):
                counts["train"] += 1

            def on_test_batch_begin(self, batch, logs=None):
                counts["test"] += 1

            def on_predict_batch_begin(self, batch, logs=None):
                counts["predict"] += 1

        self.callback = Callback()


def batches():
    for _ in range(20):
        yield np.ones((4, 3), "float32"), np.ones((4, 1), "float32")


LIMITED = {
    "arrays": lambda model, counter: (
        model.fit(np.ones((100, 3)), np.ones((100, 1)), epochs=5, verbose=0, callbacks=[counter.callback]),
        model.evaluate(np.ones((200, 3)), np.ones((200, 1)), verbose=0, callbacks=[counter.callback]),
        model.predict(np.ones((200, 3)), verbose=0, callbacks=[counter.callback]),
    ),
    "few": lambda model, counter: model.fit(
        np.ones((40, 3)), np.ones((40, 1)), epochs=2, verbose=0, callbacks=[counter.callback], batch_size=20
    ),
    "stream": lambda model, counter: model.fit(batches(), epochs=1, verbose=0, callbacks=[counter.callback]),
    "steps": lambda model, counter: model.fit(
        batches(), epochs=2, steps_per_epoch=5, verbose=0, callbacks=[counter.callback]
    ),
}


@pytest.mark.filterwarnings("ignore:Limiting")
@pytest.mark.parametrize("name", LIMITED)
def test_limits_of_epochs_and_steps(name, keras):
    counts = []
    for library in (keras, ks):
        library.config.set_max_epochs(2)
        library.config.set_max_steps_per_epoch(3)
        assert library.config.max_epochs() == 2 and library.config.max_steps_per_epoch() == 3
        try:
            model = library.Sequential([library.Input((3,)), library.layers.Dense(1)])
            model.compile("sgd", "mse")
            counter = Counter(library)
            LIMITED[name](model, counter)
        finally:
            library.config.set_max_epochs(None)
            library.config.set_max_steps_per_epoch(None)
        counts.append(counter.counts)
    theirs, ours = counts
    if name == "few":  # Keras goes on to a third batch that is not there
        theirs["train"] = 4
    assert ours == theirs and ours["epochs"] in (1, 2)


def test_a_limit_warns():
    config.set_max_epochs(1)
    model = ks.Sequential([ks.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="Limiting epochs to 1") as caught:
        model.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=3, verbose=0)
    assert caught[0].filename == __file__
    for value in (-1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="max_steps_per_epoch must be a non-negative int"):
            config.set_max_steps_per_epoch(value)


# --------------------------------------------------------------------------------------- files and the environment

SHOW = """
import kstyle_torch as keras
c = keras.config
print(c.floatx(), c.epsilon(), c.image_data_format(), c.max_epochs(), c.max_steps_per_epoch(), sep="|")
"""


def run(program, tmp_path, settings=None, **environment):
    if settings is not None:
        (tmp_path / "keras.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    found = {"KERAS_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "", **environment}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=found, check=False, cwd=tmp_path
    )


def test_settings_of_the_file_and_the_environment(tmp_path):
    settings = {"floatx": "float64", "epsilon": 0.5, "image_data_format": "channels_first", "backend": "tensorflow"}
    found = run(SHOW, tmp_path, settings, KERAS_MAX_EPOCHS="2", KERAS_MAX_STEPS_PER_EPOCH="3")
    assert found.stdout.strip() == "float64|0.5|channels_first|2|3" and not found.stderr


@pytest.mark.parametrize("settings", [None, "{", "[]", "{}"])
def test_a_file_without_settings(settings, tmp_path):
    path = tmp_path / "keras.json"
    if settings is not None:
        path.write_text(settings)
    config._read_settings(path)
    assert (config.floatx(), config.epsilon(), config.image_data_format()) == ("float32", 1e-7, "channels_last")


@pytest.mark.parametrize(
    "settings", [{"floatx": "int8"}, {"epsilon": "small"}, {"image_data_format": "channels"}], ids=str
)
def test_a_wrong_setting(settings, tmp_path):
    path = tmp_path / "keras.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"keras\.json"):
        config._read_settings(path)


@pytest.mark.full
def test_another_backend_gives_one_warning(tmp_path):
    found = run(SHOW, tmp_path, KERAS_BACKEND="jax", KERAS_MAX_EPOCHS="")
    assert found.returncode == 0
    assert found.stderr.count("KERAS_BACKEND=jax is ignored") == 1


# --------------------------------------------------------------------------------------------------------- switches


def test_flash_attention(keras):
    theirs, ours = keras.config, ks.config
    seen = []
    for library in (theirs, ours):
        before = library.is_flash_attention_enabled()
        library.disable_flash_attention()
        disabled = library.is_flash_attention_enabled()
        library.enable_flash_attention()
        seen.append((before, disabled, library.is_flash_attention_enabled()))
    assert seen[0] == seen[1]
    ours.disable_flash_attention()
    assert not torch.backends.cuda.flash_sdp_enabled()


def test_unsafe_deserialization():
    layer = {"class_name": "__lambda__", "config": {"value": "x"}}
    with pytest.raises(ValueError, match="safe_mode=False"):
        ks.saving.deserialize_keras_object(layer)
    config.enable_unsafe_deserialization()
    with pytest.raises(ValueError, match="another version of Python"):  # it is read now
        ks.saving.deserialize_keras_object(layer)


# ------------------------------------------------------------------------------------------------------- tracebacks


class Wrong(layers.Layer):
    def call(self, inputs):
        return inputs.reshape(1, 2, 3, 4, 5)


def failure():
    try:
        ks.Sequential([Wrong()])(torch.ones(2, 3))
    except ValueError as error:
        return error


def is_hidden(path):
    return any(part in path for part in (str(ROOT / "kstyle_torch"), str(Path(torch.__file__).parent), "<kstyle"))


def test_shown_tracebacks_lack_inner_frames(capsys):
    error = failure()
    whole = traceback.format_exception(error)
    config.enable_traceback_filtering()
    assert config.is_traceback_filtering_enabled()
    sys.excepthook(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("  File")]
    assert lines and not any(map(is_hidden, lines)) and "return inputs.reshape(1, 2, 3, 4, 5)" in shown
    assert "of kstyle_torch and torch not shown" in shown and len(shown.splitlines()) < sum(map(len, whole))
    assert traceback.format_exception(error) == whole  # the exception has lost nothing

    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()
    sys.excepthook(type(error), error, error.__traceback__)
    assert any(map(is_hidden, capsys.readouterr().err.splitlines()))


def test_causes_are_shown_likewise(capsys):
    error = ValueError("outer")
    error.__cause__ = failure()
    config.enable_traceback_filtering()
    sys.excepthook(type(error), error, None)
    shown = capsys.readouterr().err
    assert "direct cause" in shown and not any(is_hidden(line) for line in shown.splitlines() if "File" in line)


@pytest.mark.full
def test_tracebacks_are_whole_where_nothing_else_is_left(tmp_path):
    """A log of a program has all frames, unless it asks for fewer."""
    program = "import kstyle_torch as keras\n{}\nkeras.layers.Dense(2)('text')"
    assert "kstyle_torch/layer/base.py" in run(program.format(""), tmp_path).stderr
    assert "layer/base.py" not in run(program.format("keras.config.enable_traceback_filtering()"), tmp_path).stderr


class Shell:
    """IPython's shell, as far as it is asked for."""

    class InteractiveTB:
        @staticmethod
        def structured_traceback(kind, error, frames, tb_offset=None):
            return traceback.format_exception(kind, error, frames)


def test_notebooks_filter_from_the_start(monkeypatch):
    module = type(sys)("IPython")
    module.get_ipython = lambda: Shell
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr(Shell.InteractiveTB, "structured_traceback", Shell.InteractiveTB.structured_traceback)
    tracebacks._filter_in_ipython()
    assert config.is_traceback_filtering_enabled()
    error = failure()
    shown = Shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
    assert not any(map(is_hidden, shown)) and "then %tb, shows all" in shown[-1]
    config.disable_traceback_filtering()
    assert any(map(is_hidden, Shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)))
