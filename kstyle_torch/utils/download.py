"""Downloads with retries, resumption and a progress bar."""

from __future__ import annotations

import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from kstyle_torch import config
from kstyle_torch.callbacks.progress import WIDTH, can_encode, can_redraw
from kstyle_torch.messages import say

BLOCK = 2**18
SILENCE_SECONDS = 60.0  # time without data after which a connection counts as broken
FAILURES = 4  # consecutive attempts without progress
PAUSE_SECONDS = 1.0  # before the first retry; doubles with each further one
BUSY = {408, 425, 429, 500, 502, 503, 504}  # status codes after which a retry may succeed
DROPPED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError, http.client.HTTPException)


class BrokenTransferError(Exception):
    """Error of a transfer that may be retried; `str()` is the reason."""


def download(origin: str, path: Path) -> None:
    """Downloads a URL to a file, with a progress bar.

    A transfer that fails, or ends before the announced number of bytes, is retried. It resumes if the server confirms, by
    an ETag, that the file is unchanged; otherwise it starts over.

    Args:
        origin: The URL.
        path: The file, which is overwritten, and synced to the disk at the end.
    Raises: OSError: if the download fails.
    """
    say(f"Downloading data from {origin}")
    with path.open("wb") as file, _Bar() as bar:
        transfer = _Transfer(origin, file, bar)
        failures = furthest = 0
        while True:
            try:
                transfer.run()
                break
            except BrokenTransferError as error:
                failures = 0 if transfer.done > furthest else failures + 1
                furthest = max(furthest, transfer.done)
                if failures == FAILURES:
                    raise OSError(f"{error}, {FAILURES} times in a row") from error
                time.sleep(PAUSE_SECONDS * 2**failures)
        file.flush()
        os.fsync(file.fileno())


class _Bar(tqdm):
    """A bar of bytes in the style of `fit`; hidden if it cannot be redrawn."""

    monitor_interval = 0  # no monitor thread

    def __init__(self) -> None:
        super().__init__(
            file=sys.stdout,
            disable=not (config.is_interactive_logging_enabled() and can_redraw(sys.stdout)),
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            ascii=" ━" if can_encode("━", sys.stdout) else ".=",
            bar_format=f"{{n_fmt}}/{{total_fmt}} {{bar:{WIDTH}}} {{remaining}} {{rate_fmt}}",
        )

    def move(self, done: int, total: int | None) -> None:
        """Sets the bar to `done` bytes, which may be fewer than before."""
        self.total = total
        self.update(done - self.n)


class _Transfer:
    """State of a download over all its attempts.

    Args:
        origin: The URL.
        file: Open for writing.
        bar: The progress bar.
    """

    def __init__(self, origin: str, file: IO[bytes], bar: _Bar):
        self.origin, self.file, self.bar = origin, file, bar
        self.done = 0  # bytes in the file
        self.total: int | None = None
        self.tag: str | None = None  # ETag of the file's version; only a strong one guarantees equal bytes

    def run(self) -> None:
        """Attempts to download the rest, or the whole file."""
        with self._answer() as source:
            if not self._continues(source):
                self._start_anew(source.headers)
            while block := _read(source):
                self.file.write(block)
                self.done += len(block)
                self.bar.move(self.done, self.total)
        if self.total is not None and self.done != self.total:
            raise BrokenTransferError(f"the transfer ended after {self.done} of {self.total} bytes")

    def _answer(self) -> Any:
        resume = self.tag is not None and self.done > 0
        headers = {"Range": f"bytes={self.done}-", "If-Range": self.tag or ""} if resume else {}
        try:
            return urllib.request.urlopen(urllib.request.Request(self.origin, headers=headers), timeout=SILENCE_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416 and resume:
                self.tag = None  # the file on the server is shorter now
            elif error.code not in BUSY:
                raise OSError(reason) from error
            raise BrokenTransferError(reason) from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, DROPPED):
                raise BrokenTransferError(str(cause) or type(cause).__name__) from error
            raise OSError(str(cause)) from error

    def _continues(self, source: Any) -> bool:
        """Returns whether the response is the rest of the partially downloaded file."""
        if source.status != 206:
            return False
        if self.total is None or self.tag is None or source.headers.get("ETag", self.tag) != self.tag:
            self.tag = None
            raise BrokenTransferError("the server sent a part of another file")
        if source.headers.get("Content-Range") != f"bytes {self.done}-{self.total - 1}/{self.total}":
            self.tag = None
            raise BrokenTransferError("the server sent a different part of the file than requested")
        return True

    def _start_anew(self, headers: Any) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.done = 0
        length = headers.get("Content-Length", "")
        self.total = int(length) if length.isdecimal() else None
        tag = headers.get("ETag", "")
        self.tag = tag if tag.startswith('"') and self.total is not None else None


def _read(source: Any) -> bytes:
    """Reads a block; separate from writing, whose errors (such as a full disk) must not be retried."""
    try:
        return source.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise BrokenTransferError(str(error) or type(error).__name__) from error
