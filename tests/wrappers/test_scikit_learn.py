"""Programs of Keras 2 around scikit-learn: `keras.wrappers.scikit_learn`."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kstyle_torch as ks
from kstyle_torch.compat import keras2
from kstyle_torch.layers import Dense
from kstyle_torch.wrappers.scikit_learn import KerasClassifier, KerasRegressor

pytestmark = pytest.mark.filterwarnings("ignore:keras.wrappers.scikit_learn:UserWarning")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
NUMBERS = X @ np.array([1.0, -1.0, 0.5, 0.0])
WORDS = np.where(NUMBERS > 0, "yes", "no")
THREE = np.digitize(NUMBERS, [-0.7, 0.7])


def binary(units=8):
    model = ks.Sequential([Dense(units, activation="relu", input_dim=4), Dense(1, activation="sigmoid")])
    model.compile(loss="binary_crossentropy", optimizer=ks.optimizers.Adam(0.05), metrics=["accuracy"])
    return model


def three_classes():
    model = ks.Sequential([Dense(8, activation="relu", input_dim=4), Dense(3, activation="softmax")])
    model.compile(loss="categorical_crossentropy", optimizer=ks.optimizers.Adam(0.05), metrics=["accuracy"])
    return model


def regression():
    model = ks.Sequential([Dense(1, input_dim=4)])
    model.compile(loss="mse", optimizer=ks.optimizers.Adam(0.1))
    return model


def test_classifiers():
    words = KerasClassifier(build_fn=binary, nb_epoch=10, batch_size=10, verbose=0)
    history = words.fit(X, WORDS)
    assert len(history.history["loss"]) == 10
    assert set(words.predict(X)) <= {"yes", "no"}
    assert words.predict_proba(X).shape == (60, 2)
    assert words.score(X, WORDS) > 0.8
    for labels in (THREE, ks.utils.to_categorical(THREE)):
        three = KerasClassifier(three_classes, epochs=20, verbose=0)
        three.fit(X, labels)
        assert three.score(X, labels) > 0.6


def test_regressors():
    regressor = KerasRegressor(build_fn=regression, epochs=30, verbose=0)
    regressor.fit(X, NUMBERS)
    assert regressor.predict(X).shape == (60,)
    assert -0.5 < regressor.score(X, NUMBERS) <= 0


def test_searches_and_pipelines():
    search = GridSearchCV(KerasClassifier(build_fn=binary, verbose=0), {"units": [2, 8], "epochs": [2]}, cv=2)
    search.fit(X, WORDS)
    assert search.best_params_["units"] in (2, 8)
    pipeline = make_pipeline(StandardScaler(), KerasRegressor(build_fn=regression, epochs=2, verbose=0))
    assert cross_val_score(pipeline, X, NUMBERS, cv=KFold(2)).shape == (2,)


def test_arguments_and_the_warning():
    keras2._told.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            KerasClassifier(build_fn=binary)
    assert [str(each.message) for each in told] == [
        "keras.wrappers.scikit_learn.KerasClassifier is the spelling of an older Keras: write "
        "keras.wrappers.SKLearnClassifier."
    ]
    with pytest.raises(ValueError, match=r"nothing takes 'unit'\. Did you mean 'units'"):
        KerasClassifier(build_fn=binary, unit=3)
    with pytest.raises(ValueError, match="build_fn must be a function"):
        KerasClassifier(build_fn=3)
