"""ExportArchive: several functions of a model, each written as a program of torch.export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch.export.program import refusal, refusals
from kstyle_torch.export.signature import Signature
from kstyle_torch.export.tracing import inference, leaves_nothing
from kstyle_torch.layer.base import Layer
from kstyle_torch.messages import say
from kstyle_torch.saving.atomic import replacing_folder
from kstyle_torch.variables import Variable

OF_JAX = ("jax2tf_kwargs", "is_static")


@dataclass(frozen=True)
class Endpoint:
    """A function to export, its input signature, and options of `torch.export.export`."""

    fn: Callable[..., Any]
    input_signature: Any
    options: dict[str, Any]


class ExportArchive:
    """A folder of programs, which `torch.export.load` reads without this package: `serve.pt2` for the endpoint `serve`.

    Each program holds the weights that it uses at the time of writing. Programs run in inference mode unless a function
    requests training mode, as `lambda x: model(x, training=True)` does.

    Args:
        format: `"pt2"`; SavedModel, the default of Keras, is a format of TensorFlow.
    Raises: ValueError: for another format.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> model = Sequential([Input((3,)), Dense(2)])
        >>> archive = export.ExportArchive()
        >>> archive.track(model)
        >>> _ = archive.add_endpoint("serve", model.call, [layers.InputSpec(shape=(None, 3))])
        >>> archive.write_out(folder, verbose=False)
        >>> torch.export.load(f"{folder}/serve.pt2").module()(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    def __init__(self, format: str = "pt2"):
        if format != "pt2":
            raise ValueError(f"ExportArchive writes programs of torch.export, format='pt2'; got {format!r}.")
        self._tracked: list[nn.Module] = []
        self._endpoints: dict[str, Endpoint] = {}
        self._collections: dict[str, list[Tensor]] = {}

    @property
    def variables(self) -> list[Any]:
        """The variables of all tracked objects."""
        return self._listed("variables")

    @property
    def trainable_variables(self) -> list[Any]:
        """The trainable ones among the variables."""
        return self._listed("trainable_variables")

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The variables that are not trainable."""
        return self._listed("non_trainable_variables")

    def _listed(self, kind: str) -> list[Any]:
        return [variable for module in self._tracked if isinstance(module, Layer) for variable in getattr(module, kind)]

    def track(self, resource: Any) -> None:
        """Registers a layer or model that endpoints use. Those in a function's closure, globals or `self` are found without it.

        Args:
            resource: The layer, model or torch module.
        Raises: ValueError: if it is not one of these, or not built.
        """
        if not isinstance(resource, nn.Module):
            raise ValueError(f"ExportArchive.track() needs a layer or model; got {type(resource).__name__}.")
        if not getattr(resource, "built", True):
            raise ValueError(
                f"{getattr(resource, 'name', '')!r} is not built yet: build it or call it before exporting."
            )
        if not any(resource is module for module in self._tracked):
            self._tracked.append(resource)

    def add_endpoint(
        self, name: str, fn: Callable[..., Any], input_signature: Any = None, **kwargs: Any
    ) -> Callable[..., Any]:
        """Adds a function to export.

        Args:
            name: Name of the endpoint and its file.
            fn: Function of tensors; or a model.
            input_signature: List with an `InputSpec`, symbolic tensor, tensor or array, or a nest of them, for each
                positional argument. Sizes that are None stay dynamic. Not needed for a model with known inputs.
            kwargs: Arguments of `torch.export.export`.
        Returns: The function.
        Raises: ValueError: for a name that is taken or not valid for a file, or if a signature is missing.
        """
        self._check_name(name)
        if of_jax := [option for option in OF_JAX if option in kwargs]:
            raise ValueError(f"add_endpoint() got {of_jax[0]!r}, which is for JAX.")
        if input_signature is None and getattr(_model_of(fn), "graph", None) is None:
            raise ValueError(
                f"The endpoint {name!r} needs an input signature; pass input_signature=, a list with an "
                "InputSpec(shape=(None, 10)) for each argument."
            )
        self._endpoints[name] = Endpoint(fn, input_signature, kwargs)
        return fn

    def track_and_add_endpoint(
        self, name: str, resource: Any, input_signature: Any, **kwargs: Any
    ) -> Callable[..., Any]:
        """Tracks a layer or model, and adds its call; see `track` and `add_endpoint`."""
        self.track(resource)
        return self.add_endpoint(name, resource, input_signature, **kwargs)

    def add_variable_collection(self, name: str, variables: Any) -> None:
        """Adds variables to write, such as those of an optimizer: `NAME.pt`, a list of tensors for `torch.load`.

        Args:
            name: Name of the file.
            variables: List, tuple or set of variables.
        Raises: ValueError: for anything else, or a name that is taken or not valid for a file.
        """
        self._check_name(name)
        if not isinstance(variables, (list, tuple, set)):
            raise ValueError(f"add_variable_collection() needs a list of variables; got {type(variables).__name__}.")
        if wrong := [type(each).__name__ for each in variables if not isinstance(each, (Variable, nn.Parameter))]:
            raise ValueError(f"add_variable_collection() needs a list of variables; got {wrong[0]} in it.")
        self._collections[name] = list(variables)

    @leaves_nothing
    def write_out(self, filepath: str | os.PathLike[str], options: Any = None, verbose: bool = True) -> None:
        """Writes the folder, and replaces an existing one when the new one is complete.

        Args:
            filepath: The folder.
            options: Must be None; options of TensorFlow in Keras.
            verbose: Whether to print what was written.
        Raises: ValueError: without endpoints, for options, or for functions with data-dependent control
            flow that torch.export does not support.
        """
        if not self._endpoints:
            raise ValueError("The archive has no endpoint to write; call add_endpoint() first.")
        if options is not None:
            raise ValueError(f"ExportArchive.write_out() has no options; got {options!r}.")
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        programs = {name: self._program(name, endpoint) for name, endpoint in self._endpoints.items()}
        with replacing_folder(path) as folder:
            for name, program in programs.items():
                torch.export.save(program, folder / f"{name}.pt2")
            for name, variables in self._collections.items():
                values = [torch.as_tensor(getattr(each, "value", each)).detach().cpu().clone() for each in variables]
                torch.save(values, folder / f"{name}.pt")
        if verbose:
            lines = [f"\n* {name}.pt2: {endpoint.input_signature}" for name, endpoint in self._endpoints.items()]
            say(f"Saved the endpoints in {str(path)!r}:{''.join(lines)}")

    def _program(self, name: str, endpoint: Endpoint) -> Any:
        model = _model_of(endpoint.fn)
        root = _Root(endpoint.fn, [*self._tracked, *_modules_used_by(endpoint.fn)])
        if endpoint.input_signature is None:
            signature = Signature.of(model)
            arguments, axes = signature.example(), signature.open_axes()
        else:
            given = endpoint.input_signature
            signature = Signature.of(root, list(given) if isinstance(given, (list, tuple)) else [given])
            arguments, axes = tuple(signature.example()[0]), tuple(signature.open_axes()[0])
        with inference(root) as held:
            try:
                return torch.export.export(held, arguments, **{"dynamic_shapes": (axes,), **endpoint.options})
            except refusals() as error:
                raise ValueError(refusal(f"The endpoint {name}", error)) from error

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"The name of an endpoint must be like that of a function; got {name!r}.")
        if name in self._endpoints or name in self._collections:
            raise ValueError(f"The name {name!r} is already taken.")


class _Root(nn.Module):
    """Module that calls a function, with the modules that it uses as children: their weights become the program's."""

    def __init__(self, fn: Callable[..., Any], modules: list[nn.Module]):
        super().__init__()
        self.call = fn.__call__ if isinstance(fn, nn.Module) else fn
        for module in dict.fromkeys(modules):
            name = getattr(module, "name", None)
            name = name if isinstance(name, str) and name.isidentifier() else type(module).__name__.lower()
            while hasattr(self, name):
                name += "_"
            self._modules[name] = module  # add_module would set its mode permanently

    def forward(self, *arguments: Any) -> Any:
        """Calls the function."""
        return self.call(*arguments)


def _model_of(fn: Any) -> Any:
    """Returns the module `fn`, or the module of the method `fn`; None for a function."""
    owner = fn if isinstance(fn, nn.Module) else getattr(fn, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _modules_used_by(fn: Any) -> Iterator[nn.Module]:
    """Yields the modules in a function's `self`, closure and globals."""
    if (owner := _model_of(fn)) is not None:
        yield owner
        return
    code = getattr(fn, "__code__", None)
    cells = [cell.cell_contents for cell in getattr(fn, "__closure__", None) or ()]
    named = [fn.__globals__.get(name) for name in code.co_names] if code is not None else []
    yield from (value for value in (*cells, *named) if isinstance(value, nn.Module))
