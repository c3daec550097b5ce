"""Modules that exchange data with other processes or devices, and models that were wrapped in one.

Their collectives run in hooks and in autograd's accumulation of gradients. Recorded and compiled steps have neither, so a
model with such a module trains with eager steps.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from weakref import WeakSet

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parallel import DataParallel, DistributedDataParallel

from kstyle_torch.layer.weight_holder import WeightHolder
from kstyle_torch.layers.batch_normalization import BatchNormalization
from kstyle_torch.training.protocols import Trainable

# Wrappers that average gradients. DDP and FSDP leave no mark on the module that they wrap, so a registration hook collects
# the wrapper when it registers its child. The set is weak: wrappers that are garbage-collected drop out.
_wrappers: WeakSet[nn.Module] = WeakSet()


def _fully_sharded(name: str) -> tuple[type, ...]:
    """Returns a class of torch's FSDP, or nothing if the program has not imported FSDP, which is slow to import."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return () if fsdp is None else (getattr(fsdp, name),)


def _note_wrapper(module: nn.Module, name: str, child: nn.Module) -> None:  # noqa: ARG001
    if isinstance(module, (DistributedDataParallel, *_fully_sharded("FullyShardedDataParallel"))):
        _wrappers.add(module)


register_module_module_registration_hook(_note_wrapper)


def all_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the modules of a model, and the bare modules that `from_torch` wraps, which may have hooks of their own."""
    for module in model.modules():
        yield module
        if isinstance(module, WeightHolder) and module._bare is not module:
            yield module._bare


def exchanging_module(model: nn.Module) -> nn.Module | None:
    """Returns a module of the model that exchanges data with other processes or devices, if there is one."""
    kinds: tuple[type, ...] = (DistributedDataParallel, DataParallel, nn.SyncBatchNorm)
    kinds += _fully_sharded("FullyShardedDataParallel") + _fully_sharded("FSDPModule")
    for module in all_modules(model):
        if isinstance(module, kinds) or (isinstance(module, BatchNormalization) and module.synchronized):
            return module
    tensors = sys.modules.get("torch.distributed.tensor")
    if tensors is not None and any(isinstance(parameter, tensors.DTensor) for parameter in model.parameters()):
        return model
    return None


def check_replicas(model: Trainable) -> None:
    """Checks that training in several processes keeps their models equal, and warns if nothing exchanges gradients.

    Raises: ValueError: if the model is inside a DDP or FSDP module, which `fit` would bypass.
    """
    distributed = torch.distributed
    if not distributed.is_available() or not (_wrappers or distributed.is_initialized()):
        return
    for wrapper in [*_wrappers]:
        if any(module is model for module in wrapper.modules()):
            kind = "DDP" if isinstance(wrapper, DistributedDataParallel) else "FSDP"
            raise ValueError(
                f"{model.name} is wrapped in {type(wrapper).__name__}, but fit() was called on the model itself, so gradients "
                f"would not be exchanged. Train the wrapper: from_torch({kind}(model)), then compile() and fit()."
            )
    if not distributed.is_initialized() or distributed.get_world_size() == 1 or model.overrides("train_step"):
        return
    if exchanging_module(model) is None:
        warnings.warn(
            f"There is a process group of {distributed.get_world_size()} processes, but nothing in {model.name} exchanges "
            "gradients, so each process trains a model of its own. from_torch(DistributedDataParallel(model)) trains one.",
            stacklevel=3,
        )
