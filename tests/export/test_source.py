"""`export.to_source`: a model as plain torch, run where this package cannot be imported."""

import ast
import subprocess
import sys
import textwrap

import keras
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import Input, Model, Sequential, layers, tree
from kstyle_torch.export import to_source
from kstyle_torch.layers import InputSpec
from tests.choice import parameters
from tests.export.models import MODELS, outputs, randomize, subclassed
from tests.layers.layer_cases import CASES, family_of
from tests.layers.test_layer_cases import make, random_weights, symbols, tensors
from tests.oracle import assert_close, integers, uniform


def load(source, model):
    """The module that the source defines, with the model's weights."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert {name.split(".")[0] for name in names} == {"torch"}
    namespace = {"__name__": "written"}
    exec(compile(source, "<written>", "exec"), namespace)
    twin = namespace["Model"]()
    twin.load_state_dict(model.state_dict())
    assert {*twin.state_dict()} == {*model.state_dict()}
    return twin.eval()


def assert_same(model, twin, batch, training=False):
    """Equal outputs for equal random states, and equal statistics behind them."""
    for module in (model, twin):
        module.train() if training else module.eval()
    torch.manual_seed(0)
    expected = outputs(model(batch))
    torch.manual_seed(0)
    got = outputs(twin(batch))
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert_close(one.double(), other.double())
    model.eval()
    for key, value in model.state_dict().items():
        assert_close(twin.state_dict()[key], value)


@pytest.mark.parametrize("name", parameters(MODELS, lambda name: name in ("convnet", "nested") and name))
def test_models_are_the_same_in_both_modes(name):
    make_model, batch = MODELS[name]
    torch.manual_seed(0)
    model = randomize(make_model())
    twin = load(to_source(model), model)
    for rows in (1, 4):
        assert_same(model, twin, batch(rows))
    if name != "convnet":  # it drops out at random
        assert_same(model, twin, batch(4), training=True)


# whole families at once: one model a row would take a minute
FAMILY_OF = {case.layer: family_of(case) for case in CASES if not case.exempt}


@pytest.mark.parametrize("layer", parameters(sorted(FAMILY_OF), lambda layer: FAMILY_OF[layer]))
def test_every_layer_can_be_written(layer):
    case = [case for case in CASES if case.layer == layer and not case.exempt][-1]
    built = make(case)
    args, kwargs = symbols(case)
    result = built(*args, **kwargs)
    inputs = [leaf for leaf in tree.flatten((args, kwargs)) if hasattr(leaf, "source")]
    model = Model(inputs if len(inputs) > 1 else inputs[0], result)
    built.set_weights(random_weights(built, *case.weights))
    source = to_source(model)
    twin = load(source, model)
    batch = tensors((case.args(), case.call()))
    batch = batch if len(batch) > 1 else batch[0]
    assert_same(model, twin, batch)
    if not case.random and "only written for inference" not in source:
        assert_same(model, twin, batch, training=True)


@pytest.mark.full
def test_what_is_written_is_formatted():
    sources = [to_source(make_model()) for make_model, _ in MODELS.values()]
    for source in sources:
        run = subprocess.run(
            [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "-"],
            input=source,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout
        assert max(map(len, source.splitlines())) <= 88


@pytest.mark.full
def test_the_file_runs_in_a_process_without_this_package(tmp_path):
    model, batch = randomize(MODELS["recurrent"][0]()), MODELS["recurrent"][1]
    model.export(tmp_path / "net.py")
    torch.save({"state": model.state_dict(), "x": batch(3), "y": model(batch(3)).detach()}, tmp_path / "data.pt")
    program = """
        import sys
        sys.modules["kstyle_torch"] = None  # importing it fails
        import torch, net
        data = torch.load("data.pt")
        model = net.Model()
        model.load_state_dict(data["state"])
        model.eval()
        assert torch.allclose(model(data["x"]), data["y"], atol=1e-6)
        print("ran")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "ran", run.stderr


def test_it_can_be_trained_on():
    model = randomize(MODELS["sequential"][0]())
    twin = load(to_source(model), model).train()
    optimizer = torch.optim.Adam(twin.parameters(), 0.01)
    x, y = uniform(64, 5), uniform(64, 1, seed=1)
    losses = []
    for _ in range(30):
        losses.append(torch.nn.functional.mse_loss(twin(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


HOSTILE = [
    "x; import os",
    "a.b",
    "层",
    "class",
    "forward",
    '"""',
    "\n\nimport os\n",
    "torch",
    "__init__",
    "self",
    "a-b",
    "1",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_never_become_code(name):
    first = Input((3,), name=name)
    model = Model(
        {name: first}, {name: layers.Dense(2, name=f"{name}!")(layers.BatchNormalization(name=name + "?")(first))}
    )
    source = to_source(model)
    assert "import os" not in source.replace(repr(name), "").replace(repr(name)[1:-1], "")
    twin = load(source, model)
    assert_same(model, twin, {name: uniform(2, 3)})


class Wide(layers.Layer):
    """Holds a large constant that is not a weight."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = uniform(2000)

    def call(self, x):
        return x + self.table.sum()


class Deciding(layers.Layer):
    """Goes one way or the other, by the data."""

    def call(self, x):
        return x if float(x.sum()) > 0 else -x


@pytest.mark.parametrize(("layer", "reason"), [(Wide, "2000 numbers"), (Deciding, "")])
def test_what_cannot_be_written_is_named_and_nothing_is(layer, reason, tmp_path):
    model = Sequential([Input((3,)), layer(name="the_culprit")])
    with pytest.raises(ValueError, match=rf"the_culprit.*{reason}.*m.*pt2"):
        model.export(tmp_path / "m.py")
    assert [*tmp_path.iterdir()] == []


def test_a_subclassed_model_is_written_for_the_inputs_given():
    model = subclassed()
    twin = load(to_source(model, InputSpec(shape=(None, 3))), model)
    assert_same(model, twin, uniform(5, 3))


def test_layers_that_are_alike_share_a_class():
    model = Sequential([Input((3,)), *(layers.Dense(n, activation="relu") for n in (4, 5, 6))])
    source = to_source(model)
    assert source.count("class Dense") == 1
    assert "self.dense_1 = Dense(nn.Linear(4, 5))" in source
    assert_same(model, load(source, model), uniform(2, 3))


def test_a_shared_layer_is_made_once():
    inputs = Input((4,))
    shared = layers.Dense(4)
    inner = Sequential([Input((4,)), shared])
    model = Model(inputs, shared(inner(inputs)))
    twin = load(to_source(model), model)
    assert_same(model, twin, uniform(2, 4))
    assert len([*twin.parameters()]) == len([*model.parameters()])


def test_layers_of_the_users_own_and_mixed_precision():
    class Scaled(layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x, training=None):
            if training:
                self.count.assign_add(1.0)
            return x * self.factor + self.count

    model = randomize(Sequential([Input((3,)), Scaled(), layers.Dense(2, dtype="mixed_bfloat16")]))
    source = to_source(model)
    twin = load(source, model)
    assert_same(model, twin, uniform(4, 3))
    assert_same(model, twin, uniform(4, 3), training=True)
    assert "torch.autocast" in source


def test_frozen_layers_stay_frozen():
    model = Sequential([Input((3,)), layers.Dense(4, trainable=False), layers.Dense(1)])
    twin = load(to_source(model), model)
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in twin.named_parameters()} == flags


def test_the_weights_of_keras_give_keras_outputs():
    theirs = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model = Sequential([Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)])
    model.set_weights(theirs.get_weights())
    twin = load(to_source(model), model)
    assert_close(twin(uniform(3, 6, 6, 2)), theirs(uniform(3, 6, 6, 2)), atol=1e-5)


def test_any_length_of_sequences():
    model = randomize(MODELS["attention"][0]())
    twin = load(to_source(model), model)
    for length in (1, 3, 30):
        assert_same(model, twin, integers(2, length, high=20))
    assert ks.export.to_source is to_source
