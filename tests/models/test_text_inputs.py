"""Models that take text: the same numbers as a model behind layers that are called on the text by hand."""

import copy
import json
import pickle
import zipfile

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, ops
from kstyle_torch.export import to_source
from kstyle_torch.graph_passes import split_text
from tests.choice import parameters

TITLES = np.array(["a b c", "B, b!", "c a a a a a", "d"] * 6)
COLORS = np.array(["red", "blue", "green", "red", "mauve", "blue"] * 4, dtype=object)
SIZES = np.linspace(-1, 1, 24, dtype="float32")[:, None]
MONTHS = np.arange(24)[:, None] % 5
X = {"title": TITLES, "color": COLORS, "size": SIZES, "month": MONTHS}
Y = (np.arange(24) % 2).astype("float32")
WORDS = ["a", "b", "c"]


def chain(inputs, *first):
    """A Sequential that is compiled, from the same weights in each call."""
    ks.utils.set_random_seed(1)
    rest = [layers.Embedding(6, 4, mask_zero=True), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    model = ks.Sequential([inputs, *first, *rest])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def text_chain(**arguments):
    return chain(word(), layers.TextVectorization(vocabulary=WORDS, **arguments))


def word():
    return ks.Input((1,), dtype="string", name="word")


def graph(with_text):
    """A model of words, categories and numbers with two outputs, and the layers on text; or the part behind them."""
    ks.utils.set_random_seed(1)
    words = layers.TextVectorization(vocabulary=WORDS, output_sequence_length=5, name="words")
    which = layers.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot", name="which")
    bins, cross = layers.Hashing(7, name="bins"), layers.HashedCrossing(9, output_mode="one_hot", name="cross")
    size = ks.Input((1,), name="size")
    if with_text:
        title, color = (ks.Input((1,), dtype="string", name=name) for name in ("title", "color"))
        month = ks.Input((1,), dtype="int64", name="month")
        inputs = {"title": title, "color": color, "size": size, "month": month}
        a, b, c, d = words(title), which(color), bins(color), cross([color, month])
    else:
        a, c = ks.Input((5,), dtype="int64", name="words"), ks.Input((1,), dtype="int64", name="bins")
        b, d = ks.Input((3,), name="which"), ks.Input((9,), name="cross")
        inputs = {"words": a, "which": b, "bins": c, "cross": d, "size": size}
    mean = layers.GlobalAveragePooling1D()(layers.Embedding(5, 4, mask_zero=True)(a))
    joined = layers.Concatenate()([mean, b, layers.Flatten()(layers.Embedding(7, 2)(c)), d, size])
    hidden = layers.Dense(4, activation="relu")(joined)
    model = ks.Model(inputs, [layers.Dense(1, name="p")(hidden), layers.Dense(1, name="q")(hidden)])
    model.compile("adam", "mse")
    column = COLORS[:, None]
    x = {"words": words(TITLES), "which": which(column), "bins": bins(column), "cross": cross([column, MONTHS])}
    return model, {**x, "size": SIZES}


def batches(x, y):
    for start in range(0, 24, 8):
        yield {name: values[start : start + 8] for name, values in x.items()}, [part[start : start + 8] for part in y]


class Rows(torch.utils.data.Dataset):
    """Rows as a data set has them: text as Python strings, which the loader puts into lists."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return 24

    def __getitem__(self, row):
        x = {name: values[row] for name, values in self.x.items()}
        return {name: str(value) if isinstance(value, str) else value for name, value in x.items()}, [Y[row], Y[row]]


RUNS = {
    "fit": lambda model, x: model.fit(x, [Y, Y], epochs=3, batch_size=8, validation_split=0.25, verbose=0).history,
    "predict": lambda model, x: model.predict(x, batch_size=7, verbose=0),
    "evaluate": lambda model, x: model.evaluate(x, [Y, Y], verbose=0),
    "call": lambda model, x: [output.detach().numpy() for output in model(x)],
    "train_on_batch": lambda model, x: model.train_on_batch(x, [Y, Y]),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "generator": lambda model, x: model.fit(batches(x, [Y, Y]), verbose=0).history,
    "data set": lambda model, x: model.evaluate(Rows(x), batch_size=8, verbose=0),
    "batches": lambda model, x: model.fit(iter([*batches(x, [Y, Y])]), verbose=0).history,
    "validation_data": lambda model, x: model.fit(x, [Y, Y], validation_data=(x, [Y, Y]), verbose=0).history,
}


@pytest.mark.parametrize("run", parameters(RUNS, lambda name: name in ("fit", "generator", "call")))
def test_a_graph_trains_as_behind_layers_on_text_called_by_hand(run):
    (model, x), (twin, _) = graph(True), graph(False)
    ks.utils.set_random_seed(2)
    found = RUNS[run](model, X)
    ks.utils.set_random_seed(2)
    np.testing.assert_equal(found, RUNS[run](twin, x))


@pytest.mark.parametrize(
    "x",
    [TITLES, TITLES[:, None], TITLES.tolist(), [[text] for text in TITLES]],
    ids=lambda x: str(len(np.shape(x))) + type(x).__name__,
)
def test_a_chain_takes_text_in_any_form(x):
    model, twin = text_chain(output_sequence_length=8), chain(ks.Input((8,), dtype="int64"))
    numbers = model.layers[0](TITLES)
    np.testing.assert_array_equal(model.predict(x, verbose=0), twin.predict(numbers, verbose=0))
    ks.utils.set_random_seed(2)
    history = model.fit(x, Y, epochs=2, verbose=0).history
    ks.utils.set_random_seed(2)
    assert history == twin.fit(numbers, Y, epochs=2, verbose=0).history
    torch.testing.assert_close(model(x), twin(numbers), rtol=0, atol=0)


OTHER_FORMS = {
    "bytes": lambda: {**X, "title": np.char.encode(TITLES)},
    "pandas": lambda: {**X, "title": pd.Series(TITLES, dtype="string"), "color": pd.Series(COLORS, dtype="category")},
    "frame": lambda: pd.DataFrame({name: values.ravel() for name, values in X.items()}),
    "table": lambda: pa.table({name: values.ravel() for name, values in X.items()}),
    "list": lambda: [X[name] for name in sorted(X)],
    "tensors": lambda: {**X, "size": torch.tensor(SIZES), "month": torch.tensor(MONTHS)},
}


@pytest.mark.parametrize("form", parameters(OTHER_FORMS, lambda name: name != "bytes"))
def test_a_graph_takes_text_in_other_forms(form):
    model, _ = graph(True)
    for got, expected in zip(model.predict(OTHER_FORMS[form](), verbose=0), model.predict(X, verbose=0), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_padding_is_that_of_the_batch():
    """Without `output_sequence_length`, batches have the length of their longest text, as in a loop over batches."""
    text, embedding = layers.TextVectorization(vocabulary=WORDS), layers.Embedding(6, 4)
    model = ks.Sequential([word(), text, embedding, layers.GlobalAveragePooling1D(), layers.Dense(1)])
    expected = np.concatenate([model(TITLES[start : start + 3]).detach().numpy() for start in range(0, 24, 3)])
    np.testing.assert_array_equal(model.predict(TITLES, batch_size=3, verbose=0), expected)
    sizes = []
    embedding.register_forward_pre_hook(lambda layer, args: sizes.append(args[0].shape[1]))
    model.compile("sgd", "mse")
    model.fit(TITLES[[1, 1, 0, 0, 2, 2]], Y[:6], batch_size=2, shuffle=False, verbose=0)
    assert sizes[-3:] == [2, 3, 6]


def test_large_numbers_are_computed_batch_by_batch(monkeypatch):
    model, x = text_chain(output_sequence_length=8), TITLES
    ks.utils.set_random_seed(2)
    expected = model.fit(x, Y, epochs=2, batch_size=8, validation_split=0.25, verbose=0).history
    monkeypatch.setattr(split_text, "WHOLE_BYTES", 100)
    model = text_chain(output_sequence_length=8)
    rows = []
    model.layers[0].register_forward_hook(lambda layer, args, output: rows.append(len(output)))
    ks.utils.set_random_seed(2)
    assert model.fit(x, Y, epochs=2, batch_size=8, validation_split=0.25, verbose=0).history == expected
    assert rows[-4:] == [18, 6, 18, 6]  # a chunk of batches at a time, in each epoch


def test_text_in_memory_is_converted_once():
    model, calls = text_chain(output_sequence_length=8), []
    model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    model.fit(TITLES, Y, epochs=5, verbose=0)
    assert calls == [1]


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "clone": ks.models.clone_model,
    "json": lambda model: ks.models.model_from_json(model.to_json()),
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_take_text(way):
    model, _ = graph(True)
    other = COPIES[way](model)
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def test_files_take_text(tmp_path):
    model = text_chain(output_sequence_length=8)
    model.fit(TITLES, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    other = ks.saving.load_model(tmp_path / "m.keras")
    assert other.evaluate(TITLES, Y, verbose=0) == model.evaluate(TITLES, Y, verbose=0)
    ks.utils.set_random_seed(2)
    history = model.fit(TITLES, Y, verbose=0).history
    ks.utils.set_random_seed(2)
    assert other.fit(TITLES, Y, verbose=0).history == history


def test_a_vocabulary_in_the_assets_is_read(tmp_path):
    """Keras on TensorFlow writes what was learned beside the config, which has the size only."""
    ks.utils.set_random_seed(1)
    text = layers.TextVectorization(output_mode="multi_hot")
    text.adapt(TITLES)
    model = ks.Sequential([word(), text, layers.Dense(1)])
    model.save(tmp_path / "m.keras")
    files = {}
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        files = {name: file.read(name) for name in file.namelist()}
    config = json.loads(files["config.json"])
    settings = config["config"]["layers"][1]["config"]
    settings.update(vocabulary=None, vocabulary_size=text.vocabulary_size())
    settings.pop("has_input_vocabulary", None)
    files["config.json"] = json.dumps(config).encode()
    folder = f"assets/layers/{text.name}/"
    files = {name: data for name, data in files.items() if not name.startswith("assets")}
    files[f"{folder}vocabulary.txt"] = "\n".join(text.get_vocabulary(False)).encode()
    with zipfile.ZipFile(tmp_path / "k.keras", "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    other = ks.saving.load_model(tmp_path / "k.keras")
    assert other.layers[0].get_vocabulary() == text.get_vocabulary()
    np.testing.assert_array_equal(other.predict(TITLES, verbose=0), model.predict(TITLES, verbose=0))


def test_the_input_is_written_as_in_keras():
    ours, theirs = (
        module.layers.InputLayer(batch_shape=(None, 1), dtype="string", name="x").get_config() for module in (ks, keras)
    )
    assert {key: ours[key] for key in theirs} == theirs
    assert ks.layers.InputLayer.from_config(theirs).output.dtype == "string"


def test_a_model_inside_another_one():
    inner, _ = graph(True)
    inputs = {name: ks.Input((1,), dtype=tensor.dtype, name=f"my_{name}") for name, tensor in inner.input.items()}
    scale = layers.Dense(1)  # its gradient comes through the inner model
    model = ks.Model(inputs, layers.Add()(inner({**inputs, "size": scale(inputs["size"])})))
    expected = sum(inner.predict({**X, "size": scale(torch.tensor(SIZES)).detach()}, verbose=0))
    for each in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(each.predict(X, verbose=0), expected)
    model.compile("adam", "mse")
    before = [weight.copy() for weight in model.get_weights()]
    model.fit(X, Y, verbose=0)
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_a_chain_that_begins_with_a_layer_on_text_is_built_by_text():
    model = ks.Sequential([layers.StringLookup(vocabulary=["red"], output_mode="one_hot"), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(COLORS[:, None], Y, verbose=0)
    assert model.input_shape == (None, 1) and model.inputs[0].dtype == "string"
    stacked = ks.Sequential([layers.Hashing(3), layers.Embedding(3, 2)])
    assert stacked(word()).shape == (None, 1, 2)
    numbers = ks.Sequential([layers.Hashing(3), layers.Embedding(3, 2)])
    assert numbers(torch.tensor([[1]])).shape == (1, 1, 2) and numbers(np.array([[5]])).shape == (1, 1, 2)


def test_hashes_of_text_are_computed_on_the_host():
    color, month = ks.Input((1,), dtype="string", name="color"), ks.Input((1,), dtype="int64", name="month")
    colors, months = layers.StringLookup(vocabulary=["red"]), layers.IntegerLookup(vocabulary=[1, 2])
    cross = layers.HashedCrossing(5, output_mode="one_hot", name="cross")
    model = ks.Model([color, month], cross([colors(color), months(month)]))
    assert [*model.without_text([COLORS, MONTHS])] == ["cross"]
    torch.testing.assert_close(model([COLORS, MONTHS]), cross([colors(COLORS[:, None]), months(MONTHS)]))


def test_replaced_layers_on_text_are_called():
    model = text_chain(output_sequence_length=8)
    before = model.predict(TITLES, verbose=0)
    model.text_vectorization = layers.TextVectorization(vocabulary=WORDS[::-1], output_sequence_length=8)
    after = model.predict(TITLES, verbose=0)
    assert (before != after).any()
    numbers = model.layers[0](TITLES)
    np.testing.assert_array_equal(chain(ks.Input((8,), dtype="int64")).predict(numbers, verbose=0), after)


def test_a_model_in_double_precision_takes_text():
    text = layers.TextVectorization(vocabulary=WORDS, output_mode="tf_idf", idf_weights=[0.1, 0.2, 0.3])
    model = ks.Sequential([word(), text, layers.Dense(1)]).double()
    assert model(TITLES).dtype is torch.float64 and model.predict(TITLES, verbose=0).dtype == "float64"


def test_the_summary_shows_the_shapes_of_text():
    lines = []
    graph(True)[0].summary(print_fn=lines.append)
    assert "?" not in "".join(lines) and "title (InputLayer)" in "".join(lines)


# --------------------------------------------------------------------------------------------------------------- export


@pytest.mark.full
def test_exports_say_what_they_leave_out(tmp_path, capsys):
    model, _ = graph(True)
    model.export(tmp_path / "m.py")
    assert "In the place of 'color', 'title', what is written takes" in capsys.readouterr().out
    written = {}
    exec((tmp_path / "m.py").read_text(), written)
    twin = written["Model"]()
    twin.load_state_dict(model.state_dict())
    for got, expected in zip(twin.eval()(model.without_text(X)), model(X), strict=True):
        torch.testing.assert_close(got, expected)
    with pytest.raises(NotImplementedError, match="not written"):
        written["numbers_of"](X)  # Hashing is not


@pytest.mark.full
def test_a_program_takes_numbers(tmp_path, capsys):
    model = text_chain(output_sequence_length=8)
    model.export(tmp_path / "m.pt2")
    assert "model.without_text(x) converts x" in capsys.readouterr().out
    program = torch.export.load(tmp_path / "m.pt2").module()
    torch.testing.assert_close(program(model.without_text(TITLES)), model(TITLES))


SPLITS = [
    {},
    {"split": "character", "output_sequence_length": 4},
    {"standardize": None},
    {"standardize": "strip_punctuation"},
]


@pytest.mark.parametrize("arguments", parameters(SPLITS, type))
def test_the_part_on_text_is_written_in_python(arguments):
    text, color = (ks.Input((1,), dtype="string", name=name) for name in ("text", "color"))
    words = layers.TextVectorization(vocabulary=["it's", "b", '"', "a\\"], **arguments)(text)
    mean = layers.GlobalAveragePooling1D()(layers.Embedding(6, 2)(words))
    which = layers.Embedding(3, 2)(layers.StringLookup(vocabulary=["red", "it's"])(color))
    model = ks.Model([text, color], layers.Concatenate()([mean, layers.Flatten()(which)]))
    written = {}
    exec(to_source(model), written)
    texts = {"text": ["It's b", "\"B, it's\xa0b\t b !", ""], "color": ["it's", "blue", "red"]}
    found, expected = written["numbers_of"](texts), model.without_text(texts)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


# --------------------------------------------------------------------------------------------------------------- errors


def numbers():
    return ks.Sequential([ks.Input((3,)), layers.Dense(1)])


MISTAKES = {
    "numbers": (
        TypeError,
        lambda: text_chain().predict(SIZES, verbose=0),
        r"is text \(dtype 'string'\); got -1.0 of type",
    ),
    "a tensor": (TypeError, lambda: text_chain()(torch.ones(2, 8)), "got a tensor of torch.float32"),
    "indices": (TypeError, lambda: text_chain().fit(torch.ones(24, 8).long(), Y), "got a tensor of torch.int64"),
    "one text": (
        ValueError,
        lambda: text_chain()("a b"),
        r"expects a batch of texts; got a single one: pass \['a b'\]",
    ),
    "None": (TypeError, lambda: text_chain().predict(["a", None]), "got None of type NoneType.*fill in missing values"),
    "columns": (ValueError, lambda: text_chain()([["a", "b"]]), r"has shape \(1, 2\); expected \(None, 1\)"),
    "uneven": (ValueError, lambda: text_chain()([["a", "b"], ["a"]]), "lists of different lengths"),
    "missing": (ValueError, lambda: graph(True)[0]({"title": TITLES}), "Missing data for input 'color'"),
    "one of four": (
        ValueError,
        lambda: graph(True)[0].predict(TITLES),
        "has 4 inputs, 'color', 'month'.*got a ndarray",
    ),
    "rows": (ValueError, lambda: graph(True)[0].predict({**X, "color": COLORS[:5]}), "same number of samples"),
    "text for numbers": (ValueError, lambda: numbers().predict(["a", "b"]), "x contains text, such as 'a'"),
    "a function": (TypeError, lambda: torch.add(word(), 1), "add works on numbers; got 'word', which is text"),
    "an operation": (TypeError, lambda: ops.add(word(), 1), "add works on numbers; got 'word', which is text"),
    "a layer": (TypeError, lambda: layers.Dense(2)(word()), "Dense.* works on numbers; got 'word', which is text"),
    "a Lambda": (TypeError, lambda: layers.Lambda(lambda x: x)(word()), "works on numbers; got 'word'"),
    "an output": (ValueError, lambda: ks.Model(x := word(), x), "an output of a model must be numbers"),
    "inverse": (TypeError, lambda: layers.StringLookup(vocabulary=["a"], invert=True)(ks.Input((1,))), "works on text"),
    "weights": (
        ValueError,
        lambda: ks.Sequential([word(), layers.Pipeline([layers.Hashing(3), layers.Embedding(3, 2)])]),
        "has weights in the part of the graph that works on text",
    ),
}


@pytest.mark.parametrize("mistake", parameters(MISTAKES, lambda name: name in ("numbers", "a function", "weights")))
def test_mistakes(mistake):
    kind, make, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message):
        make()


def test_symbolic_text_is_compared_by_identity():
    a, b = word(), word()
    assert [b, a].index(a) == 1 and bool(a != b) and not bool(a == b)
