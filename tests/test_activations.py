"""Every activation of Keras, by name: values and gradients on a grid that meets all their corners."""

import keras
import pytest
import torch

from kstyle_torch import activations
from kstyle_torch.layers import Input
from tests.oracle import GraphModule, assert_close, uniform, value_and_grad

NOT_FUNCTIONS = {"deserialize", "get", "serialize"}
NAMES = sorted(name for name in dir(keras.activations) if name[0] != "_" and name not in NOT_FUNCTIONS)
AS_IN_KERAS = [name for name in NAMES if name != "sparsemax"]  # Keras' sums the wrong terms: its rows exceed 1
ARGUMENTS = {"threshold": {"threshold": 0.3, "default_value": -2.0}}
# off the corners themselves, where a derivative is a matter of taste
GRID = torch.linspace(-11.97, 12.03, 241).reshape(-1, 1).repeat(1, 4) * torch.tensor([0.1, 1.0, 2.0, 9.0])

VARIANTS = [
    ("relu", {"negative_slope": 0.1}),
    ("relu", {"max_value": 4.0}),
    ("relu", {"threshold": 1.5}),
    ("relu", {"negative_slope": 0.1, "max_value": 4.0, "threshold": 1.5}),
    ("leaky_relu", {"negative_slope": 0.4}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("gelu", {"approximate": True}),
    ("gelu", {"approximate": False}),
    ("glu", {"axis": -1}),
    ("softmax", {"axis": 0}),
    ("log_softmax", {"axis": 0}),
    ("squareplus", {"b": 2}),
    ("hard_shrink", {"threshold": 2.0}),
    ("soft_shrink", {"threshold": 2.0}),
]


@pytest.mark.parametrize("name", AS_IN_KERAS)
def test_equals_keras(name):
    arguments = ARGUMENTS.get(name, {})
    check(lambda x: activations.get(name)(x, **arguments), lambda x: getattr(keras.activations, name)(x, **arguments))


@pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=lambda value: str(value))
def test_arguments_equal_keras(name, arguments):
    check(
        lambda x: getattr(activations, name)(x, **arguments),
        lambda x: getattr(keras.activations, name)(x, **arguments),
    )


def check(ours, theirs):
    (value, grad), (keras_value, keras_grad) = value_and_grad(ours, GRID), value_and_grad(theirs, GRID)
    assert_close(value, keras_value)
    assert_close(grad, keras_grad)


@pytest.mark.parametrize("name", NAMES)
def test_symbolic_shape_is_the_real_one(name):
    arguments = ARGUMENTS.get(name, {})
    x, inputs = uniform(3, 4), Input((4,))
    real = getattr(activations, name)(x, **arguments)
    symbolic = getattr(activations, name)(inputs, **arguments)
    assert symbolic.shape == (None, *real.shape[1:])
    assert_close(GraphModule(inputs, symbolic)(x), real)


@pytest.mark.parametrize("name", NAMES)
def test_serialized_form_is_that_of_keras(name):
    ours, theirs = (
        activations.serialize(activations.get(name)),
        keras.activations.serialize(keras.activations.get(name)),
    )
    assert ours == theirs
    assert activations.deserialize(theirs) is activations.get(name)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sparsemax_is_the_nearest_point_of_the_simplex(axis):
    """`clamp(x - tau, 0)` with sum 1, the tau found by halving intervals."""
    x = uniform(5, 7, low=-2.0, high=2.0)
    low, high = x.amin(axis, keepdim=True) - 1, x.amax(axis, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        too_much = (x - middle).clamp(min=0).sum(axis, keepdim=True) > 1
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    assert_close(activations.sparsemax(x, axis=axis), (x - high).clamp(min=0))


def test_none_is_linear():
    assert activations.get(None) is activations.linear


def test_function_is_itself():
    assert activations.get(torch.sin) is torch.sin


def test_unknown_name_suggests():
    with pytest.raises(ValueError, match="Unknown activation 'rellu'. Did you mean 'relu'"):
        activations.get("rellu")


def test_wrong_type_is_refused():
    with pytest.raises(ValueError, match="got 3"):
        activations.get(3)


def test_extreme_logits_stay_finite():
    x = torch.tensor([[-100.0, 100.0], [1e4, -1e4]])
    for name in ("sigmoid", "softmax", "log_softmax", "log_sigmoid", "softplus", "tanh", "mish"):
        value, grad = value_and_grad(activations.get(name), x)
        assert value.isfinite().all() and grad.isfinite().all(), name


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_relu_at_its_threshold(slope):
    values = [-10.0, -5.0, 0.0, 5.0, 10.0]
    ours = activations.relu(values, negative_slope=slope, threshold=5.0)
    theirs = keras.activations.relu(values, negative_slope=slope, threshold=5.0)
    assert_close(ours, theirs)
