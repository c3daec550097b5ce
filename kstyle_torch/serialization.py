"""Conversion of objects to and from Keras' JSON form, and of identifiers (name, class, config, object).

A config consists of the constructor's arguments, which are stored on construction: few classes define `get_config`.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import functools
import importlib
import inspect
import marshal
import re
import types
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.utils.parametrize import type_before_parametrizations

from kstyle_torch import budget, config
from kstyle_torch.arrays import to_array
from kstyle_torch.compat import keras2
from kstyle_torch.registry import (
    CUSTOM_NAMES,
    CUSTOM_OBJECTS,
    HOMES,
    PUBLIC_NAMES,
    CustomObjectScope,
    Registry,
    custom_object_scope,
    did_you_mean,
    looks_automatic,
    registered_object,
)

__all__ = [
    "CustomObjectScope",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "register_keras_serializable",
    "serialize_keras_object",
]

T = TypeVar("T")
_whole: ContextVar[bool] = ContextVar("whole_configs", default=False)
_lenient: ContextVar[bool] = ContextVar("lenient_configs", default=False)
_safe: ContextVar[bool | None] = ContextVar("safe_mode", default=None)  # None: nothing is being read
DEFAULTS_ELSEWHERE = [("groups", 1), ("implementation", 2), ("schedule_decay", 0.004)]  # of older versions
UNLIKE = frozenset(  # arguments whose attribute is another thing
    "fft_length flash_attention frame_step implementation lora_alpha lora_rank renorm_clipping use_cudnn".split()
)
NEWER = {  # settings that came after Keras 3.3
    *"renorm renorm_clipping renorm_momentum use_cudnn lora_alpha flash_attention use_gate sliding_window seed".split(),
    *"optional ragged oov_method salt antialias value_range noise_shape input_axes output_axes".split(),
    *"bounding_box_format data_format ignore_class from_sorted_ids quantization_config".split(),
}
REGISTRIES: dict[str, Registry] = {}  # Keras' module -> what it holds
LATE = {  # Keras' module -> ours, which is imported when it is needed and registers itself
    "keras.distillation": "distillation",
    "keras.src.applications.convnext": "applications.convnext",
    "keras.src.applications.inception_resnet_v2": "applications.inception_resnet_v2",
    "keras.src.layers.preprocessing.feature_space": "utils.feature_space",
    "keras.utils": "utils.feature_space",
}


def registry(kind: str, module: str) -> Registry:
    """Returns a new registry whose objects can be named in a config."""
    return REGISTRIES.setdefault(module, Registry(kind, module))


class Configurable:
    """Object that stores its constructor's arguments as its config."""

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", _bind(cls, args, keras2.todays(cls, kwargs)))
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if older := keras2.table_of(cls):
            cls.__init__ = keras2.takes_older(cls.__name__, older)(cls.__init__)  # type: ignore[method-assign]

    def __init__(self) -> None:
        """Takes no arguments; without it, `object` would accept any, as `__new__` is defined."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as plain data, for `from_config`.

        Called by a user's own `get_config`, it returns those of the class that the user's extends, as Keras does: the
        user's method adds its own, which may have no plain form.
        """
        owner = extended_class(type(self))
        arguments = self._arguments if owner is None else _arguments_for(owner, self)
        return {name: _plain(value) for name, value in arguments.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns an object of this class for a `get_config` dict."""
        with budget.in_force(config):
            return _made_of(cls, {name: _revived_argument(cls, value) for name, value in config.items()})


def _revived_argument(cls: type, value: Any) -> Any:
    """Returns an argument from a config. Constructors of this package make initializers themselves, as in Keras.

    Initializers without a seed draw one when they are made, and constructors draw others before and after.
    """
    is_initializer = isinstance(value, dict) and value.get("module") == "keras.initializers"
    return value if is_initializer and is_own(cls) else _revive(value)


def extended_class(cls: type) -> Any:
    """Returns the class of this package below a user's `get_config`; None if `cls` has no such method."""
    definer = next(index for index, base in enumerate(cls.__mro__) if "get_config" in vars(base))
    if is_own(cls.__mro__[definer]):
        return None
    return next(base for base in cls.__mro__[definer:] if is_own(base))


def is_own(cls: type) -> bool:
    """Returns whether a class is one of this package."""
    return cls.__module__.partition(".")[0] == "kstyle_torch"


def _arguments_for(owner: Any, obj: Any) -> dict[str, Any]:
    """Returns the arguments that the constructor of a user's class passed to that of `owner`.

    What the user's constructor takes as `**kwargs` is passed on as it is; the attributes tell the others.
    """
    if type(obj).__init__ is owner.__init__:
        return obj._arguments
    cls: type = type(obj)
    taken = _signature(cls).parameters
    found = {}
    for name, parameter in [*_signature(owner).parameters.items()][1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        found[name] = obj._arguments.get(name, None if parameter.default is parameter.empty else parameter.default)
        passed_on = name in obj._arguments and name not in taken
        if not (passed_on or name in UNLIKE or isinstance(getattr(owner, name, None), property)):
            found[name] = getattr(obj, name, found[name])
    return found


class UnknownArgumentError(ValueError):
    """Error for a keyword that a class does not take."""

    def __init__(self, owner: type, name: str, message: str):
        super().__init__(message)
        self.owner, self.name = owner, name


def _made_of(cls: type, arguments: dict[str, Any]) -> Any:
    """Returns `cls(**arguments)`; of our classes, arguments in a file that only another Keras knows are left out.

    A warning names those that do not look like a default.
    """
    if not _lenient.get() or not cls.__module__.startswith("kstyle_torch"):
        return cls(**arguments)
    parameters = _signature(cls).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in arguments.keys() - parameters.keys():
            _leave_out(cls, name, arguments)
    while True:
        try:
            return cls(**arguments)
        except UnknownArgumentError as error:
            if error.owner is not cls or error.name not in arguments:
                raise
            _leave_out(cls, error.name, arguments)


def _leave_out(cls: type, name: str, arguments: dict[str, Any]) -> None:
    value = arguments.pop(name)
    if value not in (None, False, "") and (name, value) not in DEFAULTS_ELSEWHERE:
        warnings.warn(f"{cls.__name__}: the setting {name}={value!r} of another Keras is ignored.", stacklevel=2)


@contextlib.contextmanager
def lenient_configs() -> Iterator[None]:
    """Allows unknown settings in configs inside the block."""
    token = _lenient.set(True)
    try:
        yield
    finally:
        _lenient.reset(token)


@functools.cache
def _signature(cls: type) -> inspect.Signature:
    return inspect.signature(cls.__init__)  # type: ignore[misc]


def default_arguments(cls: type) -> dict[str, Any]:
    """Returns the defaults of a constructor's arguments, those behind `**kwargs` included."""
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            defaults.update((name, each.default) for name, each in _signature(base).parameters.items())
    return defaults


def _bind(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        bound = _signature(cls).bind(None, *args, **kwargs)
    except TypeError:  # unpickling makes the object bare; a wrong call is __init__'s to report
        return {}
    bound.apply_defaults()
    arguments = {}
    for parameter in list(_signature(cls).parameters.values())[1:]:
        value = bound.arguments[parameter.name]
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(value)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            arguments[parameter.name] = value
    return arguments


def argument_names(cls: type) -> list[str]:
    """Returns every keyword that `cls(...)` takes, its base classes' behind `**kwargs` included."""
    names: list[str] = []
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(_signature(base).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


def reject_unknown(obj: Any, kwargs: dict[str, Any]) -> None:
    """Raises a ValueError that names the keyword `obj`'s class does not take, and the nearest that it does."""
    for name in kwargs:
        suggestion = did_you_mean(name, argument_names(type(obj)))
        message = f"{type(obj).__name__} has no argument {name!r}.{suggestion}"
        raise UnknownArgumentError(type(obj), name, message)


# ---------------------------------------------------------------------------------------------- to and from plain data


def serialize_keras_object(obj: Any) -> Any:
    """Returns `obj` in the form that Keras' JSON has.

    Returns: Plain data as it is; a function as its name; any other object as a dict with `module`, `class_name`,
        `config` and `registered_name`.
    Raises: TypeError: if the object has no `get_config`.
    """
    return _plain(obj)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else [*map(_plain, value)]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        value = to_array(value)
    if isinstance(value, np.ndarray):
        value = value.astype("float32") if value.dtype.name == "bfloat16" else value  # without ml_dtypes, too
        return {"class_name": "__numpy__", "config": {"value": value.tolist(), "dtype": value.dtype.name}}
    if inspect.isfunction(value) or inspect.isbuiltin(value):
        return _plain_function(value)
    if isinstance(value, torch.nn.Module) and not hasattr(type(value), "get_config"):  # a wrapper may forward it
        return _plain_module(type(value))
    if not hasattr(value, "get_config"):
        raise TypeError(f"{value!r} cannot be part of a config: it has no get_config().")
    cls: type = type_before_parametrizations(value) if isinstance(value, torch.nn.Module) else type(value)
    config = {
        "module": HOMES.get(cls, cls.__module__),
        "class_name": PUBLIC_NAMES.get(cls, cls.__name__),
        "config": value.get_config(),
        "registered_name": None if cls in HOMES else CUSTOM_NAMES.get(cls, cls.__name__),
    }
    if _whole.get() and cls in HOMES:
        config["config"] = _without_newer(cls, config["config"])
    if getattr(value, "_name_given", False) and looks_automatic(cls, value.name):
        config["name_given"] = True  # or the keys of a loaded model's state_dict would be others
    for more in ("build_config", "compile_config") if _whole.get() else ():  # of layers and of models
        made = getattr(value, f"get_{more}", _nothing)()
        if made is not None:
            config[more] = _plain(made)
    return config


def _plain_module(cls: type) -> dict[str, Any]:
    """Returns the config of a torch module of a class without `get_config`, whose constructor must take no arguments.

    Raises: TypeError: if it takes some, since their values are unknown.
    """
    if _takes_arguments(cls):
        raise TypeError(
            f"The bare torch module {cls.__name__} cannot be part of a config: its arguments are unknown. Give its class a "
            "get_config() that returns them as a dict, put it into a Layer of your own, or save only the weights."
        )
    name = CUSTOM_NAMES.get(cls, cls.__name__)
    return {"module": cls.__module__, "class_name": cls.__name__, "config": {}, "registered_name": name}


def _takes_arguments(cls: type) -> bool:
    return len(_signature(cls).parameters) > 1  # besides self


def _without_newer(cls: type, config: Any) -> Any:
    """Returns the config without defaults that older Keras 3 does not know, so that it reads the file too."""
    if not isinstance(config, dict) or not NEWER & config.keys():
        return config
    defaults = default_arguments(cls)
    return {
        key: value for key, value in config.items() if key not in NEWER or key not in defaults or value != defaults[key]
    }


def _nothing() -> None:
    return None


def in_whole_configs() -> bool:
    """Returns whether configs are those of files."""
    return _whole.get()


@contextlib.contextmanager
def whole_configs() -> Iterator[None]:
    """Makes configs inside the block include how layers were built and models compiled, as files do."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


@contextlib.contextmanager
def safe_mode_scope(safe_mode: bool) -> Iterator[None]:
    """Sets whether configs read inside the block may hold code."""
    token = _safe.set(safe_mode)
    try:
        yield
    finally:
        _safe.reset(token)


def in_safe_mode() -> bool:
    """Returns whether configs may hold no code, which is so unless the caller or `config` said otherwise."""
    return _safe.get() is not False and not config.is_unsafe_deserialization_enabled()


def _plain_function(function: Callable[..., Any]) -> Any:
    if function in HOMES:
        return function.__name__
    name = CUSTOM_NAMES.get(function, function.__name__)
    if name == "<lambda>":
        raise TypeError("A lambda cannot be part of a config; define it with def.")
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}


def deserialize_keras_object(
    config: Any, custom_objects: dict[str, Any] | None = None, safe_mode: bool = True, **kwargs: Any
) -> Any:
    """Returns the object for a config in Keras' JSON form.

    Args:
        config: Result of `serialize_keras_object`.
        custom_objects: `{name: class or function}` that the config may refer to, in addition to public ones.
        safe_mode: False to allow functions that are stored as bytecode.
        kwargs: `module_objects`, more `{name: class or function}`: a string or a class of one of these names means it.
    Raises: ValueError: if the config names a class that is neither public nor the user's, or asks for gigabytes; see
        `saving.raise_limits`. TypeError: for any other keyword.
    """
    module_objects = kwargs.pop("module_objects", None)
    if kwargs:
        raise TypeError(f"deserialize_keras_object() has no argument {next(iter(kwargs))!r}.")
    known = {**(module_objects or {}), **(custom_objects or {})}
    around = _safe.get()  # of the file that is being read, if any; what its classes say in from_config() does not count
    with safe_mode_scope(safe_mode if around is None else around), custom_object_scope(known):
        if isinstance(config, str) and (found := registered_object(config)) is not None:
            return found
        return deserialized(config)


def deserialized(config: Any, custom_objects: dict[str, Any] | None = None, *, registry: Registry | None = None) -> Any:
    """Returns the object for a config.

    Args:
        config: Result of `serialize_keras_object`.
        custom_objects: `{name: class or function}` that the config may refer to, in addition to public ones.
        registry: The kind of object expected, for names and for configs that say no module.
    Raises: ValueError: as `deserialize_keras_object` does.
    """
    with custom_object_scope(custom_objects), budget.in_force(config):
        if isinstance(config, str) and registry is not None:
            return get(config, registry)
        return _revive(config, registry)


def _revive(config: Any, registry: Registry | None = None) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(_revive(item) for item in config)
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {key: _revive(item) for key, item in config.items()}
    class_name, inner = config["class_name"], config["config"]
    if class_name == "__numpy__":
        return _array(inner["value"], inner["dtype"])
    if class_name == "__tensor__":
        return _tensor(inner["value"], inner["dtype"])
    if class_name == "__lambda__":
        return lambda_from(inner.get("value"), "A function in the config")
    if class_name == "function":
        return _find(inner, config, registry)
    cls = _find(class_name, config, registry)
    made = cls.from_config(inner) if hasattr(cls, "from_config") else _made_module(cls, inner)
    if "_name_given" in getattr(made, "__dict__", ()):
        given = bool(config.get("name_given")) or not looks_automatic(type(made), made.name)
        object.__setattr__(made, "_name_given", given)  # past the layer's own, which would invalidate recorded steps
    if config.get("build_config") and _builds_itself(cls):
        made.build_from_config(config["build_config"])
    return made


def _made_module(cls: Any, arguments: Any) -> Any:
    """Returns a torch module of the user's class for the arguments in a config.

    Raises: ValueError: if it is not a class of torch modules.
    """
    if not (inspect.isclass(cls) and issubclass(cls, torch.nn.Module) and isinstance(arguments, dict)):
        raise ValueError(f"The config needs a class with from_config(), or a class of torch modules; got {cls!r}.")
    return cls(**{name: _revive(value) for name, value in arguments.items()})


def _builds_itself(cls: Any) -> bool:
    """Returns whether the user's class says how it is built from a config; ours are built when they are called."""
    return not getattr(getattr(cls, "build_from_config", None), "__module__", "kstyle_torch").startswith("kstyle_torch")


def lambda_from(value: Any, what: str) -> Callable[..., Any]:
    """Returns the function that Keras stored as bytecode, if the caller allows that.

    Args:
        value: Bytecode in base64, default arguments, values of the surrounding function.
        what: Whose function it is, for the message.
    Raises: ValueError: in safe mode; or if the bytecode is another Python's.
    """
    if in_safe_mode():
        raise ValueError(
            f"{what} is a Python lambda, stored as bytecode that can run any code when loaded, so it is refused. If you trust "
            "the file, pass safe_mode=False; otherwise make the model in code and load its weights."
        )
    code, defaults, closure = value if isinstance(value, (list, tuple)) else (value, None, None)
    try:
        made = marshal.loads(base64.b64decode(code))
    except (ValueError, EOFError, TypeError) as error:
        raise ValueError(f"{what} was written by another version of Python: {error}.") from error
    if not isinstance(made, types.CodeType):
        raise ValueError(f"{what} is not a function.")
    cells = None if closure is None else tuple(types.CellType(each) for each in closure)
    arguments = None if defaults is None else tuple(defaults)
    return types.FunctionType(made, {"__builtins__": builtins}, "lambda_of_file", arguments, cells)


def _array(value: Any, name: Any) -> np.ndarray:
    """Returns the array that a config spells out; its dtype may not make it larger than its text."""
    array = np.array(value)
    dtype = np.dtype(re.sub(r"^(str|bytes)\d+$", r"\1", str(name)))  # NumPy's own `dtype.name` of strings is not read
    if dtype.kind in "SU" and array.dtype.kind in "SU":
        return array  # as long as the longest of its strings, whatever the config claims
    if dtype.kind not in "biufcSU" or array.dtype.kind not in "biufcSU":
        raise ValueError(f"An array in a config cannot have dtype {str(name)[:50]!r}.")
    budget.take(array.size * dtype.itemsize, "an array")
    return array.astype(dtype)


def _tensor(value: Any, name: Any) -> torch.Tensor:
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"Unknown dtype {name!r} of a tensor in a config.")
    return torch.tensor(value, dtype=dtype)


def _find(name: str, config: dict[str, Any], registry: Registry | None) -> Any:
    for custom_name in (config.get("registered_name"), name):
        if custom_name and (custom := registered_object(custom_name)) is not None:
            return custom
    module = config.get("module") or ""
    if isinstance(module, str) and module in LATE:
        importlib.import_module(f"{__package__}.{LATE[module]}")
    home = REGISTRIES.get(module, registry)
    if home is not None and name in home:
        return home.lookup(name)
    for home in REGISTRIES.values():
        if name in home:
            return home.lookup(name)
    raise ValueError(
        f"Unknown class {name!r}. For a class of your own, pass custom_objects={{{name!r}: {name}}} or decorate it with "
        "@register_keras_serializable()."
    )


def get(identifier: Any, registry: Registry) -> Any:
    """Returns the object for a user's identifier: None, a name, a class, a config or the object itself.

    Raises: ValueError: for an unknown name, or anything that is not an identifier.
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        found = registry.lookup(identifier)
        return found() if inspect.isclass(found) else found
    if isinstance(identifier, dict):
        return deserialized(identifier, registry=registry)
    if inspect.isclass(identifier):
        return identifier()
    if callable(identifier) or isinstance(identifier, Configurable):
        return identifier
    raise ValueError(
        f"Expected {_article(registry.kind)} (name, config or object); got {identifier!r} "
        f"of type {type(identifier).__name__}."
    )


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


# ------------------------------------------------------------------------------------------------- the user's own


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[T], T]:
    """Registers a class or function under the name `package>name` for configs and files.

    Args:
        package: Its namespace.
        name: Its name there; its own `__name__` if None.
    """

    def enter(obj: T) -> T:
        key = f"{package}>{name or obj.__name__}"  # type: ignore[attr-defined]
        if inspect.isclass(obj) and not hasattr(obj, "get_config"):
            if not issubclass(obj, torch.nn.Module) or _takes_arguments(obj):
                raise ValueError(f"Cannot register {obj.__name__}: a class needs a get_config() method.")
        CUSTOM_OBJECTS[key] = obj
        CUSTOM_NAMES[obj] = key
        return obj

    return enter


def get_custom_objects() -> dict[str, Any]:
    """Returns the table of everything registered by the user; entries may be added to it directly."""
    return CUSTOM_OBJECTS


def get_registered_name(obj: Any) -> str:
    """Returns the name that `obj` was registered under, else its own."""
    return CUSTOM_NAMES.get(obj, obj.__name__)


def get_registered_object(
    name: str, custom_objects: dict[str, Any] | None = None, module_objects: dict[str, Any] | None = None
) -> Any | None:
    """Returns what `name` is registered as, or None."""
    with custom_object_scope(custom_objects):
        found = registered_object(name)
    return found if found is not None or module_objects is None else module_objects.get(name)
