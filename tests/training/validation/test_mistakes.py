"""Mistakes for which Keras has an error of its own: the exception is of the same type here."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import raised

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(8, 4)).astype("float32")
Y = np.tile([0.0, 1.0], 4).astype("float32")


def plain(keras, units=1, activation="sigmoid"):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation)])


def compiled(keras, loss="binary_crossentropy", units=1, optimizer="sgd", **arguments):
    model = plain(keras, units)
    model.compile(optimizer, loss, **arguments)
    return model


def fit(keras, x=X, y=Y, loss="binary_crossentropy", units=1, metrics=None, **arguments):
    return compiled(keras, loss, units, metrics=metrics).fit(x, y, verbose=0, **arguments)


def two_inputs(keras, x):
    inputs = [keras.Input((4,), name=name) for name in "ab"]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(inputs)))
    model.compile("sgd", "mse")
    return model.fit(x, Y, verbose=0)


def two_outputs(keras, loss="mse", **arguments):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(1, name=name)(inputs) for name in "pq"])
    model.compile("sgd", loss, **arguments)
    return model.fit(X, [Y, Y], verbose=0)


def batches():
    yield X, Y


MISTAKES = {
    "fit before compile": lambda keras: plain(keras).fit(X, Y, verbose=0),
    "train_on_batch before compile": lambda keras: plain(keras).train_on_batch(X, Y),
    "no loss": lambda keras: fit(keras, loss=None),
    "unknown loss": lambda keras: fit(keras, loss="binary_cross_entropy"),
    "loss is a number": lambda keras: fit(keras, loss=5),
    "unknown optimizer": lambda keras: compiled(keras, optimizer="adm"),
    "optimizer is a number": lambda keras: compiled(keras, optimizer=3),
    "unknown metric": lambda keras: fit(keras, metrics=["acurracy"]),
    "metric is a number": lambda keras: fit(keras, metrics=[5]),
    "metrics are a string": lambda keras: fit(keras, metrics="accuracy"),
    "unknown argument of compile": lambda keras: compiled(keras, nonsense=1),
    "unknown argument of fit": lambda keras: fit(keras, nonsense=1),
    "unknown argument of predict": lambda keras: plain(keras).predict(X, nonsense=1),
    "wrong features": lambda keras: fit(keras, X[:, :3]),
    "one sample": lambda keras: plain(keras).predict(X[0], verbose=0),
    "class numbers": lambda keras: fit(keras, loss="categorical_crossentropy", units=3),
    "one-hot": lambda keras: fit(keras, y=np.eye(3)[Y.astype(int)], loss="sparse_categorical_crossentropy", units=3),
    "units": lambda keras: fit(keras, units=3),
    "lengths": lambda keras: fit(keras, y=Y[:-1]),
    "length of weights": lambda keras: fit(keras, sample_weight=Y[:3]),
    "text": lambda keras: fit(keras, y=np.array(["a"] * 8)),
    "ragged": lambda keras: fit(keras, [[1, 2], [3]] * 4),
    "no samples": lambda keras: fit(keras, X[:0], Y[:0]),
    "no targets": lambda keras: fit(keras, y=None),
    "no x": lambda keras: fit(keras, None),
    "one input of two": lambda keras: two_inputs(keras, X),
    "wrong input": lambda keras: two_inputs(keras, {"a": X, "c": X}),
    "loss of another output": lambda keras: two_outputs(keras, {"p": "mse", "r": "mse"}),
    "loss_weights": lambda keras: two_outputs(keras, loss_weights=[1, 2, 3]),
    "metrics of another output": lambda keras: two_outputs(keras, metrics={"r": ["mae"]}),
    "validation_split of a generator": lambda keras: fit(keras, batches(), None, validation_split=0.5),
    "validation_split of all": lambda keras: fit(keras, validation_split=1.0),
    "validation_data of four": lambda keras: fit(keras, validation_data=(X, Y, Y, Y)),
    "validation_freq": lambda keras: fit(keras, validation_data=(X, Y), validation_freq="often"),
    "targets beside a generator": lambda keras: fit(keras, batches(), Y),
    "weights beside a generator": lambda keras: fit(keras, batches(), None, sample_weight=Y),
    "targets beside a loader": lambda keras: fit(keras, torch.utils.data.DataLoader([(X[0], Y[0])]), Y),
    "both weights": lambda keras: compiled(keras).train_on_batch(X, Y, Y, class_weight={0: 1}),
    "callback class": lambda keras: fit(keras, callbacks=[keras.callbacks.EarlyStopping]),
    "batch_size": lambda keras: fit(keras, batch_size=8.0),
    "ending of a file": lambda keras: compiled(keras).save("model"),
    "ending of weights": lambda keras: compiled(keras).save_weights("w.h5"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_exception_is_of_keras_type(mistake, keras):
    theirs = raised(lambda: MISTAKES[mistake](keras))
    assert theirs in ("ValueError", "TypeError")
    assert raised(lambda: MISTAKES[mistake](ks)) == theirs


@pytest.mark.parametrize("frequency", [0, 1.5, None], ids=str)
def test_validation_freq(frequency):
    with pytest.raises(ValueError, match=f"validation_freq must be a positive int.*got {frequency}"):
        fit(ks, validation_data=(X, Y), validation_freq=frequency)
