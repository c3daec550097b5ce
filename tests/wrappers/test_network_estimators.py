"""Networks that fit themselves to the data, in scikit-learn's tools."""

import pickle
import random

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_multilabel_classification
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import kstyle_torch as ks
from kstyle_torch.wrappers import KStyleClassifier, KStyleRegressor

CHEAP = {"hidden_layer_sizes": (8,), "learning_rate": 0.05, "batch_size": 64, "epochs": 8, "random_state": 0}
KINDS = pytest.mark.parametrize("kind", [KStyleClassifier, pytest.param(KStyleRegressor, marks=pytest.mark.full)])
X, y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]


def weights_of(estimator):
    return [np.asarray(value) for value in estimator.model_.get_weights()]


def test_labels_are_what_they_were():
    classifier = KStyleClassifier(**CHEAP).fit(X, NAMES)
    assert classifier.score(X, NAMES) > 0.9
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    np.testing.assert_array_equal(classifier.predict_proba(X).argmax(1), classifier.decision_function(X).argmax(1))
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)).sum(1), 1)
    categories = KStyleClassifier(**CHEAP).fit(X, pd.Series(NAMES, dtype="category"))
    np.testing.assert_array_equal(categories.predict(X), classifier.predict(X))


def test_two_classes_have_one_output():
    X, y = load_breast_cancer(return_X_y=True)  # features from 1e-3 to 1e3: they are standardized inside
    classifier = KStyleClassifier(**CHEAP).fit(X, y)
    assert classifier.model_.output_shape == (None, 1) and classifier.score(X, y) > 0.95
    np.testing.assert_allclose(
        classifier.predict_proba(X)[:, 1], torch.sigmoid(torch.tensor(classifier.decision_function(X))).numpy()
    )


def test_sets_of_labels():
    X, y = make_multilabel_classification(n_samples=200, n_classes=4, random_state=0)
    classifier = KStyleClassifier(**CHEAP | {"epochs": 30}).fit(X, y)
    assert (classifier.predict(X) == y).mean() > 0.85 and classifier.predict(X).shape == y.shape
    assert classifier.predict_proba(X).shape == classifier.decision_function(X).shape == y.shape
    with pytest.raises(ValueError, match="4 columns of labels"):
        classifier.partial_fit(X, y[:, :2])
    with pytest.raises(ValueError, match="several columns of labels"):
        classifier.fit(X, y * 2 + y[:, :1])


def test_numbers_keep_their_units():
    X, y = load_diabetes(return_X_y=True)
    both = np.stack([1e6 + y, y / 1e3], 1)
    regressor = KStyleRegressor(**CHEAP).fit(X, both)
    predicted = regressor.predict(X)
    assert regressor.score(X, both) > 0.4 and predicted.shape == both.shape
    assert regressor.model_.predict(X, verbose=0).std() < 2  # in standard deviations
    assert KStyleRegressor(**CHEAP).fit(X, y).predict(X).shape == y.shape
    plain = KStyleRegressor(**CHEAP, standardize=False).fit(X, y)
    np.testing.assert_array_equal(plain.predict(X), plain.model_.predict(X, verbose=0)[:, 0])
    with pytest.raises(ValueError, match="y must have 2 column"):
        regressor.partial_fit(X, y)


def global_state():
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


@KINDS
def test_random_state_decides_alone(kind):
    """The result is the same whatever the global random state, which stays as it was."""
    results = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        before = global_state()
        results.append(weights_of(kind(**CHEAP, dropout=0.3, early_stopping=True).fit(X, y)))
        assert global_state() == before
    assert all(map(np.array_equal, *results))
    other = weights_of(kind(**CHEAP | {"random_state": 1}).fit(X, y))
    assert not np.array_equal(other[-2], results[0][-2])


def test_draws_of_keras_go_on_as_if_nothing_had_been_fitted():
    def draws(between):
        ks.utils.set_random_seed(3)
        first = ks.random.uniform((2,)).tolist()
        between()
        return first, ks.random.uniform((2,)).tolist(), ks.layers.Dense(2)(torch.ones(1, 2)).tolist()

    assert draws(lambda: None) == draws(lambda: KStyleRegressor(**CHEAP | {"epochs": 1}).fit(X, y))


@pytest.mark.full
def test_without_random_state_the_global_one_decides():
    def fitted(seed):
        ks.utils.set_random_seed(seed)
        return weights_of(KStyleRegressor(**CHEAP | {"random_state": None, "epochs": 1}).fit(X, y))

    assert all(map(np.array_equal, fitted(1), fitted(1)))
    assert not all(map(np.array_equal, fitted(1), fitted(2)))


def test_partial_fit_trains_one_epoch_in_another_order():
    classifier = KStyleClassifier(**CHEAP)
    with pytest.raises(ValueError, match="needs classes in its first call"):
        classifier.partial_fit(X, NAMES)
    one_class = X[:50], NAMES[:50]
    classifier.partial_fit(*one_class, classes=np.unique(NAMES), sample_weight=np.ones(50))
    model = classifier.model_
    for _ in range(10):
        classifier.partial_fit(X, NAMES)
    assert classifier.model_ is model and classifier.epoch_ == 1 and classifier.score(X, NAMES) > 0.7
    with pytest.raises(ValueError, match="must be those of the first call"):
        classifier.partial_fit(X, NAMES, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"labels \['other'\], which are not among"):
        classifier.partial_fit(X, ["other"] * len(X))
    with pytest.raises(ValueError, match="a label for each row, as in the first fit"):
        classifier.partial_fit(X, np.eye(3, dtype=int)[y])
    with pytest.raises(ValueError, match="cannot weigh classes by 'balanced'"):
        KStyleClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])


@KINDS
def test_warm_start_goes_on(kind):
    warm = kind(**CHEAP, warm_start=True).fit(X, y)
    model, loss = warm.model_, warm.history_["loss"][-1]
    assert warm.fit(X, y).model_ is model and warm.history_["loss"][0] < loss * 1.2
    cold = kind(**CHEAP).fit(X, y)
    assert cold.fit(X, y).model_ is not model and cold.history_["loss"][-1] == pytest.approx(loss)


@pytest.mark.full
def test_weights_of_classes_and_rows():
    X, y = load_breast_cancer(return_X_y=True)
    weighed = KStyleClassifier(**CHEAP, class_weight={0: 1e3, 1: 1e-3}).fit(X, y)
    assert (weighed.predict(X) == 0).mean() > 0.9
    rows = KStyleClassifier(**CHEAP).fit(X, y, sample_weight=np.where(y == 0, 1e5, 0.1))  # only ratios count
    np.testing.assert_allclose(rows.predict_proba(X), weighed.predict_proba(X), rtol=1e-6)
    balanced = KStyleClassifier(**CHEAP, class_weight="balanced").fit(X, y)
    count = np.bincount(y)
    same = KStyleClassifier(**CHEAP).fit(X, y, sample_weight=1 / count[y])
    np.testing.assert_allclose(balanced.predict_proba(X), same.predict_proba(X), rtol=1e-6)
    for weights, message in (
        (-np.ones(len(y)), "must not be negative"),
        (np.zeros(len(y)), "must not be zero for all rows"),
        (y, "sample_weight is zero for all others"),
        (np.ones((len(y), 2)), "a weight for each row"),
    ):
        with pytest.raises(ValueError, match=message):
            rows.fit(X, y, sample_weight=weights)


@pytest.mark.full
def test_early_stopping_keeps_the_best_weights():
    X, y = load_diabetes(return_X_y=True)
    stopped = KStyleRegressor((64,), learning_rate=0.02, epochs=200, early_stopping=True, random_state=0).fit(X, y)
    assert stopped.epoch_ == len(stopped.history_["val_loss"]) < 100
    assert int(np.argmin(stopped.history_["val_loss"])) < stopped.epoch_ - 5


def test_arguments_reach_the_network():
    optimizer = ks.optimizers.SGD(0.5, momentum=0.9)
    made = KStyleRegressor((5, 4), "logistic", optimizer=optimizer, alpha=0.1, dropout=0.2, epochs=1, dtype="float32")
    model = made.fit(X, y).model_
    kinds = ["Normalization", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    assert [type(layer).__name__ for layer in model.layers] == kinds
    assert model.layers[1].activation is ks.activations.sigmoid and model.layers[
        1
    ].kernel_regularizer.l2 == pytest.approx(0.1)
    assert model.optimizer is not optimizer and float(model.optimizer.learning_rate) == 0.5
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert {p.dtype for p in KStyleRegressor(**CHEAP).fit(X, y).model_.parameters()} == {torch.float64}
    assert {p.dtype for p in KStyleRegressor(**CHEAP).fit(X.astype("f"), y).model_.parameters()} == {torch.float32}


def test_sparse_features_are_taken_as_dense_ones():
    rows = scipy.sparse.random(60, 20, 0.2, random_state=0, format="csr")
    target = np.asarray(rows.sum(1)).ravel()
    networks = [KStyleRegressor(**CHEAP, early_stopping=True).fit(each, target) for each in (rows.toarray(), rows)]
    np.testing.assert_allclose(networks[1].predict(rows), networks[0].predict(rows.toarray()), rtol=1e-9)
    sets = np.stack([target > 2, target > 1], 1).astype(int)
    given = [
        KStyleClassifier(**CHEAP).fit(rows, each).predict_proba(rows) for each in (sets, scipy.sparse.csr_array(sets))
    ]
    np.testing.assert_array_equal(*given)


def test_frames_have_their_names_checked():
    frame = pd.DataFrame(X, columns=list("abcd"))
    classifier = KStyleClassifier(**CHEAP).fit(frame, NAMES)
    assert classifier.feature_names_in_.tolist() == list("abcd") and classifier.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame.rename(columns={"a": "e"}))


def test_copies_predict_the_same(tmp_path):
    classifier = KStyleClassifier(**CHEAP).fit(X, NAMES)
    joblib.dump(classifier, tmp_path / "classifier")
    for copy in (pickle.loads(pickle.dumps(classifier)), joblib.load(tmp_path / "classifier")):
        np.testing.assert_array_equal(copy.predict_proba(X), classifier.predict_proba(X))
        assert copy.history_.history == classifier.history_.history
    again = clone(classifier)
    assert not hasattr(again, "model_") and again.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        again.predict(X)


@pytest.mark.full
def test_columns_of_several_kinds_in_a_search():
    frame = pd.DataFrame({"size": X[:, 2], "colour": np.where(X[:, 3] > 1, "red", "blue")})
    columns = ColumnTransformer([("size", StandardScaler(), ["size"]), ("colour", OneHotEncoder(), ["colour"])])
    pipe = make_pipeline(columns, KStyleClassifier(**CHEAP))
    grid = {"kstyleclassifier__hidden_layer_sizes": [(4,), (8, 8)]}
    search = GridSearchCV(pipe, grid, cv=2, scoring="roc_auc_ovr").fit(frame, NAMES)
    assert search.best_score_ > 0.9


@pytest.mark.full
def test_ensembles_and_inspection():
    classifier = KStyleClassifier(**CHEAP)
    voting = VotingClassifier([("net", classifier), ("line", LogisticRegression(max_iter=1000))], voting="soft").fit(
        X, NAMES
    )
    assert voting.score(X, NAMES) > 0.9
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(X, NAMES, sample_weight=np.ones(len(X)))
    assert calibrated.score(X, NAMES) > 0.9
    importance = permutation_importance(classifier.fit(X, NAMES), X, NAMES, n_repeats=2, random_state=0)
    assert importance.importances_mean.argmax() in (2, 3)


@pytest.mark.full
def test_two_processes_find_what_one_finds():
    classifier = KStyleClassifier(**CHEAP)
    one, two = (cross_val_score(classifier, X, NAMES, cv=3, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one, two)
