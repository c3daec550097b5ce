"""Muon."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.optimizers.adam_step import correction_of, foreach_step, fused_step
from kstyle_torch.optimizers.base import VarListOptimizer, registry
from kstyle_torch.optimizers.fused import has_fused_adam
from kstyle_torch.optimizers.parameter_group import Part
from kstyle_torch.optimizers.variables import layout_of, path_of


@registry.register()
class Muon(VarListOptimizer):
    """Steps by an orthogonal matrix near the momentum, for hidden weights; by AdamW for all that is not a matrix.

    Args:
        learning_rate: Size of a step.
        adam_beta_1: `beta_1` of AdamW.
        adam_beta_2: `beta_2` of AdamW.
        adam_weight_decay: Weight decay of what AdamW trains.
        epsilon: That of AdamW.
        weight_decay: Weight decay of the matrices.
        clipnorm: See `Optimizer`, as are all others up to `name`.
        exclude_layers: Patterns of the paths of matrices that AdamW trains, such as the output layer's.
        exclude_embeddings: Whether AdamW trains embeddings.
        muon_a: First coefficient of the iteration that makes a matrix orthogonal.
        muon_b: Second.
        muon_c: Third.
        adam_lr_ratio: Learning rate of AdamW, as a share of `learning_rate`.
        momentum: How much of the momentum stays at each step.
        ns_steps: How many iterations there are.
        nesterov: Whether the momentum is applied before the gradient.
        rms_rate: Root mean square of a step before the learning rate; None leaves the matrix as it is.
    Source: Jordan 2024; Liu et al. 2025 (`rms_rate`).

    Example:
        >>> weight = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = Muon(learning_rate=0.1, weight_decay=None)
        >>> optimizer.apply([torch.tensor([[3.0, 0.0], [0.0, 2.0]])], [weight])
        >>> bool((weight.diagonal() < 1).all())
        True
    """

    slots = (("momentum", "velocity"),)
    shares = ("adam_beta_1", "adam_beta_2")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, adam_lr_ratio
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or []), exclude_embeddings
        self._arguments["exclude_layers"] = self.exclude_layers
        self.muon_a, self.muon_b, self.muon_c, self.ns_steps = muon_a, muon_b, muon_c, ns_steps
        self.momentum, self.nesterov, self.rms_rate = momentum, nesterov, rms_rate

    def _uses_adam(self, variable: Any) -> bool:
        path = path_of(variable)
        if len(variable.shape) != 2 or (self.exclude_embeddings and "embedding" in path.lower()):
            return True
        return any(re.search(pattern, path) for pattern in self.exclude_layers)

    def _initial(self, slot: str, parameter: Tensor, variable: Any) -> Any:
        if slot == "velocity" and not self._uses_adam(variable):
            return None
        return super()._initial(slot, parameter, variable)

    def _decay(self, part: Part, rate: float) -> None:
        for variable, parameter, velocity in zip(part.variables, part.parameters, part.state["velocity"], strict=True):
            share = self.weight_decay if velocity is None else self.adam_weight_decay
            if share and self.decays(variable):
                parameter.mul_(1 - rate * share)

    def _update_all(self, part: Part, gradients: list[Tensor], rate: float) -> None:
        adam: list[int] = []
        for index, (momentum, velocity) in enumerate(zip(part.state["momentum"], part.state["velocity"], strict=True)):
            if velocity is not None:
                adam.append(index)
                continue
            momentum.mul_(self.momentum).add_(gradients[index])
            layout = layout_of(part.variables[index])
            direction = gradients[index] + self.momentum * momentum if self.nesterov else momentum
            change = self.lr_adjust(self.zeropower_via_newtonschulz5(layout.to_keras(direction), self.ns_steps))
            part.parameters[index].sub_(layout.to_torch(change), alpha=rate)
        if adam:
            parameters, gradients = ([each[index] for index in adam] for each in (part.parameters, gradients))
            state = {slot: [part.state[slot][index] for index in adam] for slot in ("momentum", "velocity")}
            size = rate * self.adam_lr_ratio * correction_of(self.adam_beta_1, self.adam_beta_2, self.local_step)
            step = fused_step if part.fused else foreach_step
            step(parameters, gradients, state, size, self.adam_beta_1, self.adam_beta_2, self.epsilon)

    def is_fused(self, parameter: Tensor) -> bool:
        return has_fused_adam(parameter.device, parameter.dtype)

    def zeropower_via_newtonschulz5(self, x: Tensor, steps: int) -> Tensor:
        """Returns nearly the orthogonal matrix of the polar decomposition, by Newton-Schulz iterations.

        Args:
            x: A matrix, or matrices in the last two axes.
            steps: How many iterations there are.
        Raises: ValueError: for a tensor of fewer than two axes.
        """
        if x.ndim < 2:
            raise ValueError(f"Muon: only matrices can be made orthogonal; got shape {tuple(x.shape)}.")
        tall = x.shape[-2] > x.shape[-1]
        x = self.transpose_last_axis(x) if tall else x
        x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
        for _ in range(steps):
            gram = x @ x.mT
            if x.ndim == 2:
                polynomial = torch.addmm(gram, gram, gram, beta=self.muon_b, alpha=self.muon_c)
                x = torch.addmm(x, polynomial, x, beta=self.muon_a)
            else:
                x = self.muon_a * x + (self.muon_b * gram + self.muon_c * gram @ gram) @ x
        return self.transpose_last_axis(x) if tall else x

    def transpose_last_axis(self, X: Tensor) -> Tensor:  # noqa: N803, Keras' name
        """Returns the tensor with its last two axes in the other order."""
        return X.mT

    def lr_adjust(self, x: Tensor) -> Tensor:
        """Returns a step with the root mean square `rms_rate`; as it is if that is None."""
        return x if self.rms_rate is None else x * (math.sqrt(max(x.shape[0], x.shape[1])) * self.rms_rate)
