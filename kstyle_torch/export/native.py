"""Constructor expressions of torch's own modules: `nn.Linear(3, 4)`."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

NOT_ARGUMENTS = ("device", "dtype")
LITERALS = (bool, int, float, str, type(None), torch.dtype)
DRAWS = ("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_")


class Undrawn(TorchFunctionMode):
    """Block in which the weights of new modules stay unset, so that none of the user's random numbers are used up.

    Setting the random state back afterwards would not do: another thread may be drawing.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") != nn.init.__name__ and getattr(func, "__name__", "") not in DRAWS:
            return func(*args, **kwargs)
        return args[0] if args else kwargs["tensor"]


def arguments_of(module: nn.Module) -> tuple[list[Any], dict[str, Any]] | None:
    """Returns the arguments with which `nn.X(...)` creates an equal module.

    None if it is not of `torch.nn`, or was changed after its construction.
    """
    cls = type(module)
    if getattr(nn, cls.__name__, None) is not cls or module._forward_hooks or module._forward_pre_hooks:
        return None
    if isinstance(module, (nn.MultiheadAttention, nn.Transformer)) or any(True for _ in module.children()):
        return None  # has children
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in inspect.signature(cls.__init__).parameters.values():
        if parameter.name == "self" or parameter.name in NOT_ARGUMENTS or parameter.name.startswith("_"):
            continue
        found, value = _value(module, parameter)
        if not found or not _is_literal(value):
            return None
        if parameter.default is parameter.empty:
            args.append(_simple(value))
        elif value != parameter.default and value != _as_tuple(parameter.default, value):
            kwargs[parameter.name] = _simple(value)
    weight = next((tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()), None)
    if weight is not None and weight.dtype != torch.float32:
        kwargs["dtype"] = weight.dtype
    return (args, kwargs) if _makes_the_same(module, args, kwargs) else None


def _value(module: nn.Module, parameter: inspect.Parameter) -> tuple[bool, Any]:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return parameter.kind is parameter.VAR_KEYWORD and not vars(module).get(parameter.name), parameter.default
    value = getattr(module, parameter.name, parameter.empty)
    if parameter.name in ("bias", "weight") and (value is None or isinstance(value, torch.Tensor)):
        value = value is not None
    return value is not parameter.empty, value


def _simple(value: Any) -> Any:
    """Returns a single number for equal ones."""
    return value[0] if isinstance(value, tuple) and len(value) > 1 and len({*value}) == 1 else value


def _as_tuple(default: Any, value: Any) -> Any:
    return (default,) * len(value) if isinstance(value, tuple) else default


def _is_literal(value: Any) -> bool:
    return all(map(_is_literal, value)) if isinstance(value, (tuple, list)) else isinstance(value, LITERALS)


def _makes_the_same(module: nn.Module, args: list[Any], kwargs: dict[str, Any]) -> bool:
    try:
        with Undrawn():
            twin = type(module)(*args, **kwargs)
    except Exception:  # whatever its constructor raises: then it is not made this way  # noqa: BLE001
        return False
    state, other = module.state_dict(), twin.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    return shapes == {key: tensor.shape for key, tensor in other.items()} and repr(module) == repr(twin)
