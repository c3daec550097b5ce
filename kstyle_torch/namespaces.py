"""Names that public namespaces do not hold: packages that are imported when they are used, and errors with advice."""

from __future__ import annotations

import difflib
import dis
import functools
import importlib
import sys
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

# Advice by namespace and name: names of torch, of older Keras, and of parts of Keras that are not here yet. The tests
# check that no name here exists, so a row goes when its name comes.
ADVICE: dict[str, dict[str, str]] = {
    "": {
        "applications": "It is not here yet; wrap a model of torchvision or timm with from_torch(module).",
        "distillation": "It is not here yet.",
        "distribution": "It is not here yet.",
        "estimator": "Keras has dropped it.",
        "experimental": "Keras has dropped it.",
        "nn": "Use layers, or torch.nn and layers.TorchModule.",
        "quantizers": "It is not here yet.",
        "visualization": "It is not here yet.",
        "wrappers": "It is not here yet.",
    },
    "callbacks": {"OrbaxCheckpoint": "It is not here yet; use ModelCheckpoint or BackupAndRestore."},
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
        "CuDNNGRU": "Use GRU.",
        "CuDNNLSTM": "Use LSTM.",
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
        "FeatureSpace": "It is not here yet.",
        "Progbar": "It is not here yet; fit() draws one, and tqdm does.",
        "audio_dataset_from_directory": "It is not here yet.",
        "multi_gpu_model": "Keras has dropped it.",
        "np_utils": "Its functions are in utils: to_categorical, normalize.",
        "split_dataset": "It is not here yet; torch.utils.data.random_split takes torch's data sets.",
        "vis_utils": "Its functions are in utils: plot_model, model_to_dot.",
    },
}
NEAR, ELSEWHERE = 3, 2  # how many names are shown


def install(module: ModuleType, lazy: tuple[str, ...] = ()) -> None:
    """Gives `module` and all public namespaces below it a `__getattr__`, which Python asks for names that are not there.

    It is set from here, so that type checkers do not see it: they report unknown names of modules without one.

    Args:
        module: The package, or a subpackage that it imports lazily.
        lazy: Subpackages that `module` imports when they are used.
    """
    for namespace in _namespaces(module):
        vars(namespace).update(__getattr__=functools.partial(_get, namespace, lazy if namespace is module else ()))
    if lazy:
        vars(module).update(__dir__=lambda: sorted({*vars(module), *lazy}))


def _namespaces(module: ModuleType) -> Iterator[ModuleType]:
    """Yields `module`, and the modules below it that it and those export, once each."""
    found = [module]
    for namespace in found:  # it grows meanwhile
        yield namespace
        values = [vars(namespace).get(name) for name in getattr(namespace, "__all__", ())]
        modules = [value for value in values if isinstance(value, ModuleType) and value not in found]
        found += [value for value in modules if value.__name__.startswith(f"{module.__name__}.")]


def _get(module: ModuleType, lazy: tuple[str, ...], name: str) -> Any:
    """Returns a lazy subpackage, or raises the error for a name that `module` lacks.

    Raises: AttributeError: as for any object; without advice for `__names__`, which libraries ask everything for.
        ImportError: in `from module import name`, where Python would put a bare one in place of an AttributeError.
    """
    if name in lazy:
        return importlib.import_module(f"{module.__name__}.{name}")
    message = f"module {module.__name__!r} has no attribute {name!r}"
    if name.startswith("__"):
        raise AttributeError(message, name=name, obj=module)
    advice = _advice(module, name)
    if _imports_name(sys._getframe(1)) and f"{module.__name__}.{name}" not in sys.modules:
        message = f"cannot import name {name!r} from {module.__name__!r}. {advice}"
        raise ImportError(message, name=module.__name__, path=module.__file__)
    # With neither name= nor obj=, Python would set both, and tracebacks add a "Did you mean" of their own.
    raise AttributeError(f"{message}. {advice}", name=name)


def _imports_name(frame: FrameType) -> bool:
    """Returns whether a frame is at `from module import name`; False where its code cannot be read like CPython's."""
    code, position = frame.f_code.co_code, frame.f_lasti
    return 0 <= position < len(code) and code[position] == dis.opmap.get("IMPORT_FROM")


def _advice(module: ModuleType, name: str) -> str:
    known = ADVICE.get(module.__name__.partition(".")[2], {})
    if name in known:
        return known[name]
    names = [*getattr(module, "__all__", ())]
    near = [each for each in names if each.lower() == name.lower()] or difflib.get_close_matches(name, names, NEAR)
    places = _places(module, name)
    if near:
        return f"Did you mean {_listed(near)}?" + (f" There is {_listed(places)}, too." if places else "")
    if places:
        return f"There is {_listed(places)}."
    return f"dir({module.__name__}) lists what is there."


def _places(module: ModuleType, name: str) -> list[str]:
    """Returns where else an object of this name is exported; each object once."""
    found: dict[int, str] = {}
    for other in _namespaces(sys.modules[module.__name__.partition(".")[0]]):
        if other is not module and name in other.__dict__ and name in getattr(other, "__all__", ()):
            found.setdefault(id(other.__dict__[name]), f"{other.__name__}.{name}")
    return [*found.values()][:ELSEWHERE]


def _listed(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
