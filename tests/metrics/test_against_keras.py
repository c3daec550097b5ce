"""Metrics against Keras over several batches, with weights and masks."""

import keras
import pytest
import torch

from kstyle_torch import losses, metrics
from tests.oracle import assert_close, integers, one_hot, uniform

ROWS = 7


def probabilities(*shape):
    """Some of them exactly 0 or 1."""
    drawn = uniform(*shape, low=0.0)
    return torch.where(drawn > 0.9, 1.0, torch.where(drawn < 0.1, 0.0, drawn))


BINARY = integers(ROWS, 3, high=2).float(), uniform(ROWS, 3, low=-4.0, high=4.0)
LOGITS = uniform(ROWS, 4, low=-4.0, high=4.0)
SORTED_IDS = integers(ROWS, high=4), uniform(ROWS, 4, seed=3).argsort(1)

# id, class, arguments, targets, predictions
CASES = [
    ("accuracy", "Accuracy", {}, integers(ROWS, high=3), integers(ROWS, high=3, seed=1)),
    ("accuracy-columns", "Accuracy", {}, integers(ROWS, 2, high=3), integers(ROWS, 2, high=3, seed=1)),
    ("binary", "BinaryAccuracy", {}, integers(ROWS, 1, high=2).float(), uniform(ROWS, 1, low=0.0)),
    ("binary-int", "BinaryAccuracy", {}, integers(ROWS, 1, high=2), uniform(ROWS, 1, low=0.0)),
    ("binary-flat", "BinaryAccuracy", {}, integers(ROWS, high=2).float(), uniform(ROWS, 1, low=0.0)),
    ("binary-columns", "BinaryAccuracy", {}, integers(ROWS, 3, high=2).float(), uniform(ROWS, 3, low=0.0)),
    ("binary-threshold", "BinaryAccuracy", {"threshold": 0.8}, integers(ROWS, 3, high=2).float(), uniform(ROWS, 3)),
    ("categorical", "CategoricalAccuracy", {}, one_hot(ROWS), uniform(ROWS, 4)),
    ("categorical-steps", "CategoricalAccuracy", {}, one_hot(ROWS, 5), uniform(ROWS, 5, 4)),
    ("sparse", "SparseCategoricalAccuracy", {}, integers(ROWS, high=4), uniform(ROWS, 4)),
    ("sparse-column", "SparseCategoricalAccuracy", {}, integers(ROWS, 1, high=4), uniform(ROWS, 4)),
    ("sparse-float", "SparseCategoricalAccuracy", {}, integers(ROWS, high=4).float(), uniform(ROWS, 4)),
    ("sparse-steps", "SparseCategoricalAccuracy", {}, integers(ROWS, 5, high=4), uniform(ROWS, 5, 4)),
    ("top-k", "TopKCategoricalAccuracy", {"k": 2}, one_hot(ROWS), uniform(ROWS, 4)),
    ("top-k-ties", "TopKCategoricalAccuracy", {"k": 2}, one_hot(ROWS), integers(ROWS, 4, high=2).float()),
    ("top-k-steps", "TopKCategoricalAccuracy", {"k": 3}, one_hot(ROWS, 5), uniform(ROWS, 5, 4)),
    ("sparse-top-k", "SparseTopKCategoricalAccuracy", {"k": 2}, integers(ROWS, high=4), uniform(ROWS, 4)),
    ("sparse-top-k-column", "SparseTopKCategoricalAccuracy", {"k": 2}, integers(ROWS, 1, high=4), uniform(ROWS, 4)),
    ("sparse-top-k-steps", "SparseTopKCategoricalAccuracy", {"k": 2}, integers(ROWS, 5, high=4), uniform(ROWS, 5, 4)),
    ("sparse-top-k-ids", "SparseTopKCategoricalAccuracy", {"k": 2, "from_sorted_ids": True}, *SORTED_IDS),
    ("pearson", "PearsonCorrelation", {}, uniform(ROWS, 4), uniform(ROWS, 4, seed=1)),
    ("pearson-axes", "PearsonCorrelation", {"axis": (1, 2)}, uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1)),
    ("concordance", "ConcordanceCorrelation", {}, uniform(ROWS, 4), uniform(ROWS, 4, seed=1)),
    ("concordance-axis", "ConcordanceCorrelation", {"axis": 1}, uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1)),
    ("cosine", "CosineSimilarity", {}, uniform(ROWS, 4), uniform(ROWS, 4, seed=1)),
    ("cosine-zero", "CosineSimilarity", {}, torch.zeros(ROWS, 4), uniform(ROWS, 4, seed=1)),
    ("cosine-flat", "CosineSimilarity", {}, uniform(ROWS), uniform(ROWS, 1, seed=1)),
    ("cosine-axis", "CosineSimilarity", {"axis": 1}, uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1)),
    ("bce", "BinaryCrossentropy", {}, integers(ROWS, 3, high=2), probabilities(ROWS, 3)),
    ("bce-logits", "BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, *BINARY),
    ("cce", "CategoricalCrossentropy", {}, one_hot(ROWS), probabilities(ROWS, 4)),
    ("cce-logits", "CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, one_hot(ROWS), LOGITS),
    ("scce", "SparseCategoricalCrossentropy", {}, integers(ROWS, high=4), probabilities(ROWS, 4)),
    ("scce-logits", "SparseCategoricalCrossentropy", {"from_logits": True}, integers(ROWS, 1, high=4), LOGITS),
    ("scce-ignored", "SparseCategoricalCrossentropy", {"ignore_class": 0}, integers(ROWS, high=4), LOGITS.softmax(-1)),
    ("kl", "KLDivergence", {}, probabilities(ROWS, 4), probabilities(ROWS, 4)),
    ("poisson", "Poisson", {}, integers(ROWS, 3).float(), uniform(ROWS, 3, low=0.0)),
    ("hinge", "Hinge", {}, integers(ROWS, 3, high=2) * 2 - 1, uniform(ROWS, 3, low=-2.0, high=2.0)),
    ("hinge-binary", "Hinge", {}, integers(ROWS, 3, high=2), uniform(ROWS, 3, low=-2.0, high=2.0)),
    ("squared-hinge", "SquaredHinge", {}, integers(ROWS, 1, high=2), uniform(ROWS, 1, low=-2.0, high=2.0)),
    ("categorical-hinge", "CategoricalHinge", {}, one_hot(ROWS), uniform(ROWS, 4)),
    ("mape", "MeanAbsolutePercentageError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("mape-zero", "MeanAbsolutePercentageError", {}, torch.zeros(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("msle", "MeanSquaredLogarithmicError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("logcosh", "LogCoshError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1) * 20),
    ("mse", "MeanSquaredError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("mse-flat", "MeanSquaredError", {}, uniform(ROWS), uniform(ROWS, 1, seed=1)),
    ("mse-steps", "MeanSquaredError", {}, uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1)),
    ("rmse", "RootMeanSquaredError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("rmse-flat", "RootMeanSquaredError", {}, uniform(ROWS), uniform(ROWS, 1, seed=1)),
    ("rmse-int", "RootMeanSquaredError", {}, integers(ROWS, 3), integers(ROWS, 3, seed=1)),
    ("mae", "MeanAbsoluteError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("mae-flat", "MeanAbsoluteError", {}, uniform(ROWS), uniform(ROWS, 1, seed=1)),
]
every_case = pytest.mark.parametrize(
    ("cls", "arguments", "y_true", "y_pred"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)


def pair(cls, **arguments):
    return getattr(metrics, cls)(**arguments), getattr(keras.metrics, cls)(**arguments)


@every_case
def test_one_batch(cls, arguments, y_true, y_pred):
    ours, theirs = pair(cls, **arguments)
    assert_close(ours(y_true, y_pred), theirs(y_true, y_pred))


@every_case
def test_name_and_config(cls, arguments, y_true, y_pred):
    ours, theirs = pair(cls, **arguments)
    assert ours.name == theirs.name
    assert theirs.get_config().items() <= ours.get_config().items()
    assert ours.get_config().keys() - theirs.get_config().keys() <= {"axis", "from_sorted_ids"}  # Keras loses these
    assert_close(metrics.deserialize(metrics.serialize(ours))(y_true, y_pred), ours(y_true, y_pred))


@every_case
def test_files_of_either(cls, arguments, y_true, y_pred):
    ours, theirs = pair(cls, **arguments)
    if cls == "CosineSimilarity":
        arguments = {}  # Keras loses the axis
    there = keras.metrics.deserialize(metrics.serialize(ours))
    assert there.get_config() == pair(cls, **arguments)[1].get_config()
    here = metrics.deserialize(keras.metrics.serialize(theirs))
    assert here.get_config() == pair(cls, **arguments)[0].get_config()


@every_case
def test_uneven_batches(cls, arguments, y_true, y_pred):
    """Batches of 3, 3 and 1 rows; then, after a reset, the first again."""
    for weights in ("none", "rows", "column", "zeros", "values"):
        check_uneven_batches(cls, arguments, y_true, y_pred, weights)


def check_uneven_batches(cls, arguments, y_true, y_pred, weights):
    ours, theirs = pair(cls, **arguments)
    weight = sample_weight(weights, ours, arguments, y_true, y_pred)
    for start in (0, 3, 6):
        rows = slice(start, start + 3)
        part = None if weight is None else weight[rows]
        for metric in (ours, theirs):
            metric.update_state(y_true[rows], y_pred[rows], sample_weight=part)
        assert_close(ours.result(), theirs.result())
    for metric in (ours, theirs):
        metric.reset_state()
    assert_close(ours.result(), theirs.result())
    for metric in (ours, theirs):
        metric.update_state(y_true[:3], y_pred[:3])
    assert_close(ours.result(), theirs.result())


def sample_weight(kind, metric, arguments, y_true, y_pred):
    """Weights of rows, or of all the values that the metric averages."""
    if kind == "none":
        return None
    values = metric._fn(y_true, y_pred, **arguments) if hasattr(metric, "_fn") else y_pred
    shape = {"column": (ROWS, 1), "values": tuple(values.shape)}.get(kind, (ROWS,))
    return torch.zeros(ROWS) if kind == "zeros" else uniform(*shape, low=0.0, high=2.0)


STEPS = [case for case in CASES if case[0].endswith("-steps")]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("cls", "arguments", "y_true", "y_pred"), [case[1:] for case in STEPS], ids=[c[0] for c in STEPS]
)
def test_masks(cls, arguments, y_true, y_pred, weighted):
    ours, theirs = pair(cls, **arguments)
    y_pred = y_pred.clone()
    y_pred._keras_mask = integers(ROWS, 5, high=3, seed=5) > 0
    weight = uniform(ROWS, 5, low=0.0, high=2.0) if weighted else None
    for metric in (ours, theirs):
        metric.update_state(y_true, y_pred, sample_weight=weight)
    assert_close(ours.result(), theirs.result())


@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 0.0]], ids=["plain", "weighted"])
@pytest.mark.parametrize("values", [[1.0, 2.0, 6.0], [[1, 2], [3, 4], [5, 7]]], ids=["flat", "columns"])
def test_mean(values, weight):
    ours, theirs = metrics.Mean(), keras.metrics.Mean()
    for metric in (ours, theirs, ours, theirs):
        metric.update_state(values, sample_weight=weight)
    assert_close(ours.result(), theirs.result())


def test_mean_of_scalars():
    ours, theirs = metrics.Mean(name="loss"), keras.metrics.Mean(name="loss")
    for value in (1.0, 4.0, torch.tensor(2.5)):
        ours.update_state(value)
        theirs.update_state(value)
    assert_close(ours.result(), theirs.result())
    ours.update_state(3.0, sample_weight=32)
    theirs.update_state(3.0, sample_weight=32)
    assert_close(ours.result(), theirs.result())
    assert ours.name == theirs.name == "loss"


def test_result_before_the_first_batch_is_zero():
    assert float(metrics.Mean().result()) == float(keras.metrics.Mean().result())


FUNCTIONS = [
    ("binary_accuracy", CASES[5][3], CASES[5][4]),
    ("categorical_accuracy", *CASES[8][3:]),
    ("sparse_categorical_accuracy", *CASES[12][3:]),
    ("sparse_categorical_accuracy", *CASES[10][3:]),
]


@pytest.mark.parametrize(
    ("name", "y_true", "y_pred"), FUNCTIONS, ids=["binary", "categorical", "sparse", "sparse-column"]
)
def test_functions(name, y_true, y_pred):
    assert_close(getattr(metrics, name)(y_true, y_pred), getattr(keras.metrics, name)(y_true, y_pred))


def test_loss_function_as_a_metric():
    y_true, y_pred = uniform(ROWS, 3), uniform(ROWS, 3, seed=1)
    ours = metrics.MeanMetricWrapper(losses.huber, delta=0.3)
    theirs = keras.metrics.MeanMetricWrapper(keras.losses.huber, delta=0.3)
    assert_close(ours(y_true, y_pred), theirs(y_true, y_pred))
    assert ours.name.split("_")[:2] == theirs.name.split("_")[:2] == ["mean", "metric"]
