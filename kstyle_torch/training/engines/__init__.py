"""Engines: the choice of the one that runs a step, and the invalidation of recorded and compiled code."""
