"""Keras 1 and 2: names, modules, arguments and methods that today's Keras has under another name.

Each works, and gives one warning in a process that names today's spelling. Tables say which; the classes and namespaces
that they name do not know of them.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

ROOT = str(Path(__file__).parent.parent)
WITHIN = (ROOT, "<frozen importlib", importlib.__file__)  # files of frames that are not the program's
ORDERINGS = {"th": "channels_first", "tf": "channels_last"}
IGNORED = ""  # in place of today's name, for an argument that no longer does anything

_WEIGHTS = {
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}
_PLACES = {"border_mode": "padding", "subsample": "strides", "dim_ordering": "data_format"}
_POOL = {"border_mode": "padding", "dim_ordering": "data_format", "pool_length": "pool_size", "stride": "strides"}
_CONV = {**_WEIGHTS, **_PLACES, "nb_filter": "filters", "filter_length": "kernel_size"}
_ORDER, _RATE = {"dim_ordering": "data_format"}, {"p": "rate"}
_RECURRENT = {
    **_WEIGHTS,
    "output_dim": "units",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "U_regularizer": "recurrent_regularizer",
    "U_constraint": "recurrent_constraint",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "consume_less": IGNORED,
}

_OPTIMIZERS = "Adadelta Adagrad Adam Adamax Nadam RMSprop SGD".split()

# Arguments of constructors, by class: the older name and today's.
ARGUMENTS: dict[str, dict[str, str]] = {
    "Dense": {**_WEIGHTS, "output_dim": "units"},
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "SeparableConv2D", "Conv2DTranspose"), _CONV),
    **dict.fromkeys(
        (f"{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)),
        _POOL,
    ),
    **dict.fromkeys(
        ("GlobalMaxPooling2D", "GlobalAveragePooling2D", "ZeroPadding2D", "Cropping2D", "UpSampling2D"), _ORDER
    ),
    "UpSampling1D": {"length": "size"},
    **dict.fromkeys(("SimpleRNN", "LSTM", "GRU"), _RECURRENT),
    "Embedding": {
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "BatchNormalization": {"beta_init": "beta_initializer", "gamma_init": "gamma_initializer", "mode": IGNORED},
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout"), _RATE),
    "GaussianNoise": {"sigma": "stddev"},
    "LeakyReLU": {"alpha": "negative_slope"},
    "MaxNorm": {"m": "max_value"},
    "Model": {"input": "inputs", "output": "outputs"},
}
OF_WORKERS = dict.fromkeys(("workers", "use_multiprocessing", "max_queue_size"), IGNORED)  # today PyDataset takes them
OF_OPTIMIZERS = {"lr": "learning_rate"}  # of any optimizer, users' subclasses too
# Names, by namespace: where the object is today, "namespace.name". Those with a module or class of their own are not here.
NAMES: dict[str, dict[str, str]] = {
    "": {"objectives": "losses", "optimizer_v2": "optimizers"},
    "constraints": {
        "maxnorm": "constraints.MaxNorm",
        "nonneg": "constraints.NonNeg",
        "unitnorm": "constraints.UnitNorm",
    },
    "layers": {
        "CuDNNGRU": "layers.GRU",
        "CuDNNLSTM": "layers.LSTM",
        "Deconvolution2D": "layers.Conv2DTranspose",
        "Merge": "layers.merge_with_mode.Merge",
    },
    "models": {"Input": "layers.Input"},
    "optimizers": {"experimental": "optimizers", **{name.lower(): f"optimizers.{name}" for name in _OPTIMIZERS}},
    "preprocessing": {"ImageDataGenerator": "preprocessing.image.ImageDataGenerator"},
    "utils": {"np_utils": "utils", "vis_utils": "utils", "generic_utils": "utils", "data_utils": "utils"},
}
# What to write in place of objects that today's Keras does not have.
ADVICE = {"layers.merge_with_mode.Merge": "a functional model with keras.layers.Concatenate, Add or the like"}
# Modules that programs import, and the namespace whose names they have today.
MODULES: dict[str, str] = {
    **dict.fromkeys(
        (
            f"layers.{name}"
            for name in "core convolutional embeddings advanced_activations merge noise local cudnn_recurrent".split()
        ),
        "layers",
    ),
    **dict.fromkeys(("engine", "engine.topology", "engine.training", "engine.base_layer"), ""),
    **dict.fromkeys(
        (f"optimizer_v2.{name}" for name in "adam sgd gradient_descent rmsprop adagrad".split()), "optimizers"
    ),
    **dict.fromkeys(
        (f"utils.{name}" for name in "np_utils vis_utils generic_utils data_utils io_utils".split()), "utils"
    ),
    "objectives": "losses",
    "optimizer_v2": "optimizers",
    "optimizers.experimental": "optimizers",
    "saving.save": "saving",
    "utils.visualize_util": "utils",
}
# Modules of ours that are named like a function of an older Keras, which made the class.
CALLED: dict[str, str] = {f"optimizers.{name.lower()}": name for name in _OPTIMIZERS}
# Modules of ours whose name an older Keras gave to more: they have every public name of the namespace.
WIDER: dict[str, str] = {f"layers.{name}": "layers" for name in ("normalization", "pooling", "recurrent", "wrappers")}

_told: set[str] = set()
F = TypeVar("F", bound=Callable[..., Any])
PACKAGE = __name__.partition(".")[0]


def tell(older: str, today: str) -> None:
    """Warns that `older` is an older spelling, once a process, at the line of the user's program."""
    if older in _told:
        return
    _told.add(older)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(WITHIN):
        frame = frame.f_back
    advice = f"write {today}" if today else "it does nothing any more"
    message = f"{older} is the spelling of an older Keras: {advice}."
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, UserWarning, frame.f_code.co_filename, frame.f_lineno, registry=registry)


def renamed(owner: str, table: dict[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns keyword arguments under today's names.

    Raises: TypeError: if an argument is given under both names.
    """
    if not table.keys() & arguments.keys():
        return arguments
    found = dict(arguments)
    for older in table.keys() & arguments.keys():
        today, value = table[older], found.pop(older)
        if today and today in found:
            raise TypeError(f"{owner} got {today}= and its older spelling {older}=; pass {today}= alone.")
        if today:
            found[today] = ORDERINGS.get(value, value) if older == "dim_ordering" else value
        tell(f"{owner}({older}=...)", today and f"{owner}({today}=...)")
    return found


def takes_older(owner: str, table: dict[str, str]) -> Callable[[F], F]:
    """Returns a decorator: the function also takes the older names of its keyword arguments."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def taking(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **renamed(owner, table, kwargs))

        return cast(F, taking)

    return decorate


def table_of(cls: type) -> dict[str, str]:
    """Returns the older names of the constructor's arguments: of a class of ours, none of a user's."""
    return ARGUMENTS.get(cls.__name__, {}) if cls.__module__.startswith(f"{PACKAGE}.") else {}


def todays(cls: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments of a constructor under today's names."""
    return renamed(cls.__name__, table_of(cls), arguments) if arguments else arguments


def look_up(namespace: str, name: str) -> Any:
    """Returns the object of today for an older name, with a warning; None if the name is not in the table."""
    path = NAMES.get(namespace, {}).get(name)
    if path is None:
        return None
    tell(f"keras.{namespace}.{name}".replace("..", "."), ADVICE.get(path, f"keras.{path}"))
    above, _, last = path.rpartition(".")
    return getattr(importlib.import_module(f"{PACKAGE}.{above}".rstrip(".")), last)


def find(fullname: str) -> ModuleSpec | None:
    """Returns how to import a module that an older Keras had; None for any other."""
    path = fullname.removeprefix(f"{PACKAGE}.")
    return ModuleSpec(fullname, _OlderModule(path), is_package=True) if path in MODULES else None


class _OlderModule(Loader):
    """A loader of modules of an older Keras: an empty one that finds names in today's namespace."""

    def __init__(self, path: str):
        self.path = path

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        target = MODULES[self.path]
        tell(f"keras.{self.path}", f"keras.{target}".rstrip("."))
        vars(module)["__getattr__"] = functools.partial(name_in, target)


def name_in(namespace: str, name: str) -> Any:
    """Returns a public name of a namespace, or of `layers`, for a module of an older Keras.

    Raises: AttributeError: if neither has it.
    """
    homes = [importlib.import_module(f"{PACKAGE}.{path}".rstrip(".")) for path in (namespace, "layers")]
    home = next((home for home in homes if name in home.__all__), homes[0])
    return getattr(home, name)


def steps_for(samples: int, generator: Any) -> tuple[int, Iterator[Any]]:
    """Returns the number of batches of a generator that hold so many samples, and the generator from its first batch on."""
    generator = iter(generator)
    first = next(generator)
    x = first[0] if isinstance(first, tuple) else first
    while isinstance(x, (list, tuple, dict)):
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    return -(-samples // len(x)), itertools.chain([first], generator)


class OlderMethods:
    """Methods of models that today's Keras has under another name."""

    def fit_generator(
        self, generator: Any, steps_per_epoch: int | None = None, epochs: int = 1, *args: Any, **kwargs: Any
    ) -> Any:
        """Trains on batches from a generator; today's name is `fit`.

        Args:
            generator: What yields `(x, y)` or `(x, y, sample_weight)`.
            steps_per_epoch: Batches an epoch.
            epochs: Number of the last epoch.
            args: `verbose`, `callbacks`, `validation_data` and `validation_steps`.
            kwargs: Of `fit`. `samples_per_epoch` and `nb_val_samples` of Keras 1 count samples in place of batches.
        """
        model: Any = self
        tell("model.fit_generator(...)", "model.fit(...)")
        names = ("verbose", "callbacks", "validation_data", "validation_steps")
        kwargs = {**_of_generators(kwargs), **dict(zip(names, args, strict=False))}
        if (samples := kwargs.pop("samples_per_epoch", None)) is not None:
            steps_per_epoch, generator = steps_for(samples, generator)
        if (samples := kwargs.pop("nb_val_samples", None)) is not None and not isinstance(
            kwargs["validation_data"], (tuple, list)
        ):
            kwargs["validation_steps"], kwargs["validation_data"] = steps_for(samples, kwargs["validation_data"])
        kwargs.setdefault("epochs", kwargs.pop("nb_epoch", epochs))
        return model.fit(generator, steps_per_epoch=steps_per_epoch, **kwargs)

    def evaluate_generator(self, generator: Any, steps: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Computes loss and metrics on batches from a generator; today's name is `evaluate`."""
        model: Any = self
        tell("model.evaluate_generator(...)", "model.evaluate(...)")
        kwargs = {"verbose": 0, **_of_generators(kwargs), **dict(zip(("callbacks",), args, strict=False))}
        if (samples := kwargs.pop("val_samples", None)) is not None:
            steps, generator = steps_for(samples, generator)
        return model.evaluate(generator, steps=steps, **kwargs)

    def predict_generator(self, generator: Any, steps: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs for batches from a generator; today's name is `predict`."""
        model: Any = self
        tell("model.predict_generator(...)", "model.predict(...)")
        kwargs = {"verbose": 0, **_of_generators(kwargs), **dict(zip(("callbacks",), args, strict=False))}
        if (samples := kwargs.pop("val_samples", None)) is not None:
            steps, generator = steps_for(samples, generator)
        return model.predict(generator, steps=steps, **kwargs)

    def predict_classes(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> Any:
        """Returns the class of each sample: of one output, (samples, 1), whether it is above 0.5; else which is largest."""
        model: Any = self
        tell("model.predict_classes(x)", "model.predict(x).argmax(-1), or model.predict(x) > 0.5 for one output")
        found = model.predict(x, batch_size=batch_size, verbose=verbose)
        return found.argmax(-1) if found.shape[-1] > 1 else (found > 0.5).astype("int32")

    def predict_proba(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> Any:
        """Returns the outputs; today's name is `predict`."""
        model: Any = self
        tell("model.predict_proba(x)", "model.predict(x)")
        return model.predict(x, batch_size=batch_size, verbose=verbose)

    def reset_states(self) -> None:
        """Sets the state of stateful recurrent layers to 0; today each layer has `reset_state`."""
        model: Any = self
        tell("model.reset_states()", "layer.reset_state() for each stateful layer")
        for layer in model._flatten_layers():
            if layer is not model and getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()


class OlderMetricMethods:
    """Methods of metrics that today's Keras has under another name."""

    def reset_states(self) -> None:
        """Starts again; today's name is `reset_state`."""
        metric: Any = self
        tell("metric.reset_states()", "metric.reset_state()")
        metric.reset_state()


def _of_generators(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments that are left without those of Keras 1 for processes that make batches."""
    gone = (*OF_WORKERS, "pickle_safe", "max_q_size", "nb_worker", "wait_time")
    return {name: value for name, value in kwargs.items() if name not in gone}
