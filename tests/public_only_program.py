"""Models that are trained, saved and loaded; prints all numbers that come out. Started with private names hidden."""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

import kstyle_torch as ks
from kstyle_torch import layers

RNG = np.random.default_rng(4)
Y = np.arange(24) % 2
ROWS = RNG.normal(size=(24, 5)).astype("float32") + Y[:, None]
IMAGES = RNG.normal(size=(24, 8, 8, 3)).astype("float32") + Y[:, None, None, None]
WORDS = RNG.integers(1, 9, size=(24, 7)) * (np.arange(7) < RNG.integers(1, 8, size=(24, 1)))


def mlp():
    return ROWS, [layers.Dense(8, "relu", kernel_regularizer="l2"), layers.Dense(1, "sigmoid")]


def convnet():
    return IMAGES, [
        layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Dropout(0.3), layers.Flatten(), layers.Dense(1, "sigmoid"),
    ]  # fmt: skip


def lstm():
    return WORDS, [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(5), layers.Dense(1, "sigmoid")]


CASES = {  # model, optimizer, arguments of compile(); in float64 if that is in the name
    "mlp": (mlp, ks.optimizers.RMSprop, {}),
    "mlp, float64": (mlp, ks.optimizers.Adam, {}),
    "mlp, recorded, float64": (mlp, ks.optimizers.Adam, {"jit_compile": "record"}),
    "convnet, float64": (convnet, ks.optimizers.Adam, {}),
    "convnet, recorded": (convnet, ks.optimizers.Adamax, {"jit_compile": "record"}),
    "lstm, float64": (lstm, lambda: ks.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0), {}),
    "lstm, recorded": (lstm, ks.optimizers.Lion, {"jit_compile": "record"}),
    "mlp, compiled": (mlp, ks.optimizers.RMSprop, {"jit_compile": True}),
    "mlp, compiled epoch": (mlp, ks.optimizers.RMSprop, {"jit_compile": True, "steps_per_execution": "epoch"}),
}


def numbers(case):
    """Returns all numbers of a case, and the engine's warnings."""
    make, optimizer, arguments = CASES[case]
    ks.config.set_floatx("float64" if "float64" in case else "float32")
    torch.manual_seed(3)
    x, stack = make()
    model = ks.Sequential([ks.Input(x.shape[1:]), *stack])
    model.compile(optimizer(), "binary_crossentropy", metrics=["accuracy"], **arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # enough steps for the default tier to record
        history = model.fit(x, Y, batch_size=6, epochs=30, validation_split=0.25, verbose=0).history
    found = [*history.values(), model.evaluate(x, Y, verbose=0), model.predict(x, verbose=0), *model.get_weights()]
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model.keras"))
        loaded = ks.saving.load_model(Path(folder, "model.keras"))
    found += [loaded.predict(x, verbose=0), loaded.train_on_batch(x, Y)]
    flat = np.concatenate([np.ravel(np.asarray(each, "float64")) for each in found])
    return flat.tolist(), [str(each.message) for each in caught]


if __name__ == "__main__":
    print(json.dumps({case: numbers(case) for case in sys.argv[1:]}))
