"""Arguments of a layer's call: by name, and their shapes as `build` and the hooks take them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from kstyle_torch import tree
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layer.checks import misfit
from kstyle_torch.layer.shapes import shapes_of
from kstyle_torch.symbolic.infer import describe
from kstyle_torch.symbolic.tensor import SymbolicTensor
from kstyle_torch.variables import Variable

CATCH_ALL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def named_arguments(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by name, in the order of the signature; those that were left out are not there.

    Raises: TypeError: if one is missing, or one is not known.
    """
    signature = inspect.signature(type(layer)._own_call)
    if "training" in kwargs and not layer._takes_training:
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    try:
        arguments = signature.bind(layer, *args, **kwargs).arguments
    except TypeError as error:
        if has_other_call(layer):  # whose signature may differ from that which `build` was written for
            return {**dict(zip(layer._parameter_names, args, strict=False)), **kwargs}
        own = inspect.Signature([*signature.parameters.values()][1:])
        raise TypeError(f"{describe(layer)}: {error}; its call takes {own}.") from None
    return dict([*arguments.items()][1:])


def shapes_for(method: Callable[..., Any], layer: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments for a method that takes shapes: `build` or `compute_output_shape`.

    A method of one argument gets the shape of the first tensor, whatever its name; one of several gets `x_shape` for the
    argument `x` of the call.

    Raises: ValueError: if a method of several arguments has one that is not called like that.
    """
    parameters = inspect.signature(type(layer)._own_call).parameters
    shapes = {
        f"{name}_shape": shapes_of(value)
        for name, value in arguments.items()
        if name != "mask" and name in parameters and parameters[name].kind not in CATCH_ALL and _is_of_tensors(value)
    }
    names = [name for name, each in inspect.signature(method).parameters.items() if each.kind not in CATCH_ALL]
    if len(names) == 1:
        return {names[0]: next(iter(shapes.values()), None)}
    if (method.__module__ or "").startswith(
        "kstyle_torch."
    ):  # a subclass may call the first argument of its call() otherwise
        shapes = {names[0]: next(iter(shapes.values()), None)} | shapes
        names = [name for name in names if name in shapes]
    for name in names:
        if name not in shapes and (not name.endswith("_shape") or name.removesuffix("_shape") not in parameters):
            raise ValueError(
                f"{describe(layer)}: {method.__name__}() has several arguments, so each must be called like one of "
                f"call() with _shape behind it; got {name!r}, and call() takes {', '.join([*parameters][1:])}."
            )
    return {name: shapes[name] for name in names if name in shapes}


def _is_of_tensors(value: Any) -> bool:
    """Returns whether a value is a tensor, or a nest of tensors and None."""
    leaves = tree.flatten(value) if tree.is_nested(value) else [value]
    tensors = [isinstance(leaf, (Tensor, SymbolicTensor)) for leaf in leaves]
    return any(tensors) and all(known or leaf is None for known, leaf in zip(tensors, leaves, strict=True))


def refuse_several(layer: Any, args: tuple[Any, ...]) -> None:
    """Raises an error for several tensors where a layer of the package takes one, as a list or by position.

    Raises: ValueError: for a list. TypeError: for a tensor in the place of `training`.
    """
    if len(args) > 1 and isinstance(args[1], (Tensor, SymbolicTensor)) and layer._parameter_names[1:2] == ("training",):
        raise TypeError(
            f"{describe(layer)}: got a tensor as training, which is True, False or None. Inputs go in a list."
        )
    if not args or not isinstance(args[0], (list, tuple)) or len(args[0]) < 2 or not _is_of_tensors(args[0]):
        return
    call = type(layer)._own_call
    first = next(itertools.islice(inspect.signature(call).parameters.values(), 1, None), None)
    if first is not None and first.annotation == "Tensor" and (call.__module__ or "").startswith("kstyle_torch."):
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tree.flatten(args[0]) if leaf is not None)
        raise ValueError(f"{describe(layer)} takes one tensor; got a list of {len(args[0])}, of shapes {shapes}.")


def refuse_other_than_tensors(layer: Any, value: Any) -> None:
    """Raises a ValueError if a positional argument of a call is neither a tensor nor a nest of tensors and None."""
    for leaf in tree.flatten(value) if tree.is_nested(value) else [value]:
        if leaf is not None and not isinstance(leaf, (Tensor, SymbolicTensor, Variable)):
            raise ValueError(
                f"{describe(layer)}: positional arguments must be tensors or arrays; got {leaf!r} of type "
                f"{type(leaf).__name__}. Pass it by name, as in layer(x, name=value)."
            )


def refuse_misfit(layer: Any, x: Tensor, error: RuntimeError) -> None:
    """Raises a ValueError if torch's error comes from an input of another rank or number of features than at `build`.

    Only where weights are made by a `build` of the package, which is known to depend on them.
    """
    shapes = [*(layer._build_shapes or {}).values()]
    is_ours = layer._builds_weights and (type(layer).build.__module__ or "").startswith("kstyle_torch.")
    if (
        type(error) is not RuntimeError
        or not is_ours
        or len(shapes) != 1
        or not isinstance(shapes[0], tuple)
        or not x.shape
    ):
        return
    known, given = shapes[0], tuple(x.shape)
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    if len(known) == len(given) and (len(known) < 2 or known[axis] in (None, given[axis])):
        return
    expected = f"size {known[axis]} along axis {axis}" if len(known) == len(given) else f"{len(known)} axes"
    raise misfit(layer, expected, given) from error
