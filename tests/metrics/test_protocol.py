"""Metrics and losses as users write and call them: the same program on Keras and here gives the same numbers."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import assert_alike, raised

RNG = np.random.default_rng(7)
TRUE = RNG.integers(0, 2, (6, 1)).astype("float32")
PREDICTED = RNG.uniform(size=(6, 1)).astype("float32")
CLASSES, SCORES = RNG.integers(0, 4, (6,)), RNG.uniform(size=(6, 4)).astype("float32")
WEIGHTS = np.linspace(0.5, 2, 6).astype("float32")
X, Y = RNG.normal(size=(10, 3)).astype("float32"), RNG.normal(size=(10, 2)).astype("float32")


def values(metric):
    return [np.array(variable.numpy()) for variable in metric.variables]


def spread(keras):
    class Spread(keras.metrics.Metric):
        def __init__(self, name="spread", scale=1.0, **kwargs):
            super().__init__(name=name, **kwargs)
            self.scale = scale
            self.ends = self.add_variable((2,), "zeros", "float32", "sum", "ends")
            self.rows = self.add_weight(shape=(), initializer="zeros", dtype="int32", name="rows")
            self.mean = keras.metrics.Mean(name="inner")

        def update_state(self, y_true, y_pred, sample_weight=None):
            ops = keras.ops
            y_pred = ops.convert_to_tensor(y_pred)
            ends = ops.stack([ops.min(y_pred), ops.max(y_pred)])
            self.ends.assign(ops.stack([ops.minimum(self.ends[0], ends[0]), ops.maximum(self.ends[1], ends[1])]))
            self.rows.assign_add(ops.shape(y_pred)[0])
            self.mean.update_state(y_pred, sample_weight)

        def result(self):
            return {"width": (self.ends[1] - self.ends[0]) * self.scale, "mean": self.mean.result()}

        def get_config(self):
            return {**super().get_config(), "scale": self.scale}

    return Spread


def subclassed_metric(keras):
    metric = spread(keras)(scale=2.0)
    first = metric(TRUE, PREDICTED)
    second = metric(TRUE, -PREDICTED, sample_weight=WEIGHTS)
    kept = values(metric)
    metric.reset_state()
    copy = type(metric).from_config(metric.get_config())
    names = [variable.path for variable in metric.variables]
    return first, second, kept, values(metric), names, copy.scale, copy.name, copy.dtype, metric.dtype


def subclassed_metric_without_effects(keras):
    metric = spread(keras)()
    metric.update_state(TRUE, PREDICTED)
    before = values(metric)
    given = [torch.tensor([-1.0, 0.5]), torch.tensor(3, dtype=torch.int32), torch.tensor(4.0), torch.tensor(3.0)]
    new = metric.stateless_update_state(given, TRUE, PREDICTED, sample_weight=WEIGHTS)
    return (
        new, metric.stateless_result(new), metric.stateless_reset_state(), values(metric), before,
        raised(lambda: metric.stateless_update_state(given[:-1], TRUE, PREDICTED)),
        raised(lambda: metric.stateless_result([])),
    )  # fmt: skip


def wrong_metrics(keras):
    class Forgets(keras.metrics.Metric):
        def __init__(self):
            self.total = self.add_variable((), "zeros", name="total")

    class Nothing(keras.metrics.Metric):
        pass

    metric = keras.metrics.Mean()
    return [
        raised(Forgets),
        raised(lambda: Nothing()(1.0)),
        raised(lambda: Nothing().result()),
        raised(lambda: metric.add_variable(name="total")),
        raised(lambda: keras.metrics.get("acurracy")),
        raised(lambda: keras.metrics.get(5)),
        raised(lambda: keras.metrics.Precision(thresholds=2.0)),
        raised(lambda: keras.metrics.AUC(curve="XY")),
        raised(lambda: keras.metrics.AUC(summation_method="none")),
        raised(lambda: keras.metrics.F1Score(average="most")),
    ]


def in_fit(keras):
    """A metric and a loss of the user's own, and functions, in `fit` and `evaluate`."""

    class Cubic(keras.losses.Loss):
        def __init__(self, power=3, **kwargs):
            super().__init__(**kwargs)
            self.power = power

        def call(self, y_true, y_pred):
            return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** self.power, axis=-1)

    def gap(y_true, y_pred):
        return keras.ops.abs(y_true - y_pred)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.set_weights([np.cos(np.arange(6.0)).reshape(3, 2), np.ones(2)])
    model.compile(
        keras.optimizers.SGD(0.01), Cubic(2, reduction="sum", name="cubic"), metrics=[spread(keras)(), gap],
        weighted_metrics=[keras.metrics.MeanMetricWrapper(gap, name="weighted"), keras.metrics.SumOverBatchSize]
        if hasattr(keras.metrics, "SumOverBatchSize") else [keras.metrics.MeanMetricWrapper(gap, name="weighted")],
    )  # fmt: skip
    weights = np.linspace(0, 1, 10).astype("float32")
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0, sample_weight=weights).history
    return history, model.evaluate(X, Y, batch_size=4, verbose=0, sample_weight=weights), model.get_weights()


def subclassed_loss(keras):
    class Cubic(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.abs(y_true - y_pred) ** 3

    results = []
    for reduction in ("sum_over_batch_size", "mean", "sum", "none", None, "mean_with_sample_weight"):
        loss = Cubic(reduction=reduction, name="cubic")
        results.append(
            [
                loss(TRUE, PREDICTED),
                loss(TRUE, PREDICTED, WEIGHTS),
                loss(TRUE, PREDICTED, WEIGHTS[:, None]),
                loss.reduction,
            ]
        )
    loss = Cubic(reduction="sum", name="cubic", dtype="float64")
    return results, loss.dtype, Cubic.from_config(loss.get_config()).name


def wrong_losses(keras):
    class Nothing(keras.losses.Loss):
        pass

    return [
        raised(lambda: keras.losses.Loss(reduction="average")),
        raised(lambda: keras.losses.MeanSquaredError(reduction="average")),
        raised(lambda: Nothing()(TRUE, PREDICTED)),
        raised(lambda: keras.losses.get("binary_cross_entropy")),
        raised(lambda: keras.losses.get(5)),
        raised(lambda: keras.losses.CategoricalCrossentropy()(CLASSES, SCORES)),
        raised(lambda: keras.losses.SparseCategoricalCrossentropy()(SCORES, SCORES)),
        raised(lambda: keras.losses.BinaryCrossentropy()(CLASSES, SCORES)),
    ]


PROGRAMS = [
    subclassed_metric, subclassed_metric_without_effects, wrong_metrics, in_fit, subclassed_loss, wrong_losses,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_do_what_they_do_in_keras(program, keras):
    assert_alike(program(ks), program(keras))


STATELESS = {
    "Mean": ((PREDICTED,), {"sample_weight": WEIGHTS}),
    "Sum": ((PREDICTED,), {}),
    "MeanSquaredError": ((TRUE, PREDICTED), {"sample_weight": WEIGHTS}),
    "RootMeanSquaredError": ((TRUE, PREDICTED), {}),
    "BinaryAccuracy": ((TRUE, PREDICTED), {}),
    "SparseCategoricalAccuracy": ((CLASSES, SCORES), {"sample_weight": WEIGHTS}),
    "Precision": ((TRUE, PREDICTED), {}),
    "AUC": ((TRUE, PREDICTED), {"sample_weight": WEIGHTS}),
    "R2Score": ((TRUE, PREDICTED), {}),
}


def without_effects(keras, name):
    arguments, weights = STATELESS[name]
    metric = getattr(keras.metrics, name)(name="m")
    metric.update_state(*arguments, **weights)
    before = values(metric)
    state = metric.stateless_reset_state()
    state = metric.stateless_update_state(state, *arguments, **weights)
    state = metric.stateless_update_state(state, *arguments)
    return state, metric.stateless_result(state), metric.result(), values(metric), before


@pytest.mark.parametrize("name", STATELESS)
def test_metrics_without_effects(name, keras):
    assert_alike(without_effects(ks, name), without_effects(keras, name))


def test_interpolated_area(keras):
    def area(keras):
        metric = keras.metrics.AUC(curve="PR", num_thresholds=20)
        metric.update_state(TRUE, PREDICTED)
        return metric.interpolate_pr_auc(), metric.result()

    assert_alike(area(ks), area(keras))


BROADCAST = (
    "mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error huber log_cosh "
    "cosine_similarity hinge squared_hinge categorical_hinge kl_divergence poisson"
).split()


@pytest.mark.parametrize("name", BROADCAST)
@pytest.mark.parametrize("shapes", [((10, 1), (10, 10)), ((10, 10), (10, 1)), ((4, 1, 3), (4, 2, 3))], ids=str)
def test_sizes_of_1_are_broadcast_with_a_warning(name, shapes, keras, monkeypatch):
    monkeypatch.setattr("kstyle_torch.losses.base._told", set())
    y_true, y_pred = (torch.from_numpy(RNG.uniform(0.1, 1, shape).astype("float32")) for shape in shapes)
    with pytest.warns(UserWarning, match="are broadcast") as warned:
        ours = getattr(ks.losses, name)(y_true, y_pred)
    assert all(str(shape) in str(warned[0].message) for shape in shapes)
    getattr(ks.losses, name)(y_true[1:], y_pred[1:])  # another warning would be an error
    assert_alike(ours, getattr(keras.losses, name)(y_true, y_pred))


def test_training_on_broadcast_targets(keras, monkeypatch):
    monkeypatch.setattr("kstyle_torch.losses.base._told", set())

    def results(keras):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.set_weights([np.cos(np.arange(6.0)).reshape(3, 2), np.ones(2)])
        model.compile("sgd", "mse", metrics=[keras.metrics.RootMeanSquaredError(name="root")])
        history = model.fit(X, Y[:, :1], batch_size=4, epochs=2, shuffle=False, verbose=0).history
        return history, model.get_weights()

    with pytest.warns(UserWarning, match=r"\(10, 1\).*\(10, 2\)"):
        ours = results(ks)
    assert_alike(ours, results(keras))
