"""Peephole optimisation of recorded calls: fewer operators with bitwise equal results."""

from __future__ import annotations

import math
from typing import Any

import torch

from kstyle_torch.training.recorded.recorder import Call, tensors_in

aten = torch.ops.aten
ABOVE = {aten.gt.Scalar: None, aten.ge.Scalar: -math.inf}  # to the nearest excluded value
BELOW = {aten.lt.Scalar: None, aten.le.Scalar: math.inf}


def shortened(calls: list[Call]) -> list[Call]:
    """Returns the calls, with sequences replaced by shorter ones whose results are bitwise equal."""
    uses: dict[int, int] = {}
    for call in calls:
        for tensor in tensors_in((call.args, call.kwargs)):
            uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    makers = {id(call.result): call for call in calls}
    dropped: set[int] = set()
    written = []
    for call in calls:
        new = (
            _clamp_backward(call, makers, uses, calls) or _sum_without_view(call, makers, uses) or _linear(call, makers)
        )
        if new is not None:
            dropped.update(map(id, new[1:]))
        written.append((call, call if new is None else new[0]))
    return [new for call, new in written if id(call) not in dropped]


def _clamp_backward(call: Call, makers: Any, uses: Any, calls: list[Call]) -> list[Any] | None:
    """Rewrites `where(x > low and x < high, gradient, 0)` as `hardtanh_backward`, whose bounds are exclusive.

    torch 2.13 compares with `>=` and `<=` instead; the bounds then move to the next representable numbers.
    """
    if call.function is not aten.where.self:
        return None
    mask, gradient, other = call.args
    both = next((each for each in calls if each.function is aten.logical_and_.default and each.args[0] is mask), None)
    if both is None or uses[id(mask)] != 2 or uses[id(both.args[1])] != 1 or other.dim() or bool(other):
        return None
    # `makers` has the last call that returned the mask, which is the one that changed it in place.
    low = next((each for each in calls if each.function in ABOVE and each.result is mask), None)
    high = makers.get(id(both.args[1]))
    if low is None or high is None or high.function not in BELOW or low.args[0] is not high.args[0]:
        return None
    x = low.args[0]
    if x.dtype not in (torch.float32, torch.float64) or gradient.dtype is not x.dtype or gradient.shape != x.shape:
        return None
    bounds = _excluded(low, ABOVE, x.dtype), _excluded(high, BELOW, x.dtype)
    if not all(map(math.isfinite, bounds)):
        return None
    return [Call(aten.hardtanh_backward.default, (gradient, x, *bounds), {}, call.result), both, low, high]


def _excluded(comparison: Call, kinds: dict[Any, float | None], dtype: torch.dtype) -> float:
    """Returns the nearest number for which a comparison is false: the bound, or for `>=` and `<=` the next one."""
    bound, towards = torch.tensor(comparison.args[1], dtype=dtype), kinds[comparison.function]
    return (bound if towards is None else torch.nextafter(bound, torch.tensor(towards, dtype=dtype))).item()


def _sum_without_view(call: Call, makers: Any, uses: Any) -> list[Any] | None:
    """Rewrites `view(sum(x, [0], keepdim=True))`, the gradient of a bias, as `sum(x, 0)`."""
    if call.function is not aten.view.default:
        return None
    summed = makers.get(id(call.args[0]))
    if summed is None or summed.function is not aten.sum.dim_IntList or summed.kwargs or uses[id(summed.result)] != 1:
        return None
    x, axes, *keepdim = summed.args
    if keepdim != [True] or list(axes) != [0] or tuple(call.args[1]) != tuple(x.shape[1:]):
        return None
    return [Call(summed.function, (x, 0), {}, call.result), summed]


def _linear(call: Call, makers: Any) -> list[Any] | None:
    """Rewrites `addmm(bias, x, t(weight))` as `linear`, which transposes itself. Other readers of `t(weight)` keep it."""
    if call.function is not aten.addmm.default or call.kwargs:
        return None
    bias, x, weight = call.args
    transposed = makers.get(id(weight))
    if transposed is None or transposed.function is not aten.t.default or bias.dim() != 1:
        return None
    return [Call(aten.linear.default, (x, transposed.args[0], bias), {}, call.result)]
