"""The Keras API as real PyTorch."""

import gc
import sys
from typing import TYPE_CHECKING

_collecting = gc.isenabled()
gc.disable()  # a collection of all that torch made, in the middle of the imports, takes longer than they do

try:
    from kstyle_torch import (
        activations,
        backend,
        callbacks,
        config,
        constraints,
        dtype_policies,
        initializers,
        layers,
        legacy,
        losses,
        metrics,
        mixed_precision,
        models,
        namespaces,
        ops,
        optimizers,
        random,
        regularizers,
        saving,
        tree,
        utils,
    )
    from kstyle_torch.dtype_policies import DTypePolicy, FloatDTypePolicy
    from kstyle_torch.initializers import Initializer
    from kstyle_torch.layer.input_spec import InputSpec
    from kstyle_torch.layer.recompute import remat
    from kstyle_torch.layers import Input, Layer
    from kstyle_torch.losses import Loss
    from kstyle_torch.metrics import Metric
    from kstyle_torch.models import Functional, Model, Sequential, from_torch
    from kstyle_torch.optimizers import Optimizer
    from kstyle_torch.regularizers import Regularizer
    from kstyle_torch.scopes import RematScope, StatelessScope, SymbolicScope, device, name_scope
    from kstyle_torch.symbolic.function import Function
    from kstyle_torch.symbolic.operation import Operation
    from kstyle_torch.symbolic.tensor import KerasTensor
    from kstyle_torch.variables import Variable

    if TYPE_CHECKING:
        from kstyle_torch import applications, datasets, distillation, export, preprocessing, visualization, wrappers
finally:
    if _collecting:
        gc.enable()

__version__ = "0.1.0"


def version() -> str:
    """Returns the version of this package."""
    return __version__


__all__ = [
    "DTypePolicy",
    "FloatDTypePolicy",
    "Function",
    "Functional",
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Operation",
    "Optimizer",
    "Regularizer",
    "RematScope",
    "Sequential",
    "StatelessScope",
    "SymbolicScope",
    "Variable",
    "activations",
    "applications",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "device",
    "distillation",
    "dtype_policies",
    "export",
    "from_torch",
    "initializers",
    "layers",
    "legacy",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "name_scope",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "remat",
    "saving",
    "tree",
    "utils",
    "version",
    "visualization",
    "wrappers",
]

LAZY = ("applications", "datasets", "distillation", "export", "preprocessing", "visualization", "wrappers")
namespaces.install(sys.modules[__name__], lazy={name: f"{__name__}.{name}" for name in LAZY})
