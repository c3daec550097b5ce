"""Losses of torch as they are: modules and functions, in whatever order and layout they want."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kstyle_torch as ks
from kstyle_torch.losses.lookup import to_loss
from tests.oracle import assert_close, integers, uniform

NUMBERS = (uniform(6, 3), uniform(6, 3, seed=1))
YES_NO = (integers(6, 1, high=2).float(), uniform(6, 1, low=0.1, high=0.9))
CLASSES = (integers(6, high=4), uniform(6, 4))

FUNCTIONS = {
    "mse_loss": (F.mse_loss, NUMBERS),
    "l1_loss": (F.l1_loss, NUMBERS),
    "smooth_l1_loss": (F.smooth_l1_loss, NUMBERS),
    "binary_cross_entropy": (F.binary_cross_entropy, YES_NO),
    "binary_cross_entropy_with_logits": (F.binary_cross_entropy_with_logits, YES_NO),
    "cross_entropy": (F.cross_entropy, CLASSES),
    "nll_loss": (F.nll_loss, (CLASSES[0], CLASSES[1].log_softmax(-1))),
    "soft_margin_loss": (F.soft_margin_loss, (NUMBERS[0].sign(), NUMBERS[1])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_torch_get_the_prediction_first(name):
    function, (y_true, y_pred) = FUNCTIONS[name]
    loss = to_loss(function)
    assert loss.name == name
    assert_close(loss(y_true, y_pred), function(y_pred, y_true))
    weight = uniform(6, low=0.0, high=2.0)
    values = function(y_pred, y_true, reduction="none")
    assert_close(loss(y_true, y_pred, weight), (values * weight.reshape(-1, *[1] * (values.ndim - 1))).mean())


def test_functions_of_torch_fit():
    x, y = uniform(32, 4), uniform(32)
    histories = []
    for loss in (F.mse_loss, nn.MSELoss, "mse"):
        ks.utils.set_random_seed(0)
        model = ks.Sequential([ks.Input((4,)), ks.layers.Dense(1)])
        model.compile("sgd", loss)
        histories.append(model.fit(x, y, verbose=0, shuffle=False)["loss"])
    assert_close(histories[0], histories[2])
    assert_close(histories[1], histories[2])


def test_functions_with_arguments():
    loss = to_loss(functools.partial(F.cross_entropy, label_smoothing=0.2))
    assert_close(loss(*CLASSES), F.cross_entropy(CLASSES[1], CLASSES[0], label_smoothing=0.2))
    assert_close(loss(CLASSES[0][:, None], CLASSES[1]), loss(*CLASSES))


def test_a_function_of_two_parameters_called_as_in_torch():
    def asymmetric(input, target):
        return (input - target).clamp(min=0)

    assert_close(to_loss(asymmetric)(*NUMBERS), (NUMBERS[1] - NUMBERS[0]).clamp(min=0).mean())


def test_other_functions_get_the_target_first():
    def asymmetric(y_true, y_pred):
        return (y_pred - y_true).clamp(min=0)

    assert_close(to_loss(asymmetric)(*NUMBERS), (NUMBERS[1] - NUMBERS[0]).clamp(min=0).mean())


class TorchOrder(nn.Module):
    def forward(self, prediction, target):
        return (prediction - target).clamp(min=0).mean()


class KerasOrder(nn.Module):
    def forward(self, y_true, y_pred):
        return (y_pred - y_true).clamp(min=0).mean()


@pytest.mark.parametrize("module", [TorchOrder(), KerasOrder(), KerasOrder], ids=["torch", "keras", "class"])
def test_modules_of_the_users_own(module):
    loss = to_loss(module)
    assert_close(loss(*NUMBERS), (NUMBERS[1] - NUMBERS[0]).clamp(min=0).mean())
    with pytest.raises(ValueError, match="one number for the whole batch.*reduction"):
        loss(*NUMBERS, torch.ones(6))


@pytest.mark.parametrize("make", [nn.CrossEntropyLoss, lambda: F.cross_entropy], ids=["module", "function"])
@pytest.mark.parametrize("layout", ["last", "second", "view"])
@pytest.mark.parametrize("weighted", [False, True])
def test_classes_may_be_the_last_axis_or_the_second(make, layout, weighted):
    y_true, second = integers(2, 5, 6, high=3), uniform(2, 3, 5, 6).requires_grad_()
    weight = uniform(2, 5, 6, low=0.0, high=2.0) if weighted else None
    values = F.cross_entropy(second, y_true, reduction="none")
    (values.mean() if weight is None else (values * weight).mean()).backward()
    given = second.detach().clone().requires_grad_()
    last = given.permute(0, 2, 3, 1)
    prediction = {"last": last.contiguous(), "second": given, "view": last}[layout]
    to_loss(make())(y_true, prediction, weight).backward()
    assert_close(given.grad, second.grad)


def test_the_pixels_of_images_train_with_torchs_loss():
    x, y = uniform(8, 6, 6, 3), integers(8, 6, 6, high=4)
    histories = []
    for loss in (nn.CrossEntropyLoss(), ks.losses.SparseCategoricalCrossentropy(from_logits=True)):
        ks.utils.set_random_seed(0)
        model = ks.Sequential([ks.Input((6, 6, 3)), ks.layers.Conv2D(4, 3, padding="same")])
        model.compile("adam", loss, metrics=["accuracy"])
        histories.append(model.fit(x, y, epochs=2, verbose=0, shuffle=False).history)
    for key in histories[0]:
        assert_close(histories[0][key], histories[1][key])


def test_label_sets_stay_whole_numbers():
    y_true = torch.tensor([[1, 0, -1], [2, -1, -1]])
    module = nn.MultiLabelMarginLoss()
    assert_close(to_loss(module)(y_true.float(), NUMBERS[0][:2]), module(NUMBERS[0][:2], y_true))


def test_masks_reach_torchs_losses():
    mask = torch.tensor([[True, False, True]] * 6)
    prediction = NUMBERS[1].clone()
    prediction._keras_mask = mask
    got = to_loss(nn.MSELoss())(NUMBERS[0], prediction)
    assert_close(got, ((NUMBERS[0] - NUMBERS[1]) ** 2)[mask].mean())


def test_class_weights_of_the_module_move_with_the_model():
    module = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    model = ks.Sequential([ks.Input((4,)), ks.layers.Dense(4)])
    model.compile("sgd", module)
    model.fit(np.ones((8, 4), "float32"), np.arange(8) % 4, verbose=0)
    assert "weight" not in "".join(key for key in model.state_dict() if "dense" not in key)
