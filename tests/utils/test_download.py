"""Downloads from a server of ours that breaks off, lies or hangs."""

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kstyle_torch import config
from kstyle_torch.utils import download, get_file
from kstyle_torch.utils.temporary import leftovers, unfinished

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 4096
HALF = len(CONTENT) // 2


class Server(ThreadingHTTPServer):
    """Answers each request by the next of `answers`, functions of the handler; notes what was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.ranges = [], []
        self.origin = f"http://127.0.0.1:{self.server_port}/words.bin"
        self.hangs, self.end = threading.Event(), threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        asked = {name: self.headers[name] for name in ("Range", "If-Range") if name in self.headers}
        self.server.ranges.append(asked)
        self.server.answers.pop(0)(self)

    def log_message(self, *arguments):
        pass

    def send(self, content, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.end.set()
        server.shutdown()
        thread.join()


def whole(handler, content=CONTENT, **headers):
    handler.send(content, Content_Length=len(content), **headers)


def tagged(handler):
    whole(handler, ETag='"1"')


def half(handler, tag='"1"'):
    handler.send(CONTENT[:HALF], Content_Length=len(CONTENT), ETag=tag)


def weak_half(handler):
    half(handler, 'W/"1"')


def reset(handler):
    half(handler)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def rest(handler, skip=0, tag='"1"'):
    start = int(handler.headers.get("Range", "bytes=0-")[6:-1]) + skip
    content = CONTENT[start:]
    content_range = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    handler.send(content, 206, Content_Length=len(content), ETag=tag, Content_Range=content_range)


def rest_or_whole(handler):
    (rest if "Range" in handler.headers else whole)(handler)


def other_rest(handler):
    rest(handler, tag='"2"')


def shifted_rest(handler):
    rest(handler, skip=-1)


def unasked_part(handler):
    handler.send(b"part", 206, Content_Length=4, Content_Range="bytes 0-3/10")


def status(code):
    return lambda handler: handler.send(b"", code, Content_Length=0)


def chunked(handler, end=b"0\r\n\r\n"):
    chunk = f"{len(CONTENT):x}\r\n".encode() + CONTENT + b"\r\n"
    handler.send(chunk + end, Transfer_Encoding="chunked")


def broken_chunks(handler):
    chunked(handler, b"")


def without_length(handler):
    handler.send(CONTENT)


def fetch(server, cache, **kwargs):
    return Path(get_file(origin=server.origin, cache_dir=cache, **kwargs))


RESUMED = {"Range": f"bytes={HALF}-", "If-Range": '"1"'}
ANSWERS = {
    "whole": ([whole], [{}]),
    "chunked": ([chunked], [{}]),
    "without a length": ([without_length], [{}]),
    "cut, resumed": ([half, rest], [{}, RESUMED]),
    "reset, resumed": ([reset, rest_or_whole], [{}, ...]),
    "cut, then another file": ([half, whole], [{}, RESUMED]),
    "cut, part of another file": ([half, other_rest, tagged], [{}, RESUMED, {}]),
    "cut, another part": ([half, shifted_rest, tagged], [{}, RESUMED, {}]),
    "cut, shorter now": ([half, status(416), tagged], [{}, RESUMED, {}]),
    "cut, without a strong tag": ([weak_half, whole], [{}, {}]),
    "cut chunks": ([broken_chunks, chunked], [{}, {}]),
    "busy": ([status(503), status(429), whole], [{}, {}, {}]),
    "a part that was not asked for": ([unasked_part, whole], [{}, {}]),
    "cut often": ([*[weak_half] * 3, whole], [{}] * 4),
}


@pytest.mark.parametrize(("answers", "asked"), ANSWERS.values(), ids=ANSWERS)
def test_the_whole_file_arrives(server, tmp_path, answers, asked):
    server.answers = [*answers]
    path = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENT
    assert [path.name for path in path.parent.iterdir()] == ["words.bin"]
    assert len(server.ranges) == len(asked)
    assert all(expected is ... or found == expected for found, expected in zip(server.ranges, asked, strict=True))


ERRORS = {
    "cut each time": ([weak_half] * 5, "ended after 524288 of 1048576 bytes, 4 times in a row"),
    "missing": ([status(404)], "the server answers 404 Not Found"),
    "busy each time": ([status(503)] * 4, "503 Service Unavailable, 4 times"),
}


@pytest.mark.parametrize(("answers", "message"), ERRORS.values(), ids=ERRORS)
def test_or_nothing(server, tmp_path, answers, message):
    server.answers = [*answers]
    with pytest.raises(OSError, match=message) as caught:
        fetch(server, tmp_path)
    assert server.origin in str(caught.value) and f"save it as {tmp_path / 'datasets/words.bin'}" in str(caught.value)
    assert not [*(tmp_path / "datasets").iterdir()] and not server.answers


def test_no_server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}/words.bin"
        with pytest.raises(OSError, match="Cannot download .*refused.* save it as"):
            get_file(origin=origin, cache_dir=tmp_path)


def test_the_digest_is_checked(server, tmp_path):
    server.answers = [lambda handler: whole(handler, b"other")]
    with pytest.raises(ValueError, match="The download was deleted"):
        fetch(server, tmp_path, file_hash="0" * 64)
    assert not [*(tmp_path / "datasets").iterdir()]


def test_the_old_file_stays_until_the_new_one_is_whole(server, tmp_path):
    server.answers = [whole, status(404)]
    path = fetch(server, tmp_path)
    with pytest.raises(OSError, match="404"):
        fetch(server, tmp_path, force_download=True)
    assert path.read_bytes() == CONTENT


def test_a_full_disk_is_not_tried_again(server, tmp_path, monkeypatch):
    server.answers = [whole, whole]
    full = OSError(28, "No space left on device")

    class Full(io.BytesIO):
        def write(self, content):
            raise full

    monkeypatch.setattr(Path, "open", lambda self, mode: Full())
    with pytest.raises(OSError, match="No space") as caught:
        fetch(server, tmp_path)
    assert caught.value is full and len(server.answers) == 1


PROGRAM = """
import sys
from kstyle_torch.utils import archive, get_file
origin, cache = sys.argv[1:]
archive.os.rename = lambda *paths: get_file("hangs.bin", origin, cache_dir=cache)
get_file("folder", origin, cache_dir=cache, extract=True)
"""


@pytest.mark.full
def test_killed_while_downloading_and_unpacking(server, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "one")

    def hang(handler):
        half(handler)
        handler.wfile.flush()
        server.hangs.set()
        server.end.wait()

    server.answers = [lambda handler: whole(handler, file.getvalue()), hang, whole]
    command = [sys.executable, "-c", PROGRAM, server.origin, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        server.hangs.wait(300)
        process.send_signal(signal.SIGKILL)
    folder, path = tmp_path / "datasets" / "folder", tmp_path / "datasets" / "hangs.bin"
    assert len(leftovers(folder)) == len(leftovers(path)) == 1
    assert not folder.exists() and not path.exists()
    get_file("folder", server.origin, cache_dir=tmp_path, extract=True)
    get_file("hangs.bin", server.origin, cache_dir=tmp_path)
    assert (folder / "a.txt").read_text() == "one" and path.read_bytes() == CONTENT
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["folder", "folder_archive", "hangs.bin"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_unfinished_files_of_the_living_stay(tmp_path, is_folder):
    with unfinished(tmp_path / "a", is_folder) as first, unfinished(tmp_path / "a", is_folder) as second:
        assert {*leftovers(tmp_path / "a")} == {first, second}
        with unfinished(tmp_path / "a.b", is_folder):
            assert {*leftovers(tmp_path / "a")} == {first, second}
    assert not [*tmp_path.iterdir()]


def test_the_bar(server, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    server.answers = [half, rest]
    monkeypatch.setattr(sys, "stdout", Terminal())
    fetch(server, tmp_path)
    first, *bars = sys.stdout.getvalue().replace("\r", "\n").split("\n")
    assert first == f"Downloading data from {server.origin}"
    last = [bar for bar in bars if bar.strip()][-1]
    assert last.startswith(f"1.00M/1.00M {'━' * 20} 00:00")


def test_silence(server, tmp_path, capsys):
    server.answers = [whole, whole]
    fetch(server, tmp_path / "a")
    assert capsys.readouterr() == (f"Downloading data from {server.origin}\n", "")  # no bar in a file
    config.disable_interactive_logging()
    try:
        fetch(server, tmp_path / "b")
    finally:
        config.enable_interactive_logging()
    assert capsys.readouterr() == ("", "")
