"""What can act during training."""

from kstyle_torch.callbacks.base import Callback, CallbackList, LambdaCallback
from kstyle_torch.callbacks.checkpoint import ModelCheckpoint
from kstyle_torch.callbacks.control import EarlyStopping
from kstyle_torch.callbacks.history import History
from kstyle_torch.callbacks.progress import ProgbarLogger

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "ModelCheckpoint",
    "ProgbarLogger",
]
