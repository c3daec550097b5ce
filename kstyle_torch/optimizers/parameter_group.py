"""Parameter group of a step: the variables that have gradients, with their state."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import torch
from torch import Tensor

from kstyle_torch.layer.keras_value import in_torch_layout
from kstyle_torch.layer.layout import SAME
from kstyle_torch.optimizers.clipping import clip_by_norm
from kstyle_torch.optimizers.foreach import PLAIN
from kstyle_torch.optimizers.fused import alike, has_fused_sgd
from kstyle_torch.optimizers.packing import SMALL, Pack, aligned
from kstyle_torch.optimizers.variables import layout_of, parameter_of, path_of, tensor_now

MANY = 64  # cached sets of variables; the cache is cleared beyond that


class Part:
    """A set of an optimizer's variables, with their state and settings looked up.

    Args:
        optimizer: The optimizer.
        places: Index of each variable's state.
        whole: Whether it may pack small variables; False for a subset of another part.
    """

    def __init__(self, optimizer: Any, places: list[int], whole: bool = True):
        self._optimizer, self.places = weakref.ref(optimizer), places  # weak, since the optimizer holds its parts
        self.variables = [optimizer._variables[place] for place in places]
        self.parameters: list[Tensor] = [optimizer._parameters[place] for place in places]
        self.decayed = [parameter_of(variable) for variable in self.variables if optimizer.decays(variable)]
        self.look()
        self.device = self.parameters[0].device if places else None
        self.alike = alike(self.parameters)
        self.strides = [parameter.stride() for parameter in self.parameters]
        self.lying = _lying(self.parameters)
        self.pack = self._packed() if whole else None
        self.pieces = {} if self.pack is None else self._adopted(self.pack)
        self.state = {slot: [tensors[place] for place in places] for slot, tensors in optimizer.state.items()}
        first = self.parameters[0] if self.alike and places else None
        if first is not None and type(first).__torch_dispatch__ is not PLAIN:
            first = None  # sharded tensors do not support fused kernels
        self.fused: bool = first is not None and optimizer.is_fused(first)
        self.descends = first is not None and has_fused_sgd(first.device, first.dtype)
        self._parts: dict[tuple[int, ...], Part] = {}

    @property
    def optimizer(self) -> Any:
        """The optimizer."""
        return self._optimizer()

    def look(self) -> None:
        """Looks up the constraints, which users may set at any time."""
        # constraints of a computed weight apply to that, not to its originals
        weights = {id(each): each for each in (getattr(variable, "effective", variable) for variable in self.variables)}
        constraints = [(weight, getattr(weight, "constraint", None)) for weight in weights.values()]
        self.constraints = [(variable, constraint) for variable, constraint in constraints if constraint is not None]

    def _packed(self) -> Pack | None:
        """Packs small variables that are not in another pack; on a CPU only, where kernels are called for each tensor."""
        if not self.optimizer.packs or self.optimizer._is_unpacked:
            return None
        if not self.alike or self.device is None or self.device.type != "cpu":
            return None
        small = [index for index, parameter in enumerate(self.parameters) if self._can_pack(index, parameter)]
        return Pack(self.parameters, small, self.optimizer.packs == "weights") if len(small) > 1 else None

    def _can_pack(self, index: int, parameter: Tensor) -> bool:
        place, packed = self.places[index], self.optimizer._packed
        state = [tensors[place] for tensors in self.optimizer.state.values()]
        return (
            0 < parameter.numel() <= SMALL
            and type(parameter).__torch_dispatch__ is PLAIN
            and torch.empty_like(parameter).stride() == parameter.stride()  # dense, without overlaps
            and all(tensor is not None and tensor.shape == parameter.shape for tensor in state)
            and (not any(map(is_shared, state)) or packed.get(place, {-1}) <= {*self.places})
        )

    def _adopted(self, pack: Pack) -> dict[str, list[Tensor]]:
        """Moves the state into the pack. Returns: Its pieces."""
        self.optimizer._parts.clear()  # they hold the old tensors
        packed = {self.places[index] for index in pack.small}
        self.optimizer._packed.update(dict.fromkeys(packed, packed))
        pieces = {}
        for slot, tensors in self.optimizer.state.items():
            kept, pieces[slot] = pack.adopt([tensors[place] for place in self.places])
            for place, tensor in zip(self.places, kept, strict=True):
                tensors[place] = tensor
        return pieces

    def holds(self, variables: list[Any]) -> bool:
        """Returns whether these are its variables, with unchanged memory and layout."""
        if len(variables) != len(self.parameters):
            return False
        for variable, parameter in zip(variables, self.parameters, strict=True):
            if variable is not parameter and parameter_of(variable) is not parameter:
                return False
        return _lying(self.parameters) == self.lying

    def is_named(self) -> bool:
        """Returns whether each variable still refers to the same parameter."""
        return all(
            tensor_now(each) is parameter for each, parameter in zip(self.variables, self.parameters, strict=True)
        )

    def used(self, gradients: list[Tensor | None]) -> tuple[Part, list[Tensor]]:
        """Returns the part of the variables with gradients, and their gradients as dense tensors.

        Raises: ValueError: if there are no gradients.
        """
        used = tuple(index for index, gradient in enumerate(gradients) if gradient is not None)
        if not used:
            raise ValueError(
                "No variable got a gradient: the loss does not depend on any trainable weight. Is the whole model "
                "frozen, or its output detached?"
            )
        found = [
            gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients if gradient is not None
        ]
        if len(used) == len(gradients):
            return self, found
        if self.optimizer._iterations.number == 0:
            unused = [path_of(v) for v, gradient in zip(self.variables, gradients, strict=True) if gradient is None]
            warnings.warn(
                f"{len(unused)} trainable variable(s) got no gradient: the loss does not depend on {', '.join(unused)}.",
                stacklevel=4,
            )
        if used not in self._parts:
            if len(self._parts) >= MANY:
                self._parts.clear()
            self._parts[used] = Part(self.optimizer, [self.places[index] for index in used], whole=False)
        return self._parts[used], found

    def taken(self, gradients: list[Tensor]) -> list[Tensor]:
        """Returns gradients in the form for `update`: pieces if there is a pack.

        Raises: TypeError or RuntimeError: if one is None or sparse.
        """
        if self.pack is not None:
            return self.pack.gather(gradients)
        return aligned(gradients, self.parameters, self.strides)

    def clipped(self, gradients: list[Tensor], bound: float) -> list[Tensor]:
        """Clips the norm of each gradient from `taken` to `bound`."""
        if self.pack is None:
            return clip_by_norm(gradients, bound)
        return self.pack.gather(clip_by_norm(self.pack.split(gradients), bound))

    def fitted(self, gradients: list[Any], variables: list[Any]) -> list[Tensor | None]:
        """Converts gradients from users to torch's layout and to the parameters' dtypes.

        Args:
            gradients: Gradients in the layouts of `variables`.
            variables: The variables of this part as the user passed them; their type decides the layout, never a shape.
        Raises: ValueError: if a gradient has another shape than its variable.
        """
        return [
            gradient if gradient is None else _fitted(gradient, parameter, variable)
            for gradient, parameter, variable in zip(gradients, self.parameters, variables, strict=True)
        ]


def _fitted(gradient: Any, parameter: Tensor, variable: Any) -> Tensor:
    if not isinstance(gradient, Tensor):
        gradient = torch.as_tensor(getattr(gradient, "value", gradient), device=parameter.device)
    layout = layout_of(variable)
    shape = parameter.shape if layout is SAME else layout.to_keras(parameter).shape
    if gradient.shape != shape:
        hint = ""
        if gradient.shape == parameter.shape:
            hint = (
                " The gradient of variable.parameter is in torch's layout; pass that parameter with it, or take "
                "variable.value.grad."
            )
        raise ValueError(
            f"The gradient of {path_of(variable)} has shape {tuple(gradient.shape)}; expected {tuple(shape)}, the shape of "
            f"the variable.{hint}"
        )
    gradient = in_torch_layout(gradient, layout)
    return gradient if gradient.dtype == parameter.dtype else gradient.to(parameter.dtype)


def _lying(parameters: list[Tensor]) -> list[Any]:
    """Returns a key of the memory layout and address of parameters."""
    return [(parameter.device, parameter.dtype, parameter.stride()) for parameter in parameters]


def is_shared(tensor: Tensor) -> bool:
    """Returns whether a tensor shares its storage with others, as those of a pack do."""
    return tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()


def carried(tensor: Any, parameter: Tensor) -> Any:
    """Returns the state on the device and in the memory layout of its parameter."""
    if tensor is None or not tensor.is_floating_point():
        return tensor if tensor is None else tensor.to(parameter.device)
    if tensor.shape != parameter.shape:
        return tensor.to(parameter)
    same = tensor.dtype == parameter.dtype and tensor.device == parameter.device
    same = same and tensor.stride() == parameter.stride()
    return tensor if same else torch.empty_like(parameter, requires_grad=False).copy_(tensor)
