"""The user's object."""

from kstyle_torch.models.cloning import clone_model
from kstyle_torch.models.functional import Functional
from kstyle_torch.models.model import Model
from kstyle_torch.models.sequential import Sequential

__all__ = ["Functional", "Model", "Sequential", "clone_model"]
