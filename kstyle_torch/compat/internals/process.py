"""State of the process: scopes, names, settings; and small tools that Keras' source has for Python itself."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.losses.base import object_name
from kstyle_torch.messages import say
from kstyle_torch.registry import snake_case, unique_name
from kstyle_torch.saving.keras_file import FORMAT_VERSION
from kstyle_torch.scopes import StatelessScope, opened, path_of

F = TypeVar("F")
VERSION = FORMAT_VERSION


class _State(threading.local):
    """Attributes that libraries keep with Keras, by thread."""


_state = _State()


def set_global_attribute(name: str, value: Any) -> None:
    """Keeps a value under a name, in this thread."""
    setattr(_state, name, value)


def get_global_attribute(name: str, default: Any = None, set_to_default: bool = False) -> Any:
    """Returns the value that was kept under a name, in this thread."""
    value = getattr(_state, name, None)
    if value is None and default is not None:
        value = default
        if set_to_default:
            set_global_attribute(name, value)
    return value


def in_stateless_scope() -> bool:
    """Returns whether a `StatelessScope` is open."""
    return opened.stateless is not None


def get_stateless_scope() -> StatelessScope | None:
    """Returns the `StatelessScope` that is open."""
    return opened.stateless


def current_path() -> str:
    """Returns the path of the name scopes that are open."""
    return path_of("").removesuffix("/")


def is_tracking_enabled() -> bool:
    """Returns whether layers notice the containers in their attributes, which they always do."""
    return True


class DotNotTrackScope:
    """A block that does nothing: containers in attributes stay lists and dicts here, noticed or not."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        pass


def no_automatic_dependency_tracking(fn: F) -> F:
    """Returns the function: containers in attributes stay lists and dicts here, noticed or not."""
    return fn


def keras_home() -> str:
    """Returns the folder of Keras' settings and cache."""
    return str(config.home())


def auto_name(prefix: str) -> str:
    """Returns a name that is new in this process: `dense`, `dense_1`, ..."""
    return unique_name(snake_case(prefix))


def uniquify(name: str) -> str:
    """Returns `name`, or with a number where it was used before."""
    return unique_name(name)


def get_object_name(obj: Any) -> str:
    """Returns the name of an object, or of its class in snake case."""
    return object_name(obj)


def print_msg(message: str, line_break: bool = True) -> None:
    """Prints or logs a message, as `config` says."""
    say(message, "\n" if line_break else "")


def default(method: F) -> F:
    """Marks a method as one that subclasses may replace."""
    method._is_default = True  # type: ignore[attr-defined]
    return method


def is_default(method: Any) -> bool:
    """Returns whether a method is marked by `default`."""
    return bool(getattr(method, "_is_default", False))


def to_list(x: Any) -> list[Any]:
    """Returns a list as it is, and anything else as a list of one."""
    return x if isinstance(x, list) else [x]


def list_to_tuple(maybe_list: Any) -> Any:
    """Returns a list as a tuple, and anything else as it is."""
    return tuple(maybe_list) if isinstance(maybe_list, list) else maybe_list


def removeprefix(x: str, prefix: str) -> str:
    """Returns a string without a prefix."""
    return x.removeprefix(prefix)


def removesuffix(x: str, suffix: str) -> str:
    """Returns a string without a suffix."""
    return x.removesuffix(suffix)


def remove_by_id(lst: list[Any], value: Any) -> None:
    """Removes the first entry that is the same object."""
    place = next((i for i, item in enumerate(lst) if item is value), None)
    if place is not None:
        del lst[place]


def pythonify_logs(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns logs with floats in place of tensors, and nested ones beside the others; in the order of their names."""
    found: dict[str, Any] = {}
    for key, value in sorted((logs or {}).items()):
        if isinstance(value, dict):
            found.update(pythonify_logs(value))
            continue
        is_number = isinstance(value, (Tensor, np.ndarray, np.generic)) and math.prod(value.shape) == 1
        found[key] = float(value.item()) if is_number else value
    return found


def filter_traceback(fn: F) -> F:
    """Returns the function: tracebacks are shortened in one place here."""
    return fn


def inject_argument_info_in_traceback(fn: F, object_name: str | None = None) -> F:  # noqa: ARG001
    """Returns the function: errors say the layer and its arguments by themselves here."""
    return fn


class LazyModule:
    """A module that is imported when it is used.

    Args:
        name: Its name.
        pip_name: What to install for it.
        import_error_msg: What the error says where it is missing.
    """

    def __init__(self, name: str, pip_name: str | None = None, import_error_msg: str | None = None):
        self.name, self.pip_name = name, pip_name or name
        self.import_error_msg = import_error_msg or f"This needs {name}: pip install {self.pip_name}"
        self.module: Any = None

    @property
    def available(self) -> bool:
        """True if it can be imported."""
        try:
            self.initialize()
        except ImportError:
            return False
        return True

    def initialize(self) -> Any:
        """Imports it.

        Raises: ImportError: if it is not installed.
        """
        if self.module is None:
            try:
                self.module = importlib.import_module(self.name)
            except ImportError as error:
                raise ImportError(self.import_error_msg) from error
        return self.module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name != "__version__":
            raise AttributeError(name)
        return getattr(self.initialize(), name)

    def __repr__(self) -> str:
        return f"LazyModule({self.name})"


tensorflow, jax, scipy = (LazyModule(name) for name in ("tensorflow", "jax", "scipy"))


def in_tf_graph() -> bool:
    """Returns False: there are no graphs of TensorFlow here."""
    return False


def in_grain_data_pipeline() -> bool:
    """Returns False: there are no pipelines of grain here."""
    return False


def convert_tf_tensor(outputs: Any, dtype: Any = None) -> Any:  # noqa: ARG001
    """Returns the outputs: there are no tensors of TensorFlow here."""
    return outputs


def is_torch_tensor(value: Any) -> bool:
    """Returns whether a value is a tensor of torch."""
    return isinstance(value, Tensor)


def is_tensorflow_tensor(value: Any) -> bool:  # noqa: ARG001
    """Returns False: there are no tensors of TensorFlow here."""
    return False


is_jax_array = is_tensorflow_tensor
