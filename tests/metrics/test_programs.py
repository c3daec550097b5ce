"""Programs as users write them, with metrics of their own, run here and in Keras."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(64, 8)).astype("float32")
YES_NO = (X.sum(1) > 0).astype("float32")
CLASSES = DRAW.integers(0, 3, 64)
HIDDEN, HEAD = DRAW.normal(size=(8, 16)) * 0.3, DRAW.normal(size=(16, 3)) * 0.3


def network(k, units=1, activation="sigmoid"):
    layers = [k.Input((8,)), k.layers.Dense(16, activation="relu"), k.layers.Dense(units, activation=activation)]
    model = k.Sequential(layers)
    model.set_weights([HIDDEN, np.zeros(16), HEAD[:, :units], np.zeros(units)])
    return model


def fit(model, y, **options):
    return model.fit(X, y, batch_size=16, epochs=2, shuffle=False, verbose=0, **options).history


def own_metrics(k):
    """Metric classes over one library or the other."""
    ops = k.ops

    class CategoricalTruePositives(k.metrics.Metric):
        def __init__(self, name="categorical_true_positives", **kwargs):
            super().__init__(name=name, **kwargs)
            self.true_positives = self.add_variable(shape=(), name="ctp", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            y_pred = ops.reshape(ops.argmax(y_pred, axis=1), (-1, 1))
            values = ops.cast(ops.cast(y_true, "int32") == ops.cast(y_pred, "int32"), "float32")
            if sample_weight is not None:
                values = ops.multiply(values, ops.cast(sample_weight, "float32"))
            self.true_positives.assign_add(ops.sum(values))

        def result(self):
            return self.true_positives

        def reset_state(self):
            self.true_positives.assign(0)

    class F1(k.metrics.Metric):
        def __init__(self, name="f1", **kwargs):
            super().__init__(name=name, **kwargs)
            self.precision, self.recall = k.metrics.Precision(), k.metrics.Recall()

        def update_state(self, y_true, y_pred, sample_weight=None):
            for metric in (self.precision, self.recall):
                metric.update_state(y_true, y_pred, sample_weight)

        def result(self):
            p, r = self.precision.result(), self.recall.result()
            return 2 * ((p * r) / (p + r + k.config.epsilon()))

        def reset_state(self):
            self.precision.reset_state()
            self.recall.reset_state()

    class Confusion(k.metrics.Metric):
        def __init__(self, classes, name="confusion", **kwargs):
            super().__init__(name=name, **kwargs)
            self.classes = classes
            self.matrix = self.add_weight(shape=(classes, classes), initializer="zeros", dtype="int32", name="matrix")
            self.batches = self.add_weight(name="batches", initializer="ones")

        def update_state(self, y_true, y_pred, sample_weight=None):
            cell = ops.reshape(ops.cast(y_true, "int32"), (-1,)) * self.classes + ops.cast(
                ops.argmax(y_pred, -1), "int32"
            )
            counted = ops.reshape(ops.bincount(cell, minlength=self.classes**2), (self.classes, self.classes))
            self.matrix.assign_add(ops.cast(counted, "int32"))
            self.batches.assign(self.batches + 1)

        def result(self):
            if self.batches == 0:
                return {"recall": 0.0, "first": 0.0, "batches": 0.0}
            hits = ops.cast(ops.diagonal(self.matrix), "float32")
            recall = ops.divide_no_nan(hits, ops.cast(ops.sum(self.matrix, axis=1), "float32"))
            return {"recall": ops.mean(recall), "first": recall[0], "batches": self.batches + 0}

        def reset_state(self):
            for variable in self.variables:
                variable.assign(ops.zeros_like(variable))

    class OfClasses(k.metrics.MeanIoU):
        def update_state(self, y_true, y_pred, sample_weight=None):
            return super().update_state(y_true, ops.argmax(y_pred, axis=-1), sample_weight)

    return CategoricalTruePositives, F1, Confusion, OfClasses


def dice(k):
    def dice(y_true, y_pred, smooth=1.0):
        y_true = k.ops.cast(y_true, "float32")
        overlap = k.ops.sum(y_true * y_pred)
        return (2 * overlap + smooth) / (k.ops.sum(y_true) + k.ops.sum(y_pred) + smooth)

    return dice


def of_classes(k):
    hits, _, confusion, of_classes = own_metrics(k)
    model = network(k, 3, "softmax")
    metrics = [hits(), "accuracy", confusion(3), of_classes(3, name="iou")]
    model.compile(k.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=metrics)
    history = fit(model, CLASSES[:, None], validation_data=(X[:20], CLASSES[:20, None]))
    history.pop("categorical_true_positives")  # Keras' History holds the variable itself, validated over since
    return [history, model.evaluate(X, CLASSES[:, None], verbose=0, return_dict=True)]


def of_yes_or_no(k):
    _, f1, _, _ = own_metrics(k)
    model = network(k)
    model.compile(
        k.optimizers.SGD(0.1), "mse", metrics=[f1(), dice(k), k.metrics.AUC(name="auc")], weighted_metrics=[f1("wf1")]
    )
    history = fit(model, YES_NO[:, None], sample_weight=np.linspace(0, 2, 64), validation_split=0.25)
    steps = [model.train_on_batch(X[:16], YES_NO[:16, None]) for _ in range(2)]
    model.reset_metrics()
    return [history, steps, model.test_on_batch(X[:16], YES_NO[:16, None], return_dict=True), len(f1().variables)]


def by_names_and_classes(k):
    model = network(k)
    metrics = [k.metrics.Hinge, "Recall", "TruePositives", "AUC", "mae", "MSE", "kl_divergence", "poisson", "msle"]
    model.compile("sgd", "binary_crossentropy", metrics=metrics)
    return [fit(model, YES_NO[:, None], class_weight={0: 1.0, 1: 3.0})]


def own_train_step(k):
    class Own(k.Model):
        def __init__(self):
            super().__init__()
            self.net = network(k, 1, None)
            self.loss_tracker = k.metrics.Mean(name="loss")
            self.more = [k.metrics.MeanAbsoluteError(name="mae"), k.metrics.RootMeanSquaredError(name="rmse")]

        def call(self, x):
            return self.net(x)

        def train_step(self, data):
            x, y = data
            y_pred = self(x, training=True)
            loss = k.ops.mean(k.ops.square(y - y_pred))
            self.zero_grad()
            loss.backward()
            with torch.no_grad():
                self.optimizer.apply([v.value.grad for v in self.trainable_weights], self.trainable_weights)
            self.loss_tracker.update_state(loss)
            for metric in self.more:
                metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in (self.loss_tracker, *self.more)}

    model = Own()
    model.compile(optimizer=k.optimizers.SGD(0.05))
    return [fit(model, X.sum(1, keepdims=True)), len(model.metrics)]


def own_loop(k):
    accuracy, mean, model = k.metrics.SparseCategoricalAccuracy(), k.metrics.Mean(), network(k, 3, "softmax")
    seen = []
    for _ in range(2):
        for start in range(0, 64, 16):
            y, y_pred = CLASSES[start : start + 16], model(X[start : start + 16])
            accuracy.update_state(y, y_pred)
            mean.update_state(k.losses.sparse_categorical_crossentropy(y, y_pred))
        seen += [float(accuracy.result()), float(mean.result())]
        accuracy.reset_state()
        mean.reset_state()
    return [*seen, float(mean(5.0)), float(mean([1, 2], [1, 0])), float(k.metrics.Sum()([[1, 2], [3, 4]]))]


def arithmetic_of_state(k):
    class Vector(k.metrics.Metric):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.v = self.add_weight(shape=(3,), initializer="zeros", name="v")

    metric = Vector()
    metric.v.assign([1, 2, 3])
    metric.v.assign_add([1.0, 2.0, 3.0])
    metric.v.assign_sub(np.array([0.5, 0.5, 0.5]))
    v = metric.v
    values = [v + 1, 2 / v, v**2, -v, k.ops.sum(v), v[1], v == 3.5, v != 3.5, v > 2]
    return [np.asarray(value).astype("float32").tolist() for value in values]


PROGRAMS = [of_classes, of_yes_or_no, by_names_and_classes, own_train_step, own_loop, arithmetic_of_state]


def numbers(value):
    if isinstance(value, dict):
        return {key.rstrip("_0123456789"): numbers(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [numbers(item) for item in value]
    return pytest.approx(float(value), rel=1e-4, abs=1e-6)


def plain(value):
    if isinstance(value, dict):
        return {key.rstrip("_0123456789"): plain(item) for key, item in sorted(value.items())}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else float(value)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program(program):
    assert plain(program(ks)) == numbers(program(keras))


def test_a_metric_that_forgets_super_says_so():
    class Forgetful(ks.metrics.Metric):
        def __init__(self):
            self.total = self.add_weight(name="total")

    with pytest.raises(RuntimeError, match=r"Forgetful.__init__\(\) must call super\(\).__init__\(\)"):
        Forgetful()


def test_a_users_update_is_not_joined_with_others():
    """What a user's update_state does with a batch is not known, whatever the class it comes from does."""

    class Noticed(ks.metrics.AUC):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true, y_pred, sample_weight)

    class Shifted(ks.metrics.MeanSquaredError):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true + 1, y_pred, sample_weight)

    class Renamed(ks.metrics.MeanSquaredError):
        pass

    assert ks.metrics.AUC().rowwise and ks.metrics.MeanSquaredError().rowwise and Renamed().rowwise
    assert not Noticed().rowwise and not Shifted().rowwise
    assert not ks.metrics.CosineSimilarity(axis=0).rowwise and ks.metrics.CosineSimilarity(axis=1).rowwise


def test_a_vocabulary_beside_a_metric_is_not_searched():
    class Holder:
        def __init__(self):
            self.words = ["a"] * 10
            self.metric = ks.metrics.Mean()
            self.listed, self.named = [ks.metrics.Sum()], {"m": self.metric}

    holder = Holder()
    assert ks.metrics.base.metrics_in(holder) == [holder.metric, holder.listed[0]]
