"""Interactive logging: whether progress and messages are printed or logged."""

import logging

import numpy as np
import pytest
from PIL import Image

import kstyle_torch as ks
from kstyle_torch import callbacks, config, layers


@pytest.fixture
def logged(caplog):
    """What is logged while interactive logging is off."""
    caplog.set_level(logging.INFO, logger="kstyle_torch")
    ks.utils.disable_interactive_logging()
    assert not ks.utils.is_interactive_logging_enabled() and not config.is_interactive_logging_enabled()
    yield caplog
    ks.utils.enable_interactive_logging()
    assert ks.utils.is_interactive_logging_enabled()


def model():
    model = ks.Sequential([ks.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def images(folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        Image.new("RGB", (4, 4)).save(folder / name / "0.png")
    return ks.utils.image_dataset_from_directory(folder)


def fit(verbose, *watchers):
    model().fit(np.ones((8, 2)), np.ones((8, 1)), epochs=2, verbose=verbose, callbacks=watchers)


PROGRAMS = {
    "fit": (lambda _: fit("auto"), "Epoch 1/2"),
    "fit, verbose=1": (lambda _: fit(1), "1/1 - "),
    "evaluate": (lambda _: model().evaluate(np.ones((8, 2)), np.ones((8, 1)), verbose=2), "1/1 - "),
    "predict": (lambda _: model().predict(np.ones((8, 2))), "1/1 - "),
    "callbacks": (
        lambda _: fit(0, callbacks.LearningRateScheduler(lambda _: 0.1, verbose=1)),
        "sets the learning rate",
    ),
    "summary": (lambda _: model().summary(), "Total params: "),
    "Progbar": (lambda _: ks.utils.Progbar(1, verbose=2).add(1), "1/1 - 0s - "),
    "folders": (images, "Found 2 files belonging to 2 classes."),
}


@pytest.mark.parametrize(("program", "text"), PROGRAMS.values(), ids=PROGRAMS)
def test_messages_are_logged_where_it_is_off(logged, capsys, tmp_path, program, text):
    program(tmp_path)
    assert capsys.readouterr().out == ""
    assert any(text in message for message in logged.messages)


@pytest.mark.parametrize(("program", "text"), PROGRAMS.values(), ids=PROGRAMS)
def test_messages_are_printed_where_it_is_on(caplog, capsys, tmp_path, program, text):
    caplog.set_level(logging.INFO, logger="kstyle_torch")
    program(tmp_path)
    assert text in capsys.readouterr().out
    assert caplog.messages == []


def test_keras_prints_nothing_either(keras, capsys):
    keras.utils.disable_interactive_logging()
    try:
        theirs = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        theirs.summary()
        keras.utils.Progbar(1).update(1)
    finally:
        keras.utils.enable_interactive_logging()
    assert capsys.readouterr().out == ""
