"""Data: whatever users pass as x and y, as batches of tensors on the device."""
