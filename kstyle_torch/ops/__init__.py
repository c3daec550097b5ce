"""Keras' operations as plain functions over torch, on tensors, arrays and symbolic tensors.

Each namespace lists its public names in `__all__`.
"""

from kstyle_torch.ops import core, image, linalg, math, nn, numpy
from kstyle_torch.ops.core import *  # noqa: F403
from kstyle_torch.ops.linalg import *  # noqa: F403
from kstyle_torch.ops.math import *  # noqa: F403
from kstyle_torch.ops.nn import *  # noqa: F403
from kstyle_torch.ops.numpy import *  # noqa: F403

__all__ = ["core", "image", "linalg", "math", "nn", "numpy"]
__all__ += core.__all__
__all__ += linalg.__all__
__all__ += math.__all__
__all__ += nn.__all__
__all__ += numpy.__all__
