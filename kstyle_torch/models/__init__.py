"""Models: Sequential, functional and subclassed, with compile, fit and save."""

from kstyle_torch.models.cloning import clone_model
from kstyle_torch.models.files import model_from_json
from kstyle_torch.models.from_torch import from_torch
from kstyle_torch.models.functional import Functional
from kstyle_torch.models.model import Model
from kstyle_torch.models.sequential import Sequential
from kstyle_torch.saving.api import load_model, save_model

__all__ = [
    "Functional",
    "Model",
    "Sequential",
    "clone_model",
    "from_torch",
    "load_model",
    "model_from_json",
    "save_model",
]
