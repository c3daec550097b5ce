"""Whole fits against Keras: same starting weights, no shuffling, three epochs with validation."""

import numpy as np
import pytest

import kstyle_torch


def mlp(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def convnet(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def embedding(keras):
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(inputs)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(1)(x))


def masked_embedding(keras):
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(inputs)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def two_by_two(keras):
    layers = keras.layers
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = layers.Concatenate()([layers.Dense(8, activation="tanh")(a), layers.Dense(8, activation="tanh")(b)])
    s = layers.Add()([layers.Dense(4)(h), a])
    p = layers.Dense(1, activation="sigmoid", name="p")(s)
    q = layers.Dense(3, activation="softmax", name="q", kernel_regularizer="l2")(h)
    return keras.Model([a, b], [p, q])


def data(kind):
    rng = np.random.default_rng(7)
    if kind == "table":
        x = rng.normal(size=(150, 10)).astype("float32")
        return x, (x.sum(1) > 0).astype("int64")
    if kind == "images":
        return rng.normal(size=(100, 8, 8, 1)).astype("float32"), rng.integers(0, 3, 100)
    if kind == "tokens":
        x = rng.integers(0, 20, (110, 6))
        return x, (x.mean(1) / 20).astype("float32")
    if kind == "tagged tokens":
        return rng.integers(0, 20, (90, 6)), rng.integers(0, 3, (90, 6))
    x = [rng.normal(size=(90, 4)).astype("float32"), rng.normal(size=(90, 3)).astype("float32")]
    return x, [rng.integers(0, 2, 90).astype("float32"), rng.integers(0, 3, 90)]


CASES = {
    "mlp": (mlp, "table", {"loss": "binary_crossentropy", "metrics": ["accuracy"]}),
    "mlp-acc": (mlp, "table", {"loss": "bce", "metrics": ["acc", "mse", "binary_accuracy"]}),
    "convnet": (convnet, "images", {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}),
    "embedding": (embedding, "tokens", {"loss": "mse", "metrics": ["mae"]}),
    "masked": (
        masked_embedding,
        "tagged tokens",
        {"loss": "sparse_categorical_crossentropy", "weighted_metrics": ["accuracy"]},
    ),
    "two-by-two": (
        two_by_two,
        "pairs",
        {
            "loss": {"p": "binary_crossentropy", "q": "sparse_categorical_crossentropy"},
            "loss_weights": {"p": 1.0, "q": 0.3},
            "metrics": {"p": ["accuracy"], "q": ["accuracy"]},
        },
    ),
}


def as_list(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adamw"])
@pytest.mark.parametrize("case", CASES)
def test_fit_gives_the_numbers_of_keras(keras, case, optimizer):
    make, kind, compiled = CASES[case]
    theirs, ours = make(keras), make(kstyle_torch)
    ours.set_weights(theirs.get_weights())
    x, y = data(kind)
    for model in (theirs, ours):
        model.compile(optimizer=optimizer, **compiled)
    settings = {"epochs": 3, "batch_size": 32, "shuffle": False, "verbose": 0, "validation_split": 0.2}
    expected, got = theirs.fit(x, y, **settings).history, ours.fit(x, y, **settings).history
    assert list(got) == list(expected)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(ours.evaluate(x, y, verbose=0), theirs.evaluate(x, y, verbose=0), rtol=1e-5, atol=1e-6)
    for mine, other in zip(*(as_list(model.predict(x, verbose=0)) for model in (ours, theirs)), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("weights", ["sample", "class"])
def test_weighted_fit_gives_the_numbers_of_keras(keras, weights):
    theirs, ours = mlp(keras), mlp(kstyle_torch)
    ours.set_weights(theirs.get_weights())
    x, y = data("table")
    given = {"sample_weight": np.linspace(0, 2, len(x))} if weights == "sample" else {"class_weight": {0: 0.3, 1: 2.0}}
    histories = []
    for model in (theirs, ours):
        model.compile("adam", "bce", metrics=["accuracy"], weighted_metrics=["accuracy"])
        histories.append(model.fit(x, y, epochs=3, shuffle=False, verbose=0, **given).history)
    assert list(histories[1]) == list(histories[0])
    for name in histories[0]:
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-5, atol=1e-6, err_msg=name)
