"""The summary, against what Keras prints for the same model; and torchinfo, called directly."""

import re
import subprocess
import sys
import textwrap
import unicodedata

import numpy as np
import pytest
import torch
import torchinfo
import torchinfo.torchinfo
from torch import nn

import kstyle_torch
import kstyle_torch as ks
from kstyle_torch.utils.summary import torchinfo_shapes
from tests.utils.models import frozen, masked, shared


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def text_of(model, **options):
    texts = []
    model.summary(print_fn=texts.append, **options)
    assert len(texts) == 1  # the whole text at once, as in Keras 3
    return texts[0]


def table_of(model, **options):
    """Rows of cells, wrapped lines joined, the header first."""
    rows, fresh = [], True
    for line in text_of(model, line_length=160, **options).splitlines():
        if line[0] not in "│┃":
            fresh = True
            continue
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if fresh:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
        fresh = False
    return rows


def totals_of(model):
    return [line.strip() for line in text_of(model).splitlines() if re.match(r" .*params: ", line)]


def mlp(keras):
    L = keras.layers
    return keras.Sequential([keras.Input((10,), name="inp"), L.Dense(4, "relu"), L.Dropout(0.5), L.Dense(1)])


def convnet(keras):
    L = keras.layers
    head = [L.Flatten(), L.Dense(3, "softmax", name="probabilities")]
    body = [L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.MaxPooling2D(), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 8, 3)), *body, *head])


def embedding(keras):
    L = keras.layers
    return keras.Sequential([keras.Input((None,)), L.Embedding(10, 3, mask_zero=True), L.Dense(2)])


def nested(keras):
    L = keras.layers
    x = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), L.Dense(2), L.Dense(3)], name="inner")
    return keras.Model(x, L.Dense(1)(L.Add()([inner(x), x])))


def nested_chain(keras):
    L = keras.layers
    inner = keras.Sequential([keras.Input((3,)), L.Dense(2), L.Dense(3)], name="inner")
    return keras.Sequential([keras.Input((3,)), inner, L.Dense(1)])


def two_outputs(keras):
    L = keras.layers
    x = keras.Input((3,))
    inputs = keras.Input((3,))
    inner = keras.Model(inputs, [L.Dense(2)(inputs), L.Dense(5)(inputs)], name="inner")
    first, second = inner(x)
    return keras.Model(x, [L.Dense(1)(first), L.Dense(1)(second)])


def unbuilt(keras):
    return keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)])


MODELS = [mlp, convnet, embedding, masked, shared, frozen, nested, nested_chain, two_outputs, unbuilt]


@pytest.fixture
def pair(keras, request):
    """The same model here and in Keras, with the same names."""
    keras.utils.clear_session(free_memory=False)
    return request.param(kstyle_torch), request.param(keras)


def without_input(rows, model):
    """The rows without the InputLayer that we list first in a Sequential, and Keras does not."""
    return [row for row in rows if not ("(InputLayer)" in row[0] and isinstance(model, kstyle_torch.Sequential))]


@pytest.mark.parametrize("options", [{}, {"show_trainable": True}, {"expand_nested": True}], ids=str)
@pytest.mark.parametrize("pair", MODELS, indirect=True, ids=lambda make: make.__name__)
def test_rows_and_headings_are_those_of_keras(pair, options):
    ours, theirs = pair

    def plain(name):
        return re.sub(r"_\d+ ", " ", name)  # Keras counts the inputs that it makes for a Sequential

    def unnumbered(rows):
        return [
            [plain(cell) if number == 0 else re.sub(r"_\d+\[", "[", cell) for number, cell in enumerate(row)]
            for row in rows
        ]

    assert unnumbered(without_input(table_of(ours, **options), ours)) == unnumbered(table_of(theirs, **options))


@pytest.mark.parametrize("pair", MODELS, indirect=True, ids=lambda make: make.__name__)
def test_totals_are_those_of_keras(pair):
    ours, theirs = pair
    assert totals_of(ours) == totals_of(theirs)
    assert text_of(ours).splitlines()[0] == f'Model: "{ours.name}"'


def test_layer_names_are_those_of_keras(keras):
    keras.utils.clear_session(free_memory=False)
    ours, theirs = table_of(mlp(kstyle_torch)), table_of(mlp(keras))
    assert ours[1] == ["inp (InputLayer)", "(None, 10)", "0"]
    assert [ours[0], *ours[2:]] == theirs


def test_optimizer_params_count_once_it_is_built(keras):
    texts = []
    for package in (kstyle_torch, keras):
        model = mlp(package)
        model.compile("adam", "mse")
        assert "Optimizer" not in text_of(model)
        model.optimizer.build(model.trainable_variables)
        texts.append([re.sub(r" \(.*\)", "", line) for line in totals_of(model)])  # our step count takes 8 bytes
    assert texts[0] == texts[1]


@pytest.mark.parametrize("width", [56, 64, 76, 120])
@pytest.mark.parametrize("make", [mlp, shared, nested], ids=lambda make: make.__name__)
def test_the_table_is_as_wide_as_asked(make, width):
    lines = text_of(make(kstyle_torch), line_length=width).splitlines()
    assert {len(line) for line in lines if line[0] not in "M "} == {width}


def test_positions():
    for positions in ([0.5, 0.8, 1.0], [40, 64, 80]):
        top = text_of(mlp(kstyle_torch), line_length=80, positions=positions).splitlines()[1]
        assert [place for place, char in enumerate(top) if char == "┳"] == [39, 63]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line_length": 20}, "line_length=20 is too narrow"),
        ({"positions": [0.5, 1.0]}, "positions must have 3 numbers"),
        ({"layer_range": ["dense"]}, "layer_range must be two names"),
        ({"layer_range": ["dense", "lstm"]}, "matches no layer; the layers are 'inp', 'dense'"),
    ],
    ids=str,
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        mlp(kstyle_torch).summary(**options)


@pytest.mark.parametrize(
    "layer_range", [("dense", "dropout"), ("dropout", "dropout"), ("dropout", "dense$"), ("d.*", "d.*")], ids=str
)
def test_layer_range(keras, layer_range):
    keras.utils.clear_session(free_memory=False)
    assert table_of(mlp(kstyle_torch), layer_range=layer_range) == table_of(mlp(keras), layer_range=layer_range)


def test_an_unbuilt_model_says_so():
    text = text_of(unbuilt(kstyle_torch))
    assert "not built; call build() or fit()" in text
    assert "0 (unbuilt)" in text
    assert "?" in text
    assert "not built" not in text_of(mlp(kstyle_torch))


def test_a_model_built_by_its_data_shows_its_input():
    model = unbuilt(kstyle_torch)
    model.build((None, 5))
    assert [row[1] for row in table_of(model)[1:]] == ["(None, 5)", "(None, 4)", "(None, 2)"]
    model = kstyle_torch.Sequential([kstyle_torch.layers.Dense(4, input_shape=(5,))])
    assert [row[1] for row in table_of(model)[1:]] == ["(None, 5)", "(None, 4)"]


def test_bare_modules_have_names():
    model = kstyle_torch.Sequential(
        [kstyle_torch.Input((4,)), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.BatchNorm1d(2)]
    )
    rows = table_of(model, show_trainable=True)[2:]
    assert [row[0] for row in rows] == [
        "linear (Linear)",
        "re_lu (ReLU)",
        "linear_1 (Linear)",
        "batch_norm1d (BatchNorm1d)",
    ]
    assert [row[1:] for row in rows[:2]] == [["(None, 3)", "15", "Y"], ["(None, 3)", "0", "-"]]


def test_functions_are_rows():
    L = kstyle_torch.layers
    x = kstyle_torch.Input((4,), name="x")
    hidden = torch.relu(L.Dense(3, name="hidden")(x))
    model = kstyle_torch.Model(x, L.Dense(1, name="out")(hidden + hidden * 2))
    rows = {row[0]: row[1:] for row in table_of(model)[1:]}
    assert list(rows) == [
        "x (InputLayer)",
        "hidden (Dense)",
        "relu (function)",
        "mul (function)",
        "add (function)",
        "out (Dense)",
    ]
    assert rows["add (function)"] == ["(None, 3)", "0", "relu[0][0], mul[0][0]"]
    assert rows["out (Dense)"] == ["(None, 1)", "4", "add[0][0]"]


def test_shared_parameters_count_once():
    L = kstyle_torch.layers
    first, second = L.Dense(4, use_bias=False), L.Dense(4, use_bias=False)
    model = kstyle_torch.Sequential([kstyle_torch.Input((4,)), first, second])
    second.linear.weight = first.linear.weight
    assert totals_of(model)[0].startswith("Total params: 16 ")


def test_several_outputs_of_a_layer():
    class Split(kstyle_torch.Layer):
        def call(self, x):
            return {"left": x[:, :1], "right": x[:, 1:]}

    x = kstyle_torch.Input((4,))
    parts = Split()(x)
    model = kstyle_torch.Model(x, [parts["left"], parts["right"]])
    assert table_of(model)[2][1] == "{left: (None, 1), right: (None, 3)}"


class Scale(kstyle_torch.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        assert len(x) > 0  # no zero rows
        return x * self.factor


def test_torchinfo_gives_the_shapes_of_the_graph():
    """Also inside layers, and for a layer that refuses zero rows."""
    x = kstyle_torch.Input((None, 4))
    model = kstyle_torch.Model(x, kstyle_torch.layers.Dense(3)(Scale()(x)))
    shapes = torchinfo_shapes(model)
    assert shapes[id(model.layers[1])] == (None, None, 4)
    assert shapes[id(model.layers[2].linear)] == (None, None, 3)


def test_a_model_that_torchinfo_cannot_run():
    class Total(kstyle_torch.Layer):
        def call(self, x):
            return x.sum(), x  # torchinfo 1.8 takes the first output's size[0] for the batch

    x = kstyle_torch.Input((4,))
    total, same = Total()(x)
    model = kstyle_torch.Model(x, kstyle_torch.layers.Dense(2)(same) + total)
    assert [row[1] for row in table_of(model)[1:4]] == ["(None, 4)", "((), (None, 4))", "(None, 2)"]


def test_a_summary_leaves_nothing_behind():
    model = convnet(kstyle_torch)
    model.add(kstyle_torch.layers.Dense(2, activity_regularizer="l2"))
    model.train()
    model.layers[1].eval()
    losses = [list(layer._losses) for layer in model.layers]
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random_state, cache = torch.get_rng_state(), dict(torchinfo.torchinfo._cached_forward_pass)
    text_of(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torchinfo.torchinfo._cached_forward_pass == cache
    assert [list(layer._losses) for layer in model.layers] == losses
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_subclass():
    class Net(kstyle_torch.Model):
        def __init__(self):
            super().__init__(name="net")
            self.hidden, self.out = kstyle_torch.layers.Dense(3), kstyle_torch.layers.Dense(2)

        def call(self, x):
            return self.out(self.hidden(x))

    model = Net()
    assert "not built" in text_of(model)
    model(np.zeros((2, 5), "float32"))
    assert [row[2] for row in table_of(model)[1:]] == ["18", "8"]
    assert "not built" not in text_of(model)


def run_with_encoding(code, encoding):
    program = f"import kstyle_torch as keras\n{textwrap.dedent(code)}"
    command = [sys.executable, "-X", "utf8=0", "-c", program]
    environment = {**__import__("os").environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(encoding)


@pytest.mark.full
def test_ascii_where_the_encoding_lacks_boxes():
    code = """
        inner = keras.Sequential([keras.layers.Dense(3)], name="b\\N{LATIN SMALL LETTER U WITH DIAERESIS}cher")
        keras.Sequential([keras.Input((2,)), inner]).summary(expand_nested=True)
    """
    for encoding, name in (("ascii", "b\\xfccher"), ("cp1252", "bücher")):
        lines = run_with_encoding(code, encoding).splitlines()
        assert lines[1].startswith("+----")
        assert any(re.match(r"\|    \+ dense \(Dense\) +\|", line) for line in lines)
        assert any(line.startswith(f"| {name} (Sequential)") for line in lines)
    assert run_with_encoding(code, "utf-8").splitlines()[1].startswith("┏━━")


def test_torchinfo_called_directly_shows_the_input_layer():
    for model in (mlp(kstyle_torch), shared(kstyle_torch), nested(kstyle_torch)):
        sizes = [
            (32, *shape[1:])
            for shape in ([i.shape for i in model.inputs] if isinstance(model.inputs, list) else [model.inputs.shape])
        ]
        data = [torch.zeros(size) for size in sizes]
        if len(data) > 1:
            text = str(torchinfo.summary(model, input_data=[data], verbose=0))
        else:
            text = str(torchinfo.summary(model, input_size=sizes[0], verbose=0))
        assert re.search(r"InputLayer: 1-\d+ +\[32, \d+\]", text)
        assert re.search(r"Dense: \d-\d+", text)
        assert "Total params" in text


def test_torchinfo_of_the_tutorials_network():
    model = mlp(kstyle_torch)
    result = torchinfo.summary(model, input_size=(32, 10), verbose=0)
    kinds = [info.class_name for info in result.summary_list if info.depth == 1]
    assert kinds == ["InputLayer", "Dense", "Dropout", "Dense"]
    assert result.total_params == 49


def test_a_subclassed_model_that_was_called_shows_shapes():
    class Own(ks.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = ks.layers.Dense(3), ks.layers.Dense(2)

        def call(self, x):
            return self.last(self.hidden(x))

    model, lines = Own(), []
    model(torch.ones(2, 5))
    model.summary(print_fn=lines.append)
    assert "(None, 3)" in "".join(lines) and "(None, 2)" in "".join(lines)


def test_wide_characters_keep_the_frame():
    names = ["埋め込み層", "e\u0301tage", "非常に長い名前の層は表の幅に収まらないので折り返される"]
    model = ks.Sequential([ks.Input((3,)), *(ks.layers.Dense(2, name=name) for name in names)])
    lines = []
    model.summary(print_fn=lines.append, line_length=50)
    table = [line for line in lines[0].splitlines() if line[0] in "┏┃┡│├└"]

    def cells(line):
        wide = sum(unicodedata.east_asian_width(character) in "WF" for character in line)
        return len(line) + wide - sum(map(bool, map(unicodedata.combining, line)))

    assert {cells(line) for line in table} == {cells(table[0])}
    assert "".join(line[2:22].split("│")[0].strip() for line in table).count("収まらない") == 1
