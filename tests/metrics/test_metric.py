"""What users may write for a metric, their own metrics, and copies."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch
from keras.src.metrics import ALL_OBJECTS_DICT

from kstyle_torch import metrics
from kstyle_torch.metrics.accuracy import resolve_accuracy
from kstyle_torch.metrics.base import registry
from kstyle_torch.metrics.lookup import is_accuracy, to_metric
from kstyle_torch.utils import clear_session
from tests.oracle import assert_close, integers, uniform


class CountRight(metrics.Metric):
    """How many predictions are on the right side of 0.5, and by what the largest was exceeded."""

    def __init__(self, name="count_right", **kwargs):
        super().__init__(name=name, **kwargs)
        self.right = self.add_weight(name="right", initializer="zeros")
        self.lowest = self.add_variable(shape=(2,), initializer="ones", name="lowest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.right.assign_add(((y_pred > 0.5) == (y_true > 0.5)).sum())
        self.lowest.assign(torch.minimum(self.lowest, y_pred.min()))

    def result(self):
        return {"right": self.right.value, "lowest": self.lowest.value.sum()}


def test_custom_metric():
    metric = CountRight()
    y_true, y_pred = integers(6, 1, high=2), uniform(6, 1, low=0.0)
    for _ in range(2):
        result = metric(y_true, y_pred)
    assert float(result["right"]) == 2 * int(((y_pred > 0.5) == (y_true > 0.5)).sum())
    assert [variable.name for variable in metric.variables] == ["right", "lowest"]
    metric.reset_state()
    assert float(metric.result()["right"]) == 0.0
    assert float(metric.result()["lowest"]) == 0.0  # Keras too sets back to zeros, whatever the initializer
    assert CountRight.from_config(metric.get_config()).name == "count_right"


def test_metric_without_super_init_arguments_gets_a_name():
    class Nameless(metrics.Metric):
        pass

    assert Nameless().name == "nameless"
    with pytest.raises(NotImplementedError, match="Nameless must define update_state"):
        Nameless().update_state()
    with pytest.raises(NotImplementedError, match="Nameless must define result"):
        Nameless().result()


NAMES = {
    "mse": "MeanSquaredError",
    "MSE": "MeanSquaredError",
    "mean_squared_error": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "mean_absolute_error": "MeanAbsoluteError",
    "binary_accuracy": "BinaryAccuracy",
    "BinaryAccuracy": "BinaryAccuracy",
    "categorical_accuracy": "CategoricalAccuracy",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
}


@pytest.mark.parametrize("name", NAMES)
def test_name_gives_the_class_and_is_kept(name):
    metric = to_metric(name)
    assert type(metric).__name__ == NAMES[name]
    assert metric.name == name


@pytest.mark.parametrize(
    "identifier",
    [metrics.BinaryAccuracy, metrics.BinaryAccuracy(), metrics.binary_accuracy],
    ids=["class", "object", "function"],
)
def test_all_kinds_of_identifier(identifier):
    y_true, y_pred = integers(6, 1, high=2).float(), uniform(6, 1, low=0.0)
    metric = to_metric(identifier)
    assert metric.name == "binary_accuracy"
    assert_close(metric(y_true, y_pred), metrics.BinaryAccuracy()(y_true, y_pred))


def test_custom_function():
    def gap(y_true, y_pred):
        return (y_true - y_pred).abs()

    metric = to_metric(gap)
    assert metric.name == "gap"
    assert_close(metric(uniform(6, 2), torch.zeros(6, 2)), uniform(6, 2).abs().mean())


def test_custom_function_of_the_whole_batch():
    metric = to_metric(lambda y_true, y_pred: (y_true - y_pred).abs().max())
    metric.update_state(torch.zeros(3, 1), torch.ones(3, 1))
    metric.update_state(torch.zeros(3, 1), 3 * torch.ones(3, 1))
    assert float(metric.result()) == 2.0
    assert not metric.rowwise


class UpdateAndCompute:
    """The shape of torchmetrics' objects."""

    def __init__(self):
        self.seen = []

    def update(self, preds, target):
        self.seen.append((preds, target))

    def compute(self):
        return torch.tensor(float(len(self.seen)))

    def reset(self):
        self.seen.clear()


def test_object_of_another_library():
    metric = to_metric(UpdateAndCompute())
    metric.update_state(torch.zeros(4), uniform(4, 1).requires_grad_())
    preds, target = metric.metric.seen[0]
    assert metric.name == "update_and_compute"
    assert preds.shape == target.shape == (4,) and not preds.requires_grad
    assert float(metric.result()) == 1.0
    metric.reset_state()
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize(
    ("target", "output", "expected"),
    [
        ((6, 1), (6, 1), "BinaryAccuracy"),
        ((6,), (6, 1), "BinaryAccuracy"),
        ((6, 4), (6, 4), "CategoricalAccuracy"),
        ((6,), (6, 4), "SparseCategoricalAccuracy"),
        ((6, 1), (6, 4), "SparseCategoricalAccuracy"),
        ((6, 5), (6, 5, 4), "SparseCategoricalAccuracy"),
        ((6, 5, 4), (6, 5, 4), "CategoricalAccuracy"),
    ],
    ids=str,
)
def test_what_accuracy_means(target, output, expected):
    metric = resolve_accuracy("acc", torch.zeros(target), torch.zeros(output))
    assert type(metric).__name__ == expected
    assert metric.name == "acc"


def test_accuracy_is_recognised():
    assert is_accuracy("acc") and is_accuracy("accuracy") and not is_accuracy("mse") and not is_accuracy(metrics.Mean())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", [metrics.BinaryAccuracy, CountRight], ids=lambda cls: cls.__name__)
def test_copies_go_on_by_themselves(copied, make):
    y_true, y_pred = integers(6, 1, high=2), uniform(6, 1, low=0.0)
    metric = make()
    metric.update_state(y_true, y_pred)
    twin = copied(metric)
    before = str(metric.result())
    assert str(twin.result()) == before
    twin.update_state(1 - y_true, y_pred)
    twin.reset_state()
    assert str(metric.result()) == before
    assert all(not variable.numpy().any() for variable in twin.variables)


def test_state_needs_no_gradient_and_holds_no_graph():
    y_pred = uniform(6, 1, low=0.0).requires_grad_()
    metric = metrics.MeanSquaredError()
    metric.update_state(torch.zeros(6, 1), y_pred)
    assert not metric.result().requires_grad


@pytest.mark.parametrize(
    ("name", "suggestion"), [("acurracy", "accuracy"), ("mean_square_error", "mean_squared_error")]
)
def test_unknown_metric_suggests(name, suggestion):
    with pytest.raises(ValueError, match=f"Unknown metric '{name}'. Did you mean .*'{suggestion}'"):
        to_metric(name)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="threshold must be between 0 and 1; got 2"):
        metrics.BinaryAccuracy(threshold=2)
    with pytest.raises(ValueError, match="Expected a metric"):
        to_metric(3)


def test_every_name_of_keras():
    """What Keras' `metrics.get` knows, each as the class of the same name; a class that needs arguments says so."""
    for name, theirs in ALL_OBJECTS_DICT.items():
        assert registry.lookup(name).__name__ == theirs.__name__, name


ODD = {
    "one-hot-bools": ("CategoricalAccuracy", {}, torch.eye(3, dtype=torch.bool), torch.eye(3)),
    "one-hot-bools-top": ("TopKCategoricalAccuracy", {"k": 2}, torch.eye(3, dtype=torch.bool), uniform(3, 3)),
    "one-hot-bools-iou": ("OneHotMeanIoU", {"num_classes": 3}, torch.eye(3, dtype=torch.bool), uniform(3, 3)),
    "sparse-bools": ("SparseCategoricalAccuracy", {}, integers(9, high=2).bool(), uniform(9, 3)),
    "fractions": ("MeanIoU", {"num_classes": 3, "dtype": "float32"}, uniform(9, low=-1, high=3), integers(9, high=3)),
    "fractions-cut": ("MeanIoU", {"num_classes": 3}, uniform(9, low=-1, high=3), integers(9, high=3)),
    "lists": ("AUC", {}, [0, 0, 1, 1], [0, 0.5, 0.3, 0.9]),
    "doubles": ("MeanSquaredError", {}, np.ones((4, 2)), np.zeros((4, 2))),
    "halves": ("MeanSquaredError", {}, np.ones((5000, 2)), np.full((5000, 2), 9, "float16")),
    "bytes": ("Precision", {}, np.array([1, 0, 1], "uint8"), np.array([1, 1, 0], "uint8")),
    "no-rows": ("BinaryAccuracy", {}, torch.zeros(0, 3), torch.zeros(0, 3)),
    "no-rows-to-count": ("AUC", {}, torch.zeros(0, 3), torch.zeros(0, 3)),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_inputs(case):
    cls, arguments, y_true, y_pred = ODD[case]
    ours, theirs = getattr(metrics, cls)(**arguments), getattr(keras.metrics, cls)(**arguments)
    for _ in range(2):
        assert_close(ours(y_true, y_pred), theirs(y_true, y_pred))


MISMATCHED = [
    "Accuracy",
    "BinaryAccuracy",
    "CosineSimilarity",
    "AUC",
    "F1Score",
]


@pytest.mark.parametrize(
    "cls", [*MISMATCHED, "PearsonCorrelation", "R2Score", "Precision", "TruePositives", "BinaryIoU"]
)
def test_shapes_that_torch_would_broadcast_are_refused(cls):
    metric = getattr(metrics, cls)()
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4, 4\)|4 targets.*16 predictions"):
        metric.update_state(torch.ones(4, 1), torch.ones(4, 4))
    assert all(not variable.numpy().any() for variable in metric.variables)


@pytest.mark.parametrize("cls", ["TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy"])
def test_top_k_of_fewer_classes(cls):
    with pytest.raises(ValueError, match="got k=5 for 3 classes"):
        getattr(metrics, cls)()(torch.eye(3) if cls[0] == "T" else [0, 1, 2], torch.eye(3))


BAD_ARGUMENTS = [
    ("AUC", {"num_thresholds": 1}, "num_thresholds must be greater than 1; got 1"),
    ("AUC", {"curve": "roq"}, "curve must be one of 'ROC', 'PR', 'PRGAIN'; got 'ROQ'"),
    ("AUC", {"summation_method": "middle"}, "summation_method must be one of .* got 'middle'"),
    ("AUC", {"num_labels": 3}, "num_labels is for multi_label=True only"),
    ("Precision", {"thresholds": [0.5, 1.5]}, r"thresholds must be between 0 and 1; got \[0.5, 1.5\]"),
    ("FBetaScore", {"average": "mean"}, "average must be one of .* got 'mean'"),
    ("FBetaScore", {"beta": 1}, "beta must be a positive float; got 1"),
    ("F1Score", {"threshold": 2.0}, "threshold must be None or a float in .* got 2.0"),
    ("IoU", {"num_classes": 2, "target_class_ids": [2]}, "target_class_ids must be between 0 and 1; got 2"),
    ("R2Score", {"class_aggregation": "mean"}, "class_aggregation must be one of .* got 'mean'"),
    ("R2Score", {"num_regressors": -1}, "num_regressors must not be negative; got -1"),
    ("PrecisionAtRecall", {"recall": 2}, "PrecisionAtRecall: .* between 0 and 1; got 2"),
    ("RecallAtPrecision", {"precision": 0.5, "num_thresholds": 0}, "num_thresholds must be a positive integer; got 0"),
]


@pytest.mark.parametrize(("cls", "arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, cls)(**arguments)
    with pytest.raises(ValueError):
        getattr(keras.metrics, cls)(**arguments)


def test_bad_batches():
    with pytest.raises(ValueError, match=r"multi_label=True needs predictions of shape \(samples, 2\); got \(4, 3\)"):
        metrics.AUC(multi_label=True, num_labels=2)(torch.ones(4, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match="class_id 3 needs predictions of shape"):
        metrics.Precision(class_id=3)(torch.ones(4, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match="top_k must be between 1 and the number of classes; got 4"):
        metrics.Recall(top_k=4)(torch.ones(4, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"sample_weight of shape \(3,\) does not fit"):
        metrics.MeanSquaredError()(torch.ones(4, 3), torch.ones(4, 3), sample_weight=torch.ones(3))


def test_names_count_until_the_session_is_cleared():
    for _ in range(2):
        clear_session()
        assert [cls().name for cls in (metrics.AUC, metrics.AUC, metrics.Precision)] == ["auc", "auc_1", "precision"]


def test_a_tensor_of_no_known_dtype_in_a_config():
    config = {"class_name": "__tensor__", "config": {"value": [1.0], "dtype": "nn"}}
    with pytest.raises(ValueError, match="Unknown dtype 'nn'"):
        metrics.deserialize({"class_name": "AUC", "config": {"label_weights": config}})
