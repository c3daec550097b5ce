"""Conversion of targets to the form that a network takes, and of its outputs back.

`units` is how many outputs a network for them needs, and `loss` what trains it, computed in the
network's dtype; outputs for labels are logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import unique_labels

from kstyle_torch.losses import BinaryCrossentropy, Loss, MeanSquaredError, SparseCategoricalCrossentropy


class Numbers:
    """Targets of a regression: columns for the network, and one number per row where that is how they came.

    Args:
        y: (samples,) or (samples, outputs).
    """

    def __init__(self, y: np.ndarray):
        self.is_flat = y.ndim == 1
        self.units = 1 if self.is_flat else y.shape[1]

    def loss(self, dtype: str) -> Loss:
        """Returns the mean squared error."""
        return MeanSquaredError(dtype=dtype)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Returns targets as columns.

        Raises: ValueError: if there are more or fewer columns than there were.
        """
        columns = y.reshape(-1, 1) if y.ndim == 1 else y
        if columns.shape[1] != self.units:
            raise ValueError(f"y must have {self.units} column(s), as in the first fit; got {columns.shape[1]}.")
        return columns

    def decode(self, outputs: Any) -> Any:
        """Returns a network's outputs in the shape of the targets."""
        return outputs[:, 0] if self.is_flat and outputs.ndim == 2 and outputs.shape[1] == 1 else outputs


class Labels:
    """Labels of classes, one for each row: encoded as the number of the class.

    Args:
        labels: Labels, each once or more often.
    Raises: ValueError: if there is only one class.
    """

    def __init__(self, labels: Any):
        self.classes = unique_labels(labels)
        if len(self.classes) < 2:
            raise ValueError(f"A classifier cannot learn from only one class; y is {self.classes[0]!r} everywhere.")

    @property
    def units(self) -> int:
        """One output for two classes, else one for each."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def loss(self, dtype: str) -> Loss:
        """Returns the crossentropy of logits."""
        kind = BinaryCrossentropy if self.units == 1 else SparseCategoricalCrossentropy
        return kind(from_logits=True, dtype=dtype)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Returns the number of each label's class.

        Raises: ValueError: for labels that are not among the classes.
        """
        if y.ndim != 1:
            raise ValueError(f"y must be a label for each row, as in the first fit; got shape {y.shape}.")
        unknown = np.setdiff1d(y, self.classes)
        if len(unknown):
            raise ValueError(f"y has the labels {unknown.tolist()}, which are not among {self.classes.tolist()}.")
        return np.searchsorted(self.classes, y)

    def check_weights(self, numbers: np.ndarray, weights: np.ndarray | None) -> None:
        """Raises a ValueError if all rows of positive weight are of one class."""
        if weights is not None and len(np.unique(numbers[weights > 0])) < 2:
            raise ValueError("A classifier cannot learn from only one class; sample_weight is zero for all others.")

    def one_hot(self, numbers: np.ndarray) -> np.ndarray:
        """Returns a column for each class, with a 1 where it is and 0 elsewhere."""
        return np.eye(len(self.classes))[numbers]

    def decode(self, logits: np.ndarray) -> np.ndarray:
        """Returns the label of the likeliest class."""
        numbers = (logits[:, 0] > 0).astype(int) if self.units == 1 else logits.argmax(axis=1)
        return self.classes[numbers]

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Returns one logit a row for two classes, that of the second one; else one for each class."""
        return logits[:, 0] if self.units == 1 else logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns a column for each class."""
        return both_sides(sigmoid_of(logits[:, 0])) if self.units == 1 else softmax_of(logits)


class LabelSets:
    """Any number of labels for each row, as columns of 0 and 1.

    Args:
        y: (samples, labels).
    """

    def __init__(self, y: np.ndarray):
        self.units, self.dtype = y.shape[1], y.dtype
        self.classes = np.arange(self.units)

    def loss(self, dtype: str) -> Loss:
        """Returns the crossentropy of the logits of each label."""
        return BinaryCrossentropy(from_logits=True, dtype=dtype)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Returns the columns as they are.

        Raises: ValueError: if there are more or fewer than there were.
        """
        if y.ndim != 2 or y.shape[1] != self.units:
            raise ValueError(f"y must have {self.units} columns of labels, as in the first fit; got shape {y.shape}.")
        return y

    def decode(self, logits: np.ndarray) -> np.ndarray:
        """Returns a 1 for each label that is more likely than not."""
        return (logits > 0).astype(self.dtype)

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Returns the logit of each label."""
        return logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probability of each label."""
        return sigmoid_of(logits)


def check_partial_fit(estimator: Any, classes: Any, class_weight: Any) -> None:
    """Raises a ValueError if a classifier's `partial_fit` lacks the classes, got others than before, or is to balance them."""
    if isinstance(class_weight, str):
        raise ValueError(f"partial_fit() cannot weigh classes by {class_weight!r} without all data; take a dict.")
    known = estimator.classes_ if hasattr(estimator, "model_") else None
    if classes is None and known is None:
        raise ValueError("partial_fit() needs classes in its first call: all labels that there will be.")
    if classes is not None and known is not None and not np.array_equal(unique_labels(classes), known):
        raise ValueError(f"classes must be those of the first call, {known.tolist()}; got {list(classes)}.")


def with_class_weight(class_weight: Any, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
    """Returns sample weights multiplied by the weights of the rows' classes.

    Args:
        class_weight: `{label: weight}`, 1 for labels that it leaves out; "balanced"; or None.
        y: Labels.
        weights: Sample weights, or None.
    """
    if class_weight is None:
        return weights
    factors = compute_sample_weight(class_weight, y)
    return factors if weights is None else weights * factors


def sigmoid_of(logits: np.ndarray) -> np.ndarray:
    """Returns the probability of each logit, in its dtype, computed in float64."""
    return expit(logits.astype(np.float64)).astype(logits.dtype)


def softmax_of(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of each row of logits, in their dtype, computed in float64."""
    return softmax(logits.astype(np.float64), axis=-1).astype(logits.dtype)


def both_sides(probabilities: np.ndarray) -> np.ndarray:
    """Returns columns for the first and the second class, for probabilities of the second one."""
    return np.stack([1 - probabilities, probabilities], axis=1)
