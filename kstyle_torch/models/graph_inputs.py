"""Inputs of a model with a graph: their names, shapes and dtypes, and the data for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.graph_passes.split_text import TextPart
from kstyle_torch.layer.base import Layer
from kstyle_torch.models.emitted import Emitted
from kstyle_torch.symbolic.graph import Graph


class GraphInputs(nn.Module):
    """Mixin of a model's methods for the inputs of its graph."""

    name: str
    _emitted: Emitted | None = None
    _device_graph: Graph | None = None  # what runs on the device: the graph, or its part behind all text
    _text_part: TextPart | None = None  # what runs on text; None if no input is text

    def follow_children(self) -> None:
        """Makes the graph call the current children."""
        raise NotImplementedError

    def _input_checks(self) -> list[str]:
        """Returns the condition for adapting each input; only numbers and names of dtypes are interpolated into the code."""
        assert self._device_graph is not None
        checks, readers, dtypes = [], self.integer_readers(), self._input_dtypes()
        for position, ref in enumerate(tree.flatten(self._device_graph.inputs)):
            spec = self._device_graph.specs[ref.index]
            dtype = "" if position in readers else f" or {{0}}.dtype is not {dtypes[position]}"
            check = f"{{0}}.dim() != {len(spec.shape)}{dtype}"
            checks.append(
                f"{{0}} is not None and ({check})" if self._device_graph.sources[position].optional else check
            )
        return checks

    def _input_dtypes(self) -> list[torch.dtype]:
        """Returns the dtype of each input of the graph; a floating-point one follows the weights after `double()`."""
        assert self._device_graph is not None
        specs = [self._device_graph.specs[ref.index] for ref in tree.flatten(self._device_graph.inputs)]
        pairs = zip(specs, self._device_graph.sources, strict=True)
        return [source._dtype if spec.dtype.is_floating_point else spec.dtype for spec, source in pairs]

    def integer_readers(self) -> dict[int, Layer]:
        """Returns the inputs, by position, that are read by layers of integers only, with the first such layer."""
        if self._device_graph is None:
            return {}
        if self._emitted is None:
            return self._find_integer_readers(self._device_graph)
        if self._emitted.integer_readers is None:
            self._emitted.integer_readers = self._find_integer_readers(self._device_graph)
        return self._emitted.integer_readers

    def _find_integer_readers(self, graph: Graph) -> dict[int, Layer]:
        readers: dict[int, Layer] = {}
        for position, ref in enumerate(tree.flatten(graph.inputs)):
            targets = [call.target for call in graph.calls if any(read == ref for read in call.reads())]
            layers: list[Any] = [target for target in targets if getattr(target, "integer_inputs", False)]
            masks = [target for target in targets if not isinstance(target, nn.Module)]
            if layers and len(layers) + len(masks) == len(targets) and not graph.sources[position].dtype_given:
                readers[position] = layers[0]
        return readers

    def _adapt(self, x: Tensor, position: int) -> Tensor:
        """Converts an input to the dtype and rank of the graph.

        Raises: ValueError: if the rank differs by more than a last axis of size 1.
        """
        assert self._device_graph is not None
        spec = self._device_graph.specs[tree.flatten(self._device_graph.inputs)[position].index]
        given_mask = getattr(x, "_keras_mask", None)
        if position not in self.integer_readers():
            x = x.to(self._input_dtypes()[position])
        rank = len(spec.shape)
        if x.dim() == rank + 1 and x.shape[-1] == 1:
            x = x.squeeze(-1)
        elif x.dim() == rank - 1 and spec.shape[-1] == 1:
            x = x.unsqueeze(-1)
        if x.dim() != rank:
            raise ValueError(self._shape_message(x, position))
        if given_mask is not None:
            x._keras_mask = given_mask  # type: ignore[attr-defined]
        return x

    def _unpack(self, inputs: Any) -> list[Any]:
        """Flattens the caller's nest of inputs in the order of the device graph; text in it is converted to numbers.

        Raises: ValueError: if an input is missing or there are too many.
        """
        assert self._device_graph is not None
        return self._arranged(self._device_graph, self.without_text(inputs))

    def _arranged(self, graph: Graph, inputs: Any) -> list[Any]:
        """Flattens a nest of inputs in the order of a graph: the whole one, or the device graph."""
        names = [source.name for source in graph.sources]
        if isinstance(inputs, dict):
            given = graph.inputs
            keys = [path[0] for path, _ in tree.flatten_with_path(given)] if isinstance(given, dict) else names
            if not set(keys) <= inputs.keys() and set(names) <= inputs.keys():
                keys = names
            missing = [key for key in keys if key not in inputs]
            if missing:
                raise ValueError(f"Missing data for input {missing[0]!r}: got {list(inputs)}, expected {keys}.")
            return [inputs[key] for key in keys]
        flat = tree.flatten(inputs) if tree.is_nested(inputs) else [inputs]
        if len(flat) != len(names):
            raise ValueError(
                f"Model {self.name!r} has {len(names)} input(s), {', '.join(map(repr, names))}; got {len(flat)} array(s)."
            )
        return flat

    def without_text(self, x: Any, lazily: bool = False, on_host: bool = False) -> Any:
        """Returns x with numbers in the place of text, as a dict by name; x itself if no input of the model is text.

        Args:
            x: Data for all inputs; or the result of this method, which is returned.
            lazily: Whether numbers that are large, or whose shape depends on the batch, become `Rows`.
            on_host: Whether the numbers are on the host, as those of `lazily` are, rather than where the weights are.
        Raises: ValueError: if the data does not fit the inputs. TypeError: if text is not text.
        """
        part = self._text_part
        if part is None or (isinstance(x, dict) and x.keys() == part.names):
            return x
        self.follow_children()
        return self._text_part.converted(x, lazily, on_host)  # type: ignore[union-attr]

    @property
    def _takes_text(self) -> bool:
        """Returns whether an input is text."""
        return self._text_part is not None

    def check_inputs(self, x: Any) -> None:
        """Raises a ValueError if the arrays do not have the shapes of the model's inputs."""
        if self._device_graph is None:
            return
        for position, array in enumerate(self._unpack(x)):
            spec = self._device_graph.specs[tree.flatten(self._device_graph.inputs)[position].index]
            shape = (
                spec.shape if array is None and self._device_graph.sources[position].optional else tuple(array.shape)
            )
            if len(shape) == len(spec.shape) + 1 and shape[-1] == 1:
                shape = shape[:-1]
            if len(shape) == len(spec.shape) - 1 and spec.shape[-1] == 1:
                shape = (*shape, 1)
            fits = len(shape) == len(spec.shape) and all(
                want in (None, got) for want, got in zip(spec.shape[1:], shape[1:], strict=True)
            )
            if not fits:
                raise ValueError(self._shape_message(array, position))

    def _shape_message(self, x: Any, position: int) -> str:
        assert self._device_graph is not None
        expected = self._device_graph.specs[tree.flatten(self._device_graph.inputs)[position].index].shape
        name = self._device_graph.sources[position].name
        which = f"the input {name!r}" if len(self._device_graph.sources) > 1 else "the model's input"
        shape = tuple(x.shape)
        hint = ""
        if shape == expected[1:]:
            hint = " It looks like one sample without a batch axis: use x[None]."
        elif len(expected) == 4 and len(shape) == 2:
            hint = " Reshape it to (samples, height, width, channels)."
        elif len(expected) == 3 and len(shape) == 2:
            hint = " It needs the axes (samples, steps, features)."
        return f"x has shape {shape}, but {which} expects {expected}.{hint}"
