"""Masked sequences: valid steps are moved to the front, the cell runs over them, and the outputs are moved back.

`inside` is true where an aligned sequence still has valid steps. Masked steps keep the states, and their output is that of
the last valid step, or zeros before the first one.

In a program of torch.export, long sequences and those of dynamic length are not moved: one step is exported as a scan.
(torch.lstm would be unrolled for the length of the example.)
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch._torch import is_exporting, load_scan

MAX_UNROLLED = 16  # tracing one step takes about as long as unrolling this many


def writes_one_step(x: Tensor) -> bool:
    """Returns whether a program is being exported, and sequences (batch, time, ...) are long enough to export a scan."""
    if not is_exporting() or (isinstance(x.shape[1], int) and x.shape[1] <= MAX_UNROLLED):
        return False
    return load_scan() is not None  # otherwise sequences are unrolled, which torch refuses for dynamic lengths


def align(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the valid steps in order, followed by zeros; and `inside`."""
    if writes_one_step(x):
        return x, mask
    if is_exporting():  # ONNX has no stable sort; these keys are unique
        order = (torch.arange(mask.shape[1], device=mask.device) - mask.int() * mask.shape[1]).argsort(1)
        valid = mask.gather(1, order)
    else:
        valid, order = mask.int().sort(dim=1, descending=True, stable=True)
    inside = valid.bool()
    return x.gather(1, _like(order, x).expand_as(x)).masked_fill(~_like(inside, x), 0), inside


def spread(outputs: Tensor, mask: Tensor, zero_output_for_mask: bool) -> Tensor:
    """Moves the outputs of an aligned sequence back to their steps."""
    if writes_one_step(mask):
        return outputs.masked_fill(~_like(mask, outputs), 0) if zero_output_for_mask else outputs
    counts = mask.cumsum(1)
    latest = outputs.gather(1, _like((counts - 1).clamp(min=0), outputs).expand_as(outputs))
    return latest.masked_fill(~_like(mask if zero_output_for_mask else counts > 0, outputs), 0)


def last_valid(outputs: Tensor, inside: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """Returns the output of the last valid step of an aligned sequence; `otherwise` (zeros if None) without valid steps."""
    index = (inside.sum(1, keepdim=True) - 1).clamp(min=0)
    last = outputs.gather(1, _like(index, outputs).expand(-1, 1, *outputs.shape[2:])).squeeze(1)
    return choose(inside[:, 0], last, torch.zeros_like(last) if otherwise is None else otherwise)


def loop(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    x: Tensor,
    states: Any,
    inside: Tensor | None,
    every_step: bool,
    training: bool = False,
) -> tuple[Tensor, Any]:
    """Calls `step(x_t, states)` for each step.

    Returns: The outputs of every step, or that of the last valid one, and the states after it.
    """
    if writes_one_step(x) and not training:  # in training, cells keep dropout masks between steps
        return _scan(step, x, states, inside, every_step)
    outputs: list[Tensor] = []
    is_empty = type(x.shape[0]) is int and x.shape[0] == 0  # a dynamic size must stay dynamic during export
    if every_step and is_empty and x.shape[1] > 1:  # shape inference, for which all steps are equal
        output, states = loop(step, x[:, :1], states, None if inside is None else inside[:, :1], every_step, training)
        return output.expand(-1, x.shape[1], *output.shape[2:]), states
    for time, x_t in enumerate((x[:, :1] if is_empty else x).unbind(1)):
        output, new_states = step(x_t, states)
        if inside is not None:
            inside_now = inside[:, time]
            output = choose(inside_now, output, outputs[-1] if outputs else torch.zeros_like(output))
            kept = map(functools.partial(choose, inside_now), tree.flatten(new_states), tree.flatten(states))
            new_states = tree.pack_sequence_as(states, list(kept))
        states = new_states
        outputs = outputs if every_step else []
        outputs.append(output)
    return (torch.stack(outputs, 1) if every_step else outputs[-1]), states


def _scan(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]], x: Tensor, states: Any, inside: Tensor | None, every_step: bool
) -> tuple[Tensor, Any]:
    """Runs the loop as one scan operation of a program; valid steps may be anywhere."""
    scan = load_scan()
    first = torch.zeros_like(step(x[:, 0], states)[0])
    steps = [x.transpose(0, 1)] if inside is None else [x.transpose(0, 1), inside.transpose(0, 1)]

    def advance(carried: list[Tensor], now: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        output, new = step(now[0], tree.pack_sequence_as(states, carried[1:]))
        following = [output, *tree.flatten(new)]
        if inside is not None:
            following = [choose(now[1], after, before) for after, before in zip(following, carried)]
        return [tensor.clone() for tensor in following], following[0].clone()

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The .grad attribute")  # tracing reads this attribute
        (last, *final), outputs = scan(advance, [first, *tree.flatten(states)], steps)
    return (outputs.transpose(0, 1) if every_step else last), tree.pack_sequence_as(states, final)


def choose(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Returns `yes` in rows where the condition holds, else `no`."""
    return torch.where(condition.reshape(condition.shape[0], *(1,) * (yes.ndim - 1)), yes, no)


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Adds axes to a tensor up to the rank of `x`."""
    return values.reshape(*values.shape, *(1,) * (x.ndim - 2))
