"""Recurrent layers: `RNN` for any cell, and Keras' cells, which use torch's fused kernels where possible."""
