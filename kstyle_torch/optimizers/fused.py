"""torch's private fused optimizer kernels, and cached checks whether they work on a device."""

from __future__ import annotations

import functools

import torch

from kstyle_torch._torch import fused_adamw_, fused_sgd_

ABSENT = (RuntimeError, NotImplementedError, AttributeError, TypeError)


@functools.cache
def has_fused_adam(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether `fused_adamw_` works on a device and gives Adam's step."""
    try:
        one = [torch.ones(1, device=device, dtype=dtype) for _ in range(4)]
        step = [torch.ones((), device=device)]
        fused_adamw_(
            one[:1], one[1:2], one[2:3], one[3:], [], step, lr=0.0, beta1=0.9, beta2=0.9, weight_decay=0.0, eps=1.0,
            amsgrad=False, maximize=False,
        )  # fmt: skip
    except ABSENT:
        return False
    return True


@functools.cache
def has_fused_sgd(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether `fused_sgd_` works on a device."""
    try:
        one = [torch.ones(1, device=device, dtype=dtype) for _ in range(3)]
        fused_sgd_(
            one[:1], one[1:2], one[2:], weight_decay=0.0, momentum=0.9, lr=0.0, dampening=0.0, nesterov=False,
            maximize=False, is_first_step=False,
        )  # fmt: skip
    except ABSENT:
        return False
    return True


def descend(parameters: list[torch.Tensor], gradients: list[torch.Tensor], learning_rate: float) -> None:
    """Takes a step of gradient descent in one kernel; requires `has_fused_sgd`."""
    fused_sgd_(
        parameters, gradients, [], weight_decay=0.0, momentum=0.0, lr=learning_rate, dampening=0.0, nesterov=False,
        maximize=False, is_first_step=False,
    )  # fmt: skip


def alike(tensors: list[torch.Tensor]) -> bool:
    """Returns whether all tensors have the same device and dtype, as fused kernels require."""
    return len({(tensor.device, tensor.dtype) for tensor in tensors}) <= 1
