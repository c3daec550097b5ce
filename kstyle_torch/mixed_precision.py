"""Mixed precision under Keras' names: a policy for all new layers."""

from kstyle_torch.dtype_policies import DTypePolicy, Policy, dtype_policy, set_dtype_policy
from kstyle_torch.dtype_policies import dtype_policy as global_policy
from kstyle_torch.dtype_policies import set_dtype_policy as set_global_policy
from kstyle_torch.optimizers import LossScaleOptimizer

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]
