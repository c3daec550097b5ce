"""Preprocessing of numbers, text and sound."""

import numpy as np

from tests.layers.case import IMAGE, Case
from tests.oracle import uniform

TEXT = "text is looked up on the host"
HASHED = "hashes are computed on the host"
WORDS = np.array([["a", "d"], ["z", "b"], ["c", "c"]])
SENTENCES = ["the cat, and the dog.", "A cat sat", "nothing known"]
VOCABULARY = ["the", "cat", "dog", "sat"]
WAVE = ((2, 64),)
SIGNAL = ((2, 50, 3),)
MEL = {"fft_length": 32, "sequence_stride": 8, "sampling_rate": 8000, "num_mel_bins": 5}
FRAMES = {"frame_length": 12, "frame_step": 5, "fft_length": 16}


def words():
    return (WORDS,)


def sentences():
    return (SENTENCES,)


def category_rows():
    one_hot = {"num_tokens": 5, "output_mode": "one_hot"}
    count = {"num_tokens": 5, "output_mode": "count"}
    return [
        Case("category-multi-hot", "CategoryEncoding", {"num_tokens": 5}, ((4, 3),), high=5),
        Case(
            "category-multi-hot-vector", "CategoryEncoding", {"num_tokens": 5}, ((4,),), high=5, exempt="(n,) -> (5,)"
        ),
        Case("category-multi-hot-3d", "CategoryEncoding", {"num_tokens": 5}, ((4, 3, 2),), high=5),
        Case("category-one-hot", "CategoryEncoding", one_hot, ((4, 3),), high=5),
        Case("category-one-hot-column", "CategoryEncoding", one_hot, ((4, 1),), high=5),
        Case("category-count", "CategoryEncoding", count, ((4, 9),), high=5),
        Case(
            "category-count-weights",
            "CategoryEncoding",
            count,
            ((4, 9),),
            high=5,
            call=lambda: {"count_weights": uniform(4, 9, seed=3)},
        ),
    ]


def number_rows():
    bins = {"bin_boundaries": [-0.5, 0.0, 0.5]}
    return [
        Case("rescaling", "Rescaling", {"scale": 1 / 127.5, "offset": -1}, (IMAGE,)),
        Case("rescaling-integers", "Rescaling", {"scale": 0.5, "offset": 0.25}, ((4, 3),), high=255),
        Case("rescaling-channels", "Rescaling", {"scale": [1.0, 2.0, 3.0, 4.0], "offset": [0.0, 1, 2, 3]}, (IMAGE,)),
        Case("normalization", "Normalization", {}, ((5, 3),)),
        Case("normalization-axis", "Normalization", {"axis": 1}, (IMAGE,)),
        Case("normalization-axes", "Normalization", {"axis": (1, 3)}, (IMAGE,)),
        Case("normalization-no-axis", "Normalization", {"axis": None}, ((5, 3),)),
        Case("normalization-invert", "Normalization", {"invert": True}, ((5, 3),)),
        Case("normalization-given", "Normalization", {"mean": [1.0, 2, 3], "variance": [4.0, 5, 6]}, ((5, 3),)),
        Case("normalization-given-scalar", "Normalization", {"mean": 3.0, "variance": 2.0}, (IMAGE,)),
        Case(
            "normalization-given-last",
            "Normalization",
            {"axis": (1, 3), "mean": [1.0, 2, 3, 4], "variance": [1.0, 1, 2, 2]},
            (IMAGE,),
        ),
        Case(
            "normalization-given-invert", "Normalization", {"mean": [1.0], "variance": [4.0], "invert": True}, ((5, 1),)
        ),
        Case("discretization", "Discretization", bins, ((4, 3),)),
        Case("discretization-integers", "Discretization", {"bin_boundaries": [1.0, 3.0]}, ((4, 3),), high=5),
        Case("discretization-one-hot", "Discretization", {**bins, "output_mode": "one_hot"}, ((4, 3),)),
        Case("discretization-multi-hot", "Discretization", {**bins, "output_mode": "multi_hot"}, ((4, 3),)),
        Case("discretization-count", "Discretization", {**bins, "output_mode": "count"}, ((4, 3, 2),)),
    ]


def sound_rows():
    rows = [
        Case(f"stft-{mode}", "STFTSpectrogram", {"mode": mode, **FRAMES}, SIGNAL, atol=1e-5, rtol=1e-4)
        for mode in ("log", "magnitude", "psd", "real", "imag", "stft")
    ]
    last = {"mode": "magnitude", **FRAMES, "padding": "same"}
    first = {**last, "data_format": "channels_first"}
    return [
        *rows,
        Case("stft-angle", "STFTSpectrogram", {"mode": "angle", **FRAMES}, SIGNAL, atol=1e-5, rtol=1e-4),
        Case("stft-same", "STFTSpectrogram", last, SIGNAL, atol=1e-5),
        Case("stft-image", "STFTSpectrogram", {**last, "expand_dims": True}, SIGNAL, atol=1e-5),
        Case("stft-channels-first", "STFTSpectrogram", first, ((2, 3, 50),), atol=1e-5),
        Case("stft-channels-first-image", "STFTSpectrogram", {**first, "expand_dims": True}, ((2, 3, 50),), atol=1e-5),
        Case(
            "stft-window",
            "STFTSpectrogram",
            {"mode": "psd", "frame_length": 16, "window": "hamming", "periodic": True, "scaling": "spectrum"},
            SIGNAL,
            atol=1e-5,
        ),
        Case(
            "stft-no-window", "STFTSpectrogram", {"mode": "psd", "frame_length": 16, "window": None}, SIGNAL, atol=1e-4
        ),
        Case("mel", "MelSpectrogram", MEL, WAVE, rtol=1e-4, atol=1e-4),
        Case("mel-power", "MelSpectrogram", {**MEL, "power_to_db": False, "mag_exp": 1.0}, WAVE, rtol=1e-4, atol=1e-5),
        Case(
            "mel-frequencies",
            "MelSpectrogram",
            {**MEL, "min_freq": 300.0, "max_freq": 3000.0, "ref_power": 0.5, "top_db": 20.0, "min_power": 1e-3},
            WAVE,
            rtol=1e-4,
            atol=1e-4,
        ),
        Case(
            "mel-short",
            "MelSpectrogram",
            {**MEL, "sequence_length": 20, "window": "hamming"},
            WAVE,
            rtol=1e-4,
            atol=1e-4,
        ),
        Case("mel-no-window", "MelSpectrogram", {**MEL, "window": None}, WAVE, rtol=1e-4, atol=1e-4),
    ]


def lookup_rows():
    given = {"vocabulary": [12, 3, 7, 1]}
    rows = [
        ("", {}),
        ("mask", {"mask_token": 0, "num_oov_indices": 2}),
        ("oov", {"num_oov_indices": 3}),
        ("invert", {"invert": True, "mask_token": 0}),
        ("one-hot", {"output_mode": "one_hot"}),
        ("multi-hot", {"output_mode": "multi_hot", "mask_token": 0}),
        ("count", {"output_mode": "count", "max_tokens": 9, "pad_to_max_tokens": True}),
        ("tf-idf", {"output_mode": "tf_idf", "idf_weights": [0.1, 0.2, 0.3, 0.4]}),
    ]
    return [
        *(
            Case(f"integer-lookup-{name}", "IntegerLookup", {**given, **more}, ((4, 3),), high=14, oracle=False)
            for name, more in rows
        ),
        Case(
            "integer-lookup-farmhash",
            "IntegerLookup",
            {**given, "num_oov_indices": 4, "oov_method": "farmhash", "salt": 5},
            ((4, 3),),
            high=14,
            oracle=False,
            exempt=HASHED,
        ),
    ]


def text_rows():
    given, text = {"vocabulary": ["a", "b", "c"]}, {"vocabulary": VOCABULARY}
    idf = {"output_mode": "tf_idf", "idf_weights": [0.1, 0.2, 0.3, 0.4]}

    def row(name, layer, arguments, inputs, exempt=TEXT):
        return Case(name, layer, arguments, inputs=inputs, oracle=False, exempt=exempt)

    return [
        row("string-lookup", "StringLookup", given, words),
        row("string-lookup-oov", "StringLookup", {**given, "num_oov_indices": 3, "mask_token": "d"}, words),
        row("string-lookup-count", "StringLookup", {**given, "output_mode": "count"}, words),
        row("vectorization", "TextVectorization", text, sentences),
        row("vectorization-length", "TextVectorization", {**text, "output_sequence_length": 2}, sentences),
        row("vectorization-ngrams", "TextVectorization", {**text, "ngrams": 2, "output_mode": "count"}, sentences),
        row("vectorization-tf-idf", "TextVectorization", {**text, **idf}, sentences),
        row("hashing", "Hashing", {"num_bins": 7}, words, HASHED),
        row("hashing-mask", "Hashing", {"num_bins": 7, "mask_value": "d", "salt": [1, 2]}, words, HASHED),
        row("hashing-count", "Hashing", {"num_bins": 7, "output_mode": "count"}, words, HASHED),
        row("hashed-crossing", "HashedCrossing", {"num_bins": 7}, lambda: ((WORDS[:, 0], [1, 2, 3]),), HASHED),
    ]


def pipeline_rows():
    def steps(lib):
        return {"layers": [lib.layers.Rescaling(0.5), lib.layers.Dense(3)]}

    return [Case("pipeline", "Pipeline", steps, ((4, 3),))]


CASES = [*category_rows(), *number_rows(), *sound_rows(), *lookup_rows(), *text_rows(), *pipeline_rows()]
