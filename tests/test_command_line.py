"""`python -m kstyle_torch`."""

import subprocess
import sys
from pathlib import Path

import keras
import pytest
import safetensors.torch
import torch

from kstyle_torch import Input, Model, Sequential, __main__, __version__, layers, registry, saving
from tests.oracle import assert_close, uniform

X = uniform(3, 4)


@pytest.fixture
def source(tmp_path):
    """A `.keras` file by Keras, and what its model gives for `X`."""
    theirs = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)])
    theirs.save(tmp_path / "a.keras")
    return tmp_path / "a.keras", theirs(X)


def test_whole_models(source, tmp_path):
    path, expected = source
    assert __main__.main(["convert", str(path), str(tmp_path / "b.keras")]) == 0
    assert_close(saving.load_model(tmp_path / "b.keras")(X), expected)


def test_weights(source, tmp_path):
    path, expected = source
    for name in ("b.safetensors", "b.pt", "b.weights.h5"):
        assert __main__.main(["convert", str(path), str(tmp_path / name)]) == 0
        model = saving.load_model(path)
        for view in model.weights:
            view.assign(torch.zeros(tuple(view.shape)))
        model.load_weights(tmp_path / name)
        assert_close(model(X), expected)
    assert len(safetensors.torch.load_file(tmp_path / "b.safetensors")) == 4


@pytest.mark.full
def test_programs_and_source(source, tmp_path):
    path, expected = source
    assert __main__.main(["convert", str(path), str(tmp_path / "b.pt2")]) == 0
    assert_close(torch.export.load(tmp_path / "b.pt2").module()(X).detach(), expected)
    assert __main__.main(["convert", str(path), str(tmp_path / "b.onnx")]) == 0
    assert (tmp_path / "b.onnx").stat().st_size > 100
    assert __main__.main(["convert", str(path), str(tmp_path / "b.py")]) == 0
    assert "class Model(nn.Module)" in (tmp_path / "b.py").read_text()


def test_a_folder_of_the_hub(tmp_path):
    model = Sequential([Input((4,)), layers.Dense(1)])
    model.save_pretrained(tmp_path / "hub")
    assert __main__.main(["convert", str(tmp_path / "hub"), str(tmp_path / "b.keras")]) == 0
    assert_close(saving.load_model(tmp_path / "b.keras")(X), model(X))
    assert isinstance(Model.from_pretrained(tmp_path / "hub"), Sequential)


def test_a_target_that_is_there_stays_unless_forced(source, tmp_path, capsys):
    path, _ = source
    target = tmp_path / "b.safetensors"
    target.write_text("mine")
    assert __main__.main(["convert", str(path), str(target)]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert __main__.main(["convert", str(path), str(target), "--force"]) == 0
    assert target.stat().st_size > 100


MISTAKES = {
    "no source": (["convert", "no.keras", "b.pt"], "'no.keras' does not exist"),
    "unknown ending": (["convert", "a.keras", "b.pb"], "'b.pb': the target must end in .keras"),
    "no folder": (["convert", "a.keras", "no/b.pt"], "folder 'no' does not exist"),
    "weights alone": (["convert", "a.safetensors", "b.keras"], "holds only weights"),
    "broken": (["convert", "broken.keras", "b.pt"], "Cannot load 'broken.keras'"),
    "summary": (["summary", "no.keras"], "'no.keras' does not exist"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_exit_with_1_and_write_nothing(mistake, source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken.keras").write_text("no zip")
    before = {*tmp_path.iterdir()}
    arguments, message = MISTAKES[mistake]
    assert __main__.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("arguments", [["convert"], ["nonsense"]])
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as exit:
        __main__.main(arguments)
    assert exit.value.code == 2


@pytest.mark.full
def test_summary_and_info_as_a_program(source):
    path, _ = source

    def run(*arguments):
        command = [sys.executable, "-m", "kstyle_torch", *arguments]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)

    summary = run("summary", str(path), "--line-length", "70")
    assert summary.returncode == 0, summary.stderr
    assert "Total params: 19" in summary.stdout.replace("  ", " ")
    info = run("info")
    assert info.returncode == 0, info.stderr
    assert f"kstyle_torch {__version__}" in info.stdout and torch.__version__ in info.stdout
    assert "device: cpu" in info.stdout and "extra hub" in info.stdout and "extra images" in info.stdout


def test_without_a_command_it_says_how_it_is_called(capsys):
    assert __main__.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m kstyle_torch")


def test_classes_of_the_user_are_imported(tmp_path, monkeypatch, capsys):
    module = (
        "import kstyle_torch as ks\n@ks.saving.register_keras_serializable('mine')\nclass Own(ks.layers.Dense): pass\n"
    )
    (tmp_path / "my_classes_of_summary.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    own = type("Own", (layers.Dense,), {})
    monkeypatch.setitem(registry.CUSTOM_NAMES, own, "mine>Own")
    monkeypatch.setattr(sys, "path", [*sys.path])
    Sequential([Input((4,)), own(1)]).save(path := tmp_path / "a.keras")
    assert __main__.main(["summary", str(path)]) == 1
    assert "Unknown class 'Own'" in (errors := capsys.readouterr().err) and "--import MODULE" in errors
    assert __main__.main(["summary", str(path), "--import", "my_classes_of_summary"]) == 0
    assert "(Own)" in capsys.readouterr().out
    saving.get_custom_objects().pop("mine>Own")
