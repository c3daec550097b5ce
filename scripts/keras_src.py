"""Writes the table of Keras' own modules: `python scripts/keras_src.py`, from the installed Keras.

`kstyle_torch/compat/keras_src.txt` says for each module of `keras.src` which public objects it defines, and where they
are public. `--check` changes nothing, and fails where the file is out of date.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "kstyle_torch" / "compat" / "keras_src.txt"
HEADER = (
    "# Written by scripts/keras_src.py: module of keras.src, public namespace, names (own=public where they differ)\n"
)
# Other backends' modules do not import without their framework, or define nothing that is public.
LEFT_OUT = tuple(f"keras.src.backend.{name}" for name in ("jax", "numpy", "openvino", "tensorflow", "tests", "torch"))
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]


def modules(path: str = "keras.src") -> Iterator[str]:
    """Yields the paths of Keras' own modules, without tests."""
    yield path
    for found in pkgutil.iter_modules(getattr(importlib.import_module(path), "__path__", ())):
        name = f"{path}.{found.name}"
        if not name.endswith("_test") and not name.startswith(LEFT_OUT):
            yield from modules(name)


def public_paths() -> dict[int, list[tuple[str, str]]]:
    """Returns the namespaces and names under which each object is public, by its identity.

    The shortest namespace comes first, apart from the package itself: `layers.Layer` says more than `Layer`.
    """
    from compatibility import namespaces, public_names

    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    paths = [path.partition(".")[2] for path in namespaces()]
    for path in sorted(paths, key=lambda path: (not path, "legacy" in path, len(path))):
        namespace = importlib.import_module(f"keras.{path}".rstrip("."))
        for name in public_names(namespace):
            found[id(getattr(namespace, name))].append((path, name))
    return found


def table() -> str:
    """Returns the text of the table for the installed Keras."""
    public = public_paths()
    lines = []
    for path in sorted(modules()):
        names = defaultdict(list)
        for name, value in sorted(vars(importlib.import_module(path)).items()):
            if not name.startswith(("_", "Legacy")) and id(value) in public and is_own(value, path):
                places = public[id(value)]
                namespace, public_name = next((place for place in places if place[1] == name), places[0])
                names[namespace].append(name if name == public_name else f"{name}={public_name}")
        own = path.removeprefix("keras.src").removeprefix(".")
        lines += [f"{own} {namespace or '-'} {' '.join(words)}" for namespace, words in names.items()]
    return HEADER + "\n".join(lines) + "\n"


def is_own(value: Any, path: str) -> bool:
    """Returns whether a class or function is defined in a module."""
    return getattr(value, "__module__", None) == path


def main() -> int:
    """Writes or checks the table, and returns the exit status."""
    text = table()
    if "--check" in sys.argv[1:]:
        return int(not TABLE.exists() or TABLE.read_text(encoding="utf-8") != text)
    TABLE.write_text(text, encoding="utf-8")
    print(f"{TABLE.relative_to(ROOT)}: {text.count(chr(10)) - 1} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
