"""Files of `torch.save` as untrusted input: checked before torch unpickles them.

torch refuses code (`weights_only`), but not files that exhaust memory or time: a storage that is compressed, or declares
more bytes than the file has, and a key that is a tuple of tuples of tuples, whose hash takes forever.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from kstyle_torch import budget
from kstyle_torch.saving import archive, untrusted

MAX_TREE = 100_000  # objects in a possible dict key, whose hash visits them all; a tensor's arguments are about twenty
MAX_PICKLE = 1 << 28  # bytes
FREE_OBJECTS = 1_000_000  # Python objects, of some 60 bytes each, plus one for every BYTES_AN_OBJECT of the file
BYTES_AN_OBJECT = 8
BYTES_OF_KIND = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}


def load(path: Path) -> Any:
    """Returns the content of a file of `torch.save`, tensors and plain data, on the CPU.

    Raises: ValueError: if it holds anything else, is broken, or would exhaust memory or time.
    """
    untrusted.check_file(path)
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            _check_zip(file, path.stat().st_size)
        else:
            file.seek(0)
            _check_stream(file, path.stat().st_size)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except RECORDED as error:
        raise ValueError(f"it holds more than tensors, or is broken: {str(error)[:500]}") from error


RECORDED = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
)


def _check_zip(file: IO[bytes], size: int) -> None:
    """Checks the members of torch's format since 1.6: none is compressed, so none is larger than stored.

    Python and torch look up the table of members in different ways; for a plain file both find the one at its end.
    """
    file.seek(max(size - 22, 0))
    if file.read(4) != b"PK\x05\x06":
        raise ValueError("it is truncated, or something follows the end of the zip file.")
    with archive.broken_zip(), zipfile.ZipFile(file) as whole:
        members = whole.infolist()
        if not members or min(member.header_offset for member in members) != 0:
            raise ValueError("something precedes the beginning of the zip file.")
        if len(members) > archive.MAX_MEMBERS or len({member.filename for member in members}) < len(members):
            raise ValueError("it has too many members, or two with the same name.")
        for member in members:
            archive.check_member(member)
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(
                    f"its member {untrusted.shortened(member.filename)} is compressed; torch compresses none."
                )
        if sum(member.file_size for member in members) > size:
            raise ValueError("its members claim to be longer than it is.")
        pickles = [member for member in members if member.filename.endswith(".pkl")]
        for member in pickles:
            if member.file_size > MAX_PICKLE:
                raise ValueError(
                    f"its member {member.filename} has {member.file_size} bytes; at most {MAX_PICKLE} are read."
                )
            _Scan(io.BytesIO(whole.read(member)), size).run()


def _check_stream(file: IO[bytes], size: int) -> None:
    """Checks the pickles of the older format: magic number, version, system, the object, the keys of its storages."""
    for _ in range(5):
        try:
            _Scan(file, size).run()
        except EOFError:
            return  # torch's error says what is missing


class _Scan:
    """Abstract run of a pickle that only counts of how many objects each object is made.

    Args:
        file: Positioned at the beginning of a pickle; at its end afterwards.
        size: Size of the whole file in bytes.
    """

    def __init__(self, file: IO[bytes], size: int):
        self.file, self.size = file, size
        self.stack: list[tuple[float, Any]] = []  # number of objects; value of numbers, texts and tuples of them
        self.marks: list[int] = []
        self.memo: dict[int, tuple[float, Any]] = {}
        self.claims: dict[Any, float] = {}  # declared sizes of storages in bytes
        self.objects = (FREE_OBJECTS + size / BYTES_AN_OBJECT) * budget.times()  # that the pickle may still create

    def run(self) -> None:
        """Runs the pickle.

        Raises: ValueError: if it is broken, nested too deeply, or its storages declare more bytes than the file has.
        """
        try:
            for opcode, argument, _ in pickletools.genops(self.file):
                self._take(opcode, argument)
        except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"it holds more than tensors, or is broken: {error!r}") from error
        if sum(self.claims.values()) > self.size:
            raise ValueError(f"its tensors claim {sum(self.claims.values()):.3g} bytes; the file has {self.size}.")

    def _take(self, opcode: Any, argument: Any) -> None:
        name = opcode.name
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("DUP", "POP", "POP_MARK"):
            self._move(name)
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._make(opcode, argument)

    def _move(self, name: str) -> None:
        if name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "POP" and not (self.marks and self.marks[-1] == len(self.stack)):
            self.stack.pop()
        else:
            del self.stack[self.marks.pop() :]

    def _make(self, opcode: Any, argument: Any) -> None:
        """Pops the operands of an opcode from the stack, and pushes its result."""
        before = [each.name for each in opcode.stack_before]
        start = self.marks.pop() if "mark" in before else len(self.stack) - len(before)
        fixed = before.index("mark") if "mark" in before else 0
        if start - fixed < 0:
            raise IndexError("its stack is empty")
        parts = self.stack[start - fixed :]
        del self.stack[start - fixed :]
        count = 1 + sum(part[0] for part in parts)
        says = [part[1] for part in parts]
        self.objects -= 1
        if self.objects < 0:
            raise ValueError(f"it holds more Python objects than a file of {self.size} bytes may. {budget.ADVICE}")
        if opcode.name in ("GLOBAL", "STACK_GLOBAL") and (argument or " ".join(map(str, says))).endswith(" bytearray"):
            raise ValueError("it holds more than tensors: a bytearray, which a few bytes can make of any length.")
        value: Any = argument if argument is not None else tuple(says) if "TUPLE" in opcode.name else None
        if opcode.name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ", "FROZENSET") and count > MAX_TREE:
            raise ValueError(f"it is nested too deeply: a tuple in it has over {MAX_TREE} parts.")
        if opcode.name == "BINPERSID":
            self._claim(says[0])
        if opcode.stack_after:
            self.stack.append((count, value))

    def _claim(self, identity: Any) -> None:
        """Records the declared size of a storage: `("storage", kind, key, device, length)`."""
        kind, key, length = (identity[place] for place in (1, 2, 4))
        if not isinstance(length, int) or length < 0:
            raise ValueError("it is broken: a storage without a length.")
        names = str(kind).split()
        kind_bytes = next((size for name, size in BYTES_OF_KIND.items() if names and names[-1] == f"{name}Storage"), 1)
        self.claims[key] = max(self.claims.get(key, 0), float(length) * kind_bytes)
