"""Engines: the choice of the one that runs a step, and the check whether what it holds is still true."""
