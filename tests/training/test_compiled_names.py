"""Ways to compile models of several outputs, against Keras: the keys in logs, their order, and every value."""

import numpy as np
import pytest

import kstyle_torch
from tests.choice import parameters

RNG = np.random.default_rng(3)
ROWS = 24
X = RNG.normal(size=(ROWS, 5)).astype("float32")
P, Q = RNG.integers(0, 2, (ROWS, 1)).astype("float32"), RNG.integers(0, 3, ROWS)
R = RNG.normal(size=(ROWS, 2)).astype("float32")
WEIGHTS = np.linspace(0.1, 2.0, ROWS).astype("float32")


def outputs(keras, x):
    h = keras.layers.Dense(4, activation="tanh", name="h")(x)
    p = keras.layers.Dense(1, activation="sigmoid", name="p")(h)
    q = keras.layers.Dense(3, activation="softmax", name="q")(h)
    return p, q, keras.layers.Dense(2, name="r")(h)


def one(keras):
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, activation="sigmoid", name="p")])


def one_functional(keras):
    x = keras.Input((5,))
    return keras.Model(x, outputs(keras, x)[0])


def one_in_list(keras):
    x = keras.Input((5,))
    return keras.Model(x, [outputs(keras, x)[0]])


def two(keras):
    x = keras.Input((5,))
    return keras.Model(x, list(outputs(keras, x)[:2]))


def two_alike(keras):
    x = keras.Input((5,))
    a, b = (keras.layers.Dense(2, name=name)(x) for name in ("a", "b"))
    return keras.Model(x, [a, b])


def three(keras):
    x = keras.Input((5,))
    return keras.Model(x, list(outputs(keras, x)))


def by_name(keras):
    x = keras.Input((5,))
    p, q, _ = outputs(keras, x)
    return keras.Model(x, {"q": q, "p": p})


def by_other_name(keras):
    x = keras.Input((5,))
    p, q, _ = outputs(keras, x)
    return keras.Model(x, {"second": q, "first": p})


def nested(keras):
    x = keras.Input((5,))
    p, q, r = outputs(keras, x)
    return keras.Model(x, {"a": [p, q], "b": r})


def with_added_loss(keras):
    class Shrink(keras.layers.Layer):
        def call(self, x):
            self.add_loss(0.01 * keras.ops.sum(x * x))
            return x

    x = keras.Input((5,))
    p, q, _ = outputs(keras, Shrink()(x))
    return keras.Model(x, [p, q])


def with_added_loss_alone(keras):
    class Shrink(keras.layers.Layer):
        def call(self, x):
            self.add_loss(0.01 * keras.ops.sum(x * x))
            return x

    x = keras.Input((5,))
    return keras.Model(x, Shrink()(outputs(keras, x)[0]))


def subclass(keras):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(1, activation="sigmoid")
            self.second = keras.layers.Dense(3, activation="softmax")

        def call(self, x):
            return self.first(x), self.second(x)

    model = Two()
    model(X[:1])
    return model


def subclass_by_name(keras):
    class Named(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(1, activation="sigmoid")
            self.second = keras.layers.Dense(3, activation="softmax")

        def call(self, x):
            return {"p": self.first(x), "b": self.second(x)}

    model = Named()
    model(X[:1])
    return model


def half_error(y_true, y_pred):
    return abs(y_true - y_pred) / 2


def camelCase(y_true, y_pred):  # noqa: N802
    return abs(y_true - y_pred)


BCE, SCE = "binary_crossentropy", "sparse_categorical_crossentropy"
PQ, PQR, BOTH = [P, Q], [P, Q, R], {"p": P, "q": Q}
TWICE = [R, R + 1]

# name: model, targets, what compile gets for a library, whether samples are weighted
CASES = {
    "one": (one, P, lambda k: {"loss": "bce"}),
    "one-metrics": (one, P, lambda k: {"loss": BCE, "metrics": ["acc", "mse", "mae"]}),
    "one-loss-list": (one, P, lambda k: {"loss": ["mse"], "metrics": [["mae"]]}),
    "one-loss-dict": (one_functional, P, lambda k: {"loss": {"p": "mse"}, "metrics": {"p": ["mae"]}}),
    "one-in-list": (one_in_list, [P], lambda k: {"loss": ["mse"], "metrics": ["mae"]}),
    "one-weight": (one, P, lambda k: {"loss": "mse", "loss_weights": 0.3}),
    "one-weight-list": (one, P, lambda k: {"loss": ["mse"], "loss_weights": [0.3]}),
    "one-weight-dict": (one_functional, P, lambda k: {"loss": {"p": "mse"}, "loss_weights": {"p": 0.3}}),
    "one-same-metric-twice": (
        one,
        P,
        lambda k: {"loss": "mse", "metrics": ["mae", "mae", k.metrics.MeanAbsoluteError()]},
    ),
    "one-weighted": (
        one,
        P,
        lambda k: {"loss": "mse", "metrics": ["mae", "mse"], "weighted_metrics": ["mae", "mae", "acc"]},
        WEIGHTS,
    ),
    "one-weighted-without-weights": (one, P, lambda k: {"loss": "mse", "weighted_metrics": ["mae"]}),
    "one-function": (one, P, lambda k: {"loss": half_error, "metrics": [half_error, camelCase]}),
    "one-function-class-metric": (
        one,
        P,
        lambda k: {
            "loss": k.losses.Huber(name="h"),
            "metrics": [k.losses.mean_absolute_error, k.metrics.BinaryAccuracy()],
        },
    ),
    "one-crossentropy": (one, P, lambda k: {"loss": "crossentropy", "metrics": ["accuracy"]}),
    "two-crossentropy": (two, PQ, lambda k: {"loss": "crossentropy", "metrics": ["accuracy", "accuracy"]}),
    "two-list": (two, PQ, lambda k: {"loss": [BCE, SCE]}),
    "two-list-metrics": (two, PQ, lambda k: {"loss": [BCE, SCE], "metrics": [["acc"], ["accuracy"]]}),
    "two-list-flat-metrics": (two, PQ, lambda k: {"loss": [BCE, SCE], "metrics": ["accuracy", "acc"]}),
    "two-list-uneven-metrics": (two, PQ, lambda k: {"loss": [BCE, SCE], "metrics": [["accuracy", "mse"], []]}),
    "two-list-none-metrics": (two, PQ, lambda k: {"loss": [BCE, SCE], "metrics": [None, ["accuracy"]]}),
    "two-dict": (two, PQ, lambda k: {"loss": {"q": SCE, "p": BCE}, "metrics": {"q": "accuracy"}}),
    "two-dict-y-dict": (two, BOTH, lambda k: {"loss": {"p": BCE, "q": SCE}, "metrics": {"q": ["acc"], "p": ["mse"]}}),
    "two-list-y-dict": (two, BOTH, lambda k: {"loss": [BCE, SCE], "metrics": {"p": "acc"}}),
    "two-weights": (two, PQ, lambda k: {"loss": [BCE, SCE], "loss_weights": [0.2, 2.0]}),
    "two-weights-dict": (two, PQ, lambda k: {"loss": {"p": BCE, "q": SCE}, "loss_weights": {"q": 0.2, "p": 2.0}}),
    "two-alike": (two_alike, TWICE, lambda k: {"loss": "mse", "metrics": ["mae", "mae"]}),
    "two-alike-one-object": (
        two_alike,
        TWICE,
        lambda k: {"loss": k.losses.Huber(), "metrics": [k.metrics.MeanSquaredError(), k.metrics.MeanAbsoluteError()]},
    ),
    "two-none": (two, PQ, lambda k: {"loss": [BCE, None], "metrics": [["acc"], ["acc"]]}),
    "two-none-y-short": (two, [P], lambda k: {"loss": [BCE, None]}),
    "two-several-losses": (two, PQ, lambda k: {"loss": [[BCE, "mse"], SCE], "metrics": ["acc", "acc"]}),
    "two-tuples": (two, (P, Q), lambda k: {"loss": (BCE, SCE), "metrics": (("acc", "mse"), ("acc",))}),
    "three-none": (three, PQR, lambda k: {"loss": [BCE, None, "mse"], "metrics": [None, "acc", "mae"]}),
    "two-weighted": (
        two,
        PQ,
        lambda k: {"loss": [BCE, SCE], "metrics": [["acc"], ["acc"]], "weighted_metrics": [["acc", "mse"], ["acc"]]},
        WEIGHTS,
    ),
    "two-weighted-list": (
        two,
        PQ,
        lambda k: {"loss": [BCE, SCE], "weighted_metrics": {"p": ["mse", "mse"]}},
        [WEIGHTS, 2 - WEIGHTS],
    ),
    "two-same-metric": (
        two,
        PQ,
        lambda k: {"loss": [BCE, SCE], "metrics": [["mse", "mse", "mse"], ["acc", "accuracy"]]},
    ),
    "three-dict": (
        three,
        PQR,
        lambda k: {"loss": {"p": BCE, "q": SCE, "r": "mse"}, "metrics": {"r": ["mae"], "p": ["acc"]}},
    ),
    "two-functions": (
        two_alike,
        TWICE,
        lambda k: {"loss": [half_error, camelCase], "metrics": [camelCase, half_error]},
    ),
    "dict": (by_name, BOTH, lambda k: {"loss": {"p": BCE, "q": SCE}, "metrics": {"p": ["acc"], "q": ["acc"]}}),
    "dict-weights": (
        by_name,
        BOTH,
        lambda k: {
            "loss": {"p": BCE, "q": SCE},
            "loss_weights": {"p": 0.5, "q": 2.0},
            "weighted_metrics": {"p": ["mse"]},
        },
    ),
    "dict-one-loss": (by_name, {"p": P, "q": P[:, [0, 0, 0]]}, lambda k: {"loss": "mse", "metrics": {"q": "mae"}}),
    "dict-all-weighted": (
        by_name,
        BOTH,
        lambda k: {"loss": {"q": SCE, "p": BCE}, "weighted_metrics": {"q": "acc", "p": "acc"}},
        {"p": WEIGHTS, "q": 2 - WEIGHTS},
    ),
    "dict-other-names": (
        by_other_name,
        {"first": P, "second": Q},
        lambda k: {"loss": {"first": BCE, "second": SCE}, "metrics": {"second": ["acc"]}},
    ),
    "dict-one-missing": (by_name, BOTH, lambda k: {"loss": {"p": BCE}, "metrics": {"q": ["acc"]}}),
    "nested": (
        nested,
        {"a": PQ, "b": R},
        lambda k: {"loss": {"a": [BCE, SCE], "b": "mse"}, "metrics": {"a": [["acc"], ["acc"]], "b": ["mae"]}},
    ),
    "nested-one-loss": (nested, {"a": [P, P[:, [0, 0, 0]]], "b": R}, lambda k: {"loss": "mse"}),
    "added-loss": (with_added_loss, PQ, lambda k: {"loss": [BCE, SCE], "metrics": [["acc"], ["acc"]]}),
    "added-loss-alone": (with_added_loss_alone, None, lambda k: {}),
    "subclass": (subclass, (P, Q), lambda k: {"loss": (BCE, SCE), "metrics": (["acc"], ["acc"])}),
    "subclass-alike": (
        subclass,
        (P, P[:, [0, 0, 0]]),
        lambda k: {"loss": ("mse", "mse"), "metrics": (["mae"], ["mae"])},
    ),
    "subclass-dict": (
        subclass_by_name,
        {"p": P, "b": Q},
        lambda k: {"loss": {"p": BCE, "b": SCE}, "metrics": {"p": ["acc"], "b": ["acc"]}},
    ),
}


@pytest.mark.filterwarnings("ignore:.*got no gradient:UserWarning")  # Keras, of outputs without a loss
@pytest.mark.parametrize("case", parameters(CASES, lambda case: case.partition("-")[0]))
def test_names_order_and_values_are_those_of_keras(keras, case):
    make, y, compiled, *weights = CASES[case]
    weight = weights[0] if weights else None
    models = theirs, ours = make(keras), make(kstyle_torch)
    ours.set_weights(theirs.get_weights())
    results = []
    for library, model in zip((keras, kstyle_torch), models, strict=True):
        model.compile("sgd", **compiled(library))
        settings = {"sample_weight": weight, "verbose": 0, "batch_size": 10}
        history = model.fit(X, y, shuffle=False, validation_data=(X, y), **settings).history
        listed, named = model.evaluate(X, y, **settings), model.evaluate(X, y, return_dict=True, **settings)
        results.append((history, named, listed if isinstance(listed, list) else [listed], model.metrics_names))
    (history, named, listed, names), (my_history, my_named, my_listed, my_names) = results
    assert list(my_history) == list(history)
    assert list(my_named) == list(named)
    assert my_names == names
    for key in history:
        np.testing.assert_allclose(my_history[key], history[key], rtol=1e-5, atol=1e-6, err_msg=key)
    for key in named:
        np.testing.assert_allclose(my_named[key], named[key], rtol=1e-5, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(my_listed, listed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["vector", "dict"])
def test_metrics_of_several_numbers_are_logged_as_in_keras(keras, kind):
    def metric(library):
        class Pair(library.metrics.Metric):
            def update_state(self, y_true, y_pred, sample_weight=None):
                pass

            def result(self):
                return {"b": 1.0, "a": 2.0}

        return library.metrics.F1Score() if kind == "vector" else Pair()

    results = []
    y = np.eye(3, dtype="float32")[Q]
    weights = None
    for library in (keras, kstyle_torch):
        model = library.Sequential([library.Input((5,)), library.layers.Dense(3, activation="softmax")])
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile("sgd", "categorical_crossentropy", metrics=[metric(library)])
        history = model.fit(X, y, verbose=0, shuffle=False).history
        results.append((history, model.evaluate(X, y, verbose=0)))
    (theirs, listed), (ours, my_listed) = results
    assert list(ours) == list(theirs)
    for mine, other in zip([*ours.values(), *my_listed], [*theirs.values(), *listed], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_compute_loss_in_a_loop_of_ones_own(keras):
    """Before any fit: the compiled loss, penalties and added losses; and of a model that is not compiled."""

    def network(library):
        class Shrink(library.layers.Layer):
            def call(self, x):
                self.add_loss(0.01 * library.ops.sum(x * x))
                return x

        x = library.Input((5,))
        return library.Model(x, library.layers.Dense(1, kernel_regularizer="l2")(Shrink()(x)))

    theirs, ours = network(keras), network(kstyle_torch)
    ours.set_weights(theirs.get_weights())
    values = []
    for model in (theirs, ours):
        found = [model.compute_loss(X, P, model(X))]
        model.compile("sgd", "mse")
        found += [model.compute_loss(X, P, model(X)), model.compute_loss(X, P, model(X), WEIGHTS)]
        values.append([float(value.detach()) for value in found])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
