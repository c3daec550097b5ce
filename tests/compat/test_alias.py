"""The alias: programs in processes of their own, in which `keras` and `tensorflow.keras` mean this package."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from kstyle_torch import compat
from kstyle_torch.compat import alias

PROGRAMS = Path(__file__).parent / "programs"
ARGUMENTS = {"keras3": ["--epochs", "2"]}
OTHERS = sorted(path.stem for path in PROGRAMS.glob("*.py") if path.stem not in ARGUMENTS)


def run(folder, *command):
    """Runs `python` in a folder; returns what it printed."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *command]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("name", [*ARGUMENTS, *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)])
def test_programs_run(name, tmp_path):
    program = str(PROGRAMS / f"{name}.py")
    assert run(tmp_path, "-m", "kstyle_torch", "run", program, *ARGUMENTS.get(name, [])).endswith("done\n")


IN_A_NOTEBOOK = """
from kstyle_torch import compat
compat.load_ipython_extension(None)
compat.install()  # again
import keras, tensorflow
from tensorboard.compat import tf
assert tf is not tensorflow and tf.io.gfile.exists(".")
from keras.layers import Dense
compat.unload_ipython_extension(None)
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras as real
assert real is not keras and not issubclass(real.layers.Dense, Dense)
try:
    compat.install()
except ImportError as error:
    print(error)
"""


@pytest.mark.full
def test_extension_loads_and_unloads(tmp_path):
    assert "The real keras has been imported already" in run(tmp_path, "-c", IN_A_NOTEBOOK)


@pytest.mark.full
def test_modules_run(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it():\n    import keras\n    assert '3.15' in keras.__version__\n")
    assert "1 passed" in run(tmp_path, "-m", "kstyle_torch", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_install_refuses_after_the_real_keras():
    assert keras.__name__ == "keras"
    finders = [*sys.meta_path]
    with pytest.raises(ImportError, match="before the first import of Keras"):
        compat.install()
    assert sys.meta_path == finders


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("keras", ("root", "")),
        ("tf_keras", ("root", "")),
        ("tensorflow.keras", ("root", "")),
        ("tensorflow.python.keras", ("root", "")),
        ("keras.layers.core", ("same", "layers.core")),
        ("tensorflow.keras.applications.resnet50", ("same", "applications.resnet50")),
        ("keras.api.ops", ("same", "ops")),
        ("keras._tf_keras.keras.layers", ("same", "layers")),
        ("keras.src", ("source", "")),
        ("tf_keras.src.layers.layer", ("source", "layers.layer")),
        ("keras.srcs", ("same", "srcs")),
        ("tensorflow", ("tensorflow", "")),
        ("tensorflow.compat.v1", ("tensorflow", "compat.v1")),
        ("tensorboard.compat.notf", ("empty", "")),
        ("keras_tuner", None),
        ("tensorflow_text", None),
        ("kerastuner.keras", None),
        ("tensorboard.compat", None),
    ],
)
def test_names_that_change_their_meaning(name, target):
    assert alias._target(name) == target


def test_missing_modules_have_the_name_that_was_asked_for():
    finder = alias.AliasFinder()
    for name in ("keras.no_such", "tensorflow.no_such", "keras.src.no_such"):
        spec = finder.find_spec(name)
        with pytest.raises(ModuleNotFoundError) as caught:
            spec.loader.exec_module(type(sys)(name))
        assert caught.value.name == name  # by which `from package import name` tells it from other errors
    assert finder.find_spec("numpy") is None
