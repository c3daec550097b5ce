"""Ways out: programs of torch.export, ONNX, and plain torch source."""

from kstyle_torch.export.program import to_program

__all__ = ["to_program"]
