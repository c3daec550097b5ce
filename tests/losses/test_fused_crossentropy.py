"""The crossentropies whose backward pass starts at the logits: Keras' losses and gradients, and when they step aside."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import activations, losses
from kstyle_torch.losses.fused_crossentropy import LOG_BOTTOM, clamp_bounds, head_of
from kstyle_torch.ops.safe_binary_crossentropy import crossentropy_of, guarded
from tests.oracle import assert_close, integers, uniform

ROWS, CLASSES = 200, 3
LOGITS = torch.cat([uniform(ROWS - 40, CLASSES, low=-6, high=6), torch.linspace(-20, 20, 120).reshape(40, CLASSES)])
ONE_HOT = torch.eye(CLASSES)[integers(ROWS, high=CLASSES)]
IMAGES = uniform(4, 5, 5, CLASSES, low=-9, high=9)

# id, loss, arguments, activation, targets, logits
CASES = {
    "binary": ("BinaryCrossentropy", {}, "sigmoid", integers(ROWS, CLASSES, high=2).float(), LOGITS),
    "binary-smooth": ("BinaryCrossentropy", {"label_smoothing": 0.2}, "sigmoid", ONE_HOT, LOGITS),
    "binary-flat": ("BinaryCrossentropy", {}, "sigmoid", integers(ROWS, high=2).float(), LOGITS[:, :1]),
    "sparse": ("SparseCategoricalCrossentropy", {}, "softmax", integers(ROWS, high=CLASSES), LOGITS),
    "sparse-column": ("SparseCategoricalCrossentropy", {}, "softmax", integers(ROWS, 1, high=CLASSES), LOGITS),
    "sparse-images": ("SparseCategoricalCrossentropy", {}, "softmax", integers(4, 5, 5, high=CLASSES), IMAGES),
    "categorical": ("CategoricalCrossentropy", {}, "softmax", ONE_HOT, LOGITS),
    "categorical-smooth": ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "softmax", ONE_HOT, LOGITS),
    "categorical-soft": ("CategoricalCrossentropy", {}, "softmax", uniform(ROWS, CLASSES, low=0, seed=3), LOGITS),
}


@pytest.mark.parametrize(("name", "arguments", "activation", "y", "logits"), CASES.values(), ids=CASES)
def test_equals_keras(name, arguments, activation, y, logits):
    """Saturated probabilities included, where the loss stops at Keras' clip and the gradient is zero."""
    theirs_in, ours_in = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    rows = theirs_in.flatten(0, -2)  # torch cannot go back through Keras' loss over images
    theirs = getattr(keras.losses, name)(**arguments)(
        y.reshape(len(rows), -1), getattr(keras.activations, activation)(rows)
    )
    theirs.backward()
    loss, start, gradient = head_of(getattr(losses, name)(**arguments))(y, getattr(activations, activation)(ours_in))
    assert start is ours_in
    assert not loss.requires_grad
    assert_close(loss, theirs)
    assert_close(gradient, theirs_in.grad, atol=1e-8)


def test_the_saturated_have_no_gradient():
    logits = torch.tensor([[17.0], [-17.0], [17.0]], requires_grad=True)
    loss, _, gradient = head_of(losses.BinaryCrossentropy())(
        torch.tensor([[0.0], [1.0], [1.0]]), activations.sigmoid(logits)
    )
    assert gradient.tolist() == [[0.0], [0.0], [0.0]]
    assert loss > 10


AROUND = torch.arange(-4.0, 5.0) * 2**-19  # steps from one float32 near 16 to the next
NEAR_THE_TOP = (16.2 + AROUND)[:, None]  # their sigmoids are 1 - 1e-7
NEAR_THE_BOTTOM = torch.stack([torch.zeros(9), torch.tensor(LOG_BOTTOM) + AROUND], dim=1)
AT_A_BOUND = {
    "binary": ("BinaryCrossentropy", "sigmoid", torch.zeros(9, 1), NEAR_THE_TOP),
    "sparse": ("SparseCategoricalCrossentropy", "softmax", torch.ones(9, dtype=torch.int64), NEAR_THE_BOTTOM),
    "categorical": ("CategoricalCrossentropy", "softmax", torch.tensor([[0.0, 1.0]]).repeat(9, 1), NEAR_THE_BOTTOM),
}


@pytest.mark.parametrize(("name", "activation", "y", "logits"), AT_A_BOUND.values(), ids=AT_A_BOUND)
def test_at_a_bound_the_gradient_is_that_of_torchs_clamp(name, activation, y, logits):
    """Versions of torch differ there, so the same loss through autograd is what counts."""
    logits, loss = logits.clone().requires_grad_(), getattr(losses, name)()
    if activation == "sigmoid":
        assert (logits.sigmoid() == torch.tensor(1 - 1e-7)).any()
    else:
        assert (logits.log_softmax(-1) == torch.tensor(LOG_BOTTOM)).any()
    (expected,) = torch.autograd.grad(loss(y, getattr(activations, activation)(logits)), logits)
    _, _, gradient = head_of(loss)(y, getattr(activations, activation)(logits))
    assert_close(gradient, expected, atol=1e-12)


def test_a_clamp_that_shares_the_gradient_goes_through_autograd(monkeypatch):
    """As torch 2.14's `clamp` does where its bounds are tensors: `hardtanh_backward` cannot give half of the gradient."""
    assert clamp_bounds(-1.0, 1.0)
    monkeypatch.setattr(torch.Tensor, "clamp", lambda x, low, high: torch.nn.functional.leaky_relu(x, 0.5))
    assert clamp_bounds(-1.0, 1.0) == ()
    monkeypatch.setattr("kstyle_torch.losses.fused_crossentropy.BOUNDS", ())
    assert head_of(losses.BinaryCrossentropy()) is None


OTHERS = {
    "from-logits": losses.BinaryCrossentropy(from_logits=True),
    "sum": losses.BinaryCrossentropy(reduction="sum"),
    "ignored-class": losses.SparseCategoricalCrossentropy(ignore_class=0),
    "axis": losses.CategoricalCrossentropy(axis=1),
    "mse": losses.MeanSquaredError(),
    "subclass": type("Mine", (losses.BinaryCrossentropy,), {})(),
}


@pytest.mark.parametrize("loss", OTHERS.values(), ids=OTHERS)
def test_other_losses_go_through_autograd(loss):
    assert head_of(loss) is None


def test_other_predictions_go_through_autograd():
    """A softmax under the binary loss, a sigmoid under the categorical one, what is no activation's own result, masks."""
    logits = LOGITS.clone().requires_grad_()
    binary, categorical = (head_of(loss) for loss in (losses.BinaryCrossentropy(), losses.CategoricalCrossentropy()))
    assert binary(ONE_HOT, activations.softmax(logits)) is None
    assert categorical(ONE_HOT, activations.sigmoid(logits)) is None
    assert binary(ONE_HOT, activations.sigmoid(logits) * 1.0) is None
    assert binary(ONE_HOT, activations.sigmoid(logits.detach())) is None
    masked = activations.sigmoid(logits)
    masked._keras_mask = torch.ones(ROWS, dtype=torch.bool)
    assert binary(ONE_HOT, masked) is None


@pytest.mark.filterwarnings("ignore:x contains NaN")
@pytest.mark.parametrize("jit_compile", [False, "record"])
def test_predictions_that_are_no_numbers(jit_compile):
    """torch's kernel refuses them; a training must see its loss become NaN, as with Keras, and be able to stop."""
    x, y = np.ones((256, 3), "float32"), np.ones((256, 1), "float32")
    x[128:] = np.nan
    model = ks.Sequential([ks.Input((3,)), ks.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", jit_compile=jit_compile)
    stop = ks.callbacks.TerminateOnNaN()
    with pytest.warns(UserWarning, match="became nan at epoch 1, step 17"):
        history = model.fit(x, y, batch_size=8, shuffle=False, epochs=2, verbose=0, callbacks=[stop])
    assert np.isnan(history.history["loss"]).all() and len(history.history["loss"]) == 1
    assert np.isnan(model.evaluate(x, y, verbose=0))
    values = ks.ops.binary_crossentropy(torch.tensor([1.0, 0.0]), torch.tensor([0.9, torch.nan]))
    assert values.isnan().tolist() == [False, True]
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        crossentropy_of(torch.tensor([1.5]), torch.tensor([1.0]), "mean")


def test_no_number_reaches_the_kernel_of_another_device():
    """There it would end the process: what is computed instead is the same where all are numbers."""
    p, y = torch.tensor([0.2, 0.7]), torch.tensor([0.0, 1.0])
    for number, reduction in enumerate(("none", "mean")):
        assert torch.equal(guarded(p, y, number), crossentropy_of(p, y, reduction))
    assert guarded(torch.tensor([0.2, torch.nan]), y, 0).isnan().tolist() == [False, True]
