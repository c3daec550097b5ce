"""Scopes for variables and layers: stateless values, names of paths, devices, recomputation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kstyle_torch import config

REMAT_MODES = ("full", "activations", "larger_than", "list_of_layers", None)


class RematMode(NamedTuple):
    """One `RematScope`'s arguments."""

    mode: str | None
    output_size_threshold: int
    layer_names: tuple[str, ...]


class Open(threading.local):
    """The scopes that are open in this thread; an attribute of a thread-local is read without a call."""

    def __init__(self) -> None:
        self.stateless: StatelessScope | None = None
        self.symbolic: SymbolicScope | None = None
        self.names: list[name_scope] = []
        self.remat: list[RematScope] = []


opened = Open()


class StatelessScope:
    """A block in which assignments to variables are recorded instead of executed, and variables have other values.

    Layers compute with the values of `state_mapping`, and gradients flow to these. What torch's kernels change in place, as
    they do the statistics of BatchNormalization, stays out of the real variable where that is in `state_mapping`.

    Args:
        state_mapping: Pairs of a variable and its value inside the block.
        collect_losses: Whether the losses that layers add are kept in `losses`.
        initialize_variables: Accepted for compatibility with Keras; new variables are initialized immediately.
    Raises: ValueError: for a key that is not a variable, or a value of another shape.

    Example:
        >>> from kstyle_torch import StatelessScope, Variable
        >>> count = Variable(0, trainable=False)
        >>> with StatelessScope() as scope:
        ...     _ = count.assign_add(3)
        >>> int(scope.get_current_value(count)), int(count)
        (3, 0)
    """

    def __init__(
        self,
        state_mapping: Iterable[tuple[Any, Any]] | None = None,
        collect_losses: bool = False,
        initialize_variables: bool = True,
    ):
        self.collect_losses, self.initialize_variables = collect_losses, initialize_variables
        self.losses: list[Any] = []
        self.state_mapping: dict[int, Tensor] = {}
        self._variables: dict[int, Any] = {}  # kept, so that no other object gets the id of one
        self._restore: list[Callable[[], None]] = []
        for variable, value in state_mapping or ():
            if not hasattr(variable, "assign"):
                raise ValueError(
                    f"StatelessScope: state_mapping needs pairs of a variable and a value; got {variable!r}."
                )
            read = value.read() if hasattr(value, "read") else value
            dtype = variable.parameter.dtype
            tensor = torch.as_tensor(read, device=variable.parameter.device).to(dtype)
            if tuple(tensor.shape) != tuple(variable.shape):
                raise ValueError(
                    f"StatelessScope: {variable.path} has shape {tuple(variable.shape)}; its value has shape "
                    f"{tuple(tensor.shape)}."
                )
            self.add_update((variable, tensor))

    def __enter__(self) -> StatelessScope:
        self._around, opened.stateless = opened.stateless, self
        for key, variable in self._variables.items():
            if hasattr(variable, "_put_in_place"):
                self._restore.append(variable._put_in_place(self.state_mapping[key]))
        return self

    def __exit__(self, *args: object, **kwargs: object) -> None:
        for key, variable in self._variables.items():
            if self._restore and hasattr(variable, "_value_in_place"):
                self.state_mapping[key] = variable._value_in_place()
        for restore in reversed(self._restore):
            restore()
        self._restore.clear()
        opened.stateless = self._around

    def add_loss(self, loss: Any) -> None:
        """Records a loss."""
        self.losses.append(loss)

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Records a variable's new value, given as a pair."""
        variable, value = update
        known = id(variable) in self._variables
        self._variables[id(variable)] = variable
        self.state_mapping[id(variable)] = value
        if opened.stateless is self and hasattr(variable, "_put_in_place"):
            restore = variable._put_in_place(value)
            if not known:
                self._restore.append(restore)

    def get_current_value(self, variable: Any) -> Tensor | None:
        """Returns the value of a variable inside the block; None if it is the variable's own."""
        return self.state_mapping.get(id(variable))


class SymbolicScope:
    """A block in which shapes are inferred: `in_symbolic_scope()` is true."""

    def __enter__(self) -> SymbolicScope:
        self._around, opened.symbolic = opened.symbolic, self
        return self

    def __exit__(self, *args: object, **kwargs: object) -> None:
        opened.symbolic = self._around


def in_symbolic_scope() -> bool:
    """Returns whether a `SymbolicScope` is open."""
    return opened.symbolic is not None


class name_scope:  # noqa: N801, Keras' name
    """A block in which the paths of new variables begin with a name.

    Args:
        name: The name.
        caller: The object that opens it.
        deduplicate: Whether the same caller does not open the same name inside itself again.
        override_parent: A path that replaces those of the outer blocks.
    Raises: ValueError: if the name is not a string, or has a "/" in it.

    Example:
        >>> from kstyle_torch import Variable, name_scope
        >>> with name_scope("outer"), name_scope("inner"):
        ...     Variable(0.0, name="scale").path
        'outer/inner/scale'
    """

    def __init__(self, name: str, caller: Any = None, deduplicate: bool = True, override_parent: str | None = None):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"name_scope: name must be a string without '/'; got {name!r}.")
        self.name, self.caller, self.deduplicate, self.override_parent = name, caller, deduplicate, override_parent
        self._is_open = False

    def __enter__(self) -> name_scope:
        last = opened.names[-1] if opened.names else None
        again = last is not None and self.caller is not None and last.caller is self.caller and last.name == self.name
        if not (self.deduplicate and again):
            opened.names.append(self)
            self._is_open = True
        return self

    def __exit__(self, *args: object, **kwargs: object) -> None:
        if self._is_open:
            opened.names.pop()
            self._is_open = False


def path_of(name: str, around: str = "", first: int = 0) -> str:
    """Returns the path of a new variable or layer: its name behind those of the open scopes, from the `first` on.

    Args:
        name: The name.
        around: Path of the layer in which the scopes from `first` on were opened.
        first: How many scopes were open around that layer.
    """
    parts = [around] if around else []
    for scope in opened.names[first:]:
        if scope.override_parent is not None:
            parts = [part for part in scope.override_parent.split("/") if part]
        parts.append(scope.name)
    return "/".join([*parts, name])


@contextlib.contextmanager
def device(device_name: Any) -> Iterator[torch.device]:
    """Creates weights, and tensors of the package's functions, on a device inside the block.

    Args:
        device_name: Keras' or torch's name of a device: `"cpu"`, `"gpu:0"` (the accelerator), `"cuda:1"`; or a torch device.
    """
    name = str(device_name)
    if name.startswith("gpu"):
        accelerator = torch.accelerator.current_accelerator()
        name = name.replace("gpu", "cuda" if accelerator is None else accelerator.type, 1)
    with config.device_scope(name):
        yield torch.device(name)


class RematScope:
    """A block in which new layers recompute their forward pass in the backward pass, instead of storing its results.

    Layers created in the block keep this property, which takes less memory and more time.

    Args:
        mode: `"full"`: all layers; `"activations"`: their activation functions; `"larger_than"`: those whose outputs have
            more elements than `output_size_threshold`; `"list_of_layers"`: those of `layer_names`; None: none.
        output_size_threshold: See `mode`.
        layer_names: See `mode`.
    Raises: ValueError: for another mode.
    """

    def __init__(
        self, mode: str | None = "full", output_size_threshold: int = 1024, layer_names: Sequence[str] | None = None
    ):
        if mode not in REMAT_MODES:
            raise ValueError(f"RematScope: mode must be one of {', '.join(map(repr, REMAT_MODES))}; got {mode!r}.")
        self.mode, self.output_size_threshold, self.layer_names = mode, output_size_threshold, layer_names or []

    def __enter__(self) -> RematScope:
        opened.remat.append(self)
        return self

    def __exit__(self, *args: object, **kwargs: object) -> None:
        opened.remat.pop()


def current_remat_mode() -> RematMode | None:
    """Returns the arguments of the innermost `RematScope`; None if there is none, or its mode is None."""
    if not opened.remat or opened.remat[-1].mode is None:
        return None
    scope = opened.remat[-1]
    return RematMode(scope.mode, scope.output_size_threshold, tuple(scope.layer_names))
