"""Loops in raw PyTorch, the yardsticks of the benchmarks. All track loss and accuracy, as `fit` does.

B batch, N samples, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Task:
    """What a loop trains: a model, its data, its loss, and how right answers are counted.

    `autocast` is entered around every forward pass; None for full precision.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    compute_loss: Callable[[Tensor, Tensor], Tensor]
    count_correct: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    autocast: Any = None

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs and the loss."""
        with self.autocast or contextlib.nullcontext():
            outputs = self.model(inputs)
            return outputs, self.compute_loss(outputs, targets)


def plain_loop(task: Task) -> Callable[[int], tuple[float, float]]:
    """The loop of most tutorials: a DataLoader, `torch.optim.Adam`, `.item()` in every step."""
    device = next(task.model.parameters()).device
    loader = DataLoader(
        TensorDataset(task.x.cpu(), task.y.cpu()), task.batch_size, shuffle=True, pin_memory=device.type == "cuda"
    )
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.001)

    def fit(epochs: int) -> tuple[float, float]:
        task.model.train()
        for _ in range(epochs):
            loss_sum, correct = 0.0, 0
            for inputs, targets in loader:
                inputs, targets = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
                optimizer.zero_grad()
                outputs, loss = task.forward(inputs, targets)
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(inputs)
                correct += int(task.count_correct(outputs, targets).item())
        return loss_sum / len(task.x), correct / len(task.x)

    return fit


def hand_tuned_loop(task: Task) -> Callable[[int], tuple[float, float]]:
    """What an expert writes: data on the device, batches by index, fused Adam, one wait for the device an epoch."""
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.001, fused=True)

    def fit(epochs: int) -> tuple[float, float]:
        task.model.train()
        device, samples = task.x.device, len(task.x)
        for _ in range(epochs):
            loss_sum = torch.zeros((), device=device)
            correct = torch.zeros((), device=device, dtype=torch.int64)
            for indices in torch.randperm(samples, device=device).split(task.batch_size):
                inputs, targets = task.x[indices], task.y[indices]
                optimizer.zero_grad(set_to_none=True)
                outputs, loss = task.forward(inputs, targets)
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach() * len(indices)
                correct += task.count_correct(outputs.detach(), targets)
            history = float(loss_sum) / samples, float(correct) / samples  # host waits for the device here
        return history

    return fit


def hand_tuned_evaluate(task: Task) -> Callable[[], tuple[float, float]]:
    """Loss and accuracy over all batches, one wait for the device."""

    @torch.inference_mode()
    def evaluate() -> tuple[float, float]:
        task.model.eval()
        loss_sum = torch.zeros((), device=task.x.device)
        correct = torch.zeros((), device=task.x.device, dtype=torch.int64)
        for inputs, targets in zip(task.x.split(task.batch_size), task.y.split(task.batch_size), strict=True):
            outputs, loss = task.forward(inputs, targets)
            loss_sum += loss * len(inputs)
            correct += task.count_correct(outputs, targets)
        return float(loss_sum) / len(task.x), float(correct) / len(task.x)  # host waits for the device here

    return evaluate


def hand_tuned_predict(task: Task, link: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    """Probabilities for all rows as an array, in batches; `link` makes them of logits."""

    @torch.inference_mode()
    def predict(x: Tensor) -> Any:
        task.model.eval()
        return torch.cat([link(task.model(inputs)) for inputs in x.split(task.batch_size)]).cpu().numpy()

    return predict


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table: the first column left, all others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in [header, rules, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("| " + " | ".join(cells) + " |")
