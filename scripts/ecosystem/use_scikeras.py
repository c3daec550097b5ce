"""Estimators of scikit-learn: a pipeline, a grid search, a copy."""

import pickle

import keras
import numpy as np
from scikeras.wrappers import KerasClassifier, KerasRegressor
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")


def build(units=8, meta=None):
    model = keras.Sequential([keras.Input((meta["n_features_in_"],)), keras.layers.Dense(units, "relu")])
    model.add(keras.layers.Dense(1, "sigmoid" if meta.get("n_classes_") else None))
    return model


classifier = KerasClassifier(build, loss="binary_crossentropy", optimizer="adam", epochs=2, verbose=0, units=8)
search = GridSearchCV(classifier, {"units": [4, 8]}, cv=2).fit(x, (x[:, 0] > 0).astype(int))
assert search.best_params_["units"] in (4, 8) and search.predict(x).shape == (60,)
regressor = make_pipeline(StandardScaler(), KerasRegressor(build, loss="mse", epochs=2, verbose=0, units=4))
regressor.fit(x, x.sum(1))
again = pickle.loads(pickle.dumps(regressor))
np.testing.assert_allclose(again.predict(x), regressor.predict(x), atol=1e-6)
assert clone(classifier).get_params()["units"] == 8
