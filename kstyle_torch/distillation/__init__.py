"""Knowledge distillation: training of a small model to imitate a large one."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.distillation.distiller import Distiller
from kstyle_torch.distillation.losses import DistillationLoss, FeatureDistillation, LogitsDistillation

__all__ = ["DistillationLoss", "Distiller", "FeatureDistillation", "LogitsDistillation"]

namespaces.install(sys.modules[__name__])
