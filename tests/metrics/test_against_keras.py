"""Metrics against Keras over several batches, with weights and masks."""

import keras
import pytest
import torch

from kstyle_torch import losses, metrics
from tests.oracle import assert_close, integers, uniform

ROWS = 7


def one_hot(*shape):
    return torch.nn.functional.one_hot(integers(*shape, high=4), 4).float()


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
    ("mse", "MeanSquaredError", {}, uniform(ROWS, 3), uniform(ROWS, 3, seed=1)),
    ("mse-flat", "MeanSquaredError", {}, uniform(ROWS), uniform(ROWS, 1, seed=1)),
    ("mse-steps", "MeanSquaredError", {}, uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1)),
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
    again = metrics.deserialize(keras.metrics.serialize(keras.metrics.deserialize(metrics.serialize(ours))))
    assert_close(again(y_true, y_pred), ours(y_true, y_pred))


@pytest.mark.parametrize("weights", ["none", "rows", "column", "zeros", "values"])
@every_case
def test_uneven_batches(cls, arguments, y_true, y_pred, weights):
    """Batches of 3, 3 and 1 rows; then, after a reset, the first again."""
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
    values = metric._fn(y_true, y_pred, **arguments)
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
    assert ours.name == "huber"
