"""Functions of older versions of Keras."""

from kstyle_torch.legacy import saving

__all__ = ["saving"]
