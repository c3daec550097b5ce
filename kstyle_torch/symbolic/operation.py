"""Operations: objects with a `call` that are called on tensors, or on symbolic tensors to become a node of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstyle_torch import tree
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.serialization import Configurable
from kstyle_torch.symbolic.infer import Spec, infer
from kstyle_torch.symbolic.tensor import KerasTensor, Node, RecordedCall, any_symbolic, is_symbolic


class Operation(Configurable):
    """Base class of operations. Subclasses define `call`, and `compute_output_spec` if `call` cannot run on zeros.

    Unlike a `Layer`, an operation has no weights.

    Args:
        name: Name without "/"; made from the class name if None.
    Raises: ValueError: for an invalid name.

    Example:
        >>> class Twice(Operation):
        ...     def call(self, x):
        ...         return 2 * x
        >>> Twice()(torch.ones(2)), Twice()(Input((3,))).shape
        (tensor([2., 2.]), (None, 3))
    """

    def __init__(self, name: str | None = None):
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(f"{type(self).__name__}: name must be a string without '/'; got {name!r}.")
        self.name = name or unique_name(snake_case(type(self).__name__))
        self._recorded: list[RecordedCall] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any_symbolic(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs for tensors."""
        raise NotImplementedError(f"{type(self).__name__} must define call().")

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs of a quantized operation; a subclass may define it."""
        raise NotImplementedError(f"{type(self).__name__} does not define quantized_call().")

    def rematerialized_call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """Returns `fn` itself, since only layers support recomputation."""
        return fn

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Records the call as a node of a graph, and returns its symbolic outputs."""
        declared = self.compute_output_spec(*args, **kwargs)
        node = Node(self, args, kwargs)
        outputs = tree.map_structure(
            lambda leaf: KerasTensor(leaf.shape, leaf.torch_dtype, node=node) if is_symbolic(leaf) else leaf, declared
        )
        node.outputs = outputs
        self._recorded.append(RecordedCall(args[0] if args else next(iter(kwargs.values())), outputs))
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic tensors of the outputs' shapes and dtypes, from a run of `call` on zeros."""
        leaves, nest = infer(self.call, args, kwargs, is_symbolic)
        specs = [KerasTensor(leaf.shape, leaf.dtype) if isinstance(leaf, Spec) else leaf for leaf in leaves]
        return tree.pack_sequence_as(nest, specs)

    @property
    def input(self) -> Any:
        """The symbolic input of the first call on symbolic tensors that still exist."""
        return self._end("input")

    @property
    def output(self) -> Any:
        """The symbolic output of the first call on symbolic tensors that still exist."""
        return self._end("output")

    def _end(self, which: str) -> Any:
        for call in self._recorded:
            if (ends := call.ends()) is not None:
                return ends[which]
        raise AttributeError(f"{self.name} has no {which}: it was not called on a symbolic tensor that still exists.")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments and the name as plain data."""
        config = super().get_config()
        return {"name": self.name, **{key: value for key, value in config.items() if key != "name"}}

    def __repr__(self) -> str:
        return f"<Operation name={self.name}>"
