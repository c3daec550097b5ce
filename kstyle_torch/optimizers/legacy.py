"""The names under which Keras 2 kept its older optimizers; they are today's."""

from kstyle_torch.optimizers.adagrad import Adagrad
from kstyle_torch.optimizers.adam import Adam
from kstyle_torch.optimizers.base import Optimizer
from kstyle_torch.optimizers.ftrl import Ftrl
from kstyle_torch.optimizers.rmsprop import RMSprop
from kstyle_torch.optimizers.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "Ftrl", "Optimizer", "RMSprop"]
