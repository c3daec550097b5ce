"""Metrics that count or add up, against Keras over several weighted batches, at the edges too."""

import warnings

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import metrics
from tests.choice import parameters
from tests.oracle import array, assert_close, assert_same_bits, integers, one_hot, uniform

ROWS = 24


def scores(*shape, seed=0):
    """Between 0 and 1: some exactly 0 or 1, some at thresholds, some equal to others."""
    drawn = uniform(*shape, low=0.0, seed=seed)
    rounded = (drawn * 4).round() / 4
    return torch.where(integers(*shape, high=2, seed=seed + 9) > 0, rounded, drawn)


YES_NO = integers(ROWS, 1, high=2).float()
COLUMNS = integers(ROWS, 3, high=2)
DATA = {
    "column": (YES_NO, scores(ROWS, 1)),
    "flat": (integers(ROWS, high=2), scores(ROWS)),
    "flat-column": (integers(ROWS, high=2), scores(ROWS, 1)),
    "columns": (COLUMNS, scores(ROWS, 3)),
    "ints": (integers(ROWS, high=2), integers(ROWS, high=2, seed=1)),
    "bools": (integers(ROWS, high=2).bool(), integers(ROWS, high=2, seed=1).bool()),
    "doubles": (YES_NO.double(), scores(ROWS, 1).double()),
    "halves": (YES_NO.half(), scores(ROWS, 1).half()),
    "all-true": (torch.ones(ROWS, 1), scores(ROWS, 1)),
    "all-false": (torch.zeros(ROWS, 1), scores(ROWS, 1)),
    "never": (YES_NO, torch.zeros(ROWS, 1)),
    "always": (YES_NO, torch.ones(ROWS, 1)),
    "nan": (YES_NO, torch.where(uniform(ROWS, 1) > 0.5, torch.nan, scores(ROWS, 1))),
    "logits": (YES_NO, uniform(ROWS, 1, low=-5.0, high=5.0)),
    "one-hot": (one_hot(ROWS), scores(ROWS, 4)),
    "images": (integers(ROWS, 2, 3, high=4), integers(ROWS, 2, 3, high=4, seed=1)),
    "images-of-scores": (integers(ROWS, 2, 3, high=4), scores(ROWS, 2, 3, 4)),
    "one-hot-images": (one_hot(ROWS, 2, 3), scores(ROWS, 2, 3, 4)),
    "classes-first": (integers(ROWS, 2, 3, high=4), scores(ROWS, 4, 2, 3)),
    "out-of-range": (integers(ROWS, high=6) - 1, integers(ROWS, high=6, seed=1) - 1),
    "binary-images": (integers(ROWS, 2, 3, 1, high=2).float(), scores(ROWS, 2, 3, 1)),
    "numbers": (uniform(ROWS, 2), uniform(ROWS, 2, seed=1)),
    "constant": (torch.ones(ROWS, 2), uniform(ROWS, 2, seed=1)),
}
UNEVEN = [0.1, 0.25, 0.3, 0.75, 0.9]

# class, arguments, names of data
CASES = [
    ("AUC", {}, "column flat flat-column columns ints bools doubles halves all-true all-false never always nan logits"),
    ("AUC", {"num_thresholds": 5}, "column columns never always nan"),
    ("AUC", {"num_thresholds": 2}, "column"),
    ("AUC", {"thresholds": UNEVEN}, "column columns never always nan"),
    ("AUC", {"thresholds": [0.75, 0.25, 0.5]}, "column"),
    ("AUC", {"from_logits": True}, "logits ints"),
    ("AUC", {"label_weights": [0.5, 2.0, 1.0]}, "columns"),
    ("AUC", {"label_weights": [0.5, 2.0, 1.0], "thresholds": UNEVEN}, "columns"),
    ("AUC", {"multi_label": True}, "columns column one-hot"),
    ("AUC", {"multi_label": True, "num_labels": 3, "label_weights": [0.5, 2.0, 1.0]}, "columns"),
    ("AUC", {"multi_label": True, "thresholds": UNEVEN, "curve": "PR"}, "columns"),
    ("AUC", {"multi_label": True, "label_weights": [0.5, 2.0, 1.0], "curve": "PR"}, "columns"),
    *(
        ("AUC", {"curve": curve, "summation_method": method, "num_thresholds": 20}, "columns all-true never")
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "majoring", "minoring")
    ),
    *(
        (cls, {}, "column flat flat-column columns ints bools all-true all-false nan halves")
        for cls in ("Precision", "Recall")
    ),
    *((cls, {"thresholds": UNEVEN}, "column columns nan never always") for cls in ("Precision", "Recall")),
    ("Precision", {"thresholds": [0.9, 0.25, 0.5, 0.25]}, "column"),
    ("Recall", {"thresholds": [0.0, 0.5, 1.0]}, "column columns nan never always"),
    ("Recall", {"thresholds": 0.25}, "column"),
    ("Precision", {"thresholds": 0}, "logits"),
    *((cls, {"top_k": 2}, "columns one-hot") for cls in ("Precision", "Recall")),
    *((cls, {"class_id": 1}, "columns one-hot") for cls in ("Precision", "Recall")),
    ("Recall", {"class_id": 3, "top_k": 2}, "one-hot"),
    ("Precision", {"top_k": 2, "thresholds": [0.3, 0.6]}, "one-hot"),
    *((cls, {}, "column columns flat-column nan") for cls in ("TruePositives", "FalsePositives", "TrueNegatives")),
    ("FalseNegatives", {"thresholds": UNEVEN}, "column columns nan"),
    ("TrueNegatives", {"thresholds": UNEVEN}, "column nan"),
    ("TruePositives", {"thresholds": [0.0, 0.5, 1.0]}, "column nan"),
    ("FalseNegatives", {}, "column nan"),
    *(
        (cls, {name: 0.5, "num_thresholds": number}, "column columns all-true all-false never always")
        for cls, name in (
            ("SensitivityAtSpecificity", "specificity"),
            ("SpecificityAtSensitivity", "sensitivity"),
            ("PrecisionAtRecall", "recall"),
            ("RecallAtPrecision", "precision"),
        )
        for number in (1, 2, 200)
    ),
    ("RecallAtPrecision", {"precision": 0.8, "class_id": 2}, "columns one-hot"),
    *(("F1Score", {"average": average}, "one-hot columns") for average in (None, "micro", "macro", "weighted")),
    ("F1Score", {"threshold": 0.5, "average": "macro"}, "columns column never always all-false halves doubles"),
    ("FBetaScore", {"beta": 2.0, "threshold": 0.25}, "columns"),
    ("FBetaScore", {"beta": 0.5, "average": "weighted"}, "one-hot columns"),
    ("IoU", {"num_classes": 4, "target_class_ids": [0, 2]}, "images out-of-range"),
    ("IoU", {"num_classes": 4, "target_class_ids": [1], "ignore_class": 1}, "images"),
    ("IoU", {"num_classes": 4, "target_class_ids": [3], "sparse_y_pred": False}, "images-of-scores"),
    ("MeanIoU", {"num_classes": 4}, "images out-of-range flat"),
    ("MeanIoU", {"num_classes": 4, "ignore_class": -1, "dtype": "float32"}, "out-of-range"),
    ("MeanIoU", {"num_classes": 4, "sparse_y_pred": False, "dtype": "float32"}, "images-of-scores"),
    ("OneHotIoU", {"num_classes": 4, "target_class_ids": [0, 3]}, "one-hot one-hot-images"),
    ("OneHotMeanIoU", {"num_classes": 4, "dtype": "float32"}, "one-hot one-hot-images"),
    ("BinaryIoU", {}, "column flat binary-images"),
    ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.25, "dtype": "float32"}, "column never"),
    ("R2Score", {}, "numbers column doubles constant"),
    ("R2Score", {"class_aggregation": None}, "numbers constant"),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, "numbers"),
    ("R2Score", {"num_regressors": 2}, "numbers"),
]
EVERY = [(cls, arguments, data) for cls, arguments, names in CASES for data in names.split()]
every_case = pytest.mark.parametrize(
    ("cls", "arguments", "data"),
    parameters(
        EVERY,
        lambda case: (case[0], *case[1]),
        lambda case: f"{case[0]}-{case[2]}-{'-'.join(map(str, case[1].values()))}".replace(" ", ""),
    ),
)


def pair(cls, arguments):
    return getattr(metrics, cls)(**arguments), getattr(keras.metrics, cls)(**arguments)


def weights(kind, y_pred, whole):
    """Weights of rows, some of them 0, or of values; whole numbers where the state is of ints."""
    if kind == "none":
        return None
    drawn = uniform(*(y_pred.shape if kind == "values" else (ROWS,)), low=0.0, high=3.0, seed=3)
    drawn = drawn * (drawn > 1.0)
    return drawn.round().int() if whole else drawn


def kinds_of_weights(metric):
    if isinstance(metric, metrics.IoU):
        return ["none", "values"] if metric.sparse_y_pred else ["none"]
    by_row = isinstance(metric, (metrics.FBetaScore, metrics.R2Score)) or metric.class_id is not None
    return ["none", "rows"] if by_row else ["none", "rows", "values"]


@every_case
def test_weighted_batches(cls, arguments, data):
    """Batches of 9, 9 and 6 rows, and all rows at once; then, after a reset, the first again."""
    y_true, y_pred = DATA[data]
    for kind in kinds_of_weights(pair(cls, arguments)[0]):
        ours, theirs = pair(cls, arguments)
        once = pair(cls, arguments)[0]
        whole = getattr(ours, "total_cm", None) is not None and ours.dtype == "int32"
        weight = weights(kind, y_pred, whole)
        for start in (0, 9, 18):
            rows = slice(start, start + 9)
            part = None if weight is None else weight[rows]
            for metric in (ours, theirs):
                metric.update_state(y_true[rows], y_pred[rows], sample_weight=part)
            assert_close(ours.result(), theirs.result())
        for mine, other in zip(ours.variables, theirs.variables, strict=True):
            assert_close(mine, other, atol=1e-5)  # Keras subtracts from totals and is left with rounding errors
            assert (mine.path.split("/")[1], mine.dtype) == (other.path.split("/")[1], other.dtype)
        once.update_state(y_true, y_pred, sample_weight=weight)
        if data != "constant":  # no variance: a quotient of two rounding errors
            assert_close(once.result(), ours.result())
        for metric in (ours, theirs):
            metric.reset_state()
            metric.update_state(y_true[:9], y_pred[:9])
        assert_close(ours.result(), theirs.result())


FIRST = [
    pytest.param(cls, arguments, names.split()[0], id=f"{cls}-{number}")
    for number, (cls, arguments, names) in enumerate(CASES)
]
each_metric = pytest.mark.parametrize(("cls", "arguments", "data"), FIRST)


@each_metric
def test_name_and_config(cls, arguments, data):
    ours, theirs = pair(cls, arguments)
    config, expected = ours.get_config(), theirs.get_config()
    if arguments.get("label_weights"):
        expected["label_weights"] = array(expected["label_weights"]).tolist()
    assert config.pop("name").rstrip("_0123456789") == expected.pop("name").rstrip("_0123456789")
    assert config == expected
    y_true, y_pred = DATA[data]
    copies = [library.deserialize(metrics.serialize(ours)) for library in (metrics, keras.metrics)]
    copies.append(metrics.deserialize(keras.metrics.serialize(theirs)))
    value = ours(y_true, y_pred)
    for copied in copies:
        assert_close(copied(y_true, y_pred), value)


@each_metric
def test_before_the_first_batch(cls, arguments, data):
    ours, theirs = pair(cls, arguments)
    if theirs.variables and cls != "R2Score":
        assert_close(ours.result(), theirs.result())
    else:
        assert float(ours.result()) == 0.0  # Keras has no state yet, and fails


@each_metric
def test_stateless(cls, arguments, data):
    y_true, y_pred = DATA[data]
    ours, theirs = pair(cls, arguments)
    for metric in (ours, theirs):
        metric.update_state(y_true, y_pred)
    before = [variable.numpy() for variable in ours.variables]
    state, expected = ours.stateless_reset_state(), theirs.stateless_reset_state()
    for start in (0, 9):
        rows = slice(start, start + 9)
        state = ours.stateless_update_state(state, y_true[rows], y_pred[rows])
        expected = theirs.stateless_update_state(expected, y_true[rows], y_pred[rows])
    for mine, other in zip(state, expected, strict=True):
        assert_close(mine, other)
    assert_close(ours.stateless_result(state), theirs.stateless_result(expected))
    assert_same_bits(ours.variables, before)


def test_stateless_wants_a_value_for_each_variable():
    metric = metrics.Precision()
    with pytest.raises(ValueError, match="got 1 values for metric_variables, expected 2"):
        metric.stateless_update_state([torch.zeros(1)], [1], [1])


def test_stateless_of_a_metric_that_has_no_state_yet():
    ours, theirs = metrics.F1Score(), keras.metrics.F1Score()
    y_true, y_pred = DATA["one-hot"]
    state = ours.stateless_update_state([], y_true, y_pred)
    expected = theirs.stateless_update_state([], y_true, y_pred)
    for mine, other in zip(state, expected, strict=True):
        assert_close(mine, other)
    assert all(not variable.numpy().any() for variable in ours.variables)


def test_thresholds_are_read_as_in_keras():
    """Predictions at, just below and just above each threshold of the default AUC."""
    at = torch.arange(200, dtype=torch.float32) / 199
    y_pred = torch.cat([at, at.nextafter(torch.tensor(2.0)), at.nextafter(torch.tensor(-1.0))])
    y_true = integers(600, high=2)
    for cls in ("AUC", "SensitivityAtSpecificity"):
        ours, theirs = pair(cls, {} if cls == "AUC" else {"specificity": 0.5})
        for metric in (ours, theirs):
            metric.update_state(y_true, y_pred)
        assert_same_bits(ours.variables, theirs.variables)


def test_counts_of_millions_are_exact():
    """2**24 + 3 single counts: float32 would stop adding ones there."""
    rows = 2**24 + 3
    metric = metrics.TruePositives([0.2, 0.5])
    metric.update_state(torch.ones(rows, dtype=torch.bool), torch.ones((), dtype=torch.float16).expand(rows))
    assert metric.result().tolist() == [float(np.float32(rows))] * 2


def test_iou_says_that_fractions_are_cut_off():
    metric = metrics.MeanIoU(2)
    with pytest.warns(UserWarning, match="dtype='float32'"):
        metric.update_state([0, 1], [0, 1], sample_weight=torch.tensor([0.5, 1.5]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.MeanIoU(2, dtype="float32").update_state([0, 1], [0, 1], sample_weight=[0.5, 1.5])


def test_r2_says_that_there_are_too_few_samples():
    metric = metrics.R2Score(num_regressors=7)
    metric.update_state(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
    plain = metrics.R2Score()(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
    with pytest.warns(UserWarning, match="7 regressors are too many for 3 values"):
        assert_close(metric.result(), plain)


@pytest.mark.parametrize(
    "options", [{}, {"multi_label": True}, {"multi_label": True, "label_weights": [0.5, 2.0, 1.0]}]
)
def test_the_area_of_interpolated_counts_equals_keras(options):
    y_true, y_pred = np.random.default_rng(0).integers(0, 2, (30, 3)), np.random.default_rng(1).uniform(size=(30, 3))
    areas = []
    for library in (metrics, keras.metrics):
        metric = library.AUC(num_thresholds=20, **options)
        metric.update_state(y_true, y_pred)
        areas.append(metric.interpolate_pr_auc())
    assert_close(*areas)
