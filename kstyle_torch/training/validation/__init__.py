"""Validation of arguments, of the first batch, and of batches that come later, before anything changes."""
