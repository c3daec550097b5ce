"""Everybody who trains the benchmarks' networks: us in every tier, loops in PyTorch, and the libraries that are installed.

A contender is made for one workload, in a process of its own, and has `fit(epochs)`, which gives the last loss and
accuracy; and, where there is something to compare, `evaluate()`, `predict()` and `predict_one()`.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from workloads import WORKLOADS, Workload


class Contender:
    """Base class; `needs` are the packages that must be installed, `workloads` those it takes part in (all if None)."""

    needs: tuple[str, ...] = ("torch",)
    workloads: tuple[str, ...] | None = None
    predict: Callable[[], Any] | None = None
    predict_one: Callable[[], Any] | None = None
    evaluate: Callable[[], Any] | None = None

    def __init__(self, workload: Workload, device: str):
        self.workload, self.device = workload, device

    def load(self) -> None:
        """Imports what the contender needs; timed apart."""
        for name in self.needs:
            importlib.import_module(name)

    def prepare(self) -> None:
        """Makes model and data."""
        raise NotImplementedError

    def fit(self, epochs: int) -> tuple[float, float]:
        """Trains on; gives loss and accuracy of the last epoch."""
        raise NotImplementedError


class KerasStyle(Contender):
    """A library with Keras' API."""

    def __init__(self, workload: Workload, device: str, package: str, backend: str = "", **arguments: Any):
        super().__init__(workload, device)
        self.package, self.arguments = package, arguments
        if backend:
            os.environ["KERAS_BACKEND"] = backend
            os.environ["KERAS_TORCH_DEVICE"] = device

    def load(self) -> None:
        self.keras = importlib.import_module(self.package)

    def prepare(self) -> None:
        self.x, self.y = self.workload.data()
        self.model = self.workload.keras_model(self.keras, **self.arguments)
        rows = self.workload.batch_size
        self.evaluate = partial(self.model.evaluate, self.x, self.y, batch_size=rows, verbose=0)
        self.predict = partial(self.model.predict, self.x, batch_size=rows, verbose=0)
        self.predict_one = partial(self.model.predict, self.x[:1], verbose=0)

    def fit(self, epochs: int, verbose: int = 0) -> tuple[float, float]:
        rows = self.workload.batch_size
        history = self.model.fit(self.x, self.y, batch_size=rows, epochs=epochs, verbose=verbose).history
        return history["loss"][-1], history["accuracy"][-1]


class CompiledKerasStyle(KerasStyle):
    """Ours, compiled: a step at a time, and the small network, of which JAX compiles whole epochs, in whole epochs too."""

    def __init__(self, workload: Workload, device: str):
        how = {"steps_per_execution": "epoch"} if workload is WORKLOADS["small"] else {}
        super().__init__(workload, device, "kstyle_torch", jit_compile=True, **how)


class Loop(Contender):
    """A loop in PyTorch, of `reference.py`."""

    def __init__(self, workload: Workload, device: str, loop: str):
        super().__init__(workload, device)
        self.loop = loop

    def prepare(self) -> None:
        import reference
        import torch

        task = self.workload.task(self.device)
        self._fit = getattr(reference, self.loop)(task)
        if self.loop == "hand_tuned_loop":
            link = torch.sigmoid if self.workload.binary else partial(torch.softmax, dim=-1)
            predict = reference.hand_tuned_predict(task, link)
            self.evaluate = reference.hand_tuned_evaluate(task)
            self.predict, self.predict_one = partial(predict, task.x), partial(predict, task.x[:1])

    def fit(self, epochs: int) -> tuple[float, float]:
        return self._fit(epochs)


class Lightning(Contender):
    """Lightning's Trainer, with logging, checkpoints and bar off."""

    needs = ("torch", "lightning.pytorch")

    def prepare(self) -> None:
        import lightning.pytorch as lightning
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        task = self.workload.task()
        steps = self.workload.steps

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.network = task.model
                self.sums = torch.zeros(2)

            def training_step(self, batch: Any, index: int) -> Any:
                inputs, targets = batch
                outputs = self.network(inputs)
                loss = task.compute_loss(outputs, targets)
                if index == 0:
                    self.sums = torch.zeros(2, device=loss.device)
                self.sums += torch.stack(
                    [loss.detach() * len(inputs), task.count_correct(outputs.detach(), targets).float()]
                )
                return loss

            def configure_optimizers(self) -> Any:
                return torch.optim.Adam(self.parameters(), lr=0.001)

        warnings.filterwarnings("ignore")
        self.module = Module()
        self.loader = DataLoader(TensorDataset(task.x, task.y), self.workload.batch_size, shuffle=True)
        self.lightning, self.steps, self.rows = lightning, steps, len(task.x)

    def fit(self, epochs: int) -> tuple[float, float]:
        trainer = self.lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if self.device == "cuda" else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(self.module, self.loader)
        loss, correct = self.module.sums.tolist()
        return loss / self.rows, correct / self.rows


class Skorch(Contender):
    """skorch's NeuralNet, with the training accuracy as a score of each batch."""

    needs = ("torch", "skorch")

    def prepare(self) -> None:
        import torch
        from skorch import NeuralNet

        task = self.workload.task()
        count = self.workload.count_correct

        class Net(NeuralNet):
            def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
                step = super().train_step_single(batch, **fit_params)
                self.sums += torch.stack(
                    [step["loss"].detach() * len(batch[0]), count(step["y_pred"].detach(), batch[1]).float()]
                )
                return step

            def on_epoch_begin(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
                super().on_epoch_begin(net, dataset_train, **kwargs)
                self.sums = torch.zeros(2, device=self.device)

        loss = torch.nn.BCEWithLogitsLoss if self.workload.binary else torch.nn.CrossEntropyLoss
        self.net = Net(
            task.model,
            criterion=loss,
            optimizer=torch.optim.Adam,
            lr=0.001,
            batch_size=self.workload.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            device=self.device,
        ).initialize()
        self.data = task.x, task.y

    def fit(self, epochs: int) -> tuple[float, float]:
        self.net.partial_fit(*self.data, epochs=epochs)
        loss, correct = self.net.sums.tolist()
        return loss / len(self.data[0]), correct / len(self.data[0])


class Poutyne(Contender):
    """Poutyne's Model."""

    needs = ("torch", "poutyne")

    def prepare(self) -> None:
        from poutyne import Model

        task = self.workload.task()
        metric = "binary_accuracy" if self.workload.binary else "accuracy"
        loss = "binary_cross_entropy_with_logits" if self.workload.binary else "cross_entropy"
        self.model = Model(task.model, "adam", loss, batch_metrics=[metric], device=self.device)
        self.data = task.x, task.y

    def fit(self, epochs: int) -> tuple[float, float]:
        rows = self.workload.batch_size
        last = self.model.fit(*self.data, epochs=epochs, batch_size=rows, verbose=False)[-1]
        return last["loss"], next(value for key, value in last.items() if "acc" in key) / 100


class JaxScan(Contender):
    """The small network in plain JAX: one compiled call an epoch, `lax.scan` over its steps."""

    needs = ("jax",)
    workloads = ("small",)

    def prepare(self) -> None:
        from jax_epoch import make_fit

        self._fit = make_fit(*self.workload.data(), self.workload.batch_size)

    def fit(self, epochs: int) -> tuple[float, float]:
        return self._fit(epochs)


OURS, HAND_TUNED = "kstyle_torch", "hand-tuned loop"
CONTENDERS: dict[str, tuple[Callable[..., Contender], tuple[str, ...]]] = {  # name -> how it is made, what it needs
    OURS: (partial(KerasStyle, package="kstyle_torch"), ("torch",)),
    f"{OURS}, run_eagerly": (partial(KerasStyle, package="kstyle_torch", run_eagerly=True), ("torch",)),
    f"{OURS}, recorded": (partial(KerasStyle, package="kstyle_torch", jit_compile="record"), ("torch",)),
    f"{OURS}, compiled": (CompiledKerasStyle, ("torch",)),
    HAND_TUNED: (partial(Loop, loop="hand_tuned_loop"), ("torch",)),
    "DataLoader loop": (partial(Loop, loop="plain_loop"), ("torch",)),
    "Keras on torch": (partial(KerasStyle, package="keras", backend="torch"), ("keras", "torch")),
    "Keras on TensorFlow": (partial(KerasStyle, package="keras", backend="tensorflow"), ("keras", "tensorflow")),
    "Keras on JAX": (partial(KerasStyle, package="keras", backend="jax"), ("keras", "jax")),
    "JAX, scanned epoch": (JaxScan, JaxScan.needs),
    "Lightning": (Lightning, ("lightning",)),
    "skorch": (Skorch, ("skorch",)),
    "Poutyne": (Poutyne, ("poutyne",)),
}


def available(workload: str) -> list[str]:
    """Those that are installed and take part."""
    names = []
    for name, (make, needs) in CONTENDERS.items():
        takes_part = getattr(make, "workloads", None)
        if all(find_spec(package) for package in needs) and (takes_part is None or workload in takes_part):
            names.append(name)
    return names
