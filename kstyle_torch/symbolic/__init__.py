"""Symbolic tensors: tracing of layer calls into a graph, and generation of Python code from it."""
