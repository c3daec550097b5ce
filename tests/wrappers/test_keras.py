"""Keras' wrappers and these give the same numbers for the same model."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

import kstyle_torch as ks
from tests.choice import parameters
from tests.oracle import assert_close

X, y = load_iris(return_X_y=True)
LABELS = np.array(["c", "a", "b"])[y]
FIT = {"epochs": 3, "batch_size": 30, "shuffle": False, "verbose": 0}


def maker(library, last, loss):
    def make(X, y):
        layers = [library.layers.Dense(5, "tanh"), library.layers.Dense(y.shape[1], last)]
        model = library.Sequential([library.Input((X.shape[1],)), *layers])
        model.compile("adam", loss)
        return model

    return make


ROWS = [
    ("SKLearnClassifier", "function", LABELS, "softmax", "categorical_crossentropy"),
    ("SKLearnClassifier", "model", LABELS, "softmax", "categorical_crossentropy"),
    ("SKLearnRegressor", "function", y * 1.0, None, "mse"),
    ("SKLearnTransformer", "function", y * 1.0, None, "mse"),
]


@pytest.mark.parametrize(
    ("name", "given", "targets", "last", "loss"), parameters(ROWS, lambda row: None, lambda row: f"{row[0]}-{row[1]}")
)
def test_numbers_are_those_of_keras(keras, name, given, targets, last, loss):
    fitted = []
    for library in (ks, keras):
        library.utils.set_random_seed(7)
        model = maker(library, last, loss)
        if given == "model":
            model = model(X, np.eye(3))
        estimator = getattr(library.wrappers, name)(model, fit_kwargs={**FIT})  # Keras changes it
        fitted.append(estimator.fit(X, targets, sample_weight=np.linspace(0.1, 2, len(X))))
    ours, theirs = fitted
    for method in {"predict", "decision_function", "transform"} & {*dir(theirs)}:
        mine, its = getattr(ours, method)(X), getattr(theirs, method)(X)
        if mine.dtype.kind == "f":
            assert_close(mine, its)
        else:
            assert mine.dtype == its.dtype and (mine == its).all()
    assert_close(ours.history_.history["loss"], theirs.history_.history["loss"])
    assert type(ours.history_).__name__ == type(theirs.history_).__name__ == "History"
    assert getattr(ours, "classes_", np.zeros(0)).tolist() == getattr(theirs, "classes_", np.zeros(0)).tolist()


@pytest.mark.parametrize("name", ["SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"])
def test_errors_are_of_the_kinds_of_keras(keras, name):
    def uncompiled(library):
        return lambda X, y: library.Sequential([library.layers.Dense(3)])

    kinds = []
    for library in (ks, keras):
        estimator = getattr(library.wrappers, name)(uncompiled(library))
        for act, *arguments in ((estimator.predict, X), (estimator.fit, X, LABELS[:5]), (estimator.fit, X, y)):
            with pytest.raises(Exception) as caught:
                act(*arguments)
            kinds.append(caught.type)
    assert kinds[:3] == kinds[3:]
