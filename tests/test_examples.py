"""The programs in examples/ run as a user runs them, and learn what they are meant to learn."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.choice import parameters

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("tutorial_[ice]*.py")))
def test_the_tutorials_models_are_shown_and_called(name):
    run = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "(InputLayer)" in run.stdout
    assert re.search(r"\(None, (10|20|28, 28, 1)\)", run.stdout)
    assert "Prediction" in run.stdout


LEARN = [("quickstart", 0.95), ("digits", 0.97), ("tutorial_training", 0.9), ("sklearn_pipeline", 0.96)]


@pytest.mark.parametrize(("name", "least"), parameters(LEARN, lambda row: None, lambda row: row[0]))
def test_examples_learn(name, least, capsys):
    accuracy = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    assert accuracy >= least
    printed = capsys.readouterr().out
    assert printed.count(f"{accuracy:.4f}") >= 2  # evaluate and scikit-learn agree


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("functional_multi_input", 0.9),
        ("siamese_shared_layers", 0.9),
        ("load_keras_file", 0.95),
        ("eject_to_torch", 0.93),
        ("text_classification_lstm", 0.98),
        ("text_classification_transformer", 0.98),
        ("text_in_model", 0.97),
    ],
)
def test_examples_classify_better_than_what_they_compare_with(name, least, capsys):
    returned = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    accuracy, other = figures(capsys.readouterr().out, "Test accuracy")
    assert accuracy == pytest.approx(returned, abs=1e-4)
    assert accuracy >= least > other + 0.04


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "most"), [("timeseries_forecast", 0.8), ("autoencoder", 0.017), ("custom_layer", 1.1)]
)
def test_examples_predict_better_than_what_they_compare_with(name, most, capsys):
    returned = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    error, other = figures(capsys.readouterr().out, "Test error")
    assert error == pytest.approx(returned, abs=1e-4)
    assert error <= most < 0.8 * other


def figures(printed: str, what: str) -> tuple[float, float]:
    """The example's figure, and that of the simpler method beside it."""
    own, other = re.search(rf"^{what}: ([\d.]+) \(.*: ([\d.]+)\)$", printed, re.MULTILINE).groups()
    return float(own), float(other)
