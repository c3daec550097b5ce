"""export.ExportArchive: programs that give what the functions give."""

import subprocess
import sys
import textwrap

import keras
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.export import ExportArchive
from kstyle_torch.layers import InputSpec
from tests.export.models import randomize, subclassed
from tests.oracle import assert_close, uniform

X = uniform(5, 3)


def chain():
    torch.manual_seed(0)
    steps = [layers.Dense(4, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)]
    return randomize(ks.Sequential([ks.Input((3,)), *steps]))


def opened(folder, name):
    return torch.export.load(folder / f"{name}.pt2").module()


MODEL = chain()
SPEC = [InputSpec(shape=(None, 3))]


def by_global(x):
    return torch.softmax(MODEL(x), -1)


FUNCTIONS = {
    "model": lambda model: (model, SPEC),
    "call": lambda model: (model.call, SPEC),
    "__call__": lambda model: (model.__call__, SPEC),
    "no signature": lambda model: (model, None),
    "symbolic": lambda model: (model, [ks.Input((3,))]),
    "array": lambda model: (model, [X.numpy()]),
    "alone": lambda model: (model, SPEC[0]),
    "closure": lambda model: (lambda x: {"out": model(x), "sum": x.sum()}, SPEC),
    "global": lambda _: (by_global, SPEC),
    "no weights": lambda _: (lambda x: x * 2, SPEC),
}


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_program_gives_what_the_function_gives(tmp_path, make):
    fn, signature = make(chain())
    archive = ExportArchive()
    assert archive.add_endpoint("serve", fn, signature) is fn
    archive.write_out(tmp_path / "archive", verbose=False)
    program = opened(tmp_path / "archive", "serve")
    for x in (X, X[:1], X[:3]):
        ks.tree.map_structure(assert_close, program(x), fn(x))


def test_endpoints_of_several_arguments_and_nests(tmp_path):
    left, right = ks.Input((3,)), ks.Input((3,))
    model = ks.Model({"left": left, "right": right}, layers.Dense(2)(left + right))
    archive = ExportArchive()
    two = archive.add_endpoint("two", lambda a, b: model({"left": a, "right": b}), SPEC * 2)
    nest = {"left": SPEC[0], "right": SPEC[0]}
    archive.track_and_add_endpoint("nest", model, [nest])
    archive.add_endpoint("alone", model, nest)
    archive.write_out(tmp_path / "archive", verbose=False)
    assert {path.name for path in (tmp_path / "archive").iterdir()} == {"two.pt2", "nest.pt2", "alone.pt2"}
    expected = two(X, 2 * X)
    assert_close(opened(tmp_path / "archive", "two")(X, 2 * X), expected)
    for name in ("nest", "alone"):
        assert_close(opened(tmp_path / "archive", name)({"left": X, "right": 2 * X}), expected)


def test_training_mode_where_a_function_asks_for_it(tmp_path):
    model = chain()
    archive = ExportArchive()
    archive.add_endpoint("inference", lambda x: model(x, training=False), SPEC)
    archive.add_endpoint("training", lambda x: model.call(x, training=True), SPEC)
    before = [weight.copy() for weight in model.get_weights()]
    archive.write_out(tmp_path / "archive", verbose=False)
    assert_close(opened(tmp_path / "archive", "inference")(X), model(X))
    training = opened(tmp_path / "archive", "training")
    assert not torch.equal(training(X), training(X))
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_weights_are_those_of_the_time_of_writing(tmp_path):
    model = chain()
    archive = ExportArchive()
    archive.track_and_add_endpoint("serve", model, SPEC)
    archive.add_variable_collection("kernels", [model.layers[0].kernel])
    for number in range(2):
        model.layers[0].kernel.assign(model.layers[0].kernel.numpy() + 1)
        archive.write_out(tmp_path / "archive", verbose=False)
        assert_close(opened(tmp_path / "archive", "serve")(X), model(X))
        assert_close(
            torch.load(tmp_path / "archive" / "kernels.pt")[0], model.layers[0].kernel.numpy(), atol=number * 0
        )


def test_variables_of_what_is_tracked():
    model = chain()
    archive = ExportArchive()
    archive.track(model)
    archive.track(model)
    assert archive.variables == model.variables and archive.trainable_variables == model.trainable_variables
    assert archive.non_trainable_variables == model.non_trainable_variables and len(archive.variables) == 9


def test_collections_hold_optimizer_variables(tmp_path):
    model = chain()
    model.compile("adam", "mse")
    model.fit(X, X[:, :2], verbose=0)
    archive = ExportArchive()
    archive.track_and_add_endpoint("serve", model, SPEC)
    archive.add_variable_collection("optimizer_variables", model.optimizer.variables)
    archive.write_out(tmp_path / "archive")
    values = torch.load(tmp_path / "archive" / "optimizer_variables.pt")
    assert len(values) == len(model.optimizer.variables) and int(values[0]) == 1
    for value, variable in zip(values, model.optimizer.variables, strict=True):
        assert_close(value, variable.numpy())


def test_it_says_what_it_wrote(tmp_path, capsys):
    archive = ExportArchive()
    archive.add_endpoint("serve", chain(), SPEC)
    archive.write_out(tmp_path / "archive")
    assert "* serve.pt2" in capsys.readouterr().out


@pytest.mark.full
def test_programs_run_without_the_package(tmp_path):
    archive = ExportArchive()
    archive.add_endpoint("serve", chain(), SPEC)
    archive.write_out(tmp_path / "archive")
    program = f"""
    import sys, torch
    print(torch.export.load({str(tmp_path / "archive" / "serve.pt2")!r}).module()(torch.ones(2, 3)).shape)
    assert "kstyle_torch" not in sys.modules
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout == "torch.Size([2, 2])\n", run.stderr


def unbuilt(archive):
    archive.track(ks.Sequential([layers.Dense(2)]))


def twice(archive):
    archive.add_endpoint("serve", MODEL)
    archive.add_endpoint("serve", MODEL)


def decides(archive):
    archive.add_endpoint("serve", lambda x: x if x.sum() > 0 else -x, SPEC)
    archive.write_out("nowhere")


MISTAKES = {
    "format": (
        lambda _: ExportArchive("saved_model"),
        "writes programs of torch.export, format='pt2'; got 'saved_model'",
    ),
    "unbuilt": (unbuilt, "is not built yet"),
    "no layer": (lambda archive: archive.track("model"), "needs a layer or model; got str"),
    "taken": (twice, "'serve' is already taken"),
    "path": (lambda archive: archive.add_endpoint("../x", MODEL), "must be like that of a function; got '../x'"),
    "jax": (lambda archive: archive.add_endpoint("x", MODEL, is_static=True), "'is_static', which is for JAX"),
    "no signature": (lambda archive: archive.add_endpoint("x", lambda x: x), "needs an input signature"),
    "no signature of a subclass": (lambda archive: archive.add_endpoint("x", subclassed()), "needs an input signature"),
    "no endpoint": (lambda archive: archive.write_out("nowhere"), "no endpoint to write"),
    "collection": (lambda archive: archive.add_variable_collection("x", MODEL.layers[0].kernel), "needs a list of var"),
    "number": (lambda archive: archive.add_variable_collection("x", [1.0]), "got float in it"),
    "decides": (decides, "'The endpoint serve' cannot be exported"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make(ExportArchive())
    assert not [*tmp_path.iterdir()]


def test_members_are_those_of_keras():
    theirs = {name for name in vars(keras.export.ExportArchive) if not name.startswith("_")}
    assert theirs <= {*dir(ExportArchive)}
