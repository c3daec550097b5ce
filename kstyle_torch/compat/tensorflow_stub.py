"""The module that `import tensorflow` gives under the alias: Keras, and the few calls that set a process up.

Everything else raises an AttributeError that names the spelling of Keras or torch. The classes that libraries test
against have no instances.
"""

from __future__ import annotations

import importlib
import logging as python_logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch

from kstyle_torch.compat.import_frames import missing
from kstyle_torch.compat.tensorflow_names import advice

PACKAGE = __name__.partition(".")[0]
VERSION = "2.21.0"  # one whose tf.keras is Keras 3
CLASSES = "Tensor Variable RaggedTensor SparseTensor Operation IndexedSlices Module TensorShape DType".split()
LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50}


class Namespace(ModuleType):
    """A module of TensorFlow.

    Args:
        path: Its path without `tensorflow`; empty for the package itself.
        names: What it has.
    """

    def __init__(self, path: str, names: dict[str, Any]):
        super().__init__(f"tensorflow.{path}".rstrip("."), "A stand-in of kstyle_torch for TensorFlow.")
        vars(self).update(names, _path=path, __path__=[])

    def __getattr__(self, name: str) -> Any:
        path = f"{vars(self)['_path']}.{name}".lstrip(".")
        if path in ("keras", "python.keras", "compat.v1.keras", "compat.v2.keras"):
            return importlib.import_module("keras")
        if name.startswith("__"):
            raise AttributeError(name)
        raise missing(sys._getframe(1), self.__name__, name, advice(path))


class _Foreign(type):
    """The kind of classes that stand for TensorFlow's: nothing is an instance of them, and they make none."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"tf.{cls._path} makes nothing here. {advice(cls._path)}")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        path = f"{cls._path}.{name}"
        raise AttributeError(f"tf.{path} is not here. {advice(path)}", name=name)

    _path: str


def _foreign(path: str) -> _Foreign:
    return _Foreign(path.rpartition(".")[2], (), {"_path": path, "__doc__": f"A stand-in for tf.{path}."})


class PhysicalDevice(NamedTuple):
    """A device as TensorFlow describes it."""

    name: str
    device_type: str


def _list_devices(kind: str) -> Callable[..., list[PhysicalDevice]]:
    """Returns a function that lists this machine's devices, under TensorFlow's names."""

    def list_devices(device_type: str | None = None) -> list[PhysicalDevice]:
        counts = {"CPU": 1, "GPU": torch.cuda.device_count()}
        names = [name for name in counts if device_type in (None, name)]
        return [PhysicalDevice(f"/{kind}:{name}:{i}", name) for name in names for i in range(counts[name])]

    return list_devices


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Does nothing: what it sets up is TensorFlow's own."""


def _set_seed(seed: int) -> None:
    """Seeds torch, from which layers draw too; NumPy and `random` stay as they are, as with TensorFlow."""
    torch.manual_seed(seed)


def _set_threads(num_threads: int) -> None:
    """Sets the number of torch's threads; 0 leaves it as it is."""
    if num_threads:
        torch.set_num_threads(num_threads)


def _set_visible_devices(devices: Any, device_type: str | None = None) -> None:
    """Makes tensors on the CPU where no GPU is to be seen."""
    if not devices and device_type == "GPU":
        importlib.import_module(f"{PACKAGE}.config").set_device("cpu")


def _get_logger() -> python_logging.Logger:
    """Returns the logger that TensorFlow would write to."""
    return python_logging.getLogger("tensorflow")


def _modules() -> dict[str, Namespace]:
    """Returns TensorFlow's modules that are here, by path."""
    found: dict[str, Namespace] = {}

    def add(path: str, names: dict[str, Any]) -> Namespace:
        found[path] = Namespace(path, names)
        parent, _, name = path.rpartition(".")
        if path:
            vars(found[parent])[name] = found[path]
        return found[path]

    def no_ops(names: str) -> dict[str, Any]:
        return dict.fromkeys(names.split(), _nothing)

    devices = {"list_physical_devices": _list_devices("physical_device")}
    top = add("", {name: _foreign(name) for name in CLASSES})
    vars(top).update(__version__=VERSION, get_logger=_get_logger, is_tensor=torch.is_tensor)
    add("version", {"VERSION": VERSION})
    add("python", {})
    add("random", {"set_seed": _set_seed})
    add("data", {"AUTOTUNE": -1, "Dataset": _foreign("data.Dataset")})
    add("autograph", no_ops("set_verbosity"))
    add("autograph.experimental", {"do_not_convert": lambda function: function})
    add("config", {**devices, **no_ops("run_functions_eagerly set_soft_device_placement")})
    vars(found["config"]).update(list_logical_devices=_list_devices("device"), set_visible_devices=_set_visible_devices)
    add("config.experimental", {**devices, **no_ops("set_memory_growth set_virtual_device_configuration")})
    add("config.threading", no_ops("set_inter_op_parallelism_threads"))
    vars(found["config.threading"])["set_intra_op_parallelism_threads"] = _set_threads
    has_gpu = torch.cuda.is_available
    add(
        "test",
        {"is_gpu_available": lambda *args, **kwargs: has_gpu(), "is_built_with_cuda": torch.backends.cuda.is_built},
    )
    vars(found["test"])["gpu_device_name"] = lambda: "/device:GPU:0" if has_gpu() else ""
    add("compat", {"v2": top})
    found["compat.v2"] = top
    add("compat.v1", no_ops("disable_v2_behavior disable_eager_execution enable_eager_execution"))
    vars(found["compat.v1"])["set_random_seed"] = _set_seed
    add("compat.v1.logging", {**LEVELS, **no_ops("set_verbosity")})
    return found


_MODULES = _modules()


def module(path: str) -> ModuleType:
    """Returns the module of TensorFlow of that path, without `tensorflow`.

    Raises: ModuleNotFoundError: if it is not here, with what to use instead.
    """
    if path not in _MODULES:
        name = f"tensorflow.{path}"
        raise ModuleNotFoundError(f"No module named {name!r}. {advice(path)}", name=name)
    return _MODULES[path]
