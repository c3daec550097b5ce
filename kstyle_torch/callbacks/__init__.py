"""Callbacks: objects with hooks that training calls."""

from kstyle_torch.callbacks.averages import SwapEMAWeights
from kstyle_torch.callbacks.backup import BackupAndRestore
from kstyle_torch.callbacks.base import Callback, LambdaCallback
from kstyle_torch.callbacks.checkpoint import ModelCheckpoint
from kstyle_torch.callbacks.control import (
    EarlyStopping,
    LearningRateScheduler,
    MaxTime,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from kstyle_torch.callbacks.history import History
from kstyle_torch.callbacks.learning_rate_finder import LearningRateFinder
from kstyle_torch.callbacks.list import CallbackList
from kstyle_torch.callbacks.logging import CSVLogger, RemoteMonitor
from kstyle_torch.callbacks.progress import ProgbarLogger
from kstyle_torch.callbacks.tensorboard import TensorBoard
from kstyle_torch.callbacks.torch_scheduler import TorchScheduler
from kstyle_torch.callbacks.trackers import MLflowLogger, OptunaPruning, WandbLogger

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateFinder",
    "LearningRateScheduler",
    "MLflowLogger",
    "MaxTime",
    "ModelCheckpoint",
    "OptunaPruning",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
    "TorchScheduler",
    "WandbLogger",
]
