"""State of a layer's random numbers as variables: in `layer.variables`, but not in `layer.weights`, files or `state_dict`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from kstyle_torch import config, draws, tree
from kstyle_torch.layer.module_walk import OwnDict, OwnList
from kstyle_torch.random import SeedGenerator
from kstyle_torch.variables import Variable


class TorchSeed(Variable):
    """Seed of a layer that draws from torch's random state, used by `stateless_call` alone: a number, and a count of calls.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: Any):
        with config.device_scope("cpu"):  # it is read by the host
            # Derived, not drawn: to list variables must not change the random numbers that follow.
            start = torch.tensor([torch.initial_seed() & 0x7FFFFFFF, 0])
            super().__init__(start, dtype="int32", trainable=False, name="seed_generator_state")
        self.path = "/".join(filter(None, (layer._path_above, layer.name, self.name)))


def seed_states_in(layer: nn.Module) -> list[Variable]:
    """Returns the states of the seed generators that a layer has as attributes, or in lists and dicts that are attributes."""
    found: dict[int, Variable] = {}
    for name, value in vars(layer).items():
        if isinstance(value, SeedGenerator):
            found[id(value)] = value.state
        elif (
            isinstance(value, (list, tuple, dict))
            and not isinstance(value, (OwnList, OwnDict))
            and name != "_arguments"
        ):
            found.update((id(leaf), leaf.state) for leaf in tree.flatten(value) if isinstance(leaf, SeedGenerator))
    return [*found.values()]


@contextlib.contextmanager
def held(variables: Sequence[Variable], values: Sequence[Any]) -> Iterator[None]:
    """Lets variables that are not in a module have other values in a block, whose changes of them are dropped after it."""
    before = [variable._tensor for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable._tensor = value
        yield
    finally:
        for variable, tensor in zip(variables, before, strict=True):
            variable._tensor = tensor


@contextlib.contextmanager
def drawing_from(seeds: Sequence[TorchSeed]) -> Iterator[None]:
    """Lets torch draw from these seeds in a block, and counts up the seeds if it draws."""
    if not seeds:
        yield
        return
    with draws.torch_seeded(hash(tuple(number for seed in seeds for number in seed._tensor.tolist()))) as has_drawn:
        yield
        if has_drawn():
            for seed in seeds:
                seed._tensor = seed._tensor + torch.tensor([0, 1], dtype=torch.int32)
