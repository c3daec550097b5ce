"""Signature of a model's inputs: shapes, dtypes and nest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kstyle_torch import config, tree
from kstyle_torch.initializers import as_dtype
from kstyle_torch.symbolic.graph import graph_of

ROWS = 2  # 0 and 1 are special to torch.export
OPEN_SIZE = 64  # survives the halvings of a U-Net


@dataclass(frozen=True)
class Leaf:
    """One input: its shape, None for dynamic sizes, dtype and name."""

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    name: str

    def tensor(self, rows: int = ROWS, open_size: int = OPEN_SIZE, device: Any = None) -> Tensor:
        """Returns an example input: random floats, or zeros, which are in any vocabulary."""
        sizes = [rows if size is None else size for size in self.shape[:1]]
        sizes += [open_size if size is None else size for size in self.shape[1:]]
        if self.dtype.is_floating_point:
            generator = torch.Generator().manual_seed(0)
            return torch.rand(sizes, generator=generator).to(device=device, dtype=self.dtype)
        return torch.zeros(sizes, dtype=self.dtype, device=device)


@dataclass(frozen=True)
class Signature:
    """The inputs of a model: `leaves` in the order of the flat nest."""

    nest: Any
    leaves: list[Leaf]
    device: torch.device

    @classmethod
    def of(cls, model: Any, given: Any = None) -> Signature:
        """Returns the signature of a model's inputs, or the user's (see `to_program`).

        Raises: ValueError: if neither is known.
        """
        device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), config.device())
        graph = graph_of(model) and model._device_graph  # programs of tensors take no text
        names = [] if graph is None else [source.name for source in graph.sources]
        if given is not None:
            flat = tree.flatten(given)
            names = names if len(names) == len(flat) else [f"input_{number}" for number in range(len(flat))]
            return cls(given, [_leaf(spec, name) for spec, name in zip(flat, names, strict=True)], device)
        if graph is None:
            raise ValueError(
                f"{getattr(model, 'name', type(model).__name__)!r} has no known input signature. Pass "
                "input_signature=, an InputSpec(shape=(None, 10)) or an example batch."
            )
        specs = [graph.specs[ref.index] for ref in tree.flatten(graph.inputs)]
        readers = model.integer_readers()
        dtypes = [torch.int64 if position in readers else spec.dtype for position, spec in enumerate(specs)]
        leaves = [Leaf(spec.shape, dtype, name) for spec, dtype, name in zip(specs, dtypes, names, strict=True)]
        return cls(graph.inputs, leaves, device)

    def example(self, rows: int = ROWS, open_size: int = OPEN_SIZE) -> tuple[Any, ...]:
        """Returns the positional arguments of a call."""
        made = [leaf.tensor(rows, open_size, self.device) for leaf in self.leaves]
        return (self.pack(made),)

    def open_axes(self) -> tuple[Any, ...]:
        """Returns the dynamic axes of the arguments, for `torch.export`."""
        dynamic = torch.export.Dim.DYNAMIC
        return (self.pack([{a: dynamic for a, size in enumerate(leaf.shape) if size is None} for leaf in self.leaves]),)

    def pack(self, flat: list[Any]) -> Any:
        """Arranges one value for each input in the model's nest of inputs."""
        if not tree.is_nested(self.nest):
            return flat[0]
        holders = [_Holder(value) for value in flat]  # a value may be a nest itself
        return tree.map_structure(lambda holder: holder.value, tree.pack_sequence_as(self.nest, holders))


@dataclass(frozen=True)
class _Holder:
    value: Any


def _leaf(spec: Any, name: str) -> Leaf:
    if isinstance(spec, (Tensor, np.ndarray, np.generic)):
        tensor = torch.as_tensor(spec)
        dtype = as_dtype(None) if tensor.dtype == torch.float64 and not isinstance(spec, Tensor) else tensor.dtype
        return Leaf((None, *tensor.shape[1:]), dtype, name)
    shape = getattr(spec, "shape", None)
    if shape is None:
        raise ValueError(
            f"input_signature must hold an InputSpec with a shape, a symbolic tensor, a tensor or an array for every "
            f"input; got {spec!r}."
        )
    return Leaf(tuple(shape), as_dtype(getattr(spec, "dtype", None)), getattr(spec, "name", None) or name)
