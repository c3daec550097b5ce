"""Recorded training: the torch calls of an eager step as straight-line Python, equal to it in every bit."""
