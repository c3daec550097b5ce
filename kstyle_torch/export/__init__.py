"""Export: programs of torch.export, ONNX, and plain torch source."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.export.export_archive import ExportArchive
from kstyle_torch.export.program import to_program
from kstyle_torch.export.source import to_source

__all__ = ["ExportArchive", "to_program", "to_source"]

namespaces.install(sys.modules[__name__])
