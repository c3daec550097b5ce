"""Older Keras' text tools against Keras' own."""

import json

import numpy as np
import pytest

from kstyle_torch.preprocessing import text as ours

TEXTS = ["The cat sat on the mat.", "The dog ate\tmy homework, the DOG!", "", "cats & dogs -- the end", ["The", "cat"]]
NEW = ["the bird sat on a dog", "unknown words only", ["Cat", "bird"], ""]
OPTIONS = {
    "default": {},
    "few words": {"num_words": 4},
    "unknown": {"oov_token": "<?>"},
    "few and unknown": {"num_words": 4, "oov_token": "<?>"},
    "as it is": {"lower": False, "filters": ",.!"},
    "characters": {"char_level": True},
    "analyzer": {"analyzer": str.split},
    "split": {"split": "a", "filters": "!"},
}


@pytest.fixture
def theirs(keras):
    from keras.src.legacy.preprocessing import text

    return text


def pair(theirs, options):
    tokenizers = [module.Tokenizer(**options) for module in (ours, theirs)]
    for tokenizer in tokenizers:
        tokenizer.fit_on_texts(TEXTS)
    return tokenizers


@pytest.mark.parametrize("options", OPTIONS)
def test_tokenizers_agree(theirs, options):
    first, second = pair(theirs, OPTIONS[options])
    assert first.word_index == second.word_index and list(first.word_counts.items()) == list(second.word_counts.items())
    assert dict(first.index_docs) == dict(second.index_docs) and first.document_count == second.document_count
    sequences = second.texts_to_sequences(NEW)
    assert first.texts_to_sequences(NEW) == sequences
    assert first.sequences_to_texts([*sequences, [1, 99, 3]]) == second.sequences_to_texts([*sequences, [1, 99, 3]])
    for mode in ours.MODES:
        np.testing.assert_allclose(first.texts_to_matrix(NEW, mode), second.texts_to_matrix(NEW, mode))
    assert first.get_config() == second.get_config()


@pytest.mark.parametrize("options", ["default", "few and unknown"])
def test_json_goes_both_ways(theirs, options):
    first, second = pair(theirs, OPTIONS[options])
    assert json.loads(first.to_json()) == json.loads(second.to_json())
    for written, read in ((second, ours.tokenizer_from_json), (first, theirs.tokenizer_from_json)):
        again = read(written.to_json(indent=1))
        assert again.texts_to_sequences(NEW) == written.texts_to_sequences(NEW)
        assert json.loads(again.to_json()) == json.loads(written.to_json())


def test_sequences_are_counted(theirs):
    matrices = []
    for module in (ours, theirs):
        tokenizer = module.Tokenizer(num_words=6)
        tokenizer.fit_on_sequences([[1, 2, 2], [1, 5], []])
        matrices.append(tokenizer.sequences_to_matrix([[1, 2, 2, 7], []], "tfidf"))
    np.testing.assert_allclose(*matrices)


def test_words_and_hashes(theirs):
    for sentence in TEXTS[:4]:
        assert ours.text_to_word_sequence(sentence) == theirs.text_to_word_sequence(sentence)
        assert ours.one_hot(sentence, 9) == theirs.one_hot(sentence, 9)
        assert ours.hashing_trick(sentence, 9, "md5") == theirs.hashing_trick(sentence, 9, "md5")
        assert ours.hashing_trick(sentence, 9, len) == theirs.hashing_trick(sentence, 9, len)


def test_mistakes():
    with pytest.raises(TypeError, match="'num_word'"):
        ours.Tokenizer(num_word=3)
    with pytest.raises(ValueError, match="fit_on_texts"):
        ours.Tokenizer().texts_to_matrix(["a"])
    with pytest.raises(ValueError, match="got 'tf'"):
        ours.Tokenizer(num_words=3).texts_to_matrix(["a"], "tf")
    with pytest.raises(ValueError, match="needs documents"):
        ours.Tokenizer(num_words=3).texts_to_matrix(["a"], "tfidf")
