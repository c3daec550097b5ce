"""The product of dense layers, `x @ weight.T + bias`: torch's own, or oneDNN's where that is faster.

torch's x86 wheels multiply float32 matrices with MKL, which uses its AVX2 kernels on AMD's processors. On those with
AVX-512 units of full width (Zen 5 and later), oneDNN, which is in the same wheel, is twice as fast. `config.set_matmul`
chooses.
"""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.overrides import has_torch_function

from kstyle_torch import config
from kstyle_torch._torch import (
    LightDispatchMode,
    dispatch_modes,
    functional_transform,
    has_global_hook,
    is_compiling,
    onednn_linear,
)

# A call of oneDNN costs about 10 us more than one of MKL, and its kernels need long sides. Where all sides were at least
# this long, it won in all of 90 products measured on a Zen 5; `benchmarks/matrix_products.py` prints them for a machine.
SHORTEST = 128  # of the sides: rows, inputs, units
FULL_WIDTH = 26  # family of AMD's processors from which AVX-512 is twice as fast as AVX2; Zen 4 is of family 25
PLAIN = (Tensor, nn.Parameter)
NOTHING = (None,)  # arguments without __torch_function__
CALL_MODULE, LINEAR_FORWARD, TORCH_LINEAR = nn.Module.__call__, nn.Linear.forward, F.linear


@functools.cache
def is_faster() -> bool:
    """Returns whether oneDNN multiplies faster than torch's default on this processor, by its maker and features."""
    return (
        torch.backends.mkl.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _amd_family() >= FULL_WIDTH
    )


def _amd_family() -> int:
    """Returns the family of an AMD processor, as Linux and Windows say it; 0 for others."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = platform.processor()  # "AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD" on Windows
    found = re.search(r"family\s*:?\s*(\d+)", text, re.IGNORECASE)
    return int(found[1]) if found and "AuthenticAMD" in text else 0


def is_chosen() -> bool:
    """Returns whether products of suitable size and kind go to oneDNN."""
    if onednn_linear is None or is_compiling():
        return False
    choice = config.matmul()
    return choice == "onednn" or (choice == "auto" and is_faster())


def dense_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns `x @ weight.T + bias`, as `torch.nn.functional.linear` does.

    Args:
        x: (..., inputs).
        weight: (units, inputs).
        bias: (units,), or None.
    """
    if not _suits(x, weight, bias):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return _Product.apply(x, weight, bias)
    return _multiply(x, weight, bias)


def through_module(module: nn.Module, x: Tensor) -> Tensor:
    """Returns `module(x)`, by `dense_product` if the module is a plain `nn.Linear` that nothing hooks or replaces."""
    fields = module.__dict__
    if (
        is_chosen()
        and type(module) is nn.Linear
        and not (fields["_forward_hooks"] or fields["_forward_pre_hooks"])
        and not (fields["_backward_hooks"] or fields["_backward_pre_hooks"])
        and fields.get("_compiled_call_impl") is None
        and "forward" not in fields
        and nn.Module.__call__ is CALL_MODULE
        and nn.Linear.forward is LINEAR_FORWARD
        and not has_global_hook()
    ):
        return dense_product(x, module.weight, module.bias)
    return module(x)


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Returns whether oneDNN can multiply two tensors as torch does, and faster."""
    # Sizes may be symbolic then.
    if is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    units, inputs = weight.shape
    rows = x.numel() // inputs if inputs else 0
    return (
        min(rows, inputs, units) >= SHORTEST
        and x.shape[-1] == inputs
        and is_chosen()
        and all(map(_is_plain, (x, weight) if bias is None else (x, weight, bias)))
        and F.linear is TORCH_LINEAR  # users may replace it
        and not _observed()
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in PLAIN
        and tensor.dtype is torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and unpack_dual(tensor).tangent is None
    )


def _observed() -> bool:
    """Returns whether calls are traced, transformed, observed or cast, so that torch's own function must be called."""
    if functional_transform() is not None or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled:
        return True
    modes = dispatch_modes()
    if modes:  # the recorder's own mode does not count
        return not all(isinstance(mode, LightDispatchMode) for mode in modes)
    return has_torch_function(NOTHING)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return onednn_linear(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """oneDNN's product, whose operator has no gradient of its own. The gradient can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2) if of_weight or of_bias else gradient
        return (
            dense_product(gradient, weight.t()) if of_x else None,
            dense_product(rows.t(), x.flatten(0, -2).t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )
