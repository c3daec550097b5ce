"""Calls of a layer on symbolic tensors: recorded in a graph, with shapes and masks from the layer's hooks."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kstyle_torch import draws, tree
from kstyle_torch.layer.call_arguments import named_arguments, shapes_for
from kstyle_torch.layer.children import HasChildren
from kstyle_torch.layer.masks import (
    any_mask,
    fill_masks,
    masks_of,
    put_masks,
    take_recorded_masks,
    warn_of_lost_mask,
    without_masks_of_none,
)
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.paths import building_inside
from kstyle_torch.layer.policy import HasPolicy
from kstyle_torch.layer.shapes import as_leaves
from kstyle_torch.mode import running
from kstyle_torch.registry import keeping_names
from kstyle_torch.symbolic.infer import describe, infer
from kstyle_torch.symbolic.tensor import (
    RecordedCall,
    SymbolicTensor,
    is_symbolic,
    record,
    record_declared,
    symbolic_outputs,
)

HOOKS = (
    "symbolic_call",
    "compute_output_spec",
    "compute_output_shape",
)  # that describe the outputs of a call without running it


class SymbolicEnd:
    """Descriptor of `input` and `output` of a layer in a graph. A child or weight of the same name takes precedence."""

    def __init__(self, which: str):
        self.which = which

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        for children in (layer._modules, layer._parameters, layer._buffers):
            if self.which in children:
                return children[self.which]
        return layer._symbols(self.which)


class Traced(HasChildren, HasPolicy):
    """A module that records its calls on symbolic tensors."""

    input = SymbolicEnd("input")
    output = SymbolicEnd("output")
    built: bool
    supports_masking = False
    _calls: list[RecordedCall]
    _takes_training = False  # whether forward() has a `training` argument
    _takes_mask = (
        False  # whether a user's call has an argument for masks, which is then given them for lists without any, too
    )
    _parameter_names: tuple[str, ...] = ()  # of forward()
    _makes_mask = False  # whether the class overrides compute_mask()
    _says_where_masks_end = True  # whether it warns of a mask that it does not hand on

    if TYPE_CHECKING:

        def _build_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...

    # ---------------------------------------------------------------------------------------------------------- hooks

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the mask of the output: that of the input, unless a subclass overrides this.

        Args:
            inputs: The first argument of the call.
            previous_mask: Its mask, or the one that was passed; for a list, one for each, None where there is none.
        """
        return previous_mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the output's shape for an input of `input_shape` (None for unknown sizes), from a run on zero rows."""
        return self._inferred_shape({"input_shape": input_shape})

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic outputs of the right shape and dtype for a call on symbolic tensors, which is not recorded.

        A subclass that overrides it, or `compute_output_shape`, says itself what its calls give: `call` is not run.
        """
        if not is_users(self, "compute_output_shape"):
            with built_apart(self) as layer:
                if not layer.built:
                    layer._build_for(args, kwargs)
                return symbolic_outputs(*infer(layer, args, kwargs, is_symbolic))
        shapes = shapes_for(self.compute_output_shape, self, named_arguments(self, args, kwargs))
        shape = self.compute_output_shape(**shapes)
        try:
            leaves = as_leaves(shape)
        except TypeError:
            raise ValueError(
                f"{describe(self)}: compute_output_shape() must return a shape, such as (None, 3), or a nest of shapes; "
                f"got {shape!r}."
            ) from None
        return tree.map_structure(lambda leaf: SymbolicTensor(leaf.sizes, self._compute_dtype), leaves)

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs of a call on symbolic tensors, as described by `compute_output_spec`."""
        return self.compute_output_spec(*args, **kwargs)

    # ------------------------------------------------------------------------------------------------ recording calls

    def _symbolic_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.built:
            return self._recorded_call(args, kwargs)
        self._build_for(args, kwargs)
        with building_inside(self):
            return self._recorded_call(args, kwargs)

    def _recorded_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        first = self._first_argument(args, kwargs)
        self._meet_dtypes((args, kwargs))
        args = without_masks_of_none(self._parameter_names, args)
        masked = any_mask(args, kwargs)
        filled = fill_masks(self._parameter_names, args, kwargs, self._takes_mask) if masked or self._takes_mask else []
        previous = kwargs.get("mask") if kwargs.get("mask") is not None else masks_of(first)
        if "mask" not in self._parameter_names:
            kwargs.pop("mask", None)
        tags = self._tags(args, kwargs)
        if any(is_users(self, name) for name in HOOKS):
            outputs = record_declared(self, args, kwargs, self._declared_outputs(args, kwargs), tags, filled)
        else:
            outputs = record(self, args, kwargs, tags, filled)
        self._calls.append(RecordedCall(first, outputs))
        set_unnoticed(self, _in_graph=True)
        masked = any(mask is not None for mask in tree.flatten(previous))
        if self.supports_masking and (self._makes_mask or masked):
            put_masks(outputs, self, first, previous)
        else:
            take_recorded_masks(outputs)
            if masked and self._says_where_masks_end:
                warn_of_lost_mask(self, outputs)
        return outputs

    def _declared_outputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the outputs that the layer's own hooks declare. Inner layers that are not built are built by a run."""
        if any(isinstance(child, Traced) and not child.built for child in self.modules()):
            try:
                infer(self, args, kwargs, is_symbolic)
            except Exception as error:  # whatever the user's code raises  # noqa: BLE001
                warnings.warn(
                    f"{describe(self)} has layers inside that are not built, and cannot be run to build them: {error}. Write a "
                    "build() that builds them.",
                    stacklevel=2,
                )
        if self._takes_training and "training" not in kwargs:
            modes = (running.mode, running.default, self._training_default)
            mode = next((mode for mode in modes if mode is not None), None)
            kwargs = kwargs if mode is None else {**kwargs, "training": mode}
        return self.symbolic_call(*args, **kwargs)

    def _inferred_shape(self, shapes: dict[str, Any]) -> Any:
        """Returns the shape of the output for inputs of shapes, by name (`<argument>_shape`), from a run on zero rows.

        The first goes to the first argument of the call, whatever its name.
        """
        known = {name: shape for name, shape in shapes.items() if shape is not None}
        tensors = [
            tree.map_structure(lambda leaf: SymbolicTensor(leaf.sizes), as_leaves(shape)) for shape in known.values()
        ]
        args, names = tuple(tensors[:1]), [name.removesuffix("_shape") for name in known]
        kwargs = dict(zip(names[1:], tensors[1:], strict=True))
        with built_apart(self) as layer:
            if not layer.built:
                layer._build_for(args, kwargs)
            leaves, nest = infer(layer, args, kwargs, is_symbolic)
        return tree.pack_sequence_as(nest, [None if leaf is None else leaf.shape for leaf in leaves])

    def _first_argument(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the value of the first argument of a call that was passed, in the order of the signature."""
        if args:
            return args[0]
        return next(
            (kwargs[name] for name in self._parameter_names if name in kwargs), next(iter(kwargs.values()), None)
        )

    def _tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[SymbolicTensor, SymbolicTensor]:
        """Returns the masks of inputs that inner layers need to find on their tensors."""
        if not any(isinstance(child, Traced) for child in self.modules() if child is not self):
            return {}
        return {leaf: leaf.mask for leaf in tree.flatten((args, kwargs)) if is_symbolic(leaf) and leaf.mask is not None}

    def _symbols(self, which: str) -> Any:
        """Returns the symbolic input or output of the layer's first call on symbolic tensors that still exist."""
        for call in self._calls:
            if (ends := call.ends()) is not None:
                return ends[which]
        raise AttributeError(f"{self.name} has no {which}: it was not called on a symbolic tensor that still exists.")


def is_users(layer: Any, method: str) -> bool:
    """Returns whether a method of a layer is not the package's own: a user's class, or the instance, has it."""
    found = inspect.unwrap(getattr(layer, method))
    return not getattr(found, "__module__", "").startswith("kstyle_torch.")


@contextlib.contextmanager
def built_apart(layer: Any) -> Iterator[Any]:
    """Yields a layer whose output shapes are asked for: itself; a copy, to be built, if it is not built yet.

    The block leaves names and random numbers alone, and the layer unbuilt, as Keras does. A layer that cannot be copied is
    built.
    """
    if layer.built:
        yield layer
        return
    try:
        apart = copy.deepcopy(layer)
    except Exception:  # whatever attributes of the user's raise  # noqa: BLE001
        apart = None
    if apart is None:
        yield layer
        return
    state = draws.random_state()
    try:
        with keeping_names():
            yield apart
    finally:
        draws.set_random_state(state)
