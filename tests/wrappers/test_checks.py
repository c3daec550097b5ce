"""scikit-learn's own checks of estimators, with cheap networks."""

import pytest
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_sample_weight_equivalence_on_dense_data,
    check_sample_weight_equivalence_on_sparse_data,
)

from kstyle_torch import Input, Sequential, layers, losses, optimizers
from kstyle_torch.wrappers import (
    KStyleClassifier,
    KStyleRegressor,
    SKLearnClassifier,
    SKLearnRegressor,
    SKLearnTransformer,
)
from tests.choice import parameters

CHEAP = {"hidden_layer_sizes": (8,), "learning_rate": 0.1, "epochs": 5, "random_state": 0}
SIZE = 64  # several batches in the checks that train on more than a handful of rows, one in those of sample weights


def network(X, y, loss, last=None):
    """A small network in float64, whose loss is a weighted mean, as scikit-learn's equivalence of weights asks for."""
    given = {"dtype": "float64"}
    hidden, out = layers.Dense(8, "relu", **given), layers.Dense(y.shape[1], last, **given)
    model = Sequential([Input(X.shape[1:], **given), hidden, out], **given)
    model.compile(optimizers.Adam(0.1), loss(reduction="mean_with_sample_weight", **given))
    return model


def around_network(kind, batch_size, **model_kwargs):
    fit_kwargs = {"epochs": 1 if kind is SKLearnTransformer else 3, "batch_size": batch_size, "verbose": 0}
    return kind(network, model_kwargs=model_kwargs, fit_kwargs=fit_kwargs, random_state=0)


MAKERS = {
    "KStyleRegressor": lambda size: KStyleRegressor(**CHEAP, batch_size=size),
    "KStyleClassifier": lambda size: KStyleClassifier(**CHEAP, batch_size=size),
    "SKLearnClassifier": lambda size: around_network(
        SKLearnClassifier, size, loss=losses.CategoricalCrossentropy, last="softmax"
    ),
    "SKLearnRegressor": lambda size: around_network(SKLearnRegressor, size, loss=losses.MeanSquaredError),
    "SKLearnTransformer": lambda size: around_network(SKLearnTransformer, size, loss=losses.MeanSquaredError),
}
NEEDS_A_SETTING = {"check_array_api_input"}  # of scipy's, in the environment


@pytest.mark.parametrize(
    "name", [name if name == "SKLearnTransformer" else pytest.param(name, marks=pytest.mark.full) for name in MAKERS]
)
def test_all_checks_pass(name):
    results = check_estimator(MAKERS[name](SIZE), on_fail=None, on_skip=None)
    assert {each["check_name"]: each["exception"] for each in results if each["status"] == "failed"} == {}
    assert {each["check_name"] for each in results if each["status"] == "skipped"} <= NEEDS_A_SETTING
    assert len(results) > 50


@pytest.mark.parametrize("name", parameters([*MAKERS], lambda name: None, str))
def test_weights_are_not_repeated_rows_in_mini_batches(name):
    """The one check that fails then, as it does for scikit-learn's SGDClassifier: repeated rows make other batches."""
    for check in (check_sample_weight_equivalence_on_dense_data, check_sample_weight_equivalence_on_sparse_data):
        with pytest.raises(AssertionError, match="is not equivalent"):
            check(name, MAKERS[name](4))
