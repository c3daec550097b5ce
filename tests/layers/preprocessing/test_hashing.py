"""Hashing and HashedCrossing: the bins that Keras documents (its layers need TensorFlow, see test_with_tensorflow.py)."""

import numpy as np
import pandas as pd
import pytest
import torch

from kstyle_torch.layers import HashedCrossing, Hashing, Input
from kstyle_torch.layers.preprocessing.fingerprint import hash_text
from kstyle_torch.models import Model

LETTERS = [["A"], ["B"], ["C"], ["D"], ["E"]]
NAMES = ["omar", "stringer", "marlo", "wire", "skywalker"]


@pytest.mark.parametrize(
    ("arguments", "x", "bins"),
    [
        ({"num_bins": 3}, LETTERS, [1, 0, 1, 1, 2]),
        ({"num_bins": 3, "mask_value": ""}, [["A"], ["B"], [""], ["C"], ["D"]], [1, 1, 0, 2, 2]),
        ({"num_bins": 3, "salt": [133, 137]}, LETTERS, [1, 2, 1, 0, 2]),
        ({"num_bins": 3, "salt": 133}, LETTERS, [0, 0, 2, 1, 0]),
        ({"num_bins": 2}, NAMES, [0, 0, 1, 0, 0]),
        ({"num_bins": 3, "mask_value": "omar"}, NAMES, [0, 1, 2, 1, 1]),
        ({"num_bins": 3}, [0, 1, 2, 3, 4], [1, 0, 1, 0, 2]),
        ({"num_bins": 3, "salt": [133, 137]}, [0, 1, 2, 3, 4], [1, 1, 2, 0, 1]),
    ],
    ids=str,
)
def test_documented_bins(arguments, x, bins):
    layer = Hashing(**arguments)
    for data in (x, np.array(x), np.array(x, dtype=object), pd.DataFrame(x)):
        assert layer(data).flatten().tolist() == bins
    assert layer(x).dtype == torch.int64


def test_documented_crossing():
    first, second = ["A", "B", "A", "B", "A"], [101, 101, 101, 102, 102]
    assert HashedCrossing(5)((first, second)).tolist() == [1, 4, 1, 1, 3]
    one_hot = HashedCrossing(5, output_mode="one_hot")((first, np.array(second)))
    assert one_hot.argmax(1).tolist() == [1, 4, 1, 1, 3]
    assert one_hot.dtype == torch.float32
    series = HashedCrossing(5)((pd.Series(first), torch.tensor(second)))
    assert series.tolist() == [1, 4, 1, 1, 3]


@pytest.mark.parametrize("salt", [None, (1, 2)])
def test_hashes_do_not_depend_on_the_company(salt):
    """Strings of one length are hashed together; every length class must give what a string alone gives."""
    texts = [chr(97 + length % 26) * length for length in range(200)] * 2
    together = hash_text(texts, salt)
    assert len({*together.tolist()}) == 200
    assert together.tolist() == [int(hash_text([text], salt)[0]) for text in texts]


@pytest.mark.parametrize("length", [1, 5, 12, 25, 50, 100, 300])
@pytest.mark.parametrize("salt", [None, (1, 2)])
def test_every_letter_counts(length, salt):
    text = "x" * length
    changed = [text[:place] + "y" + text[place + 1 :] for place in range(length)]
    assert len({*hash_text([text, *changed], salt).tolist()}) == length + 1


def test_sip_hash_is_the_published_one():
    """The test vector of Aumasson & Bernstein 2012, appendix A: the bytes 0 to 14 under the key of the bytes 0 to 15."""
    key = [int.from_bytes(bytes(range(start, start + 8)), "little") for start in (0, 8)]
    assert hash_text(["".join(map(chr, range(15)))], key).tolist() == [0xA129CA6149BE45E5]


def test_hashing_numbers_in_a_model():
    inputs = Input((2,), dtype="int64")
    model = Model(inputs, Hashing(4, output_mode="count")(inputs))
    x = torch.arange(6).reshape(3, 2)
    assert model(x).tolist() == Hashing(4, output_mode="count")(x).tolist()


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_bins": None},
        {"num_bins": 0},
        {"num_bins": 2, "output_mode": "ints"},
        {"num_bins": 2, "dtype": "float32"},
        {"num_bins": 2, "salt": "x"},
        {"num_bins": 2, "sparse": True, "output_mode": "count"},
    ],
    ids=str,
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Hashing"):
        Hashing(**arguments)


def test_bad_inputs():
    with pytest.raises(TypeError, match="strings or integers"):
        Hashing(2)(["a", None])
    cross = HashedCrossing(2)
    for x in (["a"], (["a"],), (["a"], ["b", "c"]), ([["a", "b"]], [["a", "b"]]), ([1.5], [2.5])):
        with pytest.raises(ValueError, match="hashed_crossing"):
            cross(x)
