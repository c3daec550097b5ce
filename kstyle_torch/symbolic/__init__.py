"""Symbolic tensors: calls of layers that are traced into a graph, and the graph as plain Python."""
