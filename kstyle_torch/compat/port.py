"""Rewriting of programs: imports of Keras become imports of this package, and calls of TensorFlow are listed.

Only what must change does, at the positions that Python's own parser gives; comments, quotes and line breaks stay.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kstyle_torch.compat import keras_src
from kstyle_torch.compat.alias import PACKAGE, ROOTS
from kstyle_torch.compat.tensorflow_names import replacement

# Packages of TensorFlow that have a `keras` of their own.
HOLDERS = ("tensorflow", "tensorflow.compat.v1", "tensorflow.compat.v2", "tensorflow.python")
PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")  # cell magics before Python code


class Ported(NamedTuple):
    """A program with other imports: its content, how many places changed, and what is left to do, a line for each."""

    content: bytes
    changes: int
    left: list[str]


class Edit(NamedTuple):
    """A change: what stands between two offsets gives way to a text."""

    start: int
    end: int
    text: str


def port_file(path: Path) -> Ported:
    """Returns a program or notebook with its imports of Keras rewritten.

    Raises: ValueError: if it is neither, or is not Python.
    """
    if path.suffix == ".ipynb":
        return _port_notebook(path)
    if path.suffix != ".py":
        raise ValueError(f"{str(path)!r}: port takes a .py or an .ipynb file.")
    content = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    ported = port_source(content.decode(encoding), str(path))
    return ported._replace(content=ported.content.decode().encode(encoding))


def port_source(text: str, name: str = "<program>") -> Ported:
    """Returns a program's text with its imports of Keras rewritten.

    Raises: ValueError: if it is not Python.

    Example:
        >>> port_source("from keras import layers  # all of them").content.decode()
        'from kstyle_torch import layers  # all of them'
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{name}, line {error.lineno}: it cannot be read as Python: {error.msg}.") from error
    names = Names()
    names.collect(tree)
    return _Porter(text, names).port(tree)


@dataclass
class Names:
    """Meanings of a program's names, over all its scopes, or over all the cells of a notebook."""

    tensorflow: set[str] = field(default_factory=set)  # names of the module TensorFlow
    is_used: bool = False  # whether more of TensorFlow than its Keras is
    has_keras: bool = False  # whether an import at the top means Keras by `keras`
    stored: set[str] = field(default_factory=set)  # variables, functions and arguments

    @property
    def keras(self) -> str:
        """The name that `tf.keras` gets: the package's own where the program has a variable called `keras`."""
        return PACKAGE if "keras" in self.stored else "keras"

    @property
    def binding(self) -> str:
        """The end of the import statement that binds it."""
        return PACKAGE if self.keras == PACKAGE else f"{PACKAGE} as {self.keras}"

    def collect(self, tree: ast.Module) -> None:
        """Notes what the names of a program, or a cell, mean."""
        imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        self.has_keras |= any(
            (alias.asname or alias.name.split(".")[0]) == "keras" for node in imports for alias in node.names
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias for alias in node.names if alias.name.split(".")[0] == "tensorflow"]
                self.tensorflow |= {alias.asname or "tensorflow" for alias in modules if _is_whole(alias)}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.stored.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.stored.add(node.name)
            elif isinstance(node, ast.arg):
                self.stored.add(node.arg)
        self.is_used |= any(not is_keras for _, _, is_keras in self.uses(tree))

    def uses(self, tree: ast.AST) -> Iterator[tuple[ast.expr, str, bool]]:
        """Yields uses of TensorFlow: the expression, its dotted path without the module's name, and whether it is Keras.

        Of Keras, the expression is that which means Keras itself: `tf.keras` of `tf.keras.layers.Dense`.
        """
        waiting: list[ast.AST] = [tree]
        while waiting:
            node = waiting.pop()
            chain = _chain(node)
            if chain and chain[0][1] in self.tensorflow:
                parts = [part for _, part in chain[1:]]
                place = next((i for i, part in enumerate(parts) if part == "keras"), None)
                is_keras = place is not None and ".".join(["tensorflow", *parts[:place]]) in HOLDERS
                yield chain[place + 1 if is_keras and place is not None else -1][0], ".".join(parts), is_keras
            else:
                waiting += reversed([*ast.iter_child_nodes(node)])


def _is_whole(alias: ast.alias) -> bool:
    """Returns whether an import binds TensorFlow itself, not its Keras or another module under a name of its own."""
    return alias.name in ("tensorflow", "tensorflow.compat.v1", "tensorflow.compat.v2") or alias.asname is None


def _chain(node: ast.AST) -> list[tuple[ast.expr, str]]:
    """Returns the parts of `a.b.c`, each with the expression that ends in it; nothing for another expression."""
    parts: list[tuple[ast.expr, str]] = []
    while isinstance(node, ast.Attribute):
        parts.append((node, node.attr))
        node = node.value
    return [*reversed([*parts, (node, node.id)])] if isinstance(node, ast.Name) else []


class _Porter:
    """The rewriting of a program, or of one cell of a notebook.

    Args:
        text: Its text.
        names: What its names mean.
    """

    def __init__(self, text: str, names: Names):
        self.source, self.names = text.encode(), names
        self.edits: list[Edit] = []
        self.left: list[tuple[int, str]] = []
        self.starts = [0]
        for line in self.source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def port(self, tree: ast.AST) -> Ported:
        """Returns the rewritten text."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                self._import_from(node, node.module)
        for use, path, is_keras in self.names.uses(tree):
            if is_keras:
                self.edits.append(Edit(*self._span(use), self.names.keras))
            else:
                self._leave(use, f"tf.{path}" if path else "tf", replacement(path))
        content = self.source
        for edit in sorted(self.edits, reverse=True):
            content = content[: edit.start] + edit.text.encode() + content[edit.end :]
        return Ported(content, len(self.edits), [f"{line}: {text}" for line, text in sorted(self.left)])

    def _offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def _span(self, node: ast.expr | ast.stmt | ast.alias) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _leave(self, node: ast.expr | ast.stmt, name: str, instead: str) -> None:
        self.left.append((node.lineno, f"{name} -> {instead or 'no replacement is known'}"))

    # ------------------------------------------------------------------------------------------------------- statements

    def _import(self, node: ast.Import) -> None:
        """Rewrites `import keras`, `import keras.layers as L` and their like."""
        for alias in node.names:
            if alias.name.split(".")[0] == "tensorflow" and _is_whole(alias) and not _is_keras(alias.name):
                self._import_tensorflow(node, alias)
                continue
            if not _is_keras(alias.name):
                continue
            path = _path(alias.name)
            if path.split(".")[0] == "src":
                self._leave(node, f"import {alias.name}", "the public API")
            elif alias.asname:
                self.edits.append(Edit(*self._span(alias), f"{PACKAGE}{path and '.'}{path} as {alias.asname}"))
            else:
                top = alias.name.split(".")[0]
                bound = self.names.binding if top == "tensorflow" else f"{PACKAGE} as {top}"
                self.edits.append(Edit(*self._span(alias), bound))

    def _import_tensorflow(self, node: ast.Import, alias: ast.alias) -> None:
        """Replaces an import of TensorFlow where only its Keras is used, or puts one of Keras before it."""
        if not self.names.is_used:
            self.edits.append(Edit(*self._span(alias), self.names.binding))
            return
        self._leave(node, f"import {alias.name}", f"nothing: {PACKAGE} runs on torch")
        if self.names.has_keras:
            return
        start, _ = self._span(node)
        before = self.source[self.starts[node.lineno - 1] : start]
        separator = "; " if before.strip() else "\n" + before.decode()
        self.edits.append(Edit(start, start, f"import {self.names.binding}{separator}"))

    def _import_from(self, node: ast.ImportFrom, module: str) -> None:
        """Rewrites `from keras import x`, `from tensorflow import keras` and their like."""
        if module in HOLDERS:
            self._import_from_tensorflow(node, module)
        elif module.split(".")[0] == "tensorflow" and not _is_keras(module):
            for alias in node.names:
                path = f"{module}.{alias.name}".removeprefix("tensorflow.")
                self._leave(node, f"tf.{path}", replacement(path))
        elif _is_keras(module):
            path = _path(module)
            if path.split(".")[0] != "src":
                self.edits.append(Edit(*self._module_span(node), f"{PACKAGE}{path and '.'}{path}"))
                return
            public = {keras_src.public_place(path.removeprefix("src").removeprefix("."), a.name) for a in node.names}
            (place,) = public if len(public) == 1 else (None,)
            if place is None:
                self._leave(node, f"from {module} import {', '.join(a.name for a in node.names)}", "the public API")
            else:
                self.edits.append(Edit(*self._module_span(node), f"{PACKAGE}{place and '.'}{place}"))

    def _import_from_tensorflow(self, node: ast.ImportFrom, module: str) -> None:
        """Takes Keras out of `from tensorflow import keras, ...`."""
        others = [alias for alias in node.names if alias.name != "keras"]
        for alias in others:
            path = f"{module}.{alias.name}".removeprefix("tensorflow.")
            self._leave(node, f"tf.{path}", replacement(path))
        if len(others) == len(node.names):
            return
        bound = ", ".join(f"{PACKAGE} as {a.asname or 'keras'}" for a in node.names if a.name == "keras")
        rest = ", ".join(ast.unparse(alias) for alias in others)
        self.edits.append(
            Edit(*self._span(node), f"import {bound}" + (f"; from {module} import {rest}" if rest else ""))
        )

    def _module_span(self, node: ast.ImportFrom) -> tuple[int, int]:
        """Returns where the name of the module stands in `from module import ...`."""
        start, end = self._span(node)
        text = self.source[start:end].decode()
        lines = text.splitlines(keepends=True)
        words = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.string.strip()]
        stop = next(i for i, token in enumerate(words) if token.string == "import")
        parts = [token for token in words[1:stop] if token.type in (tokenize.NAME, tokenize.OP)]

        def offset(row: int, column: int) -> int:
            return start + len("".join([*lines[: row - 1], lines[row - 1][:column]]).encode())

        return offset(*parts[0].start), offset(*parts[-1].end)


def _is_keras(module: str) -> bool:
    return any(f"{module}.".startswith(f"{root}.") for root in ROOTS)


def _path(module: str) -> str:
    """Returns a module's path inside Keras."""
    root = next(root for root in ROOTS if f"{module}.".startswith(f"{root}."))
    return module.removeprefix(root).removeprefix(".")


# ------------------------------------------------------------------------------------------------------------ notebooks


def _port_notebook(path: Path) -> Ported:
    """Returns a notebook with the imports in its cells rewritten, and all else as it is.

    Raises: ValueError: if it is not a notebook.
    """
    content = path.read_bytes()
    try:
        notebook = json.loads(content)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        texts = ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a notebook: {error}.") from error
    names, left, changes = Names(), [], 0
    trees = [_parsed_cell(text) for text in texts]
    for tree in trees:
        names.collect(tree or ast.Module([], []))
    for number, (cell, text, tree) in enumerate(zip(cells, texts, trees), 1):
        if tree is None:
            left.append(f"cell {number}: it cannot be read as Python, and stays as it is")
            continue
        ported = _Porter(text, names).port(tree)
        left += [f"cell {number}, line {line}" for line in ported.left]
        changes += ported.changes
        if ported.changes:
            new = ported.content.decode()
            cell["source"] = new if isinstance(cell["source"], str) else new.splitlines(keepends=True)
    if not changes:
        return Ported(content, 0, left)
    text = json.dumps(notebook, indent=_indent(content), ensure_ascii=not any(byte > 127 for byte in content))
    return Ported((text + ("\n" if content.endswith(b"\n") else "")).encode(), changes, left)


def _indent(content: bytes) -> int | None:
    """Returns by how much a JSON file is indented."""
    lines = content.splitlines()
    return len(lines[1]) - len(lines[1].lstrip()) if len(lines) > 1 else None


def _parsed_cell(text: str) -> ast.Module | None:
    """Returns the syntax of a cell, with lines for IPython left out; None where the rest is not Python."""
    lines = text.splitlines(keepends=True)
    if lines and lines[0].startswith("%%") and not lines[0].startswith(PYTHON_CELLS):
        return ast.Module([], [])
    for i, line in enumerate(lines):
        code = line.lstrip()
        if code.startswith(("%", "!", "?")) or code.rstrip().endswith("?"):
            lines[i] = line[: len(line) - len(code)] + "pass" + ("\n" if line.endswith("\n") else "")
    try:
        return ast.parse("".join(lines))
    except SyntaxError:
        return None
