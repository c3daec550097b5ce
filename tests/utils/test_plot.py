"""Drawings of models: boxes and arrows, against Keras' where pydot is there to read them; text, escapes, errors."""

import builtins
import re
import shutil
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

import kstyle_torch
from kstyle_torch import layers, utils
from kstyle_torch.utils.plot import INSTALL
from tests.utils.models import frozen, masked

ALL = {f"show_{what}": True for what in ("shapes", "dtype", "layer_names", "layer_activations", "trainable")}
STRANGE = "a \"q\" 'r' <b>&amp; {x} [y] | \\n #1; `z` \x01 层 🙂\nnext"


def chain(keras):
    L = keras.layers
    return keras.Sequential([keras.Input((3,)), L.Dense(4, "relu"), L.Dropout(0.5), L.Dense(1)])


def diamond(keras):
    L = keras.layers
    x = keras.Input((3,))
    return keras.Model(x, {"sum": L.Add()([L.Dense(3)(x), x]), "other": L.Dense(1, "sigmoid")(x)})


def nested(keras):
    L = keras.layers
    deep = keras.Sequential([keras.Input((2,)), L.Dense(3), L.ReLU()], name="deep")
    inner = keras.Sequential([keras.Input((3,)), L.Dense(2), deep], name="inner")
    inputs = keras.Input((3,))
    forked = keras.Model(inputs, [L.Dense(2)(inputs), L.Dense(5)(inputs)], name="forked")
    x = keras.Input((3,))
    first, second = forked(inner(x))
    return keras.Model(x, [L.Dense(1)(first), L.Dense(1)(second)])


MODELS = [chain, masked, frozen, diamond, nested]


def arrows_of_dot(text):
    """Titles of the boxes, and pairs of titles that an arrow joins."""
    boxes = dict(re.findall(r'^"?(\w+)"? \[.*?<b>(.*?)</b>', text, re.MULTILINE))
    arrows = re.findall(r'^"?(\w+)"? -> "?(\w+)"?', text, re.MULTILINE)
    return sorted(boxes.values()), sorted((boxes[source], boxes[target]) for source, target in arrows)


def arrows_of_mermaid(text):
    boxes = dict(re.findall(r'^ +(\w+)\["<b>(.*?)</b>', text, re.MULTILINE))
    arrows = re.findall(r"^ +(\w+) --> (\w+)$", text, re.MULTILINE)
    return sorted(boxes.values()), sorted((boxes[source], boxes[target]) for source, target in arrows)


def dot_text(model, tmp_path, **options):
    assert utils.plot_model(model, tmp_path / "model.dot", **options) is None
    return (tmp_path / "model.dot").read_text(encoding="utf-8")


@pytest.mark.parametrize("expand_nested", [False, True])
@pytest.mark.parametrize("make", MODELS)
def test_boxes_and_arrows_are_those_of_keras(make, expand_nested, keras, tmp_path):
    pytest.importorskip("pydot")
    keras.utils.clear_session(free_memory=False)
    theirs = keras.utils.model_to_dot(make(keras), expand_nested=expand_nested).to_string()
    model = make(kstyle_torch)
    text = dot_text(model, tmp_path, expand_nested=expand_nested, show_layer_names=True)
    assert arrows_of_dot(text) == arrows_of_dot(theirs)
    assert arrows_of_dot(utils.model_to_dot(model, expand_nested=expand_nested).to_string()) == arrows_of_dot(theirs)
    frames = re.findall(r"^ *label=<?\"?(\w+)", text, re.MULTILINE)
    assert frames == re.findall(r"^ *label=\"?(\w+)", theirs, re.MULTILINE)


@pytest.mark.parametrize("expand_nested", [False, True])
@pytest.mark.parametrize("make", MODELS)
def test_mermaid_draws_what_dot_does(make, expand_nested, tmp_path):
    model = make(kstyle_torch)
    found = arrows_of_mermaid(utils.model_to_mermaid(model, expand_nested=expand_nested))
    assert found == arrows_of_dot(dot_text(model, tmp_path, expand_nested=expand_nested, show_layer_names=True))
    assert found[1]


@pytest.mark.parametrize("make", [frozen, diamond, masked])
def test_arrows_are_those_of_the_graph(make):
    model = make(kstyle_torch)
    graph = model.graph
    makers = dict(zip(kstyle_torch.tree.flatten(graph.inputs), [source.name for source in graph.sources]))
    expected = set()
    for call in graph.calls:
        if isinstance(call.target, nn.Module):
            reads = [leaf for leaf in kstyle_torch.tree.flatten(call.args) if leaf in makers]
            expected |= {(makers[ref], call.target.name) for ref in reads}
            makers.update(dict.fromkeys(call.writes(), call.target.name))
    boxes, arrows = arrows_of_mermaid(utils.model_to_mermaid(model))
    assert set(arrows) == expected
    assert boxes == sorted(layer.name for layer in model.layers)


def test_expanded_models_are_frames():
    text = utils.model_to_mermaid(nested(kstyle_torch), expand_nested=True)
    depths = re.findall(r'^( +)subgraph \w+\["(\w+)"\]$', text, re.MULTILINE)
    assert [(len(indent), name) for indent, name in depths] == [(4, "inner"), (8, "deep"), (4, "forked")]
    assert text.count(" end\n") == 3
    assert "subgraph" not in utils.model_to_mermaid(nested(kstyle_torch))


def test_arrows_of_expanded_models_skip_the_input_of_a_sequential():
    _, arrows = arrows_of_mermaid(utils.model_to_mermaid(nested(kstyle_torch), expand_nested=True))
    assert ("re_lu", "input_layer_2") in arrows  # out of two frames, into another
    assert ("dense_1", "dense") in arrows  # into the inner frame
    assert ("input_layer_3", "dense_1") in arrows


def test_functions_are_boxes():
    x = kstyle_torch.Input((3,), name="x")
    model = kstyle_torch.Model(x, torch.relu(layers.Dense(2, name="dense")(x)) + 1)
    boxes, arrows = arrows_of_mermaid(utils.model_to_mermaid(model))
    assert boxes == ["add", "dense", "relu", "x"]
    assert arrows == [("dense", "relu"), ("relu", "add"), ("x", "dense")]
    assert '["<b>relu</b>"]' in utils.model_to_mermaid(model, show_layer_names=False)


def test_bare_modules_are_boxes():
    model = kstyle_torch.Sequential([kstyle_torch.Input((3,)), nn.Linear(3, 2), nn.Tanh()])
    assert arrows_of_mermaid(utils.model_to_mermaid(model, show_layer_names=False))[1] == [("Linear", "Tanh")]


class Subclass(kstyle_torch.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(2, name="second")

    def call(self, x):
        return self.second(self.first(x))


def test_a_subclass_is_drawn_as_its_layers():
    model = Subclass()
    model(torch.ones(1, 3))
    text = utils.model_to_mermaid(model, **ALL)
    assert arrows_of_mermaid(text) == (["first", "second"], [])
    assert text.count("Input shape: ?") == text.count("Output dtype: ?") == 2
    assert text.count("Output shape: ") == 2


def test_the_layers_of_a_subclass_have_the_shapes_of_the_summary(monkeypatch):
    model = Subclass()
    model(torch.ones(1, 3))
    shapes = {id(model.first): (None, 4), id(model.second): (None, 2)}
    monkeypatch.setattr("kstyle_torch.utils.summary.shapes_of_layers", lambda model: shapes)
    text = utils.model_to_mermaid(model, show_shapes=True)
    assert re.findall('<b>(.*?)</b>.*Output shape: (.*)"', text) == [("first", "(None, 4)"), ("second", "(None, 2)")]


def test_what_boxes_say(tmp_path):
    model = frozen(kstyle_torch)
    lines = re.findall(r'\["(.*)"\]', utils.model_to_mermaid(model, **ALL))
    assert lines[0] == "<b>a</b> (InputLayer)<br/>Output shape: (None, 3)<br/>Output dtype: float32"
    said = "Activation: linear<br/>Input shape: (None, 3)<br/>Output shape: (None, 2)<br/>Output dtype: float32"
    assert f"<b>shared</b> (Dense)<br/>{said}<br/>Non-trainable" in lines
    assert "Input shape: #91;(None, 2), (None, 2)#93;<br/>Output shape: (None, 4)" in lines[-1]
    text = dot_text(model, tmp_path, **ALL)
    assert "Input shape: <b>[(None, 2), (None, 2)]</b>" in text
    assert text.count("Non-trainable") == 1 and 'bgcolor="firebrick"' in text
    model.get_layer("shared").trainable = True
    assert 'bgcolor="forestgreen"' in dot_text(model, tmp_path, **ALL)


def test_a_shared_layer_says_all_its_shapes():
    a, b = kstyle_torch.Input((3,)), kstyle_torch.Input((5,))
    relu = layers.ReLU(name="relu")
    text = utils.model_to_mermaid(kstyle_torch.Model([a, b], [relu(a), relu(b)]), show_shapes=True)
    assert "Input shape: (None, 3) #124; (None, 5)<br/>Output shape: (None, 3) #124; (None, 5)" in text


def test_plain_boxes_say_the_class_only(tmp_path):
    text = dot_text(chain(kstyle_torch), tmp_path)
    assert arrows_of_dot(text) == (["Dense", "Dense", "Dropout"], [("Dense", "Dropout"), ("Dropout", "Dense")])
    assert not re.search("shape:|float32|Activation|rainable|dense", text)


def strange_model():
    inner = kstyle_torch.Sequential([kstyle_torch.Input((3,)), layers.Dense(2, name=STRANGE)], name=f"in {STRANGE}")
    return kstyle_torch.Sequential([kstyle_torch.Input((3,)), inner])


def test_strange_names_in_mermaid():
    text = utils.model_to_mermaid(strange_model(), expand_nested=True)
    labels = re.findall(r'^ +(?:subgraph )?\w+\["(.*)"\]$', text, re.MULTILINE)
    assert len(labels) == 2
    for label in labels:
        bare = re.sub("</?b>|<br/>", lambda found: "\n" if "r" in found[0] else "", label)
        assert re.fullmatch(r"[\w\s().,|#;]*", bare)
        assert STRANGE in re.sub(r"#(\d+);", lambda found: chr(int(found[1])), bare)


def test_strange_names_in_dot(tmp_path):
    text = dot_text(strange_model(), tmp_path, expand_nested=True, show_layer_names=True)
    escaped = "a &quot;q&quot; &#x27;r&#x27; &lt;b&gt;&amp;amp; {x} [y] | \\n #1; `z` \ufffd 层 🙂<br/>next"
    assert f"<b>{escaped}</b> (Dense)" in text
    assert f"label=<in {escaped}>;" in text


def test_graphviz_reads_strange_names(tmp_path):
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not there")
    text = dot_text(strange_model(), tmp_path, expand_nested=True, show_layer_names=True, show_shapes=True)
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True)
    assert "{x} [y] |" in done.stdout.decode().replace("&#45;", "-").replace("\u00a0", " ")


@pytest.mark.parametrize("suffix", [".mmd", ".mermaid", ".md", ".MD"])
def test_mermaid_files(suffix, tmp_path):
    model = chain(kstyle_torch)
    utils.plot_model(model, str(tmp_path / f"model{suffix}"), rankdir="LR")
    text = (tmp_path / f"model{suffix}").read_text(encoding="utf-8")
    expected = utils.model_to_mermaid(model, show_layer_names=False, rankdir="LR")
    assert expected.startswith("flowchart LR\n")
    assert text == (f"```mermaid\n{expected}```\n" if suffix.lower() == ".md" else expected)


def test_options_of_dot(tmp_path):
    text = dot_text(chain(kstyle_torch), tmp_path, rankdir="LR", dpi=77, splines="curved")
    assert "rankdir=LR" in text and "dpi=77" in text and 'splines="curved"' in text


@pytest.fixture
def graphviz():
    pytest.importorskip("pydot")
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not there")


@pytest.mark.usefixtures("graphviz")
@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")]
)
def test_pictures(name, start, tmp_path):
    assert utils.plot_model(strange_model(), tmp_path / name, expand_nested=True, **ALL) is None
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.usefixtures("graphviz")
def test_an_unknown_suffix(tmp_path, capfd):
    with pytest.raises(ValueError, match="'nonsense'.*png"):
        utils.plot_model(chain(kstyle_torch), tmp_path / "a.nonsense")
    assert not (tmp_path / "a.nonsense").exists()


@pytest.mark.usefixtures("graphviz")
def test_a_notebook_shows_the_picture(tmp_path, monkeypatch):
    shown = types.SimpleNamespace(Image=lambda filename: ("image", filename), SVG=lambda filename: ("svg", filename))
    notebook = types.ModuleType("IPython")
    notebook.display = shown
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    for name, kind in (("a.png", "image"), ("a.svg", "svg")):
        assert utils.plot_model(chain(kstyle_torch), tmp_path / name) == (kind, str(tmp_path / name))
    assert utils.plot_model(chain(kstyle_torch), tmp_path / "a.pdf") is None


def test_a_subgraph_can_be_put_into_another_graph():
    pydot = pytest.importorskip("pydot")
    part = utils.model_to_dot(chain(kstyle_torch), subgraph=True)
    whole = pydot.Dot("whole")
    whole.add_subgraph(part)
    assert "subgraph cluster_n0" in whole.to_string()
    assert arrows_of_dot(whole.to_string())[1] == [("dense", "dropout"), ("dropout", "dense_1")]


def test_pydot_is_missing(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pydot(name, *args, **kwargs):
        if name == "pydot":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pydot)
    for draw in (lambda model: utils.plot_model(model, tmp_path / "a.png"), utils.model_to_dot):
        with pytest.raises(ImportError, match=re.escape(INSTALL)):
            draw(chain(kstyle_torch))
    assert dot_text(chain(kstyle_torch), tmp_path).startswith("digraph")


def test_graphviz_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", types.SimpleNamespace(graph_from_dot_data=lambda text: [text]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError, match=r"graphviz.*`dot`.*kstyle-torch\[plot\]"):
        utils.plot_model(chain(kstyle_torch), tmp_path / "a.png")


@pytest.mark.parametrize("draw", [utils.plot_model, utils.model_to_dot, utils.model_to_mermaid])
def test_what_cannot_be_drawn(draw):
    for unbuilt in (kstyle_torch.Sequential([layers.Dense(2)], name="fresh"), Subclass()):
        with pytest.raises(ValueError, match=f"{unbuilt.name} is not built.*build"):
            draw(unbuilt)
    with pytest.raises(ValueError, match="Linear"):
        draw(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="rankdir must be one of TB.*'sideways'"):
        draw(chain(kstyle_torch), rankdir="sideways")


@pytest.mark.parametrize("draw", [utils.plot_model, utils.model_to_dot])
def test_unknown_arguments(draw):
    with pytest.raises(ValueError, match="layer_range"):
        draw(chain(kstyle_torch), layer_range=["a", "b"])
    with pytest.raises(ValueError, match="show_color"):
        draw(chain(kstyle_torch), show_color=True)
