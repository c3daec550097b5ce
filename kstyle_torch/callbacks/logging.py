"""Callbacks that write metrics to a CSV file or a server."""

from __future__ import annotations

import csv
import json
import os
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kstyle_torch.callbacks.base import Callback


class CSVLogger(Callback):
    """Callback that writes the metrics of each epoch to a CSV file.

    Args:
        filename: Path of the file, such as `"run/log.csv"`.
        separator: Separator of the columns.
        append: Whether to append to an existing file instead of replacing it.

    Example:
        >>> CSVLogger("training.log", separator=";").filename
        'training.log'
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        super().__init__()
        self.filename, self.sep, self.append = os.fspath(filename), separator, append
        self.keys: list[str] | None = None
        self.csv_file: Any = None
        self.writer: Any = None
        self._with_header = True
        self._start = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._close()
        before = Path(self.filename).stat().st_size if self.append and Path(self.filename).exists() else 0
        self.keys, self.writer, self._with_header, self._start = None, None, before == 0, before
        self._open("a" if self.append else "w")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):  # a later epoch may have validation
                self.keys += [f"val_{key}" for key in self.keys]
        if self.writer is None:
            self.writer = csv.DictWriter(self.csv_file, ["epoch", *self.keys], delimiter=self.sep)
            if self._with_header:
                self.writer.writeheader()
                self._with_header = False
        self.writer.writerow({"epoch": epoch, **{key: _cell(logs.get(key, "NA")) for key in self.keys}})
        self.csv_file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._close()

    def _open(self, mode: str) -> None:
        self.csv_file = open(self.filename, mode, newline="", encoding="utf-8")  # noqa: SIM115

    def _close(self) -> None:
        if self.csv_file is not None:
            self.csv_file.close()
        self.csv_file = self.writer = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows of this training, since a file that is not appended to is emptied when a training resumes."""
        with open(self.filename, "rb") as file:
            file.seek(self._start)
            rows = file.read().decode("utf-8")
        return {"rows": rows, "start": self._start, "keys": self.keys}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the file, without later rows."""
        self._close()
        self._start, self.keys, self._with_header = state["start"], state["keys"], not state["rows"]
        with open(self.filename, "r+b") as file:
            file.truncate(self._start)
        self._open("a")
        self.csv_file.write(state["rows"])
        self.csv_file.flush()


def _cell(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        return value
    return f'"[{", ".join(map(str, value))}]"'


class RemoteMonitor(Callback):
    """Callback that sends the metrics of each epoch to a server by HTTP POST; warns if it cannot be reached.

    Args:
        root: Address of the server.
        path: Path of the request.
        field: Form field for the JSON, unless `send_as_json`.
        headers: Headers of the request.
        send_as_json: Whether to send the JSON as the body instead of a form.

    Example:
        >>> RemoteMonitor(root="http://localhost:8000", send_as_json=True).path
        '/publish/epoch/end/'
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: dict[str, str] | None = None,
        send_as_json: bool = False,
    ):
        super().__init__()
        self.root, self.path, self.field, self.headers, self.send_as_json = root, path, field, headers, send_as_json

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {key: value.item() if hasattr(value, "item") else value for key, value in (logs or {}).items()}
        text = json.dumps({"epoch": epoch, **values})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        body = text if self.send_as_json else urllib.parse.urlencode({self.field: text})
        headers = {"Content-Type": kind, **(self.headers or {})}
        request = urllib.request.Request(self.root + self.path, body.encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10):
                pass
        except urllib.error.HTTPError:
            pass  # errors of the server do not matter to the training
        except OSError:
            warnings.warn(f"RemoteMonitor: cannot reach the server at {self.root}.", stacklevel=2)
