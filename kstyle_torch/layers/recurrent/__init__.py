"""Recurrent layers: `RNN` over any cell, and Keras' own cells, which run on torch's fused kernels where those can."""
