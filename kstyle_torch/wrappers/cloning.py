"""Clones of compiled models, with new weights and a new optimizer."""

from __future__ import annotations

import copy

from kstyle_torch.models.cloning import clone_model
from kstyle_torch.models.model import Model
from kstyle_torch.models.trainer import Trainer
from kstyle_torch.optimizers import TorchOptimizer


def compiled_clone(model: Model) -> Model:
    """Returns a clone of a model with new weights, compiled as the model is.

    Raises: ValueError: if the model, or its optimizer, belongs to torch and so has no config to make another one of.
    """
    if isinstance(model.optimizer, TorchOptimizer):
        raise ValueError(
            f"{model.name} is compiled with an optimizer of torch, which cannot be cloned; pass a function f(X, y) that "
            "returns a compiled model."
        )
    clone = clone_model(model)
    if type(model).compile is not Trainer.compile:  # it has arguments of its own
        clone.compile_from_config(model.get_compile_config())
        return clone
    given = copy.deepcopy({key: value for key, value in (model._compile_arguments or {}).items() if key != "optimizer"})
    clone.compile(type(model.optimizer).from_config(model.optimizer.get_config()), **given)
    return clone
