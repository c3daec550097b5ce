"""Metric objects of torchmetrics' kind: `update(prediction, target)`, `compute()`, `reset()`."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import integers, uniform

X = uniform(40, 4)


class Recorder:
    """A metric that remembers what it was given, and how often it began again."""

    def __init__(self, takes_floats=True):
        self.takes_floats, self.resets, self.seen, self.device = takes_floats, 0, [], torch.device("cpu")

    def to(self, device):
        self.device = torch.device(device)

    def update(self, preds, target):
        if not self.takes_floats and target.is_floating_point():
            raise ValueError("target must be of whole numbers")
        assert not preds.requires_grad
        assert preds.device == target.device == self.device
        self.seen.append((preds, target))

    def compute(self):
        return torch.tensor(float(len(self.seen)))

    def reset(self):
        self.resets += 1
        self.seen = []


class MeanError(Recorder):
    def compute(self):
        return torch.cat([(p - t).abs() for p, t in self.seen]).mean()


class OfClasses(Recorder):
    num_classes = 3


def fitted(metrics, y, units=1, activation="sigmoid", loss="mse", x=X, **settings):
    model = ks.Sequential([ks.Input(x.shape[1:]), ks.layers.Dense(units, activation=activation)])
    model.compile("sgd", loss, metrics=metrics)
    return model.fit(x, y, verbose=0, batch_size=16, **settings)


@pytest.mark.parametrize("given", [MeanError(), MeanError], ids=["object", "class"])
@pytest.mark.parametrize("column", [True, False])
def test_it_equals_the_metric_of_ours(given, column):
    y = uniform(40, 1, seed=1) if column else uniform(40, seed=1)
    history = fitted(["mae", given], y, epochs=2, validation_split=0.2).history
    assert list(history) == ["loss", "mae", "mean_error", "val_loss", "val_mae", "val_mean_error"]
    np.testing.assert_allclose(history["mean_error"], history["mae"], rtol=1e-5)
    np.testing.assert_allclose(history["val_mean_error"], history["val_mae"], rtol=1e-5)


def test_it_begins_again_with_every_epoch():
    metric = Recorder()
    history = fitted([metric], uniform(40, 1), epochs=3).history
    assert history["recorder"] == [3.0, 3.0, 3.0]
    assert metric.resets >= 3


SHAPES = {
    "column": ((40, 4), 1, (40, 1), (16,), (16,)),
    "flat": ((40, 4), 1, (40,), (16,), (16,)),
    "columns": ((40, 4), 2, (40, 2), (16, 2), (16, 2)),
    "classes": ((40, 4), 3, (40,), (16, 3), (16,)),
    "classes-column": ((40, 4), 3, (40, 1), (16, 3), (16,)),
    "steps": ((40, 5, 4), 3, (40, 5), (80, 3), (80,)),
    "steps-column": ((40, 5, 4), 3, (40, 5, 1), (80, 3), (80,)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_that_it_gets(case):
    x_shape, units, y_shape, preds, target = SHAPES[case]
    metric = Recorder()
    loss = "sparse_categorical_crossentropy" if units == 3 else "mse"
    fitted([metric], integers(*y_shape, high=3), units, "softmax" if units == 3 else None, loss, uniform(*x_shape))
    assert (metric.seen[0][0].shape, metric.seen[0][1].shape) == (preds, target)


@pytest.mark.parametrize("one_hot", [True, False])
def test_classes_come_as_numbers(one_hot):
    metric, y = OfClasses(takes_floats=False), integers(40, high=3)
    given = torch.nn.functional.one_hot(y, 3).float() if one_hot else y
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    fitted([metric], given, 3, "softmax", loss, shuffle=False)
    assert torch.equal(torch.cat([target for _, target in metric.seen]), y)


def test_targets_become_whole_numbers_where_floats_are_refused():
    metric, y = Recorder(takes_floats=False), integers(40, 1, high=2)
    fitted([metric], y.float(), loss="bce", shuffle=False)
    assert torch.equal(torch.cat([target for _, target in metric.seen]), y[:, 0])


def test_what_the_metric_says_of_targets_is_heard():
    with pytest.raises(ValueError, match="target must be of whole numbers"):
        fitted([Recorder(takes_floats=False)], uniform(40, 1))


def test_masked_steps_are_left_out():
    metric = Recorder()
    inputs = ks.Input((3,), dtype="int32")
    outputs = ks.layers.Dense(2, activation="softmax")(ks.layers.Embedding(5, 4, mask_zero=True)(inputs))
    model = ks.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[metric])
    model.fit(np.array([[1, 0, 2], [3, 4, 0]]), np.array([[0, 1, 1], [1, 0, 1]]), shuffle=False, verbose=0)
    assert metric.seen[0][1].tolist() == [0, 1, 1, 0]
    assert metric.seen[0][0].shape == (4, 2)


@pytest.mark.parametrize(
    "result", [{"b": torch.tensor(2.0), "a": 1.0}, torch.tensor([1.0, 2.0])], ids=["dict", "vector"]
)
def test_results_of_several_numbers(result):
    class Several(Recorder):
        def compute(self):
            return result

    history = fitted([Several()], uniform(40, 1)).history
    if isinstance(result, dict):
        assert (history["a"], history["b"]) == ([1.0], [2.0])
    else:
        np.testing.assert_array_equal(history["several"], [[1.0, 2.0]])


def test_it_cannot_be_weighted():
    model = ks.Sequential([ks.Input((4,)), ks.layers.Dense(1)])
    with pytest.raises(ValueError, match="'recorder'.*takes no weights: pass it in metrics"):
        model.compile("sgd", "mse", weighted_metrics=[Recorder()])
    assert not model.compiled
