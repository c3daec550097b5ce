"""What one step works on: the variables whose gradients come, with their state."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.optimizers.fused import alike
from kstyle_torch.optimizers.variables import layout_of, parameter_of, path_of


class Part:
    """Some of an optimizer's variables, with everything about them looked up.

    Args:
        optimizer: Whose.
        places: Where each one's state is.
    """

    def __init__(self, optimizer: Any, places: list[int]):
        self.optimizer, self.places = optimizer, places
        self.variables = [optimizer._variables[place] for place in places]
        self.parameters: list[Tensor] = [optimizer._parameters[place] for place in places]
        self.state = {slot: [tensors[place] for place in places] for slot, tensors in optimizer.state.items()}
        self.decayed = [parameter_of(variable) for variable in self.variables if optimizer.decays(variable)]
        constraints = [(variable, getattr(variable, "constraint", None)) for variable in self.variables]
        self.constraints = [(variable, constraint) for variable, constraint in constraints if constraint is not None]
        self.device = self.parameters[0].device if places else None
        self.alike = alike(self.parameters)
        self.strides = [parameter.stride() for parameter in self.parameters]
        self._parts: dict[tuple[int, ...], Part] = {}

    def holds(self, variables: list[Any]) -> bool:
        """Whether these are its variables, where they were."""
        if len(variables) != len(self.parameters) or self.parameters[0].device != self.device:
            return False
        return all(parameter_of(a) is b for a, b in zip(variables, self.parameters, strict=True))

    def used(self, gradients: list[Tensor | None]) -> tuple[Part, list[Tensor]]:
        """The part that has gradients; the rest stays as it is.

        Raises: ValueError: if nothing has one.
        """
        used = tuple(index for index, gradient in enumerate(gradients) if gradient is not None)
        if not used:
            raise ValueError(
                "No variable got a gradient: the loss does not depend on any trainable weight. Is the whole model "
                "frozen, or its output detached?"
            )
        if self.optimizer._iterations.number == 0:
            unused = [path_of(v) for v, gradient in zip(self.variables, gradients, strict=True) if gradient is None]
            warnings.warn(
                f"{len(unused)} trainable variable(s) got no gradient: the loss does not depend on {', '.join(unused)}.",
                stacklevel=4,
            )
        if used not in self._parts:
            self._parts[used] = Part(self.optimizer, [self.places[index] for index in used])
        return self._parts[used], [gradients[index] for index in used]  # type: ignore[misc]

    def aligned(self, gradients: list[Tensor]) -> list[Tensor]:
        """Gradients that lie in memory as their parameters do: the fused kernels look at nothing else."""
        return [
            gradient
            if not gradient.is_sparse and gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient.to_dense() if gradient.is_sparse else gradient)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        ]

    def fitted(self, gradients: list[Any]) -> list[Tensor | None]:
        """Gradients of a user's own making, as the kernels want them."""
        return [
            gradient if gradient is None else _fitted(gradient, parameter, variable)
            for gradient, parameter, variable in zip(gradients, self.parameters, self.variables, strict=True)
        ]


def _fitted(gradient: Any, parameter: Tensor, variable: Any) -> Tensor:
    if not isinstance(gradient, Tensor):
        gradient = torch.as_tensor(getattr(gradient, "value", gradient), device=parameter.device)
    if gradient.shape != parameter.shape:
        layout = layout_of(variable)
        if gradient.shape != layout.to_keras(parameter).shape:
            raise ValueError(
                f"The gradient of {path_of(variable)} has shape {tuple(gradient.shape)}; expected "
                f"{tuple(parameter.shape)}, the shape of variable.value."
            )
        gradient = layout.to_torch(gradient)
    return gradient if gradient.dtype == parameter.dtype else gradient.to(parameter.dtype)
