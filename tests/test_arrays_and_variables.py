"""Arrays, lists and variables where tensors are meant: activations, constraints, regularizers, losses, metrics."""

import inspect

import numpy as np
import pytest

import kstyle_torch as ks
from tests.oracle import assert_close

VALUES = np.array([[-1.5, 0.25, 0.75, 2.0], [0.5, -0.5, 1.5, -2.5]], "float32")
PROBABILITIES = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], "float32")
KINDS = {
    "array": lambda library, values: values,
    "list": lambda library, values: values.tolist(),
    "variable": lambda library, values: library.Variable(values),
}
MORE = {"threshold": (0.5, 0.0)}
ACTIVATIONS = sorted(
    name
    for name, value in vars(ks.activations).items()
    if inspect.isfunction(value) and name in ks.activations.__all__ and name not in ("get", "serialize", "deserialize")
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, kind, keras):
    """Keras refuses lists in several."""
    theirs = getattr(keras.activations, name)(keras.ops.convert_to_tensor(VALUES), *MORE.get(name, ()))
    ours = getattr(ks.activations, name)(KINDS[kind](ks, VALUES), *MORE.get(name, ()))
    assert_close(ours, theirs)


@pytest.mark.parametrize("axis", [(0, 1), (1,), 0, -1], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_over_several_axes(name, axis, keras):
    theirs, ours = (getattr(library.activations, name)(VALUES, axis) for library in (keras, ks))
    assert_close(ours, theirs)
    inputs = ks.Input((2, 4))
    outputs = getattr(ks.activations, name)(inputs, (1, 2))
    assert outputs.shape == (None, 2, 4)
    layer = ks.layers.Softmax(axis=(1, 2)) if name == "softmax" else None
    if layer is not None:
        assert_close(layer(VALUES[None]), keras.layers.Softmax(axis=(1, 2))(VALUES[None]))


PENALTIES = {
    "L1": lambda library: library.regularizers.L1(0.1),
    "L2": lambda library: library.regularizers.L2(0.1),
    "L1L2": lambda library: library.regularizers.L1L2(0.1, 0.2),
    "orthogonal": lambda library: library.regularizers.OrthogonalRegularizer(0.1),
    "MaxNorm": lambda library: library.constraints.MaxNorm(1.0),
    "MinMaxNorm": lambda library: library.constraints.MinMaxNorm(0.5, 1.0),
    "NonNeg": lambda library: library.constraints.NonNeg(),
    "UnitNorm": lambda library: library.constraints.UnitNorm(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PENALTIES)
def test_regularizers_and_constraints(name, kind, keras):
    theirs = PENALTIES[name](keras)(keras.ops.convert_to_tensor(VALUES))
    assert_close(PENALTIES[name](ks)(KINDS[kind](ks, VALUES)), theirs)


LOSSES = (
    "mean_squared_error mean_absolute_error huber log_cosh kl_divergence poisson hinge binary_crossentropy "
    "categorical_crossentropy cosine_similarity binary_focal_crossentropy categorical_focal_crossentropy dice tversky"
).split()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, kind, keras):
    targets = np.array([[0, 0, 1, 0], [1, 0, 0, 0]], "float32")
    theirs = getattr(keras.losses, name)(targets, PROBABILITIES)
    ours = getattr(ks.losses, name)(KINDS[kind](ks, targets), KINDS[kind](ks, PROBABILITIES))
    assert_close(ours, theirs)
    cls = "".join(part.capitalize() for part in name.split("_")).replace("Kl", "KL")
    loss = getattr(ks.losses, cls)()
    assert_close(
        loss(KINDS[kind](ks, targets), KINDS[kind](ks, PROBABILITIES)),
        getattr(keras.losses, cls)()(targets, PROBABILITIES),
    )
