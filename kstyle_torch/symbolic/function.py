"""Function: a graph from inputs to outputs that is called like an operation."""

from __future__ import annotations

from typing import Any

from kstyle_torch import tree
from kstyle_torch.arrays import tensor_of
from kstyle_torch.symbolic.graph import Ref, trace
from kstyle_torch.symbolic.operation import Operation
from kstyle_torch.symbolic.replay import replay
from kstyle_torch.symbolic.tensor import KerasTensor, any_symbolic, is_symbolic, mask_of


class Function(Operation):
    """The computation between symbolic tensors. Unlike a `Model`, it does not own weights.

    Args:
        inputs: Nest of symbolic tensors; they may be intermediate ones.
        outputs: Nest of symbolic tensors that depend on the inputs only.
        name: Name without "/"; generated if None.
    Raises: ValueError: if an output needs another input.

    Example:
        >>> x = KerasTensor((None, 2))
        >>> Function(x, ops.sum(x * 2, axis=1))(torch.ones(3, 2))
        tensor([4., 4., 4.])
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        super().__init__(name)
        self._inputs_struct, self._outputs_struct = inputs, outputs
        self._graph = trace(inputs, outputs, tree.flatten(inputs))

    @property
    def inputs(self) -> list[KerasTensor]:
        """The inputs, as a flat list."""
        return tree.flatten(self._inputs_struct)

    @property
    def outputs(self) -> list[KerasTensor]:
        """The outputs, as a flat list."""
        return tree.flatten(self._outputs_struct)

    @property
    def operations(self) -> list[Any]:
        """The distinct targets of the graph's calls, in execution order."""
        return list({id(call.target): call.target for call in self._graph.calls}.values())

    def call(self, inputs: Any) -> Any:
        """Returns the outputs for a nest of tensors or arrays.

        Raises: ValueError: if the nest does not have as many leaves as the function has inputs.
        """
        given = tree.flatten(inputs)
        if len(given) != len(self.inputs):
            raise ValueError(f"{self.name} takes {len(self.inputs)} inputs; got {len(given)}.")
        if any_symbolic(inputs):
            return replay(self._graph, given)
        refs = tree.flatten(self._graph.inputs)
        values = {ref.index: tensor_of(leaf) for ref, leaf in zip(refs, given, strict=True)}

        def value(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, Ref) else leaf

        for call in self._graph.calls:
            args, kwargs = tree.map_structure(value, (call.args, call.kwargs))
            for tensor, mask in call.tags:
                values[tensor.index]._keras_mask = values[mask.index]
            result = getattr(args[0], "_keras_mask", None) if call.target is mask_of else call.target(*args, **kwargs)
            for old, new in zip(tree.flatten(call.outputs), tree.flatten(result), strict=True):
                if isinstance(old, Ref):
                    values[old.index] = new
        return tree.map_structure(value, self._graph.outputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Returns symbolic tensors of the outputs' shapes and dtypes for symbolic inputs."""
        return self.call(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the outputs' shapes for a nest of input shapes."""
        shapes = [input_shape] if len(self.inputs) == 1 and not _is_nest(input_shape) else _shapes(input_shape)
        made = [KerasTensor(shape, known.torch_dtype) for shape, known in zip(shapes, self.inputs, strict=True)]
        return tree.map_structure(lambda leaf: leaf.shape if is_symbolic(leaf) else leaf, replay(self._graph, made))

    def get_config(self) -> dict[str, Any]:
        """Raises an error, since the config of a function cannot hold the layers that it calls.

        Raises: NotImplementedError: always.
        """
        raise NotImplementedError("A Function has no config; make a Model of the same inputs and outputs.")


def _is_nest(shape: Any) -> bool:
    return isinstance(shape, dict) or any(isinstance(each, (tuple, list, dict)) for each in shape)


def _shapes(nest: Any) -> list[Any]:
    items = nest.values() if isinstance(nest, dict) else nest
    return [shape for item in items for shape in (_shapes(item) if _is_nest(item) else [item])]
