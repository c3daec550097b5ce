"""Tools of older Keras programs that prepare images, sequences and texts."""

from kstyle_torch.preprocessing import sequence, text
from kstyle_torch.utils.timeseries import timeseries_dataset_from_array

__all__ = ["sequence", "text", "timeseries_dataset_from_array"]
