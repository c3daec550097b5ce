"""Names that public namespaces lack: packages that are imported when they are used, and errors with advice."""

from __future__ import annotations

import difflib
import dis
import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from kstyle_torch.compat import keras2

# Names of Keras that are not here yet, by namespace. The tests compare them with Keras' namespaces and with these.
NOT_YET: dict[str, str] = {
    "": "Quantizer distribution quantizers",
    "callbacks": "OrbaxCheckpoint",
    "dtype_policies": "AWQDTypePolicy GPTQDTypePolicy Int4DTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy",
}
# Advice by namespace and name: what to use instead of names of Keras, older Keras and torch. The tests check that no name
# here exists, so a row goes when its name comes.
ADVICE: dict[str, dict[str, str]] = {
    "": {
        "distribution": "Use from_torch(torch.nn.parallel.DistributedDataParallel(...)).",
        "estimator": "Keras has dropped it.",
        "experimental": "Keras has dropped it.",
        "nn": "Use layers, or torch.nn and layers.TorchModule.",
        "src": "It is Keras' inside; the public names are here.",
    },
    "callbacks": {"OrbaxCheckpoint": "Use ModelCheckpoint or BackupAndRestore."},
    "config": {
        "is_nnx_enabled": "There is no JAX here.",
        "set_backend": "The backend is always torch.",
    },
    "initializers": {
        "kaiming_normal": "Use HeNormal.",
        "kaiming_uniform": "Use HeUniform.",
        "xavier_normal": "Use GlorotNormal.",
        "xavier_uniform": "Use GlorotUniform.",
    },
    "layers": {
        "AvgPool1d": "Use AveragePooling1D.",
        "AvgPool2d": "Use AveragePooling2D.",
        "BatchNorm1d": "Use BatchNormalization.",
        "BatchNorm2d": "Use BatchNormalization.",
        "BatchNorm3d": "Use BatchNormalization.",
        "DenseFeatures": "Keras has dropped it.",
        "FlaxLayer": "There is no JAX here; use TorchModule for a module of torch.",
        "JaxLayer": "There is no JAX here; use TorchModule for a module of torch.",
        "LayerNorm": "Use LayerNormalization.",
        "Linear": "Use Dense, or TorchModule(torch.nn.Linear(...)).",
        "LocallyConnected1D": "Keras has dropped it.",
        "LocallyConnected2D": "Keras has dropped it.",
        "MaxPool1d": "Use MaxPooling1D.",
        "MaxPool2d": "Use MaxPooling2D.",
        "MultiheadAttention": "Use MultiHeadAttention.",
        "TFSMLayer": "There is no TensorFlow here; use TorchModule for a module of torch.",
        "ThresholdedReLU": "Use ReLU(threshold=...).",
        "TransformerEncoderLayer": "Use TorchModule(torch.nn.TransformerEncoderLayer(...)), or MultiHeadAttention.",
    },
    "losses": {
        "BCELoss": "Use BinaryCrossentropy.",
        "BCEWithLogitsLoss": "Use BinaryCrossentropy(from_logits=True).",
        "CrossEntropyLoss": "Use SparseCategoricalCrossentropy(from_logits=True).",
        "L1Loss": "Use MeanAbsoluteError.",
        "MSELoss": "Use MeanSquaredError.",
        "NLLLoss": "Use SparseCategoricalCrossentropy.",
        "SmoothL1Loss": "Use Huber.",
    },
    "ops": {
        "cat": "Use concatenate.",
        "clamp": "Use clip.",
        "concat": "Use concatenate.",
        "expand": "Use broadcast_to.",
        "gather": "Use take or take_along_axis.",
        "gather_nd": "Use take, or index the tensor.",
        "mul": "Use multiply.",
        "permute": "Use transpose.",
        "pow": "Use power.",
        "reduce_max": "Use max.",
        "reduce_mean": "Use mean.",
        "reduce_min": "Use min.",
        "reduce_prod": "Use prod.",
        "reduce_sum": "Use sum.",
        "sub": "Use subtract.",
        "unsqueeze": "Use expand_dims.",
    },
    "random": {"rand": "Use uniform.", "randn": "Use normal.", "seed": "Use utils.set_random_seed."},
    "utils": {
        "multi_gpu_model": "Keras has dropped it.",
    },
}
NEAR, ELSEWHERE = 3, 2  # how many names are shown
PACKAGE = __name__.partition(".")[0]


class MissingModules:
    """The last of Python's finders: modules of an older Keras, and errors with advice for those of Keras that are not here.

    Without it, `from kstyle_torch.quantizers import AbsMaxQuantizer` would raise Python's bare error: the import system asks
    no `__getattr__` for modules.
    """

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG003
        """Finds modules of an older Keras, and nothing else.

        Raises: ModuleNotFoundError: with advice, for a module of Keras that is not here, where it is being imported. Those
            who only ask whether there is one, as `importlib.util.find_spec` does, get None as from any finder.
        """
        if (older := keras2.find(fullname)) is not None:
            return older
        parent, _, name = fullname.rpartition(".")
        if parent.partition(".")[0] == PACKAGE and (advice := _known(parent, name)):
            if sys._getframe(2).f_code.co_name == "_find_and_load_unlocked":
                raise ModuleNotFoundError(f"No module named {fullname!r}. {advice}", name=fullname)
        return None


class NamesakeModule(ModuleType):
    """A module named like a public class beside it, as `layers.dense` is: calling it says so."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parent, _, name = self.__name__.rpartition(".")
        path = self.__name__.partition(".")[2]
        if path in keras2.CALLED:
            wanted = keras2.CALLED[path]
            keras2.tell(f"keras.{path}(...)", f"keras.optimizers.{wanted}(...)")
            return getattr(self, wanted)(*args, **kwargs)
        advice = _advice(sys.modules[parent], name)
        raise TypeError(f"{self.__name__!r} is a module, which cannot be called. {advice}")

    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)  # cloudpickle knows plain modules only


def install(module: ModuleType, lazy: Mapping[str, str] | None = None) -> None:
    """Gives `module` and all public namespaces below it a `__getattr__`, which Python asks for names that are not there.

    It is set from here, so that type checkers do not see it: they report unknown names of modules without one. Modules
    that are named like a public class become callable, to raise an error with its name.

    Args:
        module: The package, or a subpackage that has lazy names or is one.
        lazy: Names that `module` imports when they are used, each with the module that has it; subpackages with their own.
    """
    for namespace in _namespaces(module):
        own = lazy if lazy and namespace is module else {}
        vars(namespace).setdefault("__getattr__", functools.partial(_get, namespace, own))
        vars(namespace).setdefault("__dir__", functools.partial(_listing, namespace, own))
        modules = {name: value for name, value in vars(namespace).items() if type(value) is ModuleType}
        public = {_letters(name) for name in namespace.__all__} if modules else ()
        for name, value in modules.items():
            is_own = value.__name__ == f"{namespace.__name__}.{name}"
            if is_own and _letters(name) in public and name not in namespace.__all__:
                value.__class__ = NamesakeModule
    if MissingModules not in sys.meta_path:
        sys.meta_path.append(MissingModules)
    for path, wider in keras2.WIDER.items():
        if older := sys.modules.get(f"{PACKAGE}.{path}"):
            vars(older)["__getattr__"] = functools.partial(keras2.name_in, wider)


def _listing(namespace: ModuleType, lazy: Mapping[str, str]) -> list[str]:
    """Returns what `dir` lists and completion shows: public names, and those with underscores, but not what a file imports."""
    public = getattr(namespace, "__all__", None)
    names = (
        vars(namespace) if public is None else [*public, *(name for name in vars(namespace) if name.startswith("__"))]
    )
    return sorted({*names, *lazy})


def _namespaces(module: ModuleType) -> Iterator[ModuleType]:
    """Yields `module`, and the modules below it that it and those export, once each."""
    found = [module]
    for namespace in found:  # it grows meanwhile
        yield namespace
        values = [vars(namespace).get(name) for name in getattr(namespace, "__all__", ())]
        modules = [value for value in values if isinstance(value, ModuleType) and value not in found]
        found += [value for value in modules if value.__name__.startswith(f"{module.__name__}.")]


def _get(module: ModuleType, lazy: Mapping[str, str], name: str) -> Any:
    """Returns what a lazy name stands for, or raises the error for a name that `module` lacks.

    Raises: AttributeError: as for any object; without advice for `__names__`, which libraries ask everything for.
        ImportError: in `from module import name`, where Python would put a bare one in place of an AttributeError.
    """
    if name in lazy:
        home = importlib.import_module(lazy[name])
        value = home if home.__name__ == f"{module.__name__}.{name}" else getattr(home, name)
        vars(module)[name] = value  # so that this function is asked for it once
        return value
    message, caller = f"module {module.__name__!r} has no attribute {name!r}", sys._getframe(1)
    # `from package import module` asks first, and then imports the module: it wants no advice, which takes long.
    if name.startswith("__") or caller.f_code.co_name == "_handle_fromlist":
        raise AttributeError(message, name=name, obj=module)
    if (older := keras2.look_up(module.__name__.partition(".")[2], name)) is not None:
        return older
    advice = _advice(module, name)
    if _imports_name(caller) and f"{module.__name__}.{name}" not in sys.modules:
        message = f"cannot import name {name!r} from {module.__name__!r}. {advice}"
        raise ImportError(message, name=module.__name__, path=module.__file__)
    # With neither name= nor obj=, Python would set both, and tracebacks add a "Did you mean" of their own.
    raise AttributeError(f"{message}. {advice}", name=name)


def _imports_name(frame: FrameType) -> bool:
    """Returns whether a frame is at `from module import name`; False where its code cannot be read like CPython's."""
    code, position = frame.f_code.co_code, frame.f_lasti
    return 0 <= position < len(code) and code[position] == dis.opmap.get("IMPORT_FROM")


def _advice(module: ModuleType, name: str) -> str:
    if known := _known(module.__name__, name):
        return known
    near = _near(module, name)
    places = _places(module, name)
    if near:
        return f"Did you mean {_listed(near)}?" + (f" There is {_listed(places)}, too." if places else "")
    if places:
        return f"There is {_listed(places)}."
    return f"dir({module.__name__}) lists what is there."


def _known(namespace: str, name: str) -> str:
    """Returns what the tables say about a name; nothing where it is in none."""
    path = namespace.partition(".")[2]
    is_to_come = name in NOT_YET.get(path, "").split()
    coming = [f"Keras has it; {PACKAGE} does not have it yet."] if is_to_come else []
    return " ".join([*coming, *filter(None, [ADVICE.get(path, {}).get(name)])])


def _near(module: ModuleType, name: str) -> list[str]:
    """Returns the public names that are spelt like one; if there are any, those that differ by case and underscores alone."""
    letters, names = _letters(name), getattr(module, "__all__", ())
    if same := [each for each in names if _letters(each) == letters]:
        return same
    near = difflib.get_close_matches(letters, {_letters(each) for each in names}, NEAR)
    near.sort(key=lambda each: sorted(each) != sorted(letters))  # swapped letters are the likeliest slip
    return [each for found in near for each in names if _letters(each) == found][:NEAR]


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


def _places(module: ModuleType, name: str) -> list[str]:
    """Returns where else an object of this name is exported; each object once."""
    found: dict[int, str] = {}
    for other in _exporters().get(name, ()):
        if other is not module:
            found.setdefault(id(getattr(other, name)), f"{other.__name__}.{name}")
    return [*found.values()][:ELSEWHERE]


@functools.cache
def _exporters() -> dict[str, list[ModuleType]]:
    """Returns the namespaces that export each public name."""
    package = sys.modules[PACKAGE]
    for public in package.__all__:
        getattr(package, public, None)  # imports what is lazy
    found: dict[str, list[ModuleType]] = {}
    for namespace in _namespaces(package):
        for name in getattr(namespace, "__all__", ()):
            found.setdefault(name, []).append(namespace)
    return found


def _listed(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
