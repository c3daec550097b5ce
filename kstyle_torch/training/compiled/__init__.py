"""Compiled training: step, epoch and forward pass as graphs of `torch.compile`, each verified by the eager step."""
