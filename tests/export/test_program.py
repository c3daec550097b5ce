"""`model.export`: .pt2 for plain torch, .onnx for onnxruntime."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import Input, Model, layers
from kstyle_torch.export import onnx, to_program
from kstyle_torch.layers import InputSpec
from tests.export.models import MODELS, Subclassed, outputs, randomize, subclassed
from tests.oracle import assert_close, uniform


def every_model(*quick):
    """The mark that runs a test for every model; the quick set has those named."""
    names = [pytest.param(name, marks=() if name in quick else pytest.mark.full) for name in MODELS]
    return pytest.mark.parametrize("name", names)


def made(name):
    make, batch = MODELS[name]
    torch.manual_seed(0)
    return randomize(make()), batch


def assert_outputs(got, expected):
    got, expected = outputs(got), outputs(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert_close(one, other)


@every_model("convnet")
def test_pt2_gives_the_models_outputs_at_any_batch_size(name, tmp_path):
    model, batch = made(name)
    model.export(tmp_path / "m.pt2")
    program = torch.export.load(tmp_path / "m.pt2").module()
    for rows in (1, 2, 5):
        assert_outputs(program(batch(rows)), model(batch(rows)))


@pytest.mark.parametrize(  # pt2, which onnx begins with, has all models
    "name",
    ["sequential", *(pytest.param(name, marks=pytest.mark.full) for name in ("convnet", "recurrent", "attention"))],
)
def test_onnx_gives_the_models_outputs_at_any_batch_size(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, batch = made(name)
    model.export(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert [entry.name for entry in session.get_inputs()] == model.input_names
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    for rows in (1, 2, 5):
        arrays = [leaf.numpy() for leaf in ks.tree.flatten(batch(rows))]
        got = session.run(None, dict(zip(model.input_names, arrays, strict=True)))
        assert_outputs([torch.from_numpy(array) for array in got], model(batch(rows)))


@pytest.mark.full
def test_a_process_without_this_package_serves_the_file(tmp_path):
    model, batch = made("convnet")
    model.export(tmp_path / "m.pt2")
    torch.save({"x": batch(3), "y": model(batch(3)).detach()}, tmp_path / "data.pt")
    program = """
        import sys
        sys.modules["kstyle_torch"] = None  # importing it fails
        import torch
        data = torch.load("data.pt")
        module = torch.export.load("m.pt2").module()
        assert torch.allclose(module(data["x"]), data["y"], atol=1e-6)
        print("served")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "served", run.stderr


def test_the_program_is_in_inference_mode_and_the_model_stays_as_it_was():
    model, batch = made("convnet")
    expected = model(batch(4)).detach()
    model.train()
    statistics = model.batch_normalization.running_mean.clone()
    program = to_program(model).module()
    assert model.training and model.dropout.training
    assert_close(model.batch_normalization.running_mean, statistics)
    assert_close(program(batch(4)).detach(), expected)


@pytest.mark.parametrize("given", [InputSpec(shape=(None, 3)), Input((3,)), np.ones((2, 3)), uniform(4, 3)], ids=type)
def test_a_subclassed_model_is_exported_for_the_inputs_given(given):
    model = subclassed()
    program = to_program(model, given).module()
    assert_close(program(uniform(7, 3)).detach(), model(uniform(7, 3)).detach())


def test_added_losses_do_not_stay_behind():
    inputs = Input((3,))
    model = Model(inputs, layers.ActivityRegularization(l2=0.1)(layers.Dense(2)(inputs)))
    to_program(model)
    assert model.losses == []


MISTAKES = {
    "suffix": (lambda: MODELS["sequential"][0]().export("m.tflite"), ValueError, r"\.pt2, \.onnx, \.py.*m\.tflite"),
    "format": (lambda: MODELS["sequential"][0]().export("m", format="onx"), ValueError, "Did you mean 'onnx'"),
    "other framework": (
        lambda: MODELS["sequential"][0]().export("m", format="tf_saved_model"),
        ValueError,
        "other frameworks",
    ),
    "no inputs": (lambda: subclassed().export("m.pt2"), ValueError, "no known input signature.*InputSpec"),
    "not built": (lambda: Subclassed().export("m.pt2"), ValueError, "not built yet"),
    "signature": (lambda: subclassed().export("m.pt2", input_signature="x"), ValueError, "InputSpec with a shape.*'x'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained_and_write_nothing(mistake, tmp_path, monkeypatch):
    call, kind, message = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        call()
    assert [*tmp_path.iterdir()] == []


def test_a_model_that_decides_on_its_data_is_refused(tmp_path):
    class Deciding(layers.Layer):
        def call(self, x):
            return x if float(x.sum()) > 0 else -x

    model = ks.Sequential([Input((3,)), Deciding()])
    with pytest.raises(ValueError, match="cannot be exported"):
        model.export(tmp_path / "m.pt2")
    assert [*tmp_path.iterdir()] == []


def test_onnx_without_its_extra_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ImportError, match=r"no_such_package: pip install 'kstyle-torch\[onnx\]'"):
        MODELS["sequential"][0]().export(tmp_path / "m.onnx")
    assert [*tmp_path.iterdir()] == []
