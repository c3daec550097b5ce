"""StringLookup, IntegerLookup and TextVectorization. Keras' need TensorFlow: here they are held to what Keras documents
and to scikit-learn, and in `test_with_tensorflow.py` to Keras itself where TensorFlow is installed."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from torch import nn

from kstyle_torch import Sequential, layers
from kstyle_torch.layers import Dense, Embedding, Input, IntegerLookup, StringLookup, TextVectorization
from kstyle_torch.models import Model
from tests.oracle import assert_close

TEXTS = ["The cat sat on the mat.", "A dog; a cat!", "mat, mat, mat", "the dog sat"]
WORDS = ["a", "b", "c", "d"]
WORD_ROWS = [["a", "c", "d", "d"], ["d", "z", "b", "z"]]
NUMBERS = [12, 36, 1138, 42]
NUMBER_ROWS = [[12, 1138, 42, 42], [42, 7, 36, 7]]
IDF = [0.25, 0.75, 0.6, 0.4]


def documented(mode):
    """What Keras' documentation gives for the rows above, in both layers."""
    return {
        "int": [[1, 3, 4, 4], [4, 0, 2, 0]],
        "multi_hot": [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]],
        "count": [[0, 1, 0, 1, 2], [2, 0, 1, 0, 1]],
        "tf_idf": [[0, 0.25, 0, 0.6, 0.8], [1.0, 0, 0.75, 0, 0.4]],
    }[mode]


every_mode = pytest.mark.parametrize("mode", ["int", "multi_hot", "count", "tf_idf"])
both_lookups = pytest.mark.parametrize(
    ("layer", "vocabulary", "rows"),
    [(StringLookup, WORDS, WORD_ROWS), (IntegerLookup, NUMBERS, NUMBER_ROWS)],
    ids=["strings", "integers"],
)


def idf_for(mode):
    return {"idf_weights": IDF} if mode == "tf_idf" else {}


@every_mode
@both_lookups
def test_documented_outputs(layer, vocabulary, rows, mode):
    made = layer(vocabulary=vocabulary, output_mode=mode, **idf_for(mode))
    for x in (rows, np.array(rows), pd.DataFrame(rows)):
        assert_close(made(x), documented(mode))
    assert made(rows).dtype == (torch.float32 if mode == "tf_idf" else torch.int64)


@both_lookups
def test_unknown_tokens_have_the_weight_that_they_are_given(layer, vocabulary, rows):
    made = layer(output_mode="tf_idf")
    oov = made.oov_token
    made.set_vocabulary([oov, *vocabulary], idf_weights=[0.9, *IDF])
    assert_close(made(rows), [[0, 0.25, 0, 0.6, 0.8], [1.8, 0, 0.75, 0, 0.4]])
    assert made.get_vocabulary() == [oov, *vocabulary]


def test_one_hot():
    layer = StringLookup(vocabulary=WORDS, output_mode="one_hot")
    assert_close(layer(["a", "b", "c", "d", "z"]), np.eye(5)[[1, 2, 3, 4, 0]])
    assert layer([["a"], ["b"]]).shape == (2, 5)
    assert layer([["a", "b"]]).shape == (1, 2, 5)


def test_a_masked_token_is_in_no_vector():
    layer = StringLookup(vocabulary=WORDS, mask_token="", output_mode="count")
    assert layer.get_vocabulary() == ["[UNK]", *WORDS]
    assert_close(layer([["", "", "b", "z"]]), [[1, 0, 1, 0, 0]])
    assert_close(StringLookup(vocabulary=WORDS, mask_token="")([["", "a", "z"]]), [[0, 2, 1]])


@both_lookups
def test_there_and_back(layer, vocabulary, rows):
    forth = layer(vocabulary=vocabulary)
    back = layer(vocabulary=forth.get_vocabulary(), invert=True)
    found = back(forth(rows))
    known = [[token if token in vocabulary else forth.oov_token for token in row] for row in rows]
    assert found.tolist() == known
    assert back(torch.tensor([0, 99, -1])).tolist() == [forth.oov_token] * 3


def test_several_unknown_indices():
    layer = IntegerLookup(vocabulary=NUMBERS, num_oov_indices=2)
    assert_close(layer([[12, 1138, 42], [37, 1000, 36]]), [[2, 4, 5], [1, 0, 3]])  # Keras' documentation
    spread = StringLookup(vocabulary=WORDS, num_oov_indices=4)([f"word {number}" for number in range(400)])
    assert torch.bincount(spread, minlength=4).min() > 50
    hashed = IntegerLookup(vocabulary=[10, 20, 30], num_oov_indices=4, oov_method="farmhash")
    assert hashed([100, 300, 700, 1100, 1700, 2000]).tolist() == [3, 3, 2, 2, 0, 1]  # Keras' documentation


@both_lookups
def test_unknown_tokens_without_an_index_are_an_error(layer, vocabulary, rows):
    made = layer(vocabulary=vocabulary, num_oov_indices=0)
    assert made(rows[0]).tolist() == [0, 2, 3, 3]
    with pytest.raises(ValueError, match="num_oov_indices=0"):
        made(rows)


@both_lookups
def test_max_tokens_and_padding(layer, vocabulary, rows):
    cut = layer(max_tokens=3)
    cut.adapt([*vocabulary, *vocabulary[:2]])
    assert len(cut.get_vocabulary()) == 3 and set(cut.get_vocabulary(include_special_tokens=False)) == {*vocabulary[:2]}
    padded = layer(vocabulary=vocabulary, output_mode="count", max_tokens=8, pad_to_max_tokens=True)
    assert_close(padded(rows)[:, :5], documented("count"))
    assert padded(rows).shape == (2, 8)


def test_a_file_holds_a_token_a_line(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("a\nb\nc\nd\n", encoding="utf-8")
    layer = StringLookup(vocabulary=str(path))
    assert layer(WORD_ROWS).tolist() == documented("int")
    assert StringLookup.from_config(layer.get_config()).get_vocabulary() == layer.get_vocabulary()
    path.write_text("12\n36\n")
    assert IntegerLookup(vocabulary=str(path))([36]).tolist() == [2]
    with pytest.raises(ValueError, match="file not found"):
        StringLookup(vocabulary=str(tmp_path / "none"))
    for name in ("StringLookup", "IntegerLookup", "TextVectorization"):
        with pytest.raises(ValueError, match="cannot open"):
            getattr(layers, name).from_config({"vocabulary": str(path)})


@every_mode
@pytest.mark.parametrize("name", ["StringLookup", "TextVectorization"])
def test_what_was_learned_survives(name, mode, tmp_path):
    layer = getattr(layers, name)(output_mode=mode)
    layer.adapt(TEXTS)
    expected = layer(TEXTS)
    config = json.loads(json.dumps(layer.get_config()))
    other = type(layer)(output_mode=mode)
    store = {}
    layer.save_own_variables(store)
    layer.save_assets(str(tmp_path))
    other.load_own_variables(store)
    other.load_assets(str(tmp_path))
    for again in (type(layer).from_config(config), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert again.get_vocabulary() == layer.get_vocabulary()
        assert_close(again(TEXTS), expected)
        again.adapt(["new words"])  # as the layer itself could
        assert "new words"[:3] in "".join(again.get_vocabulary())
        assert_close(layer(TEXTS), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 1}, "max_tokens"),
        ({"num_oov_indices": -1}, "num_oov_indices"),
        ({"pad_to_max_tokens": True}, "max_tokens"),
        ({"output_mode": "ints"}, "output_mode"),
        ({"invert": True, "output_mode": "count"}, "invert"),
        ({"idf_weights": [1.0]}, "tf_idf"),
        ({"vocabulary": ["a"], "output_mode": "tf_idf"}, "idf_weights"),
        ({"vocabulary": ["a"], "output_mode": "tf_idf", "idf_weights": [1.0, 2.0]}, "one number for each of 1 tokens"),
        ({"vocabulary": []}, "empty"),
        ({"vocabulary": ["a", "b", "a"]}, "more than once"),
        ({"vocabulary": ["a", ""], "mask_token": ""}, "reserved"),
        ({"vocabulary": ["a", "[UNK]"], "invert": True}, "reserved"),
        ({"vocabulary": ["a", "b"], "max_tokens": 2}, "max_tokens is 2"),
        ({"sparse": True}, "sparse"),
        ({"salt": "x"}, "salt"),
        ({"oov_methd": "farmhash"}, "oov_method"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StringLookup(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"vocabulary_dtype": "int32"}, {"salt": 3}, {"oov_method": "md5"}, {"invert": True, "oov_token": None}],
    ids=str,
)
def test_bad_arguments_of_integer_lookup(arguments):
    with pytest.raises(ValueError, match="IntegerLookup"):
        IntegerLookup(**arguments)


@pytest.mark.parametrize("name", ["StringLookup", "TextVectorization"])
def test_only_text(name):
    layer = getattr(layers, name)(vocabulary=WORDS)
    with pytest.raises(TypeError, match=r"got a symbolic tensor of dtype float32.*Input\(\(1,\), dtype=\"string\"\)"):
        layer(Input((1,)))
    with pytest.raises(TypeError, match="tensor of torch.float32"):
        layer(torch.ones(2))
    with pytest.raises(TypeError, match="astype"):
        layer([1, 2])
    with pytest.raises(TypeError, match="None"):
        layer(["a", None])
    with pytest.raises(TypeError, match="StringLookup"):
        IntegerLookup(vocabulary=["a"])


@pytest.mark.parametrize("name", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_without_a_vocabulary(name):
    layer = getattr(layers, name)()
    assert "[UNK]" in layer.get_vocabulary() or layer.get_vocabulary() == [-1]
    with pytest.raises(ValueError, match="call adapt"):
        layer([3] if name == "IntegerLookup" else ["a"])


def test_integer_lookup_in_a_model():
    lookup = IntegerLookup(vocabulary=NUMBERS)
    inputs = Input((2,), dtype="int64")
    model = Model(inputs, Embedding(lookup.vocabulary_size(), 3)(lookup(inputs)))
    x = torch.tensor([[12, 7], [36, 36]])
    assert_close(model(x), model.layers[-1](lookup(x)))
    assert [key for key in model.state_dict() if "lookup" in key] == []
    counts = IntegerLookup(output_mode="count", vocabulary_size=5)  # a Keras file is read before its vocabulary
    assert counts(inputs).shape == (None, 5)


# ------------------------------------------------------------------------------------------------- TextVectorization


def test_documented_vectorization():
    layer = TextVectorization(max_tokens=5000, output_mode="int", output_sequence_length=4)
    layer.adapt(["foo bar", "bar baz", "baz bada boom"])
    assert layer([["foo qux bar"], ["qux baz"]]).tolist() == [[4, 1, 3, 0], [1, 2, 0, 0]]
    given = TextVectorization(vocabulary=["earth", "wind", "and", "fire"])
    assert given.get_vocabulary() == ["", "[UNK]", "earth", "wind", "and", "fire"]
    assert given.get_vocabulary(include_special_tokens=False) == ["earth", "wind", "and", "fire"]


@pytest.mark.parametrize("ngrams", [None, 2, (2, 3)])
@pytest.mark.parametrize("mode", ["count", "multi_hot"])
def test_counts_equal_scikit_learn(ngrams, mode):
    lengths = {None: (1, 1), 2: (1, 2), (2, 3): (2, 3)}[ngrams]
    counter = CountVectorizer(token_pattern=r"\b\w+\b", ngram_range=lengths, binary=mode == "multi_hot")
    expected = counter.fit_transform(TEXTS).toarray()
    layer = TextVectorization(ngrams=ngrams, output_mode=mode)
    layer.adapt(TEXTS)
    columns = [layer.get_vocabulary().index(token) for token in counter.get_feature_names_out()]
    assert len(columns) == layer.vocabulary_size() - 1
    assert_close(layer(TEXTS)[:, columns], expected)
    assert layer(TEXTS)[:, 0].sum() == 0


def test_inverse_document_frequencies():
    layer = TextVectorization(output_mode="tf_idf")
    layer.adapt(TEXTS)
    counts = CountVectorizer(token_pattern=r"\b\w+\b").fit(TEXTS)
    term_counts = counts.transform(TEXTS).toarray()
    idf = np.log(1 + len(TEXTS) / (1 + (term_counts > 0).sum(0)))  # the formula that Keras documents
    columns = [layer.get_vocabulary().index(token) for token in counts.get_feature_names_out()]
    assert_close(layer(TEXTS)[:, columns], (term_counts * idf).astype("float32"))
    assert_close(layer(["zebra"])[0, 0], np.float32(idf.mean()))


def test_lengths():
    layer = TextVectorization(vocabulary=["a", "b"])
    assert layer(["a b a", "b", ""]).tolist() == [[2, 3, 2], [3, 0, 0], [0, 0, 0]]
    assert layer("a b").tolist() == [2, 3]
    assert layer(["", ""]).shape == (2, 0)
    fixed = TextVectorization(vocabulary=["a", "b"], output_sequence_length=2)
    assert fixed(["a b a", "b"]).tolist() == [[2, 3], [3, 0]]


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        ({}, ["the", "cats", "tÉa", "xy"]),
        ({"standardize": "lower"}, ["the", "cat's", "tÉa", "x_y!"]),
        ({"standardize": "strip_punctuation"}, ["The", "cats", "tÉa", "xy"]),
        ({"standardize": None}, ["The", "cat's", "tÉa", "x_y!"]),
        ({"standardize": np.char.upper}, ["THE", "CAT'S", "TÉA", "X_Y!"]),
        ({"split": lambda texts: [text.split("a") for text in texts]}, ["the c", "ts \t tÉ", "\nxy"]),
        ({"split": None}, ["the cats \t tÉa\nxy"]),
        ({"ngrams": (2,)}, ["the cats", "cats tÉa", "tÉa xy"]),
    ],
    ids=lambda value: (
        "-".join(f"{key}={getattr(each, '__name__', each)}" for key, each in value.items())
        if isinstance(value, dict)
        else ""
    ),
)
def test_standardize_and_split(arguments, tokens):
    layer = TextVectorization(**arguments)
    layer.adapt(["The cat's \t tÉa\nx_y!"])
    assert sorted(layer.get_vocabulary(include_special_tokens=False)) == sorted(tokens)


def test_characters_and_spaces_that_are_none_in_ascii():
    layer = TextVectorization(split="character")
    layer.adapt(["Abéa"])
    assert layer(["aéb"]).tolist() == [[layer.get_vocabulary().index(letter) for letter in "aéb"]]
    words = TextVectorization()
    words.adapt(["a\u00a0b c\x1cd"])
    assert words.vocabulary_size() == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"standardize": "upper"},
        {"split": "comma"},
        {"ngrams": 0},
        {"ngrams": "two"},
        {"output_sequence_length": 3, "output_mode": "count"},
        {"output_sequence_length": 2.5},
        {"ragged": True},
        {"sparse": True, "output_mode": "count"},
        {"output_mode": "ints"},
    ],
    ids=str,
)
def test_bad_arguments_of_text_vectorization(arguments):
    with pytest.raises(ValueError, match=r"TextVectorization|StringLookup"):
        TextVectorization(**arguments)


def test_texts_that_are_split_already():
    with pytest.raises(ValueError, match="split=None"):
        TextVectorization(vocabulary=WORDS)([["a", "b"]])
    assert TextVectorization(vocabulary=WORDS, split=None)([["a", "b"]]).tolist() == [[2, 3]]


def test_in_front_of_a_model():
    """Text becomes numbers before `fit`, as Keras recommends."""
    vectorize = TextVectorization(output_sequence_length=5)
    vectorize.adapt(TEXTS)
    model = Sequential([Input((5,), dtype="int64"), Embedding(vectorize.vocabulary_size(), 4), nn.Flatten(), Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    history = model.fit(vectorize(TEXTS), np.ones((4, 1)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.predict(vectorize(["a text"]), verbose=0).shape == (1, 1)


def test_numbers_go_where_the_layer_is():
    layer = TextVectorization(vocabulary=WORDS)
    layer(["a"])
    assert layer.to("meta")(["a"]).device.type == "meta"
