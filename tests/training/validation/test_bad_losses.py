"""Mistakes with losses: what was got, expected and what to do, before anything changes."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers, losses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 8)).astype("float32")
IMAGES = RNG.normal(size=(40, 6, 6, 2)).astype("float32")
Y = RNG.integers(0, 2, 40)
THREE = RNG.integers(0, 3, 40)
LATE = np.where(np.arange(40) == 39, 7, THREE)  # behind the rows that are tried
PIXELS = RNG.integers(0, 3, (40, 6, 6))
CCE, SCCE, CFCE = "categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy"
GCE = "categorical_generalized_cross_entropy"


def dense(units=1, activation=None):
    return ks.Sequential([ks.Input((8,)), layers.Dense(units, activation=activation)])


def convolution(units=3):
    return ks.Sequential([ks.Input((6, 6, 2)), layers.Conv2D(units, 1, activation="softmax")])


def fit(loss, y, units=1, activation=None, x=X, model=None, **arguments):
    model = model or dense(units, activation)
    model.compile("sgd", loss)
    before = model.get_weights()
    try:
        model.fit(x, y, verbose=0, **arguments)
    finally:
        assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
        assert int(model.optimizer.iterations.numpy()) == 0


def two():
    x = ks.Input((8,))
    return ks.Model(x, [layers.Dense(1, name="p")(x), layers.Dense(3, name="q")(x)])


def time_steps():
    return ks.Sequential([ks.Input((5, 8)), layers.Dense(4)])


STEPS = RNG.normal(size=(40, 5, 8)).astype("float32")
ERRORS = {
    "unknown-in-dict": (lambda: dense().compile("sgd", {"dense": "mse_loss"}), "Unknown loss 'mse_loss'.*'mse'"),
    "unknown-in-list": (lambda: dense().compile("sgd", ["mean_square_error"]), "Did you mean 'mean_squared_error'"),
    "unknown-new": (lambda: dense().compile("sgd", "kl_divergense"), "Did you mean 'kl_divergence'"),
    "not-a-loss": (lambda: dense().compile("sgd", 3), "Expected a loss .*got 3"),
    "weights-no-number": (lambda: dense().compile("sgd", "mse", loss_weights="0.3"), "must be numbers.*got '0.3'"),
    "weights-too-many": (
        lambda: fit_two(loss_weights=[1.0, 2.0, 3.0]),
        r"loss_weights has 3 entries for 2 outputs \(p, q\)",
    ),
    "weights-of-parts": (
        lambda: fit_two([["mse", "mae"], SCCE], loss_weights=[[1.0, 2.0, 3.0], 1.0]),
        "2 loss.*3 weight",
    ),
    "weights-unknown-key": (
        lambda: fit_two(loss_weights={"p": 1.0, "r": 1.0}),
        r"\['p', 'q'\] in the loss_weights dict",
    ),
    "losses-too-many": (lambda: fit_two(["mse", SCCE, "mse"]), r"loss has 3 entries for 2 outputs \(p, q\)"),
    "losses-unknown-key": (lambda: fit_two({"p": "mse", "r": SCCE}), r"Expected keys \['p', 'q'\] in the loss dict"),
    "metrics-unknown-key": (lambda: fit_two(metrics={"r": ["mse"]}), r"Expected keys \['p', 'q'\] in the metrics dict"),
    "y-unknown-key": (lambda: fit_two(y={"p": Y, "qq": THREE}), "y has no output 'qq'. Did you mean 'q'"),
    "y-too-few": (lambda: fit_two(y=[Y]), r"y has 1 array\(s\), but there are 2 outputs \(p, q\)"),
    "y-missing-for-one": (lambda: fit_two(y={"p": Y}), f"Loss '{SCCE}' needs targets, but there is no y for it"),
    "output-is-named": (lambda: fit_two(["mse", CCE]), r"\(32,\) do not fit an output of shape \(32, 3\).*output 'q'"),
    "no-loss-at-all": (lambda: fit(None, Y), "No loss to compute"),
    "reduction-none": (
        lambda: fit(losses.MeanSquaredError(reduction=None), Y),
        r"'mean_squared_error' gives \(32,\) values; training needs one number",
    ),
    "returns-none": (lambda: fit(lambda y_true, y_pred: None, Y), "'lambda' returned None"),
    "weights-of-values-there-are-none-of": (
        lambda: fit("mse", Y, sample_weight=np.ones((40, 3))),
        r"sample_weight of shape \(32, 3\) does not fit losses of shape \(32,\)",
    ),
    "torch-elementwise": (lambda: fit(nn.MSELoss(), Y, units=3), r"\(32,\) do not fit an output of shape \(32, 3\)"),
    "torch-out-of-range": (lambda: fit(nn.CrossEntropyLoss(), LATE, units=3), "label 7 is out of range for 3 classes"),
    "torch-scalar-weighted": (
        lambda: fit(Scalar(), Y, sample_weight=np.ones(40)),
        "'scalar' returns one number for the whole batch",
    ),
    "torch-class": (lambda: fit(nn.CosineEmbeddingLoss, Y), "missing 1 required positional argument: 'target'"),
    "ctc-ranks": (lambda: fit("ctc", THREE, units=3), r"'ctc' needs targets of shape \(batch, longest target\)"),
    "ctc-labels": (
        lambda: fit("ctc", np.full((40, 3), 4), x=STEPS, model=time_steps()),
        "label 4 is out of range for 4 classes",
    ),
    "ctc-too-long": (
        lambda: fit("ctc", np.full((40, 6), 2), x=STEPS, model=time_steps()),
        "a target of 6 letters does not fit into 5 steps",
    ),
    "dice-class-numbers": (
        lambda: fit("dice", PIXELS, x=IMAGES, model=convolution()),
        r"\(32, 6, 6\).*\(32, 6, 6, 3\).*to_categorical\(y, 3\)",
    ),
    "smoothing": (lambda: losses.CategoricalFocalCrossentropy(label_smoothing=2), "between 0 and 1; got 2"),
    "reduction": (lambda: losses.Hinge(reduction="avg"), "reduction must be one of .*got 'avg'"),
    "dtype": (lambda: losses.Hinge(dtype="flot32"), "Unknown dtype 'flot32'"),
    "q": (lambda: losses.CategoricalGeneralizedCrossEntropy(q=1.0), r"q must be between 0 and 1; got 1.0"),
    **{
        f"{loss}-int-labels": (
            lambda loss=loss: fit(loss, THREE, units=3, activation="softmax"),
            f"'{loss}'.*class numbers.*sparse_categorical_crossentropy.*to_categorical",
        )
        for loss in (CCE, CFCE)
    },
    **{
        f"{loss}-one-hot": (
            lambda loss=loss: fit(loss, np.eye(3)[THREE], units=3, activation="softmax"),
            f"'{loss}'.*look one-hot: use 'categorical_crossentropy'",
        )
        for loss in (SCCE, GCE)
    },
    **{
        f"{loss}-out-of-range": (
            lambda loss=loss: fit(loss, LATE, units=3, activation="softmax"),
            r"label 7 is out of range for 3 classes \(labels must be 0 to 2\)",
        )
        for loss in (SCCE, GCE)
    },
    **{
        f"{loss}-no-flatten": (
            lambda loss=loss: fit(loss, Y, x=IMAGES, model=convolution(5)),
            r"\(32,\).*\(32, 6, 6, 5\).*Flatten",
        )
        for loss in ("hinge", "poisson", "mape", "kl_divergence", "tversky", CFCE)
    },
    **{
        f"{loss}-three-out": (
            lambda loss=loss: fit(loss, Y, units=3),
            rf"'{loss}'.*\(32,\) do not fit an output of shape \(32, 3\).*1 unit instead of 3.*output 'dense'",
        )
        for loss in ("hinge", "squared_hinge", "log_cosh", "poisson", "cosine_similarity", "binary_focal_crossentropy")
    },
    **{
        f"{loss}-three-out-of-three": (lambda loss=loss: fit(loss, Y[:3], units=3, x=X[:3]), "do not fit an output")
        for loss in ("mse", "hinge", "log_cosh", "poisson", "dice", "kl_divergence", "msle", "huber")
    },
}


class Scalar(nn.Module):
    def forward(self, prediction, target):
        return (prediction - target).square().mean()


def fit_two(loss=("mse", SCCE), y=(Y, THREE), **arguments):
    model = two()
    model.compile("sgd", loss if isinstance(loss, dict) else list(loss), **arguments)
    model.fit(X, y if isinstance(y, dict) else list(y), verbose=0)


@pytest.mark.parametrize("mistake", ERRORS)
def test_mistake_gets_a_clear_error(mistake):
    make, message = ERRORS[mistake]
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        make()


@pytest.mark.parametrize("ignored", [-1, 255])
def test_other_labels_are_looked_at_where_a_class_is_ignored(ignored):
    loss = losses.SparseCategoricalCrossentropy(ignore_class=ignored)
    y = np.where(np.arange(40) == 38, ignored, LATE)
    with pytest.raises(ValueError, match="label 7 is out of range for 3 classes"):
        fit(loss, y, units=3, activation="softmax")
    model = dense(3, "softmax")
    model.compile("sgd", loss)
    model.fit(X, np.where(y == 7, ignored, y), verbose=0)


def test_refused_targets_leave_no_choice_of_accuracy_behind():
    model = dense(3, "softmax")
    model.compile("sgd", CCE, metrics=["accuracy"])
    with pytest.raises(ValueError, match="class numbers"):
        model.fit(X, THREE, verbose=0)
    model.fit(X, np.eye(3)[THREE], verbose=0)
    assert type(model.compiled_metrics()[0][1]) is ks.metrics.CategoricalAccuracy


LOGITS = {
    "bce": (losses.BinaryCrossentropy, 1, "sigmoid", Y),
    "bfce": (losses.BinaryFocalCrossentropy, 1, "sigmoid", Y),
    "bce-columns": (losses.BinaryCrossentropy, 3, "sigmoid", np.eye(3)[THREE]),
    "cce": (losses.CategoricalCrossentropy, 3, "softmax", np.eye(3)[THREE]),
    "scce": (losses.SparseCategoricalCrossentropy, 3, "softmax", THREE),
    "cfce": (losses.CategoricalFocalCrossentropy, 3, "softmax", np.eye(3)[THREE]),
}


@pytest.mark.parametrize("case", LOGITS)
def test_logits_that_are_probabilities_are_warned_of_once(case):
    cls, units, activation, y = LOGITS[case]
    model = dense(units, activation)
    model.compile("sgd", cls(from_logits=True))
    with pytest.warns(UserWarning, match="from_logits=True, but the output looks like probabilities"):
        model.fit(X, y, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, verbose=0)
        for right in (cls(), cls(from_logits=True)):
            model = dense(units, None if right.from_logits else activation)
            model.compile("sgd", right)
            model.fit(X, y, verbose=0)


@pytest.mark.parametrize("loss", [CCE, CFCE])
def test_one_class_is_warned_of(loss):
    model = dense(1, "softmax")
    model.compile("sgd", loss)
    with pytest.warns(SyntaxWarning, match="single class.*'binary_"):
        model.fit(X, Y[:, None], verbose=0)


def test_labels_of_a_loader_are_looked_at_too():
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(LATE))
    model = dense(3, "softmax")
    model.compile("sgd", GCE)
    with pytest.raises(ValueError, match="label 7 is out of range"):
        model.fit(torch.utils.data.DataLoader(data, batch_size=8), verbose=0)
