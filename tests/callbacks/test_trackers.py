"""Experiment trackers and pruning, with stand-ins for their packages."""

import pickle
import sys
import types

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch.callbacks import MLflowLogger, OptunaPruning, WandbLogger

X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")


def trained(callback, **arguments):
    model = ks.Sequential([ks.Input((2,)), ks.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model.fit(X, Y, verbose=0, callbacks=[callback], **{"epochs": 2, **arguments})


class MLflow(types.ModuleType):
    """The part of mlflow's interface that the callback uses."""

    def __init__(self):
        super().__init__("mlflow")
        self.active, self.calls = None, []

    def active_run(self):
        return self.active

    def start_run(self, **arguments):
        self.active = arguments
        self.calls.append(("start", arguments))

    def log_metrics(self, metrics, step):
        assert self.active is not None
        self.calls.append((step, metrics))

    def end_run(self):
        self.active = None
        self.calls.append("end")


class Wandb(types.ModuleType):
    """The part of wandb's interface that the callback uses."""

    def __init__(self):
        super().__init__("wandb")
        self.run, self.calls = None, []

    def init(self, **arguments):
        self.calls.append(("start", arguments))
        self.run = types.SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, metrics):
        self.calls.append((metrics.pop("epoch"), metrics))

    def finish(self):
        self.run = None
        self.calls.append("end")


TRACKERS = {
    "mlflow": (MLflow, lambda: MLflowLogger(run_name="first"), {"run_name": "first"}),
    "wandb": (Wandb, lambda: WandbLogger(project="first"), {"project": "first"}),
}


@pytest.mark.parametrize("name", TRACKERS)
def test_trackers(name, monkeypatch):
    package, make, arguments = TRACKERS[name]
    package = package()
    monkeypatch.setitem(sys.modules, name, package)
    callback = pickle.loads(pickle.dumps(make()))
    history = trained(callback, validation_data=(X, Y))
    logs = [{key: values[epoch] for key, values in history.history.items()} for epoch in range(2)]
    assert package.calls == [("start", arguments), (0, logs[0]), (1, logs[1]), "end"]
    assert {type(value) for metrics in logs for value in metrics.values()} == {float}

    getattr(package, {"mlflow": "start_run", "wandb": "init"}[name])()  # the user's run goes on after `fit`
    del package.calls[:]
    trained(callback)
    assert [call[0] for call in package.calls] == [0, 1]


def test_metrics_of_several_numbers(monkeypatch):
    package = MLflow()
    monkeypatch.setitem(sys.modules, "mlflow", package)
    callback = MLflowLogger()
    callback.on_train_begin()
    callback.on_epoch_end(0, {"f1": np.array([0.5, 0.25], "float32"), "loss": np.float32(2.0)})
    assert package.calls[-1] == (0, {"f1_0": 0.5, "f1_1": 0.25, "loss": 2.0})


class Pruned(Exception):  # noqa: N818, as optuna.TrialPruned
    """The stand-in for optuna.TrialPruned."""


class Trial:
    """A trial that is pruned at the second report."""

    def __init__(self):
        self.reports = []

    def report(self, value, step):
        self.reports.append((step, value))

    def should_prune(self):
        return len(self.reports) == 2


@pytest.fixture
def optuna(monkeypatch):
    package = types.ModuleType("optuna")
    package.TrialPruned = Pruned
    monkeypatch.setitem(sys.modules, "optuna", package)


@pytest.mark.usefixtures("optuna")
def test_pruning():
    trial = Trial()
    with pytest.raises(Pruned, match="pruned at epoch 4"):
        trained(OptunaPruning(trial), epochs=9, validation_data=(X, Y), validation_freq=2)
    assert [step for step, _ in trial.reports] == [1, 3] and {type(value) for _, value in trial.reports} == {float}


@pytest.mark.usefixtures("optuna")
def test_a_metric_that_is_never_there():
    with pytest.warns(UserWarning, match="monitors 'val_loss', which no epoch had.*The logs have loss"):
        trained(OptunaPruning(Trial()))


@pytest.mark.parametrize("name", ["mlflow", "wandb", "optuna"])
def test_without_the_package(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    make = {"mlflow": MLflowLogger, "wandb": WandbLogger, "optuna": lambda: OptunaPruning(Trial())}[name]
    with pytest.raises(ImportError, match=f"needs {name}: pip install {name}"):
        make()
