"""`scripts/matrix.py`: which pairs of Python and torch it tests, and its exit status. Nothing is installed here."""

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
LISTING = """torch (2.15.0)
Available versions: 2.15.0, 2.15.0rc1, 2.14.1, 2.13.0+cpu, 2.13.0, 2.12.1, 2.9.1
  INSTALLED: 2.13.0+cpu
"""


@pytest.fixture
def matrix(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module("matrix")
    yield module
    for name in ("matrix", "_environment"):
        sys.modules.pop(name, None)


def test_what_pyproject_supports(matrix):
    text = (SCRIPTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    pythons, oldest = matrix.supported(text)
    project = tomllib.loads(text)["project"]
    assert f">={pythons[0]}" == project["requires-python"]
    assert "torch>=" + ".".join(map(str, oldest)) in project["dependencies"]


def test_releases(matrix):
    assert matrix.releases(LISTING, (2, 13)) == ["2.15.0", "2.14.1", "2.13.0"]
    assert matrix.releases("", (2, 13)) == []


CASES = {
    "every": ("every", "", [("2.15.0", "does not install"), ("2.14.1", "passed"), ("2.13.0", "passed")]),
    "newest": ("newest", "", [("2.15.0", "does not install"), ("2.14.1", "passed")]),
    "newest is known": ("newest", "2.14.1+cpu", [("2.15.0", "does not install"), ("2.14.1", "tested already")]),
    "oldest": ("oldest", "", [("2.13.0", "passed")]),
    "another": ("2.14.0", "2.13.0", [("2.14.0", "passed")]),
}


@pytest.mark.parametrize(("asked", "skipped", "expected"), CASES.values(), ids=CASES)
def test_the_newest_is_the_newest_that_installs(matrix, monkeypatch, asked, skipped, expected):
    """A release that pip lists and cannot install is said, and the one before it is tested."""
    monkeypatch.setattr(matrix, "output_of", lambda *command: LISTING)

    def test(python, command, torch, arguments):
        assert (command, arguments) == ([sys.executable], ["--quick"])
        return matrix.Row(python, torch, matrix.NOT_INSTALLED if torch == "2.15.0" else matrix.PASSED)

    monkeypatch.setattr(matrix, "test", test)
    rows = list(matrix.rows_for([sys.executable], asked, (2, 13), skipped, ["--quick"]))
    assert [(row.torch, row.result.replace("torch ", "").split(" (")[0]) for row in rows] == expected


def test_without_an_index_nothing_is_tested(matrix, monkeypatch):
    monkeypatch.setattr(matrix, "output_of", lambda *command: "")
    rows = list(matrix.rows_for([sys.executable], "newest", (2, 13), "", []))
    assert [row.result for row in rows] == [matrix.NOT_OFFERED]
    assert matrix.exit_status(rows) == 3


STATUSES = {
    "passed": ("PASSED NOT_INSTALLED NOT_FOUND KNOWN", 0),
    "failed": ("PASSED FAILED KNOWN", 1),
    "known": ("KNOWN", 0),
    "no newer one installs": ("NOT_INSTALLED KNOWN", 3),
    "no Python": ("NOT_FOUND", 3),
}


@pytest.mark.parametrize(("names", "status"), STATUSES.values(), ids=STATUSES)
def test_exit_status(matrix, names, status):
    assert matrix.exit_status([matrix.Row("3.11", "2.13.0", getattr(matrix, name)) for name in names.split()]) == status


def test_finding_a_python(matrix, monkeypatch, tmp_path):
    ours = "{}.{}".format(*sys.version_info)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert matrix.find_python(ours) == [sys.executable]
    assert matrix.find_python(sys.executable) == [sys.executable]
    assert matrix.find_python("3.0") is None
    assert matrix.find_python("no-such-python") is None


def test_a_pair_that_fails_leaves_nothing_behind(matrix, monkeypatch, tmp_path):
    """Each step that may fail, in turn; torch alone may be missing without a failure."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    steps = []
    monkeypatch.setattr(matrix, "output_of", lambda *command: "2.14.1+cpu\n")

    def call(*command):
        step = next(word for word in map(str, command) if word in ("venv", "pip", "scripts/test.py"))
        steps.append(step)
        return step == failing

    def install(interpreter, extra, requirement):
        steps.append((extra, requirement))
        if failing == "install":
            raise SystemExit(1)

    monkeypatch.setattr(matrix, "call", call)
    monkeypatch.setattr(matrix, "install", install)
    results = {}
    for failing in ("venv", "pip", "install", "scripts/test.py", None):
        row = matrix.test("3.11", [sys.executable], "2.14.1", ["-k", "dense"])
        results[failing] = (row.torch, row.result)
    assert results == {
        "venv": ("2.14.1", matrix.FAILED),
        "pip": ("2.14.1", matrix.NOT_INSTALLED),
        "install": ("2.14.1", matrix.FAILED),
        "scripts/test.py": ("2.14.1+cpu", matrix.FAILED),
        None: ("2.14.1+cpu", matrix.PASSED),
    }
    assert steps[-4:] == ["venv", "pip", ("test", "torch==2.14.1"), "scripts/test.py"]
    assert not list(tmp_path.iterdir())


def test_arguments_that_are_not_its_own_go_to_the_tests(matrix, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(matrix, "find_python", lambda name: None if name == "3.99" else [sys.executable])

    def rows_for(command, torch, oldest, skipped, arguments):
        asked.append((torch, skipped, arguments))
        return [matrix.Row("3.11", torch, matrix.FAILED)]

    monkeypatch.setattr(matrix, "rows_for", rows_for)
    words = "--python 3.99 --python 3.11 --torch 2.13.0 --torch newest --skip 2.12 -k dense -p no:cacheprovider -x"
    monkeypatch.setattr(sys, "argv", ["matrix.py", *words.split()])
    assert matrix.main() == 1
    arguments = ["-k", "dense", "-p", "no:cacheprovider", "-x"]
    assert asked == [("2.13.0", "2.12", arguments), ("newest", "2.12", arguments)]
    table = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in table] == ["3.99", "3.11", "3.11"]
    asked.clear()
    monkeypatch.setattr(sys, "argv", ["matrix.py", "--python", "3.11"])
    matrix.main()
    assert asked == [("every", "", ["--quick"])]
