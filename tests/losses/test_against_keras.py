"""Losses against Keras: values and gradients, weights, masks, reductions, saturated probabilities."""

import functools

import keras
import pytest
import torch

import kstyle_torch
from kstyle_torch import activations, losses
from tests.oracle import assert_close, integers, one_hot, uniform

ROWS, CLASSES = 6, 4
REDUCTIONS = ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None]
CCE, SCCE = "CategoricalCrossentropy", "SparseCategoricalCrossentropy"


def probabilities(*shape):
    return uniform(*shape, CLASSES, low=0.05, high=0.95)


NUMBERS = (uniform(ROWS, 3, seed=1), uniform(ROWS, 3, low=-3.0, high=3.0, seed=2))
BINARY = (integers(ROWS, 3, high=2).float(), uniform(ROWS, 3, low=0.01, high=0.99, seed=2))
BINARY_LOGITS = (BINARY[0], uniform(ROWS, 3, low=-6.0, high=6.0, seed=3))
DENSE = (one_hot(ROWS), probabilities(ROWS))
DENSE_LOGITS = (one_hot(ROWS), uniform(ROWS, CLASSES, low=-6.0, high=6.0))
SPARSE = (integers(ROWS, high=CLASSES), probabilities(ROWS))
SPARSE_LOGITS = (SPARSE[0], DENSE_LOGITS[1])
STEPS = (integers(ROWS, 5, high=CLASSES), probabilities(ROWS, 5))
POSITIVE = (uniform(ROWS, 3, low=0.0, high=4.0), uniform(ROWS, 3, low=0.1, high=3.0, seed=2))
SIGNS = (2 * BINARY[0] - 1, uniform(ROWS, 3, low=-2.0, high=2.0, seed=2))
MASKS = (integers(2, 4, 5, 1, high=2).float(), uniform(2, 4, 5, 1, low=0.0, high=1.0, seed=5))
EMBEDDINGS = (integers(12, high=3), torch.nn.functional.normalize(uniform(12, 5), dim=-1))
LETTERS = (torch.tensor([[1, 2, 2, 0], [3, 0, 0, 0], [1, 1, 1, 1]]), uniform(3, 9, 5, low=-3.0, high=3.0))

# id, class, arguments, (targets, predictions)
CASES = [
    ("bce", "BinaryCrossentropy", {}, BINARY),
    ("bce-column", "BinaryCrossentropy", {}, (BINARY[0][:, :1], BINARY[1][:, :1])),
    ("bce-flat-targets", "BinaryCrossentropy", {}, (BINARY[0][:, 0], BINARY[1][:, :1])),
    ("bce-int-targets", "BinaryCrossentropy", {}, (integers(ROWS, 1, high=2), BINARY[1][:, :1])),
    ("bce-bool-targets", "BinaryCrossentropy", {}, (integers(ROWS, 1, high=2).bool(), BINARY[1][:, :1])),
    ("bce-logits", "BinaryCrossentropy", {"from_logits": True}, BINARY_LOGITS),
    ("bce-smoothing", "BinaryCrossentropy", {"label_smoothing": 0.2}, BINARY),
    ("bce-logits-smoothing", "BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, BINARY_LOGITS),
    ("bce-axis", "BinaryCrossentropy", {"axis": 1}, (one_hot(ROWS, 5), probabilities(ROWS, 5))),
    ("cce", CCE, {}, DENSE),
    ("cce-unscaled", CCE, {}, (DENSE[0], DENSE[1] * 3)),
    ("cce-logits", CCE, {"from_logits": True}, DENSE_LOGITS),
    ("cce-smoothing", CCE, {"label_smoothing": 0.2}, DENSE),
    ("cce-logits-smoothing", CCE, {"from_logits": True, "label_smoothing": 0.2}, DENSE_LOGITS),
    ("cce-steps", CCE, {}, (one_hot(ROWS, 5), probabilities(ROWS, 5))),
    ("cce-axis", CCE, {"axis": 1}, (one_hot(ROWS, 5).movedim(-1, 1), probabilities(ROWS, 5).movedim(-1, 1))),
    ("scce", SCCE, {}, SPARSE),
    ("scce-column", SCCE, {}, (SPARSE[0][:, None], SPARSE[1])),
    ("scce-float-targets", SCCE, {}, (SPARSE[0].float(), SPARSE[1])),
    ("scce-logits", SCCE, {"from_logits": True}, SPARSE_LOGITS),
    ("scce-steps", SCCE, {}, STEPS),
    ("scce-steps-column", SCCE, {}, (STEPS[0][..., None], STEPS[1])),
    ("scce-ignore", SCCE, {"ignore_class": 1}, SPARSE),
    ("scce-ignore-logits", SCCE, {"ignore_class": 1, "from_logits": True}, SPARSE_LOGITS),
    ("scce-ignore-negative", SCCE, {"ignore_class": -1}, (torch.where(SPARSE[0] == 1, -1, SPARSE[0]), SPARSE[1])),
    ("scce-ignore-steps", SCCE, {"ignore_class": 0}, STEPS),
    ("scce-axis", SCCE, {"axis": 1}, (STEPS[0], STEPS[1].movedim(-1, 1))),
    ("mse", "MeanSquaredError", {}, NUMBERS),
    ("mse-flat-targets", "MeanSquaredError", {}, (NUMBERS[0][:, 0], NUMBERS[1][:, :1])),
    ("mse-flat-output", "MeanSquaredError", {}, (NUMBERS[0][:, :1], NUMBERS[1][:, 0])),
    ("mse-int-targets", "MeanSquaredError", {}, (integers(ROWS, 3), NUMBERS[1])),
    ("mse-image", "MeanSquaredError", {}, (uniform(2, 3, 4, 5), uniform(2, 3, 4, 5, seed=1))),
    ("mae", "MeanAbsoluteError", {}, NUMBERS),
    ("mae-flat-targets", "MeanAbsoluteError", {}, (NUMBERS[0][:, 0], NUMBERS[1][:, :1])),
    ("huber", "Huber", {}, NUMBERS),
    ("huber-delta", "Huber", {"delta": 0.4}, NUMBERS),
    ("mape", "MeanAbsolutePercentageError", {}, NUMBERS),
    ("mape-zero", "MeanAbsolutePercentageError", {}, (torch.zeros(ROWS, 3), NUMBERS[1])),
    ("mape-flat-targets", "MeanAbsolutePercentageError", {}, (NUMBERS[0][:, 0], NUMBERS[1][:, :1])),
    ("msle", "MeanSquaredLogarithmicError", {}, POSITIVE),
    ("msle-negative", "MeanSquaredLogarithmicError", {}, NUMBERS),
    ("cosine", "CosineSimilarity", {}, NUMBERS),
    ("cosine-axis", "CosineSimilarity", {"axis": 1}, (uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1))),
    ("cosine-axes", "CosineSimilarity", {"axis": (1, 2)}, (uniform(ROWS, 5, 3), uniform(ROWS, 5, 3, seed=1))),
    ("cosine-zero", "CosineSimilarity", {}, (torch.zeros(ROWS, 3), NUMBERS[1])),
    ("log-cosh", "LogCosh", {}, NUMBERS),
    ("log-cosh-far", "LogCosh", {}, (NUMBERS[0], NUMBERS[1] * 1e4)),
    ("hinge", "Hinge", {}, SIGNS),
    ("hinge-binary", "Hinge", {}, (BINARY[0], SIGNS[1])),
    ("hinge-at-margin", "Hinge", {}, (SIGNS[0], SIGNS[1].sign())),
    ("hinge-flat-targets", "Hinge", {}, (SIGNS[0][:, 0], SIGNS[1][:, :1])),
    ("squared-hinge", "SquaredHinge", {}, SIGNS),
    ("squared-hinge-binary", "SquaredHinge", {}, (BINARY[0], SIGNS[1])),
    ("categorical-hinge", "CategoricalHinge", {}, DENSE_LOGITS),
    ("categorical-hinge-ties", "CategoricalHinge", {}, (DENSE[0], -DENSE[1].round())),
    ("kld", "KLDivergence", {}, (DENSE[1], DENSE[1].flip(0))),
    ("kld-one-hot", "KLDivergence", {}, DENSE),
    ("kld-outside", "KLDivergence", {}, (NUMBERS[0], NUMBERS[1])),
    ("poisson", "Poisson", {}, POSITIVE),
    ("bfce", "BinaryFocalCrossentropy", {}, BINARY),
    ("bfce-balanced", "BinaryFocalCrossentropy", {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5}, BINARY),
    ("bfce-gamma-0", "BinaryFocalCrossentropy", {"gamma": 0.0}, BINARY),
    ("bfce-logits", "BinaryFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, BINARY_LOGITS),
    ("bfce-axis", "BinaryFocalCrossentropy", {"axis": 1}, (one_hot(ROWS, 5), probabilities(ROWS, 5))),
    ("cfce", "CategoricalFocalCrossentropy", {}, DENSE),
    ("cfce-alphas", "CategoricalFocalCrossentropy", {"alpha": [0.1, 0.2, 0.3, 0.4], "gamma": 3.0}, DENSE),
    ("cfce-logits", "CategoricalFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, DENSE_LOGITS),
    ("cfce-axis", "CategoricalFocalCrossentropy", {"axis": 1}, (one_hot(ROWS, 5), probabilities(ROWS, 5))),
    ("gce", "CategoricalGeneralizedCrossEntropy", {}, SPARSE),
    ("gce-q", "CategoricalGeneralizedCrossEntropy", {"q": 0.8}, STEPS),
    ("dice", "Dice", {}, MASKS),
    ("dice-axis", "Dice", {"axis": (1, 2, 3)}, MASKS),
    ("dice-empty", "Dice", {"axis": (1, 2, 3)}, (torch.zeros_like(MASKS[0]), torch.zeros_like(MASKS[1]))),
    ("tversky", "Tversky", {}, MASKS),
    ("tversky-axis", "Tversky", {"alpha": 0.3, "beta": 0.7, "axis": [1, 2, 3]}, MASKS),
    ("circle", "Circle", {}, EMBEDDINGS),
    ("circle-arguments", "Circle", {"gamma": 20.0, "margin": 0.2, "remove_diagonal": False}, EMBEDDINGS),
    ("circle-column", "Circle", {}, (EMBEDDINGS[0][:, None], EMBEDDINGS[1])),
    ("circle-alone", "Circle", {}, (torch.arange(12), EMBEDDINGS[1])),
    ("ctc", "CTC", {}, LETTERS),
    ("ctc-float-targets", "CTC", {}, (LETTERS[0].float(), LETTERS[1])),
]
every_case = pytest.mark.parametrize(("cls", "arguments", "data"), [pytest.param(*c[1:], id=c[0]) for c in CASES])


def check(ours, theirs, y_true, y_pred, sample_weight=None, mask=None, through=lambda x: x):
    """Both losses of `through(y_pred)`: the same value, and the same gradient of y_pred."""
    results = []
    for loss in (ours, theirs):
        x = y_pred.clone().requires_grad_()
        prediction = through(x)
        if mask is not None:
            prediction._keras_mask = mask
        value = loss(y_true, prediction) if sample_weight is None else loss(y_true, prediction, sample_weight)
        value.sum().backward()
        results.append((value, x.grad))
    assert_close(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])


def make(cls, arguments):
    return getattr(losses, cls)(**arguments), getattr(keras.losses, cls)(**arguments)


@every_case
def test_value_and_gradient(cls, arguments, data):
    check(*make(cls, arguments), *data)


@every_case
def test_reductions(cls, arguments, data):
    """Each of them, without and with weights."""
    for reduction in REDUCTIONS:
        ours, theirs = make(cls, {**arguments, "reduction": reduction})
        shape = theirs.call(keras.ops.convert_to_tensor(data[0]), data[1]).shape
        for weight in (None, uniform(*shape, low=0.0, high=2.0)):
            check(ours, theirs, *data, sample_weight=weight)


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("cls", "data"), [("MeanSquaredError", (STEPS[1] * 2, STEPS[1])), (SCCE, STEPS)], ids=["mse", "scce"]
)
def test_masks(cls, data, weighted, reduction):
    mask = integers(ROWS, 5, high=3) > 0
    weight = uniform(ROWS, 5, low=0.0, high=2.0) if weighted else None
    check(*make(cls, {"reduction": reduction}), *data, sample_weight=weight, mask=mask)


@every_case
def test_a_mask_and_weights_of_samples_together(cls, arguments, data):
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        ours, theirs = make(cls, {**arguments, "reduction": reduction})
        shape = theirs.call(keras.ops.convert_to_tensor(data[0]), data[1]).shape
        mask, weight = integers(*shape, high=3) > 0, uniform(*shape, low=0.0, high=2.0)
        # copies, since Keras multiplies the mask into the caller's weights
        weighted = [functools.partial(with_copy, loss, weight) for loss in (ours, theirs)]
        check(*weighted, *data, mask=mask)


def with_copy(loss, weight, y_true, y_pred):
    return loss(y_true, y_pred, weight.clone())


def test_mask_that_hides_all_gives_zero():
    y_true, y_pred = STEPS
    y_pred = y_pred.clone()
    y_pred._keras_mask = torch.zeros(ROWS, 5, dtype=torch.bool)
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight", "sum"):
        assert float(losses.SparseCategoricalCrossentropy(reduction=reduction)(y_true, y_pred)) == 0.0


@pytest.mark.parametrize("ignore", [True, False], ids=["ignore-class", "all-classes"])
def test_mask_and_ignored_class_together(ignore):
    arguments = {"ignore_class": 0} if ignore else {}
    check(*make(SCCE, arguments), *STEPS, mask=integers(ROWS, 5, high=3, seed=4) > 0)


@pytest.mark.parametrize("weight_shape", [(ROWS,), (ROWS, 1)], ids=["rows", "column"])
@pytest.mark.parametrize("cls", ["MeanSquaredError", "MeanAbsoluteError", "Huber", "BinaryCrossentropy"])
def test_weights_of_rows(cls, weight_shape):
    check(*make(cls, {}), *BINARY, sample_weight=uniform(*weight_shape, low=0.0, high=2.0))


def test_weights_of_rows_reach_every_step():
    """Keras broadcasts (batch,) weights against the last axis, or fails; here a weight goes to all steps of its row."""
    weight = uniform(ROWS, low=0.0, high=2.0)
    ours = losses.SparseCategoricalCrossentropy()(*STEPS, sample_weight=weight)
    assert_close(
        ours, keras.losses.SparseCategoricalCrossentropy()(*STEPS, sample_weight=weight[:, None].expand(-1, 5))
    )


# ----------------------------------------------------------------------------------------------- saturated probabilities

EXTREMES = [-100.0, -20.0, -17.0, -16.2, -16.0, -15.0, -5.0, 0.0, 5.0, 15.0, 15.9, 16.7, 17.0, 20.0, 100.0]
CERTAIN = [0.0, 1e-30, 1e-9, 1e-7, 1e-6, 0.5, 1 - 1e-6, 1 - 1e-7, 1.0]


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_saturated_sigmoid(target, smoothing):
    logits = torch.tensor(EXTREMES)[:, None]
    y_true = torch.full_like(logits, target)
    ours, theirs = make("BinaryCrossentropy", {"label_smoothing": smoothing})
    check(ours, theirs, y_true, logits, through=activations.sigmoid)
    check(ours, theirs, y_true, logits, through=keras.activations.sigmoid)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_certain_probabilities_of_bce(target):
    p = torch.tensor(CERTAIN)[:, None]
    check(*make("BinaryCrossentropy", {}), torch.full_like(p, target), p)


@pytest.mark.parametrize("from_logits", [False, True], ids=["probabilities", "logits"])
@pytest.mark.parametrize("cls", [CCE, SCCE])
def test_saturated_softmax(cls, from_logits):
    """Behind a softmax of our own the loss is taken of its logits; the numbers are those of Keras all the same."""
    first = torch.tensor(EXTREMES)
    logits = torch.stack([first, torch.zeros_like(first), -0.5 * first], dim=1).repeat_interleave(3, dim=0)
    sparse = torch.arange(3).repeat(len(first))
    y_true = sparse if cls == SCCE else torch.nn.functional.one_hot(sparse, 3).float()
    ours, theirs = make(cls, {"from_logits": from_logits})
    through = (lambda x: x) if from_logits else activations.softmax
    check(ours, theirs, y_true, logits, through=through)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_saturated_softmax_smoothed(smoothing):
    logits = torch.tensor([[20.0, -20.0, 0.0], [100.0, -100.0, 0.0], [-100.0, 0.0, 100.0], [1.0, 2.0, 3.0]])
    y_true = torch.nn.functional.one_hot(torch.tensor([1, 1, 2, 0]), 3).float()
    check(*make(CCE, {"label_smoothing": smoothing}), y_true, logits, through=activations.softmax)


@pytest.mark.parametrize("cls", [CCE, SCCE])
def test_certain_probabilities_of_classes(cls):
    p = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1e-9, 1 - 1e-7, 0.0], [0.3, 0.3, 0.4]])
    sparse = torch.tensor([0, 1, 0, 2])
    y_true = sparse if cls == SCCE else torch.nn.functional.one_hot(sparse, 3).float()
    check(*make(cls, {}), y_true, p)


def test_softmax_that_was_changed_afterwards_is_not_looked_through():
    logits = uniform(ROWS, CLASSES)
    check(*make(CCE, {}), DENSE[0], logits, through=lambda x: activations.softmax(x) * 0.5 + 0.1)


# ------------------------------------------------------------------------------------------------------------- functions

FUNCTIONS = [
    ("binary_crossentropy", {}, BINARY),
    ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, BINARY_LOGITS),
    ("categorical_crossentropy", {}, DENSE),
    ("categorical_crossentropy", {"from_logits": True, "label_smoothing": 0.1}, DENSE_LOGITS),
    ("sparse_categorical_crossentropy", {}, SPARSE),
    ("sparse_categorical_crossentropy", {"from_logits": True}, SPARSE_LOGITS),
    ("sparse_categorical_crossentropy", {"ignore_class": 2}, STEPS),
    ("mean_squared_error", {}, NUMBERS),
    ("mean_absolute_error", {}, NUMBERS),
    ("huber", {}, NUMBERS),
    ("huber", {"delta": 0.4}, NUMBERS),
    ("mean_absolute_percentage_error", {}, NUMBERS),
    ("mean_squared_logarithmic_error", {}, POSITIVE),
    ("cosine_similarity", {}, NUMBERS),
    ("cosine_similarity", {"axis": 0}, NUMBERS),
    ("log_cosh", {}, NUMBERS),
    ("hinge", {}, SIGNS),
    ("squared_hinge", {}, (BINARY[0], SIGNS[1])),
    ("categorical_hinge", {}, DENSE_LOGITS),
    ("kl_divergence", {}, DENSE),
    ("poisson", {}, POSITIVE),
    ("binary_focal_crossentropy", {}, BINARY),
    ("binary_focal_crossentropy", {"apply_class_balancing": True, "alpha": 0.4}, BINARY),
    ("categorical_focal_crossentropy", {}, DENSE),
    ("categorical_focal_crossentropy", {"alpha": 0.4, "gamma": 1.0, "from_logits": True}, DENSE_LOGITS),
    ("categorical_generalized_cross_entropy", {"q": 0.7}, SPARSE),
    ("dice", {}, MASKS),
    ("dice", {"axis": (1, 2)}, MASKS),
    ("tversky", {"alpha": 0.2, "axis": 1}, MASKS),
    ("circle", {}, EMBEDDINGS),
    ("circle", {"ref_labels": torch.tensor([0, 1, 2]), "ref_embeddings": EMBEDDINGS[1][:3] * 0.9}, EMBEDDINGS),
    ("ctc", {}, LETTERS),
]


@pytest.mark.parametrize(("name", "arguments", "data"), FUNCTIONS, ids=[f"{f[0]}-{'-'.join(f[1])}" for f in FUNCTIONS])
def test_functions(name, arguments, data):
    ours, theirs = getattr(losses, name), getattr(keras.losses, name)
    check(lambda t, p: ours(t, p, **arguments), lambda t, p: theirs(t, p, **arguments), *data)


def test_lists_and_arrays_are_taken():
    expected = keras.losses.MeanSquaredError()([[1.0], [2.0]], [[1.5], [0.0]])
    assert_close(losses.MeanSquaredError()([[1.0], [2.0]], [[1.5], [0.0]]), expected)
    assert_close(losses.MeanSquaredError()(torch.ones(2, 1).numpy(), torch.zeros(2, 1).numpy()), torch.tensor(1.0))
    assert_close(losses.mean_squared_error([[1.0], [2.0]], [[1.5], [0.0]]).mean(), expected)


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("dtype", [None, "float64", "bfloat16", torch.float32, "mixed_bfloat16"], ids=str)
@pytest.mark.parametrize("given", [torch.float64, torch.bfloat16, torch.float32], ids=str)
def test_losses_convert_to_their_dtype(given, dtype, floatx):
    kstyle_torch.config.set_floatx(floatx)
    keras.config.set_floatx(floatx)
    try:
        for _, cls, arguments, data in CASES:
            if cls in ("MeanSquaredError", "BinaryCrossentropy", SCCE, "Hinge", "CTC"):
                policy = isinstance(dtype, str) and dtype.startswith("mixed")
                mine = kstyle_torch.DTypePolicy(dtype) if policy else dtype
                other = keras.DTypePolicy(dtype) if policy else str(dtype).removeprefix("torch.") if dtype else None
                ours = getattr(losses, cls)(**arguments, dtype=mine)
                theirs = getattr(keras.losses, cls)(**arguments, dtype=other)
                assert ours.dtype == theirs.dtype
                rough = "bfloat16" in (ours.dtype, str(given).removeprefix("torch."))
                mine, other = ours(data[0], data[1].to(given)), theirs(data[0], data[1].to(given))
                assert mine.dtype is getattr(torch, ours.dtype)  # Keras reduces float64 to float32
                assert_close(mine.double(), other.double(), rtol=0.05 if rough else 1e-5)
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize("cls", [CCE, SCCE])
def test_a_loss_over_the_pixels_of_images_trains_as_in_keras(cls, activation):
    """Keras on torch cannot go back through a sparse loss over images; it is asked about the same pixels as rows."""

    def network(library, *end):
        convolution = library.layers.Conv2D(3, 3, activation=activation, padding="same")
        model = library.Sequential([library.Input((8, 8, 3)), convolution, *end])
        model.compile("sgd", getattr(library.losses, cls)(from_logits=activation is None), metrics=["accuracy"])
        return model

    ours, theirs = network(kstyle_torch), network(keras, keras.layers.Reshape((64, 3)))
    theirs.set_weights(ours.get_weights())
    x, y = uniform(4, 8, 8, 3), integers(4, 8, 8, 1, high=3)
    y = y if cls == SCCE else torch.nn.functional.one_hot(y[..., 0], 3)
    mine = ours.fit(x, y, verbose=0, epochs=2, shuffle=False).history
    other = theirs.fit(x, y.reshape(4, 64, -1), verbose=0, epochs=2, shuffle=False).history
    assert list(mine) == list(other)
    assert_close(list(mine.values()), list(other.values()))
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("through", [activations.softmax, lambda h: h.softmax(-1), None], ids=["ours", "torch", "none"])
def test_sparse_loss_goes_back_through_every_layout_of_images(through, layout):
    x = uniform(2, 3, 4, 5).requires_grad_()
    image = x.contiguous(memory_format=layout).permute(0, 2, 3, 1)
    y_true, logits = integers(2, 4, 5, high=3), through is None
    rows = uniform(2, 3, 4, 5).permute(0, 2, 3, 1).reshape(-1, 3).requires_grad_()
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    expected(y_true.flatten(), rows if logits else rows.softmax(-1)).backward()
    want = rows.grad.reshape(2, 4, 5, 3).permute(0, 3, 1, 2)
    ours = losses.SparseCategoricalCrossentropy(from_logits=logits)
    for loss in (ours, lambda t, p: kstyle_torch.ops.sparse_categorical_crossentropy(t, p, logits).mean()):
        x.grad = None
        loss(y_true, image if logits else through(image)).backward(retain_graph=True)
        assert_close(x.grad, want)


def test_loss_of_a_model_in_half_precision_is_computed_in_float32():
    model = kstyle_torch.Sequential(
        [kstyle_torch.Input((4,)), kstyle_torch.layers.Dense(3, activation="softmax", dtype="mixed_bfloat16")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = uniform(8, 4), integers(8, high=3)
    assert model(x).dtype is torch.bfloat16
    loss = model.compute_loss(x, y, model(x))
    assert loss.dtype is torch.float32
    logits = model(x)._keras_logits.float()
    assert_close(loss, torch.nn.functional.cross_entropy(logits, y))
    loss.backward()
    assert model.layers[0].kernel.value.grad.isfinite().all()
