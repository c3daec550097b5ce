"""What users may write for a loss: names, classes, functions, torch's modules, configs."""

import functools
import inspect

import keras
import pytest
import torch
from keras.src.losses import ALL_OBJECTS_DICT
from torch import nn

from kstyle_torch import losses
from kstyle_torch.losses.lookup import to_loss
from tests.oracle import assert_close, integers, uniform

NUMBERS = (uniform(6, 3), uniform(6, 3, seed=1))
BINARY = (integers(6, 1, high=2).float(), uniform(6, 1, low=0.1, high=0.9))
CLASSES = (integers(6, high=4), uniform(6, 4))

NAMES = [
    ("mse", NUMBERS),
    ("MSE", NUMBERS),
    ("mean_squared_error", NUMBERS),
    ("MeanSquaredError", NUMBERS),
    ("mae", NUMBERS),
    ("MAE", NUMBERS),
    ("mean_absolute_error", NUMBERS),
    ("huber", NUMBERS),
    ("Huber", NUMBERS),
    ("bce", BINARY),
    ("BCE", BINARY),
    ("binary_crossentropy", BINARY),
    ("BinaryCrossentropy", BINARY),
    ("categorical_crossentropy", (BINARY[0].repeat(1, 3), uniform(6, 3, low=0.1, high=0.9))),
    ("sparse_categorical_crossentropy", (CLASSES[0], CLASSES[1].softmax(-1))),
]


@pytest.mark.parametrize(("name", "data"), NAMES, ids=[name for name, _ in NAMES])
def test_names_of_keras(name, data):
    theirs = keras.losses.get(name)(*data)
    assert_close(to_loss(name)(*data), theirs.mean())


def test_every_name_of_keras_is_known():
    theirs = {name for name in dir(keras.losses) if not name.startswith("_")}
    assert theirs <= set(losses.__all__)
    for name in set(ALL_OBJECTS_DICT) | (theirs - {"get", "serialize", "deserialize"}):
        assert name in losses.base.registry
        found = losses.base.registry.lookup(name)
        expected = ALL_OBJECTS_DICT.get(name, getattr(keras.losses, name, None)).__name__
        assert found.__name__ == expected.replace("LossFunctionWrapper", "FunctionLoss")


@pytest.mark.parametrize("name", sorted(losses.__all__))
def test_arguments_and_defaults_are_those_of_keras(name):
    theirs = getattr(keras.losses, name, None)
    if name not in ("get", "serialize", "deserialize") and theirs is not None:
        expected, got = inspect.signature(theirs).parameters, inspect.signature(getattr(losses, name)).parameters
        assert [(p.name, p.default) for p in got.values()] == [(p.name, p.default) for p in expected.values()]


@pytest.mark.parametrize(
    "identifier",
    [losses.MeanSquaredError, losses.MeanSquaredError(), losses.mean_squared_error, "mse"],
    ids=["class", "object", "function", "name"],
)
def test_all_kinds_of_identifier(identifier):
    assert_close(to_loss(identifier)(*NUMBERS), ((NUMBERS[0] - NUMBERS[1]) ** 2).mean())


def test_custom_function():
    def cubic(y_true, y_pred):
        return (y_true - y_pred).abs() ** 3

    loss = to_loss(cubic)
    assert loss.name == "cubic"
    assert_close(loss(*NUMBERS), ((NUMBERS[0] - NUMBERS[1]).abs() ** 3).mean())
    weight = uniform(6, low=0.0, high=2.0)
    assert_close(loss(*NUMBERS, weight), ((NUMBERS[0] - NUMBERS[1]).abs() ** 3 * weight[:, None]).mean())


def test_custom_function_meets_targets_without_the_last_axis():
    loss = to_loss(lambda y_true, y_pred: (y_true - y_pred) ** 2)
    y_true, y_pred = uniform(6), uniform(6, 1, seed=1)
    assert_close(loss(y_true, y_pred), ((y_true - y_pred[:, 0]) ** 2).mean())


def test_function_loss_passes_its_arguments_on():
    loss = losses.FunctionLoss(losses.huber, delta=0.3)
    assert_close(loss(*NUMBERS), losses.Huber(delta=0.3)(*NUMBERS))


def test_custom_class():
    class Scaled(losses.Loss):
        def __init__(self, factor=2.0, name="scaled"):
            super().__init__(name=name)
            self.factor = factor

        def call(self, y_true, y_pred):
            return self.factor * (y_true - y_pred).abs().mean(-1)

    assert_close(Scaled(3.0)(*NUMBERS), 3 * (NUMBERS[0] - NUMBERS[1]).abs().mean())
    assert Scaled.from_config(Scaled(3.0).get_config()).factor == 3.0
    assert_close(to_loss(Scaled)(*NUMBERS), 2 * (NUMBERS[0] - NUMBERS[1]).abs().mean())


@pytest.mark.parametrize(
    "loss",
    [
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        losses.CategoricalCrossentropy(reduction="sum", name="mine"),
        losses.SparseCategoricalCrossentropy(ignore_class=3),
        losses.MeanSquaredError(),
        losses.MeanAbsoluteError(reduction=None),
        losses.Huber(name="mine"),  # Keras forgets the delta
        losses.Hinge(),
        losses.SquaredHinge(reduction="sum"),
        losses.CategoricalHinge(),
        losses.Circle(gamma=20.0, margin=0.3, remove_diagonal=False),
        losses.KLDivergence(),
        losses.Poisson(),
        losses.LogCosh(),
        losses.CosineSimilarity(),  # and the axis
        losses.MeanAbsolutePercentageError(),
        losses.MeanSquaredLogarithmicError(),
        losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.3, gamma=1.0, from_logits=True),
        losses.CategoricalFocalCrossentropy(alpha=[0.2, 0.8], label_smoothing=0.1),
        losses.Dice(axis=(1, 2)),
        losses.Tversky(alpha=0.2, beta=0.8, axis=1),
        losses.CTC(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_config_goes_both_ways(loss):
    theirs = keras.losses.deserialize(losses.serialize(loss))
    assert type(theirs).__name__ == type(loss).__name__
    again = losses.deserialize(keras.losses.serialize(theirs))
    assert again.get_config() == loss.get_config()


def test_config_of_a_loss_that_keras_cannot_read_back():
    again = losses.deserialize(losses.serialize(losses.CategoricalGeneralizedCrossEntropy(q=0.7, name="mine")))
    assert (again.q, again.name) == (0.7, "mine")


# ----------------------------------------------------------------------------------------------------------- torch losses


@pytest.mark.parametrize("given", [nn.BCELoss(), nn.BCELoss], ids=["object", "class"])
@pytest.mark.parametrize("targets", [BINARY[0], BINARY[0][:, 0], BINARY[0].long()], ids=["column", "flat", "int"])
def test_torch_bce(given, targets):
    assert_close(to_loss(given)(targets, BINARY[1]), nn.BCELoss()(BINARY[1], BINARY[0]))


@pytest.mark.parametrize("module", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), nn.HuberLoss()], ids=lambda m: str(m))
def test_torch_regression_does_not_broadcast(module):
    y_true, y_pred = uniform(6), uniform(6, 1, seed=1)
    assert_close(to_loss(module)(y_true, y_pred), module(y_pred[:, 0], y_true))


def test_torch_loss_refuses_another_shape_of_the_same_size():
    with pytest.raises(ValueError, match=r"targets of shape \(2, 3\) do not fit an output of shape \(3, 2\)"):
        to_loss(nn.MSELoss())(uniform(2, 3), uniform(3, 2))


@pytest.mark.parametrize(
    "targets", [CLASSES[0], CLASSES[0][:, None], CLASSES[0].float()], ids=["flat", "column", "float"]
)
def test_torch_cross_entropy(targets):
    assert_close(to_loss(nn.CrossEntropyLoss())(targets, CLASSES[1]), nn.CrossEntropyLoss()(CLASSES[1], CLASSES[0]))


def test_torch_cross_entropy_of_one_hot_targets():
    one_hot = nn.functional.one_hot(CLASSES[0], 4)
    assert_close(to_loss(nn.CrossEntropyLoss())(one_hot, CLASSES[1]), nn.CrossEntropyLoss()(CLASSES[1], CLASSES[0]))


def test_torch_loss_with_weights_of_rows():
    weight = uniform(6, low=0.0, high=2.0)
    expected = (nn.CrossEntropyLoss(reduction="none")(CLASSES[1], CLASSES[0]) * weight).mean()
    loss = to_loss(nn.CrossEntropyLoss())
    assert_close(loss(CLASSES[0], CLASSES[1], weight), expected)
    assert loss.module.reduction == "mean"


def test_torch_loss_that_does_not_reduce():
    assert_close(to_loss(nn.MSELoss(reduction="none"))(*NUMBERS), nn.MSELoss()(*NUMBERS))


# --------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("binary_cross_entropy", "binary_crossentropy"),
        ("mse_loss", "mse"),
        ("categorical_cross_entropy", "categorical_crossentropy"),
        ("meansquarederror", "MeanSquaredError"),
    ],
)
def test_unknown_loss_suggests(name, suggestion):
    with pytest.raises(ValueError, match=f"Unknown loss '{name}'. Did you mean .*'{suggestion}'"):
        to_loss(name)


@pytest.mark.parametrize("wrong", [3, [1, 2]], ids=["number", "list"])
def test_what_is_no_loss(wrong):
    with pytest.raises(ValueError, match="Expected a loss"):
        to_loss(wrong)


MISTAKES = [
    (
        "cce-int-labels",
        "categorical_crossentropy",
        (32,),
        (32, 3),
        r"categorical_crossentropy.*\(32,\).*\(32, 3\).*class numbers.*sparse_categorical_crossentropy.*to_categorical",
    ),
    ("cce-int-column", "categorical_crossentropy", (32, 1), (32, 3), "look like class numbers"),
    (
        "scce-onehot",
        "sparse_categorical_crossentropy",
        (32, 3),
        (32, 3),
        r"\(32, 3\).*look one-hot: use 'categorical_crossentropy'",
    ),
    (
        "dense-2d-no-flatten",
        "sparse_categorical_crossentropy",
        (8,),
        (8, 28, 10),
        r"sparse_categorical_crossentropy.*\(8,\).*\(8, 28, 10\).*Flatten\(\)",
    ),
    ("dense-2d-no-flatten-mse", "mse", (8,), (8, 28, 10), r"\(8,\).*\(8, 28, 10\).*Flatten\(\)"),
    ("bce-wrong-units", "binary_crossentropy", (32,), (32, 3), r"binary_crossentropy.*\(32,\).*\(32, 3\).*1 unit"),
    ("mse-3-out", "mse", (32,), (32, 3), r"mse.*\(32,\).*\(32, 3\).*1 unit instead of 3"),
    ("mse-3-out-of-3", "mse", (3,), (3, 3), r"\(3,\).*\(3, 3\)"),
    ("huber-columns", "huber", (32, 2), (32, 3), r"\(32, 2\).*\(32, 3\)"),
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("loss", "target", "output", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_shapes_that_do_not_fit(loss, target, output, message, weighted):
    weight = torch.ones(target[0]) if weighted else None
    with pytest.raises(ValueError, match=message):
        to_loss(loss)(torch.zeros(target), torch.rand(output), weight)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="reduction must be one of .*got 'average'"):
        losses.MeanSquaredError(reduction="average")
    with pytest.raises(ValueError, match="label_smoothing must be between 0 and 1; got 2"):
        losses.BinaryCrossentropy(label_smoothing=2)
    with pytest.raises(ValueError, match="delta must be positive"):
        losses.Huber(delta=0)


def test_one_class_warns_as_in_keras():
    with pytest.warns(SyntaxWarning, match="a single class"):
        losses.CategoricalCrossentropy()(torch.ones(3, 1), torch.ones(3, 1))


@pytest.mark.parametrize("name", ["mse", "MSE", "mae", "MAE", "mape", "msle", "kld", "bce"])
def test_short_names_of_keras_2_are_attributes(name):
    assert getattr(losses, name) is losses.get(name)


def test_reductions_of_keras_2():
    kinds = losses.Reduction
    for reduction in (kinds.AUTO, kinds.SUM, kinds.NONE, kinds.SUM_OVER_BATCH_SIZE):
        assert losses.MeanSquaredError(reduction=reduction).reduction == reduction


def test_setting_fn_leaves_a_call_of_users_alone():
    """Whose code it is does not go by `__module__`, which `functools.wraps` copies."""

    class Doubled(losses.MeanSquaredError):
        @functools.wraps(losses.MeanSquaredError.call)
        def call(self, y_true, y_pred):
            return 2 * super().call(y_true, y_pred)

    loss, pair = Doubled(), (torch.ones(2, 3), torch.zeros(2, 3))
    loss.fn = losses.mean_absolute_error
    assert loss(*pair) == 2
    ours = losses.MeanSquaredError()
    ours.fn = lambda y_true, y_pred: 3 + y_pred[:, 0]
    assert ours(*pair) == 3
