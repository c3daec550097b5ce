"""A search over the size of a layer and the learning rate."""

import tempfile

import keras
import keras_tuner
import numpy as np

x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = x.sum(1, keepdims=True)


def build(choices):
    model = keras.Sequential([keras.layers.Dense(choices.Int("units", 4, 16, step=4)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(choices.Float("rate", 1e-3, 1e-1, sampling="log")), "mse")
    return model


for kind in (keras_tuner.RandomSearch, keras_tuner.Hyperband):
    limits = {"max_trials": 2} if kind is keras_tuner.RandomSearch else {"max_epochs": 2}
    tuner = kind(build, objective="val_loss", directory=tempfile.mkdtemp(), seed=1, **limits)
    tuner.search(x, y, validation_split=0.25, epochs=2, verbose=0)
    assert tuner.get_best_hyperparameters()[0]["units"] % 4 == 0
    assert tuner.get_best_models()[0].predict(x, verbose=0).shape == (64, 1)
