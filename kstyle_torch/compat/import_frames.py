"""The import statement that asks for a name, which decides what error the program gets."""

from __future__ import annotations

import dis
from types import FrameType


def imports_name(frame: FrameType) -> bool:
    """Returns whether a frame is at `from module import name`; False where its code cannot be read like CPython's.

    There Python replaces an AttributeError, advice and all, by an ImportError of its own.
    """
    code, position = frame.f_code.co_code, frame.f_lasti
    return 0 <= position < len(code) and code[position] == dis.opmap.get("IMPORT_FROM")


def missing(frame: FrameType, module: str, name: str, advice: str) -> AttributeError | ImportError:
    """Returns the error for a name that a module lacks: the kind that reaches the caller of `frame` with its advice."""
    if imports_name(frame):
        return ImportError(f"cannot import name {name!r} from {module!r}. {advice}", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r}. {advice}", name=name)
