"""scikit-learn's methods around a model: what Keras' wrappers do, and what scikit-learn's tools need beyond it."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import kstyle_torch as ks
from kstyle_torch.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer
from tests.choice import parameters

FIT = {"epochs": 10, "verbose": 0, "batch_size": 32}
X, y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]


def network(X, y, units=8, outputs=None, last="softmax", loss="categorical_crossentropy"):
    hidden, out = ks.layers.Dense(units, "relu"), ks.layers.Dense(outputs or y.shape[1], last)
    model = ks.Sequential([ks.Input(X.shape[1:]), hidden, out])
    model.compile(ks.optimizers.Adam(0.02), loss)
    return model


def classifier(**kwargs):
    return SKLearnClassifier(network, model_kwargs=kwargs, fit_kwargs=FIT, random_state=0)


def regressor(**kwargs):
    model_kwargs = {"last": None, "loss": "mse", **kwargs}
    return SKLearnRegressor(network, model_kwargs=model_kwargs, fit_kwargs=FIT, random_state=0)


CE = ks.losses.CategoricalCrossentropy
FORMS = {
    "one-hot": {},
    "class numbers": {"loss": "sparse_categorical_crossentropy"},
    "class numbers, an object": {"loss": ks.losses.SparseCategoricalCrossentropy(from_logits=True), "last": None},
    "logits": {"loss": CE(from_logits=True), "last": None},
    "torch's loss": {"loss": torch.nn.CrossEntropyLoss(), "last": None},
    "sigmoids": {"loss": "binary_crossentropy", "last": "sigmoid"},
}
SINGLE = {
    "a probability": {"outputs": 1, "loss": "binary_crossentropy", "last": "sigmoid"},
    "a logit": {"outputs": 1, "loss": ks.losses.BinaryCrossentropy(from_logits=True), "last": None},
}


@pytest.mark.parametrize("form", parameters([*FORMS], lambda form: None))
def test_targets_are_encoded_as_the_loss_takes_them(form):
    fitted = classifier(**(FORMS | SINGLE)[form]).fit(X, NAMES)
    assert fitted.score(X, NAMES) > 0.8 and fitted.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    given = fitted.predict_proba(X)
    np.testing.assert_allclose(given.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(fitted.classes_[given.argmax(1)], fitted.predict(X))
    np.testing.assert_array_equal(fitted.decision_function(X), fitted.model_.predict(X, verbose=0))


@pytest.mark.parametrize("form", parameters([*FORMS, *SINGLE], lambda form: form in SINGLE))
def test_two_classes(form):
    two = X[y > 0], NAMES[y > 0]
    fitted = classifier(**(FORMS | SINGLE)[form]).fit(*two)
    decision, likely = fitted.decision_function(two[0]), fitted.predict_proba(two[0])
    assert decision.shape == (100,) and likely.shape == (100, 2)
    np.testing.assert_array_equal(fitted.predict(two[0]), fitted.classes_[(decision > 0).astype(int)])
    np.testing.assert_array_equal(likely[:, 1] > likely[:, 0], decision > 0)
    assert fitted.score(*two) > 0.7


def test_what_is_not_a_probability_is_refused():
    linear = classifier(last=None, loss="mse").fit(X, NAMES)
    with pytest.raises(ValueError, match=r"outputs from 0 to 1.*from_logits=True"):
        linear.predict_proba(10 * X)
    with pytest.raises(ValueError, match=r"\(None, 3\), a column for each class; got \(None, 5\)"):
        classifier(outputs=5).fit(X, NAMES)


def test_a_model_is_cloned_with_its_compilation():
    def loss(y_true, y_pred):  # not registered
        return (y_true - y_pred) ** 2

    model = network(X, y.reshape(-1, 1), last=None, loss=loss)
    model.optimizer.learning_rate = 0.005
    before = model.get_weights()
    fitted = SKLearnRegressor(model, fit_kwargs=FIT).fit(X, y)
    assert fitted.model_ is not model and fitted.model_.loss.__name__ == "loss"
    assert fitted.model_.optimizer is not model.optimizer
    assert float(fitted.model_.optimizer.learning_rate) == pytest.approx(0.005)
    assert all(map(np.array_equal, before, model.get_weights()))
    again = clone(fitted)
    assert again.model is not model and again.fit_kwargs == FIT and not hasattr(again, "model_")
    again.fit(X, y)


@pytest.mark.full
def test_optimizers_of_torch_are_not_cloned():
    by_torch = network(X, y.reshape(-1, 1))
    by_torch.compile(torch.optim.SGD(by_torch.parameters(), 0.1), "mse")
    with pytest.raises(ValueError, match="an optimizer of torch, which cannot be cloned"):
        SKLearnRegressor(by_torch).fit(X, y)


@pytest.mark.full
def test_warm_start_keeps_the_weights():
    model = network(X, y.reshape(-1, 1), last=None, loss="mse")
    warm = SKLearnRegressor(model, warm_start=True, fit_kwargs=FIT).fit(X, y)
    loss = warm.history_["loss"][-1]
    assert warm.model_ is model and warm.fit(X, y).model_ is model and warm.history_["loss"][0] < 1.2 * loss
    made = SKLearnRegressor(network, True, {"last": None, "loss": "mse"}, FIT).fit(X, y)
    first = made.model_
    assert made.fit(X, y).model_ is first
    assert made.set_params(warm_start=False).fit(X, y).model_ is not first


def test_arguments_of_fit_come_first_and_change_nothing():
    given = {"epochs": 2, "verbose": 0}
    estimator = SKLearnClassifier(network, fit_kwargs=given).fit(X, y, epochs=3)
    assert estimator.epoch_ == 3 and given == {"epochs": 2, "verbose": 0}
    assert clone(estimator).epoch_ == 0


@pytest.mark.full
def test_validation_data_has_labels():
    fitted = classifier().fit(X, NAMES, validation_data=(X, NAMES))
    assert fitted.history_["val_loss"][-1] < fitted.history_["val_loss"][0]
    one_hot = classifier().fit(X, NAMES, validation_data=(X, np.eye(3)[y]))
    assert one_hot.history_["val_loss"] == fitted.history_["val_loss"]


@pytest.mark.full
def test_weights_of_classes_are_by_label():
    fitted = classifier().fit(X, NAMES, class_weight={"setosa": 1e-3, "versicolor": 1e-3, "virginica": 1.0})
    assert (fitted.predict(X) == "virginica").mean() > 0.6
    rows = classifier().fit(X, NAMES, sample_weight=np.where(NAMES == "virginica", 1, 1e-3))
    np.testing.assert_allclose(rows.predict_proba(X), fitted.predict_proba(X), rtol=1e-5)
    with pytest.raises(ValueError, match="not in class_weight"):
        classifier().fit(X, NAMES, class_weight={0: 1, 1: 2, 2: 3})


@pytest.mark.full
def test_partial_fit():
    with pytest.raises(ValueError, match="needs classes in its first call"):
        classifier().partial_fit(X, NAMES)
    one_class = X[:50], NAMES[:50]
    fitted = classifier().partial_fit(*one_class, classes=np.unique(NAMES), sample_weight=np.ones(50))
    for _ in range(20):
        fitted.partial_fit(X, NAMES)
    assert fitted.epoch_ == 1 and fitted.score(X, NAMES) > 0.8
    numbers = regressor().partial_fit(X, y)
    assert numbers.partial_fit(X, y).epoch_ == 1
    with pytest.raises(ValueError, match="expecting 4 features"):
        numbers.partial_fit(X[:, :2], y)


def test_several_targets():
    both = np.stack([y, 2.0 * y], 1)
    fitted = regressor().fit(X, both)
    assert fitted.predict(X).shape == both.shape
    with pytest.raises(ValueError, match="y must have 2 column"):
        fitted.set_params(warm_start=True).fit(X, y)


ERRORS = {
    "not compiled": (lambda X, y: ks.Sequential([ks.layers.Dense(3)]), RuntimeError, "must be compiled"),
    "not a model": (lambda X, y: ks.layers.Dense(3), TypeError, "must return a Model; got Dense"),
    "nothing": (None, TypeError, "must be a Model, or a function"),
}


@pytest.mark.parametrize(("model", "kind", "message"), ERRORS.values(), ids=ERRORS)
def test_what_is_not_a_model(model, kind, message):
    with pytest.raises(kind, match=message):
        SKLearnClassifier(model).fit(X, y)
    with pytest.raises(NotFittedError):
        SKLearnClassifier(model).predict(X)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.linspace(0, 1, 150), "continuous"), (np.zeros(150), "only one class"), (np.eye(3)[y], "1d array")],
    ids=["numbers", "one class", "columns"],
)
def test_what_is_not_a_label(labels, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, labels)


def test_searches_set_arguments_of_the_function():
    search = GridSearchCV(classifier(), {"model__units": [1, 16], "fit__epochs": [10]}, cv=2).fit(X, NAMES)
    assert search.best_params_ == {"model__units": 16, "fit__epochs": 10} and search.best_score_ > 0.8
    assert search.best_estimator_.model_.layers[0].units == 16
    params = classifier(units=3).get_params()
    assert params["model__units"] == 3 and params["fit__epochs"] == 10
    for name in ("model__unit", "fit__epoch"):
        with pytest.raises(ValueError, match=f"Invalid parameter '{name}'.* Did you mean"):
            classifier().set_params(**{name: 1})
    with pytest.raises(ValueError, match="only a function takes arguments"):
        SKLearnRegressor(network(X, X)).set_params(model__units=3)


@pytest.mark.full
def test_transformers_name_their_columns():
    transformer = SKLearnTransformer(network, False, {"last": None, "loss": "mse"}, FIT, random_state=0)
    frame = pd.DataFrame(X, columns=list("abcd"))
    columns = ColumnTransformer([("net", transformer, ["a", "b", "c"])], remainder="passthrough")
    out = columns.set_output(transform="pandas").fit_transform(frame, np.eye(3)[y])
    assert out.columns.tolist() == [*(f"net__sklearntransformer{i}" for i in range(3)), "remainder__d"]
    pipe = make_pipeline(transformer, LogisticRegression(max_iter=1000))
    assert pipe.fit(X, y).score(X, y) > 0.6
    itself = clone(transformer).fit(X)  # without targets: X
    assert itself.model_.output_shape == (None, 4) and itself.transform(X).shape == X.shape


def test_images():
    def convnet(X, y):
        layers = [
            ks.layers.Conv2D(4, 3, activation="relu"),
            ks.layers.Flatten(),
            ks.layers.Dense(y.shape[1], "softmax"),
        ]
        model = ks.Sequential([ks.Input(X.shape[1:]), *layers])
        model.compile("adam", "categorical_crossentropy")
        return model

    images = np.random.default_rng(0).normal(size=(30, 6, 6, 1))
    fitted = SKLearnClassifier(convnet, fit_kwargs=FIT).fit(images, np.arange(30) % 3)
    assert fitted.predict_proba(images).shape == (30, 3)


@pytest.mark.full
def test_calibration_and_pickles():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(X, y, sample_weight=np.ones(len(y)))
    assert calibrated.score(X, y) > 0.9
    fitted = classifier().fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))


@pytest.mark.full
def test_metadata_is_routed_to_fit():
    with sklearn.config_context(enable_metadata_routing=True):
        asked = classifier().set_fit_request(sample_weight=True, epochs=True).set_score_request(sample_weight=False)
        search = GridSearchCV(asked, {"model__units": [4]}, cv=2)
        search.fit(X, NAMES, sample_weight=np.ones(len(X)), epochs=2)
    assert search.best_estimator_.epoch_ == 2
