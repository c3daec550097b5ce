"""Weights that torch computes from other parameters: parametrizations, pruning, weight and spectral normalization.

torch has two mechanisms. `torch.nn.utils.parametrize` replaces an attribute by a property that computes it from the
originals below `module.parametrizations`. The older tools register `<name>_orig`, or `<name>_g` and `<name>_v`, and a
forward pre-hook that sets the plain attribute before every call of the module, so that it is stale between calls.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

LISTS = "parametrizations"  # the child in which torch keeps them
ENDINGS = ("orig", "mask", "g", "v", "u")  # of the tensors that the hooks register in addition to the weight


class Reparametrization:
    """A weight of a module that torch computes from other parameters.

    Args:
        module: Module that has the weight.
        name: Name of the weight's attribute.
        source: The module's `ParametrizationList`, or the forward pre-hook, that computes it.
    """

    def __init__(self, module: nn.Module, name: str, source: Any):
        self.module, self.name, self.source = module, name, source

    def _steps(self) -> list[Any]:
        return [*self.source] if isinstance(self.source, ParametrizationList) else []

    def originals(self) -> dict[str, nn.Parameter]:
        """Returns the parameters that the weight is computed from, by their names from the module."""
        if isinstance(self.source, ParametrizationList):
            return {f"{LISTS}.{self.name}.{key}": each for key, each in self.source.named_parameters()}
        return {key: self.module._parameters[key] for key in self.registered() if key in self.module._parameters}  # type: ignore[misc]

    def tensors(self) -> list[Tensor]:
        """Returns the tensors that `assign` may change."""
        if isinstance(self.source, ParametrizationList):
            return [*self.source.parameters(), *self.source.buffers()]
        return [*self.originals().values()]

    def registered(self) -> list[str]:
        """Returns the names of the parameters and buffers that a hook registered in addition to the weight."""
        names = [] if isinstance(self.source, ParametrizationList) else [f"{self.name}_{ending}" for ending in ENDINGS]
        return [key for key in names if key in self.module._parameters or key in self.module._buffers]

    def value(self) -> Tensor:
        """Returns the weight computed from the current originals, with modules in eval mode: reading changes no state."""
        weight: Tensor
        if isinstance(self.source, ParametrizationList):
            with _in_inference(self.source):
                weight = self.source()
        elif _is_pruning(self.source):
            weight = self.source.apply_mask(self.module)
        elif isinstance(self.source, SpectralNorm):
            weight = self.source.compute_weight(self.module, do_power_iteration=False)
        else:
            weight = self.source.compute_weight(self.module)
        return weight

    def check_invertible(self, path: str) -> None:
        """Raises a ValueError if a parametrization has no `right_inverse`."""
        for step in self._steps():
            if not hasattr(step, "right_inverse"):
                raise ValueError(
                    f"{path} cannot be set: it is computed by the parametrization {type(step).__name__}, which has no "
                    "right_inverse(). Set the originals with load_state_dict(), or define right_inverse()."
                )

    @torch.no_grad()
    def assign(self, value: Tensor, path: str) -> None:
        """Sets the originals such that they yield `value`; warns if the parametrization does not allow that value.

        Raises: ValueError: if a parametrization cannot be inverted; nothing is changed then.
        """
        self.check_invertible(path)
        like = self.value()
        values = self._inverted(value.to(like.device, like.dtype), path)
        for (key, original), each in zip(self._stored().items(), values, strict=True):
            if original.shape != each.shape:
                raise ValueError(f"{path}: {key} has shape {tuple(original.shape)}; right_inverse() gave {each.shape}.")
        for original, each in zip(self._stored().values(), values, strict=True):
            original.copy_(each)
        if not torch.allclose(self.value(), value.to(like.device, like.dtype), rtol=1e-3, atol=1e-5):
            warnings.warn(
                f"{path}: the effective weight is not the value that was set: the parametrization does not allow that value, "
                "or its right_inverse() is not exact. Set the originals themselves with load_state_dict().",
                stacklevel=4,
            )

    def _inverted(self, value: Any, path: str) -> list[Tensor]:
        """Returns the originals for a value, in their order."""
        if isinstance(self.source, WeightNorm):
            return [torch.norm_except_dim(value, 2, self.source.dim), value]
        for step in reversed(self._steps()):
            before = {key: tensor.clone() for key, tensor in step.state_dict().items()}
            try:
                value = step.right_inverse(value)
            except (NotImplementedError, RuntimeError, ValueError) as error:
                step.load_state_dict(before)
                raise ValueError(f"{path} cannot be set: right_inverse() of its parametrization: {error}") from error
        return [value] if isinstance(value, Tensor) else [*value]

    def _stored(self) -> dict[str, Tensor]:
        """Returns the tensors that `right_inverse` returns values for, by name."""
        if isinstance(self.source, ParametrizationList):
            found = {**self.source._parameters, **self.source._buffers}
            return {key: each for key, each in sorted(found.items()) if each is not None}
        keys = (f"{self.name}_g", f"{self.name}_v") if isinstance(self.source, WeightNorm) else (f"{self.name}_orig",)
        return {key: self.module.get_parameter(key) for key in keys}


@contextlib.contextmanager
def _in_inference(module: nn.Module) -> Iterator[None]:
    switched = [each for each in module.modules() if each.training]
    for each in switched:
        each.training = False
    try:
        yield
    finally:
        for each in switched:
            each.training = True


def _is_pruning(hook: Any) -> bool:
    """Returns whether a hook prunes: not where the program has not imported torch's module for that, which takes long."""
    prune = sys.modules.get("torch.nn.utils.prune")
    return prune is not None and isinstance(hook, prune.BasePruningMethod)


def _computes(hook: Any) -> bool:
    return isinstance(hook, (SpectralNorm, WeightNorm)) or _is_pruning(hook)


def reparametrizations(module: nn.Module) -> dict[str, Reparametrization]:
    """Returns the weights of the module, without its children, that torch computes from other parameters, by name."""
    found: dict[str, Reparametrization] = {}
    if (lists := parametrization_lists(module)) is not None:
        found.update((name, Reparametrization(module, name, each)) for name, each in lists.items())
    for hook in module._forward_pre_hooks.values():
        if _computes(hook):
            name = hook._tensor_name if _is_pruning(hook) else hook.name  # type: ignore[attr-defined]
            found[name] = Reparametrization(module, name, hook)
    return found


def parametrization_lists(module: nn.Module) -> nn.ModuleDict | None:
    """Returns the child in which torch keeps the module's parametrizations, if there is one."""
    lists = module._modules.get(LISTS)
    if isinstance(lists, nn.ModuleDict) and all(isinstance(each, ParametrizationList) for each in lists.values()):
        return lists
    return None


def weight_names(module: nn.Module) -> list[str]:
    """Returns the names of a bare module's parameters and persistent buffers, as if it had no reparametrizations.

    Parameters come before buffers, and in each module computed weights come first.
    """
    if not any(reparametrizations(each) for each in module.modules()):
        parameters = [name for name, _ in module.named_parameters()]
        return parameters + [name for name in module.state_dict() if name not in parameters]
    parameters, buffers = [], []
    inside: set[int] = set()  # the modules of parametrizations
    for prefix, each in module.named_modules():
        if id(each) in inside:
            continue
        if (lists := parametrization_lists(each)) is not None:
            inside.update(map(id, lists.modules()))
        made = reparametrizations(each)
        hidden = {key for one in made.values() for key in one.registered()} | each._non_persistent_buffers_set
        own = [*made, *(key for key, tensor in each._parameters.items() if tensor is not None and key not in hidden)]
        held = [key for key, tensor in each._buffers.items() if tensor is not None and key not in hidden]
        held += [key for key in own if key in made and not made[key].originals()]
        own = [key for key in own if key not in held]
        parameters += [f"{prefix}.{key}" if prefix else key for key in own]
        buffers += [f"{prefix}.{key}" if prefix else key for key in held]
    return parameters + buffers


def effective_state(module: nn.Module) -> dict[str, Tensor]:
    """Returns a bare module's `state_dict` as if it had no reparametrizations, with the computed weights."""
    if not any(reparametrizations(each) for each in module.modules()):
        return module.state_dict()
    found: dict[str, Tensor] = {}
    for key in weight_names(module):
        owner, _, name = key.rpartition(".")
        made = reparametrizations(module.get_submodule(owner)).get(name)
        found[key] = (getattr(module.get_submodule(owner), name) if made is None else made.value()).detach()
    return found


@torch.no_grad()
def load_effective_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Sets a bare module's weights from a result of `effective_state`."""
    for key in effective_state(module):
        owner, _, name = key.rpartition(".")
        holder = module.get_submodule(owner)
        made = reparametrizations(holder).get(name)
        if made is None:
            getattr(holder, name).copy_(torch.as_tensor(state[key]))
        else:
            made.assign(torch.as_tensor(state[key]), key)


def warn_of_computed(root: nn.Module, what: str) -> None:
    """Warns if returned weights are computed by torch, since the originals cannot be recovered from them.

    Args:
        root: The model or layer.
        what: The operation that returns them, for the message.
    """
    found = [f"{path}.{name}".lstrip(".") for path, each in root.named_modules() for name in reparametrizations(each)]
    if found:
        warnings.warn(
            f"{what}: effective values of parametrized weights ({', '.join(found)}); state_dict() has the originals.",
            stacklevel=4,
        )


def refresh(module: nn.Module) -> None:
    """Runs the pre-hooks of torch's older tools, for a module whose weights are read without calling it."""
    for hook in module._forward_pre_hooks.values():
        if _computes(hook):
            hook(module, ())
