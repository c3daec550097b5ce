"""Metrics within fit: joined over many steps or updated at each, they give Keras' numbers."""

import functools

import keras
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import kstyle_torch as ks
from kstyle_torch import mode
from kstyle_torch.training import epoch_metrics
from kstyle_torch.training import step as steps
from tests.oracle import assert_same_bits

ROWS = 90
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(ROWS, 6)).astype("float32")
YES_NO = (X.sum(1) > 0).astype("float32")
CLASSES = np.eye(3, dtype="float32")[(X[:, :3]).argmax(1)]
WEIGHTS = DRAW.uniform(0, 2, ROWS).astype("float32")
TOKENS = DRAW.integers(0, 9, (ROWS, 5))  # 0 is masked


def binary(k):
    return k.Sequential([k.Input((6,)), k.layers.Dense(8, activation="tanh"), k.layers.Dense(1, activation="sigmoid")])


def classes(k):
    return k.Sequential([k.Input((6,)), k.layers.Dense(8, activation="tanh"), k.layers.Dense(3, activation="softmax")])


def two_outputs(k):
    x = k.Input((6,))
    h = k.layers.Dense(8, activation="tanh")(x)
    outputs = [
        k.layers.Dense(1, activation="sigmoid", name="p")(h),
        k.layers.Dense(3, activation="softmax", name="q")(h),
    ]
    return k.Model(x, outputs)


def masked(k):
    x = k.Input((5,), dtype="int32")
    h = k.layers.Embedding(9, 4, mask_zero=True)(x)
    return k.Model(x, k.layers.Dense(1, activation="sigmoid")(h))


def counting_metric(k):
    class Hits(k.metrics.Metric):
        """A user's metric, of which fit must not assume that batches may be joined."""

        def __init__(self, name="hits", **kwargs):
            super().__init__(name=name, **kwargs)
            self.batches = self.add_weight(name="batches", initializer="zeros")
            self.best = self.add_weight(name="best", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            hits = k.ops.sum(k.ops.cast(k.ops.equal(y_true, k.ops.round(y_pred)), "float32"))
            self.best.assign(k.ops.maximum(self.best, hits))
            self.batches.assign_add(1)

        def result(self):
            return {"best": self.best, "batches": self.batches}

    return Hits()


def binary_metrics(k):
    m = k.metrics
    return ["accuracy", m.AUC(), m.AUC(curve="PR", name="pr"), m.Precision(), m.Recall(), m.PrecisionAtRecall(0.5)]


CASES = {
    "binary": (binary, X, YES_NO, lambda k: {"metrics": binary_metrics(k), "loss": "binary_crossentropy"}),
    "binary-weighted": (
        binary,
        X,
        YES_NO,
        lambda k: {"metrics": ["accuracy"], "weighted_metrics": binary_metrics(k), "loss": "binary_crossentropy"},
    ),
    "with-one-of-the-users": (
        binary,
        X,
        YES_NO[:, None],
        lambda k: {"metrics": [*binary_metrics(k), counting_metric(k)], "loss": "binary_crossentropy"},
    ),
    "classes": (
        classes,
        X,
        CLASSES,
        lambda k: {
            "metrics": [
                "acc",
                k.metrics.F1Score(average="macro"),
                k.metrics.OneHotMeanIoU(3),
                k.metrics.Precision(class_id=1),
                k.metrics.TopKCategoricalAccuracy(k=2),
                k.metrics.AUC(multi_label=True),
                k.metrics.CosineSimilarity(),
            ],
            "loss": "categorical_crossentropy",
        },
    ),
    "two-outputs": (
        two_outputs,
        X,
        [YES_NO, CLASSES],
        lambda k: {
            "loss": ["binary_crossentropy", "categorical_crossentropy"],
            "metrics": {
                "p": ["accuracy", k.metrics.AUC(name="auc")],
                "q": ["accuracy", k.metrics.F1Score(average="micro")],
            },
        },
    ),
    "masked": (
        masked,
        TOKENS,
        (TOKENS > 4).astype("float32")[..., None],
        lambda k: {"loss": "binary_crossentropy", "metrics": ["accuracy", k.metrics.AUC(), "mse"]},
    ),
}


def history(library, model, case):
    _, x, y, options = CASES[case]
    weight = WEIGHTS if case == "binary-weighted" else None
    model.compile(optimizer=library.optimizers.SGD(0.1), **options(library))
    fitted = model.fit(x, y, sample_weight=weight, batch_size=16, epochs=2, shuffle=False, verbose=0)
    tested = model.evaluate(x, y, batch_size=16, verbose=0, return_dict=True)
    return without_numbers({**{f"fit_{key}": value for key, value in fitted.history.items()}, **tested})


@functools.cache
def of_keras(case):
    """The weights that Keras' model starts with, and its history."""
    model = CASES[case][0](keras)
    weights = model.get_weights()
    return weights, history(keras, model, case)


@pytest.mark.parametrize("fold_steps", [1, 2, 256])
@pytest.mark.parametrize("case", CASES)
def test_fit_with_metrics(case, fold_steps, monkeypatch):
    monkeypatch.setattr(epoch_metrics, "FOLD_STEPS", fold_steps)
    weights, expected = of_keras(case)
    model = CASES[case][0](ks)
    model.set_weights(weights)
    mine = history(ks, model, case)
    assert mine.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(mine[key], value, rtol=1e-4, atol=1e-6, err_msg=key)


def without_numbers(history):
    """Without the count that a library's second object of a class has in its name."""
    return {key.rstrip("_0123456789"): value for key, value in history.items()}


def test_the_users_metric_is_updated_at_each_step():
    model = binary(ks)
    model.compile("sgd", "mse", metrics=[counting_metric(ks), ks.metrics.AUC()])
    history = model.fit(X, YES_NO[:, None], batch_size=16, epochs=1, verbose=0).history
    assert history["batches"] == [6.0]


def test_sequences_of_different_length():
    """Batches that cannot be joined are folded by themselves."""
    batches = []
    for length in (3, 5, 5, 4, 4, 4):
        tokens = DRAW.integers(1, 9, (8, length))
        batches.append((tokens, (tokens > 4).astype("float32")[..., None]))
    model = ks.Sequential(
        [ks.Input((None,), dtype="int32"), ks.layers.Embedding(9, 4), ks.layers.Dense(1, activation="sigmoid")]
    )
    model.compile(ks.optimizers.SGD(0.0), "binary_crossentropy", metrics=["accuracy", ks.metrics.AUC()])
    history = model.fit(iter(batches * 2), steps_per_epoch=6, epochs=2, verbose=0).history
    accuracy, area = ks.metrics.BinaryAccuracy(), ks.metrics.AUC()
    for tokens, y in batches:
        for metric in (accuracy, area):
            metric.update_state(torch.as_tensor(y), model(torch.as_tensor(tokens)))
    np.testing.assert_allclose(history["accuracy"], [float(accuracy.result())] * 2, rtol=1e-6)
    np.testing.assert_allclose(
        history["auc" if "auc" in history else [*history][-1]], [float(area.result())] * 2, rtol=1e-6
    )


def test_memory_stays_below_the_cap(monkeypatch):
    monkeypatch.setattr(epoch_metrics, "FOLD_BYTES", 300)
    folded = []
    monkeypatch.setattr(
        epoch_metrics.Meter,
        "fold",
        lambda self, fold=epoch_metrics.Meter.fold: folded.append(self.kept_bytes) or fold(self),
    )
    model = binary(ks)
    model.compile("sgd", "mse", metrics=[ks.metrics.AUC()])
    model.fit(X, YES_NO, batch_size=16, epochs=1, verbose=0)
    assert len(folded) == 3 and max(folded) < 300 + 16 * 8  # a batch is 128 bytes of targets and outputs


def test_a_metric_that_does_not_suit_the_targets_says_so_before_training():
    model = classes(ks)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[ks.metrics.Precision()])
    before = model.get_weights()
    with pytest.raises(ValueError, match="Metric 'precision.*make them one-hot: utils.to_categorical\\(y, 3\\)"):
        model.fit(X, CLASSES.argmax(1), epochs=1, verbose=0)
    assert_same_bits(model.get_weights(), before)


def test_outputs_without_a_second_axis_count_by_batch():
    """A mean over the last axis is over the samples there; joined, short batches would count like long ones."""

    class Flat(ks.Model):
        def __init__(self):
            super().__init__()
            self.dense = ks.layers.Dense(1)

        def call(self, x):
            return self.dense(x)[:, 0]

    model = Flat()
    model.compile(ks.optimizers.SGD(0.0), "mse", metrics=["mae"])
    history = model.fit(X, YES_NO, batch_size=60, epochs=1, shuffle=False, verbose=0).history
    gaps = np.abs(model.predict(X, verbose=0) - YES_NO)
    np.testing.assert_allclose(history["mae"], [(gaps[:60].mean() + gaps[60:].mean()) / 2], rtol=1e-5)


def test_loader_of_tensors():
    rows = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in zip(X, YES_NO, strict=True)]
    model = binary(ks)
    model.compile("sgd", "binary_crossentropy", metrics=[ks.metrics.Recall(name="recall")])
    history = model.fit(DataLoader(rows, batch_size=16), epochs=1, verbose=0).history
    assert 0 <= history["recall"][0] <= 1


def penalised(k):
    dense = k.layers.Dense(1, activation="sigmoid", kernel_regularizer="l2")
    return k.Sequential([k.Input((6,)), k.layers.Dense(8, activation="tanh", bias_regularizer="l1"), dense])


def sure(k):
    """Predictions so sure that Keras takes the crossentropy of the logits to be exact."""
    return k.Sequential([k.Input((6,)), k.layers.Rescaling(200.0), k.layers.Dense(3, activation="softmax")])


TWO = {"loss": {"p": "mse", "q": "categorical_crossentropy"}, "loss_weights": {"p": 0.3, "q": 2.0}}
LABELS = CLASSES.argmax(1)
SIGNS = np.concatenate([YES_NO[:48], YES_NO[48:] * 2 - 1])  # hinge losses take 0 and 1 for -1 and 1, batch by batch
TESTS = {
    "binary": (binary, YES_NO, lambda k: {"loss": "binary_crossentropy"}, None),
    "weighted": (binary, YES_NO, lambda k: {"loss": "binary_crossentropy"}, WEIGHTS),
    "mean-of-weights": (
        binary,
        YES_NO,
        lambda k: {"loss": k.losses.MeanSquaredError(reduction="mean_with_sample_weight")},
        WEIGHTS,
    ),
    "sum": (binary, YES_NO, lambda k: {"loss": k.losses.MeanAbsoluteError(reduction="sum")}, None),
    "sure": (sure, LABELS, lambda k: {"loss": "sparse_categorical_crossentropy"}, None),
    "penalised": (penalised, YES_NO, lambda k: {"loss": "mse"}, None),
    "hinge": (binary, SIGNS, lambda k: {"loss": "hinge"}, None),
    "dice": (classes, CLASSES, lambda k: {"loss": k.losses.Dice()}, None),
    "two-outputs": (two_outputs, [YES_NO, CLASSES], lambda k: TWO, [WEIGHTS, WEIGHTS]),
    "function": (
        binary,
        YES_NO[:, None],
        lambda k: {"loss": lambda y_true, y_pred: k.ops.max(y_pred) - k.ops.mean(y_true)},
        None,
    ),
}


@pytest.mark.parametrize("case", TESTS)
def test_loss_of_a_test(case):
    """It is the mean over batches, whether or not it is computed of several batches at once."""
    make, y, options, weight = TESTS[case]
    theirs, ours = make(keras), make(ks)
    ours.set_weights(theirs.get_weights())
    results = []
    for library, model in ((keras, theirs), (ks, ours)):
        model.compile(optimizer="sgd", **options(library))
        logs = model.evaluate(X, y, sample_weight=weight, batch_size=16, verbose=0, return_dict=True)
        results.append(without_numbers(logs))
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        np.testing.assert_allclose(results[1][key], value, rtol=1e-5, err_msg=key)


def test_loss_of_a_test_is_computed_at_once(monkeypatch):
    rows = []

    def mean(self, y_true, y_pred, mean=ks.losses.BinaryCrossentropy.mean):
        rows.append(len(y_pred))
        return mean(self, y_true, y_pred)

    model = binary(ks)
    model.compile("sgd", "binary_crossentropy")
    model.evaluate(X, YES_NO, batch_size=16, verbose=0)
    monkeypatch.setattr(ks.losses.BinaryCrossentropy, "mean", mean)
    model.evaluate(X, YES_NO, batch_size=16, verbose=0)
    assert rows == [90]


def test_some_outputs_remember_their_logits():
    """Those of a compiled forward pass, which takes over after some batches, do not."""
    by_rows = torch.softmax(torch.tensor([[3.0, 1.0, 0.0]] * 8), -1)
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])
    model = classes(ks)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.evaluate(X, LABELS, verbose=0)
    model.reset_metrics()
    kept = epoch_metrics.Meter(model._compiled, lambda: steps.late_loss(model))
    for start in range(0, 8, 2):
        output = by_rows[start : start + 2].clone()
        if start < 4:
            output._keras_logits = output.log()
        kept.add(None, labels[start : start + 2], output, None)
    kept.fold()
    expected = ks.losses.SparseCategoricalCrossentropy()(labels, by_rows)
    np.testing.assert_allclose(float(model._compiled.loss_tracker.result()), float(expected), rtol=1e-6)
    assert float(model.metrics[1].result()["accuracy"]) == 0.5


class Adding(ks.layers.Layer):
    """A layer that adds a loss where the first number of the batch is positive."""

    def call(self, inputs):
        if inputs[0, 0] > 0:
            self.add_loss(inputs.mean())
        return inputs * 1


class Looking(ks.layers.Layer):
    """A layer that reads the metrics so far."""

    model, seen = None, []

    def call(self, inputs):
        if self.model is not None:
            self.seen.append({key: float(value) for key, value in self.model().get_metrics_result().items()})
        return inputs * 1


def with_layer(layer):
    return ks.Sequential([ks.Input((6,)), ks.layers.Dense(8), layer, ks.layers.Dense(1, activation="sigmoid")])


def looking():
    layer = Looking()
    model = with_layer(layer)
    layer.model = lambda: model
    return model


def averaged():
    """The rows' outputs have one axis."""
    return ks.Sequential([ks.Input((6,)), ks.layers.Dense(1), ks.layers.Lambda(lambda x: x.mean(1))])


WIDE = np.ones((ROWS, 6000), "float32")
BATCHES = -(-ROWS // 8)
# Model, loss, targets, further arguments of `evaluate`, and how many batches take the ordinary way.
QUIET = {
    "probabilities": (lambda: binary(ks), "binary_crossentropy", YES_NO, {}, 0),
    "class numbers": (lambda: classes(ks), "sparse_categorical_crossentropy", CLASSES.argmax(1), {}, 0),
    "large outputs": (lambda: ks.Sequential([ks.Input((6,)), ks.layers.Dense(6000)]), "mse", WIDE, {}, BATCHES),
    "one axis": (averaged, "mse", YES_NO, {}, BATCHES),
    "weights": (lambda: binary(ks), "binary_crossentropy", YES_NO, {"sample_weight": WEIGHTS}, BATCHES),
    "two outputs": (lambda: two_outputs(ks), ["mse", "mse"], [YES_NO, CLASSES], {}, BATCHES),
    "a loss of batches": (lambda: classes(ks), ks.losses.Dice(), CLASSES, {}, BATCHES),
    "added losses": (lambda: with_layer(Adding()), "mse", YES_NO, {}, None),
    "reads metrics": (looking, "mse", YES_NO, {}, 0),
}


@pytest.mark.parametrize("fold_steps", [3, 256])
@pytest.mark.parametrize("case", QUIET)
def test_an_evaluation_without_callbacks_gives_the_same(case, fold_steps, monkeypatch):
    monkeypatch.setattr(epoch_metrics, "FOLD_STEPS", fold_steps)
    make, loss, y, arguments, ordinary = QUIET[case]
    ks.utils.set_random_seed(0)
    model = make()
    model.compile("sgd", loss, metrics=None if isinstance(loss, list) else ["accuracy"])
    calls, add = [], epoch_metrics.Meter.add
    monkeypatch.setattr(epoch_metrics.Meter, "add", lambda *given: calls.append(1) or add(*given))

    def evaluated(**more):
        calls.clear()
        Looking.seen.clear()
        logs = model.evaluate(X, y, batch_size=8, verbose=0, return_dict=True, **arguments, **more)
        return logs, [*Looking.seen], len(calls)

    evaluated()  # builds and checks
    *expected, number = evaluated(callbacks=[ks.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: None)])
    assert number == BATCHES
    *got, number = evaluated()
    if ordinary is None:  # other batches are joined: last digits differ
        got[0] = pytest.approx(got[0], rel=1e-6)
    assert got == expected and bool(got[1]) == (case == "reads metrics")
    assert number == ordinary if ordinary is not None else 0 < number < BATCHES


@pytest.mark.parametrize("fold_steps", [3, 256])
def test_the_loss_that_a_layer_adds_is_that_of_its_batch_alone(fold_steps, monkeypatch):
    monkeypatch.setattr(epoch_metrics, "FOLD_STEPS", fold_steps)
    model = with_layer(Adding())
    model.compile("sgd", "mse", metrics=["mae"])
    x = X[np.argsort(X[:, 0])]  # some batches add none; the last one does
    hook = ks.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: None)
    parts = [model.evaluate(x[k : k + 8], YES_NO[k : k + 8], verbose=0)[0] for k in range(0, 88, 8)]
    for callbacks in ([], [hook]):
        whole, _ = model.evaluate(x[:88], YES_NO[:88], batch_size=8, verbose=0, callbacks=callbacks)
        assert whole == pytest.approx(np.mean(parts), rel=1e-5)


def test_an_evaluation_ends_where_a_layer_asks_for_that():
    class Stopping(ks.layers.Layer):
        def call(self, inputs):
            seen.append(len(inputs))
            model.stop_evaluating = len(seen) == 3
            return inputs * 1

    model, seen = ks.Sequential([]), []
    model = with_layer(Stopping())
    model.compile("sgd", "mse")
    model.evaluate(X[:8], YES_NO[:8], batch_size=8, verbose=0)
    seen.clear()
    model.evaluate(X, YES_NO, batch_size=8, verbose=0)
    assert seen == [8, 8, 8]


def test_an_evaluation_leaves_the_mode_to_losses_and_after_errors():
    class Seeing(ks.layers.Layer):
        def call(self, inputs, training=None):
            modes.append(training)
            if fails:
                raise RuntimeError("on purpose")
            return inputs * 1

    modes, fails, modes_of_loss = [], [], []

    def loss(y_true, y_pred):
        modes_of_loss.append(mode.running.mode)
        return (y_true - y_pred).square()

    model = with_layer(Seeing())
    model.compile("sgd", loss)
    for _ in range(2):
        model.evaluate(X, YES_NO, batch_size=8, verbose=0)
    assert {*modes} == {False} and {*modes_of_loss} == {None}
    fails.append(True)
    with pytest.raises(RuntimeError, match="on purpose"):
        model.evaluate(X, YES_NO, batch_size=8, verbose=0)
    assert mode.running.mode is None and not mode.running.inside
