"""Every metric on the simulated accelerator: checks that accelerator.py runs."""

import functools

import numpy as np
import torch
from simulated_device import NAME, counting

from kstyle_torch import config, metrics

DRAW = np.random.default_rng(0)
YES_NO, SCORES = DRAW.integers(0, 2, (20, 3)).astype("float32"), DRAW.random((20, 3)).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")[DRAW.integers(0, 3, 20)]
NUMBERS, CLASSES = DRAW.normal(size=(20, 3)).astype("float32"), DRAW.integers(0, 3, 20)
WEIGHTS = DRAW.random(20).astype("float32")

# class, arguments, targets, predictions
CASES = [
    *(("AUC", {"curve": curve}, YES_NO, SCORES) for curve in ("ROC", "PR", "PRGAIN")),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 0.5], "from_logits": True}, YES_NO, NUMBERS),
    ("AUC", {"thresholds": [0.7, 0.1, 0.3]}, YES_NO, SCORES),
    *((cls, {}, YES_NO, SCORES) for cls in ("Precision", "TruePositives", "FalsePositives", "TrueNegatives")),
    ("Recall", {"thresholds": [0.7, 0.1, 0.3], "class_id": 1, "top_k": 2}, YES_NO, SCORES),
    ("FalseNegatives", {"thresholds": [0.0, 0.5, 1.0]}, YES_NO, SCORES),
    *((cls, {"value": 0.5}, YES_NO, SCORES) for cls in ("SensitivityAtSpecificity", "PrecisionAtRecall")),
    *((cls, {"value": 0.5}, YES_NO, SCORES) for cls in ("SpecificityAtSensitivity", "RecallAtPrecision")),
    *(("F1Score", {"average": average}, YES_NO, SCORES) for average in (None, "micro", "macro", "weighted")),
    ("FBetaScore", {"threshold": 0.5}, YES_NO, SCORES),
    ("MeanIoU", {"num_classes": 3, "dtype": "float32"}, CLASSES, CLASSES[::-1].copy()),
    ("IoU", {"num_classes": 3, "target_class_ids": [0, 2], "ignore_class": 1, "dtype": "float32"}, CLASSES, CLASSES),
    ("OneHotIoU", {"num_classes": 3, "target_class_ids": [1], "dtype": "float32"}, ONE_HOT, SCORES),
    ("OneHotMeanIoU", {"num_classes": 3, "dtype": "float32"}, ONE_HOT, SCORES),
    ("BinaryIoU", {"dtype": "float32"}, YES_NO[:, 0], SCORES[:, 0]),
    ("R2Score", {}, NUMBERS, SCORES),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, NUMBERS, SCORES),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, SCORES),
    *((cls, {}, CLASSES, SCORES) for cls in ("SparseCategoricalAccuracy", "SparseCategoricalCrossentropy")),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, CLASSES, SCORES),
    *((cls, {}, ONE_HOT, SCORES) for cls in ("CategoricalAccuracy", "CategoricalCrossentropy", "CategoricalHinge")),
    *(
        (cls, {}, YES_NO, SCORES)
        for cls in ("Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "Hinge", "SquaredHinge")
    ),
    *(
        (cls, {}, ONE_HOT, SCORES)
        for cls in ("KLDivergence", "Poisson", "CosineSimilarity", "MeanSquaredLogarithmicError")
    ),
    *((cls, {}, NUMBERS, SCORES) for cls in ("MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError")),
    *((cls, {}, NUMBERS, SCORES) for cls in ("MeanAbsolutePercentageError", "LogCoshError", "PearsonCorrelation")),
    ("ConcordanceCorrelation", {}, NUMBERS, SCORES),
]


def made(cls, arguments):
    arguments = dict(arguments)
    value = arguments.pop("value", None)
    return getattr(metrics, cls)(*([] if value is None else [value]), **arguments)


def check(cls, arguments, y_true, y_pred):
    """The metric keeps its state on the device, makes nobody wait, and gives the CPU's numbers."""
    with config.device_scope("cpu"):
        on_host = made(cls, arguments)
        batch = [torch.as_tensor(part) for part in (y_true, y_pred, WEIGHTS)]
        for _ in range(3):
            on_host.update_state(*batch)
    on_device = made(cls, arguments)
    batch = [part.to(NAME) for part in batch]
    on_device.update_state(*batch)  # what is copied once only: thresholds
    on_device.result()
    with counting() as counts:
        for _ in range(2):
            on_device.update_state(*batch)
        result = on_device.result()
    assert (counts.h2d, counts.d2h, counts.sync) == (0, 0, 0), counts
    for variable in on_device.variables:
        assert variable.device.type == NAME, f"{variable.path} is on {variable.device}"
    np.testing.assert_allclose(result.cpu().numpy(), on_host.result().numpy(), rtol=1e-5)
    with counting() as counts:
        on_device.reset_state()
    assert (counts.h2d, counts.d2h, counts.sync) == (0, 0, 0), counts
    assert all(not variable.numpy().any() for variable in on_device.variables)


CHECKS = {f"{case[0]} {case[1]}": functools.partial(check, *case) for case in CASES}
