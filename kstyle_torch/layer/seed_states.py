"""State of a layer's random numbers as variables: in `layer.variables`, but not in `layer.weights`, files or `state_dict`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from kstyle_torch import config, draws, tree
from kstyle_torch.layer.module_walk import OwnDict, OwnList, modules_of, set_unnoticed
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


class DrawsFromTorch(nn.Module):
    """Mixin of layers that draw from torch: from a generator of their own where they have a seed, else from its random state.

    Their state is in `variables` as a `TorchSeed`.
    """

    _torch_seed: OwnList | None = None  # made when it is listed
    _generator: torch.Generator | None = None
    _masks: dict[str, Any] | None = None  # draws for more than one call

    def _seed_states(self) -> list[Any]:
        if self._torch_seed is None:
            set_unnoticed(self, _torch_seed=OwnList([TorchSeed(self)]))
        return [*(self._torch_seed or ()), *super()._seed_states()]  # type: ignore[misc]


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
    """Replaces the values of variables that are not in a module within a block, and restores them after it."""
    before = [variable._tensor for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable._tensor = value
        yield
    finally:
        for variable, tensor in zip(variables, before, strict=True):
            variable._tensor = tensor


@contextlib.contextmanager
def drawing_from_seeds(layer: nn.Module) -> Iterator[None]:
    """Lets the `TorchSeed`s of a layer, and of those inside, decide what they draw in a block.

    Seeds that were drawn from count up. Generators, torch's random state, and the masks that layers keep are afterwards
    what they were before.
    """
    drawing = [module for module in modules_of(layer) if isinstance(module, DrawsFromTorch) and module._torch_seed]
    by_source: dict[int, tuple[torch.Generator | None, list[TorchSeed]]] = {}
    for module in drawing:
        by_source.setdefault(id(module._generator), (module._generator, []))[1].extend(module._torch_seed or ())
    masks = [(module._masks, dict(module._masks)) for module in drawing if module._masks is not None]
    for kept, _ in masks:
        kept.clear()
    try:
        with contextlib.ExitStack() as stack:
            drawn = []
            for source, seeds in by_source.values():
                start = hash(tuple(number for seed in seeds for number in seed._tensor.tolist()))
                seeded = draws.torch_seeded(start) if source is None else draws.reseeded(source, start)
                drawn.append((stack.enter_context(seeded), seeds))
            yield
            for seed in [seed for has_drawn, seeds in drawn if has_drawn() for seed in seeds]:
                seed._tensor = seed._tensor + torch.tensor([0, 1], dtype=torch.int32)
    finally:
        for kept, before in masks:
            kept.clear()
            kept.update(before)
