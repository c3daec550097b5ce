"""Programs on inputs of unknown sizes: Keras' shapes, few tries, and models that give the eager numbers at two lengths."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

import kstyle_torch
from kstyle_torch import models, ops
from kstyle_torch.layers import Add, Concatenate, Dense, Embedding, Input, Lambda, Layer, Reshape
from tests.oracle import assert_close, integers, uniform
from tests.symbolic.unknown_sizes import few_tries, missing, shapes_of, untrue


def positions(k, size):
    """Tokens and learned positions, in a layer."""

    class Positions(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = k.layers.Embedding(50, 8), k.layers.Embedding(size, 8)

        def call(self, x):
            return self.tokens(x) + self.places(k.ops.arange(k.ops.shape(x)[-1]))

    return Positions()


def sizes_as_numbers(k):
    """A layer that looks at its input's sizes and computes with them."""

    class Folded(k.layers.Layer):
        def call(self, x):
            if x.shape[1] is None:
                return x
            rows, steps, size = k.ops.shape(x)
            return k.ops.reshape(x[:, : steps // 4 * 4], (rows, steps // 4, 4 * size))

    return Folded()


def subclassed(k):
    class Pooled(k.Model):
        def __init__(self):
            super().__init__()
            self.convolution, self.pooling = k.layers.Conv2D(4, 3), k.layers.GlobalAveragePooling2D()

        def call(self, x):
            return self.pooling(self.convolution(x))

    return Pooled()


def stacked(k):
    parts = [k.layers.Conv1D(4, 3), k.layers.MaxPooling1D(), k.layers.LSTM(5, return_sequences=True)]
    return k.Sequential(parts)


def nested(k):
    x = k.Input((None, 3))
    return k.Model(x, k.layers.Conv1D(2, 5, padding="same")(x))


class Program(NamedTuple):
    """A program, the shapes of its inputs, and the sizes that replace None in two runs: of the rows, of others."""

    id: str
    make: object  # of keras or kstyle_torch: a function of the inputs
    shapes: list
    sizes: tuple = ((2, 16), (3, 21))
    integers: bool = False


PROGRAMS = [
    Program("learned-positions", lambda k: positions(k, 50), [(None, None)], integers=True),
    Program("few-learned-positions", lambda k: positions(k, 2), [(None, None)], ((2, 2), (3, 1)), integers=True),
    Program("sizes-as-numbers", sizes_as_numbers, [(None, None, 3)]),
    Program("constant", lambda k: lambda x: x + k.ops.ones((1, 100, 64)), [(None, None, 64)], ((2, 100), (3, 100))),
    Program("constant-of-rows", lambda k: lambda x: x + k.ops.ones((5, 3)), [(None, 3)], ((5, 0), (5, 0))),
    Program("both-open", lambda k: lambda x, y: x + y, [(None, 3), (2, None)], ((2, 3), (2, 3))),
    Program("add", lambda k: lambda *x: k.layers.Add()(x), [(None, None, 5), (None, 10, 5)], ((2, 10), (3, 10))),
    Program(
        "average", lambda k: lambda *x: k.layers.Average()(x), [(None, 10, 5), (None, None, 5)], ((2, 10), (3, 10))
    ),
    Program("concatenate", lambda k: lambda *x: k.layers.Concatenate(1)(x), [(None, None, 5), (None, 10, 5)]),
    Program("wide-window", lambda k: k.layers.Conv1D(4, 500), [(None, None, 3)], ((2, 500), (1, 612))),
    Program("wide-window-of-rows", lambda k: k.layers.Conv1D(4, 500), [(2, None, 3)], ((2, 500), (2, 612))),
    Program("wide-pooling", lambda k: k.layers.AveragePooling1D(300), [(None, None, 3)], ((2, 300), (3, 650))),
    Program("wide-cropping", lambda k: k.layers.Cropping2D(200), [(None, None, None, 3)], ((1, 401), (2, 403))),
    Program("spectrogram", lambda k: k.layers.STFTSpectrogram(), [(None, None, 1)], ((2, 300), (3, 700))),
    Program("mel", lambda k: k.layers.MelSpectrogram(), [(None, None)], ((2, 3000), (3, 6000))),
    Program("mel-long", lambda k: k.layers.MelSpectrogram(fft_length=4096), [(None, None)], ((2, 5000), (3, 9000))),
    Program("reshape-rows", lambda k: lambda x: k.ops.reshape(x, (k.ops.shape(x)[0], 5, 4)), [(None, 20)]),
    Program(
        "reshape-steps",
        lambda k: lambda x: k.ops.reshape(x, (2, k.ops.shape(x)[1], 2, 2)),
        [(2, None, 4)],
        ((2, 3), (2, 7)),
    ),
    Program("reshape-none", lambda k: k.layers.Reshape((None, 2)), [(None, None, 4)]),
    Program("reshape-known", lambda k: k.layers.Reshape((5, 4)), [(None, None)], ((2, 20), (3, 20))),
    Program("reshape-image", lambda k: k.layers.Reshape((6, 28)), [(None, None, None, 42)], ((2, 2), (3, 2))),
    Program("fori-loop", lambda k: lambda x: k.ops.fori_loop(0, 3, lambda i, y: y + i, x), [(None, None)]),
    Program(
        "scan",
        lambda k: lambda x: k.ops.scan(lambda c, y: (c + k.ops.sum(y), y * 2), k.ops.zeros(()), x),
        [(None, None, 3)],
    ),
    Program("map", lambda k: lambda x: k.ops.map(lambda y: k.ops.sum(y, 0), x), [(None, None, 3)]),
    Program(
        "vectorized-map", lambda k: lambda x: k.ops.vectorized_map(lambda y: k.ops.sum(y, 0), x), [(None, None, 3)]
    ),
    Program(
        "associative-scan", lambda k: lambda x: k.ops.associative_scan(lambda a, b: a + b, x, axis=1), [(None, None, 3)]
    ),
    Program("cond", lambda k: lambda x: k.ops.cond(k.ops.sum(x) > 0, lambda: x + 1, lambda: x * 2), [(None, None)]),
    Program("switch", lambda k: lambda x: k.ops.switch(1, [lambda y: y + 1, lambda y: y * 2], x), [(None, None)]),
    Program(
        "while-loop",
        lambda k: lambda x: k.ops.while_loop(lambda y: k.ops.sum(y) < 1e4, lambda y: (k.ops.abs(y) * 2 + 1,), (x,)),
        [(None, None)],
    ),
    Program("matmul", lambda k: lambda x, y: k.ops.matmul(x, y), [(None, None, 8), (8, None)]),
    Program("matmul-rows", lambda k: lambda x, y: k.ops.matmul(x, y), [(4, 3), (None, None)], ((3, 5), (3, 6))),
    Program("einsum", lambda k: lambda x, y: k.ops.einsum("btd,bsd->bts", x, y), [(None, None, 8), (None, 3, 8)]),
    Program("stack", lambda k: lambda x, y: k.ops.stack([x, y], 1), [(None, None), (None, 4)], ((2, 4), (3, 4))),
    Program("pad-rows", lambda k: lambda x: k.ops.pad(x, ((1, 1), (0, 2))), [(None, None)]),
    Program("split", lambda k: lambda x: k.ops.split(x, 7, axis=1), [(None, None)], ((2, 14), (3, 21))),
    Program("slice-rows", lambda k: lambda x: k.ops.slice(x, (1, 0), (2, 3)), [(None, None)], ((3, 3), (4, 5))),
    Program("tile", lambda k: lambda x: k.ops.tile(x, (1, 2, 1)), [(None, None, 4)]),
    Program("repeat", lambda k: lambda x: k.ops.repeat(x, 3, axis=1), [(None, None, 4)]),
    Program("resize", lambda k: lambda x: k.ops.image.resize(x, (20, 30)), [(None, None, None, 3)]),
    Program("attention", lambda k: lambda q, v: k.layers.Attention()([q, v]), [(None, None, 8), (None, 7, 8)]),
    Program(
        "unscaled-attention",
        lambda k: lambda *x: k.layers.AdditiveAttention(use_scale=False)([*x]),
        [(None, 5, None)] * 2,
    ),
    Program("subclassed", subclassed, [(None, None, None, 3)]),
    Program("sequential", stacked, [(None, None, 3)]),
    Program("nested", nested, [(None, None, 3)]),
]


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.id for program in PROGRAMS])
def test_shapes_of_keras_and_numbers_of_the_eager_program(program, keras, monkeypatch):
    dtype = "int32" if program.integers else "float32"
    theirs = program.make(keras)(*[keras.Input(batch_shape=shape, dtype=dtype) for shape in program.shapes])
    function = program.make(kstyle_torch)
    inputs = [Input(batch_shape=shape, dtype=dtype) for shape in program.shapes]
    with few_tries(monkeypatch):
        outputs = function(*inputs)
    assert not missing(outputs, theirs), (shapes_of(outputs), shapes_of(theirs))
    model = models.Model(inputs, outputs)
    for rows, size in program.sizes:
        shapes = [
            [(size if axis else rows) if known is None else known for axis, known in enumerate(shape)]
            for shape in program.shapes
        ]
        tensors = [integers(*shape, high=50) if program.integers else uniform(*shape) for shape in shapes]
        expected = function(*tensors)
        assert not untrue(outputs, expected)
        for one, other in zip(*map(kstyle_torch.tree.flatten, (model(tensors), expected)), strict=True):
            assert_close(one, other)


def test_weights_made_for_a_made_up_size_are_refused():
    class Unbuilt(Layer):
        def __init__(self):
            super().__init__()
            self.dense = Dense(3)

        def call(self, x):
            return self.dense(x)

    with pytest.raises(ValueError, match=r"cannot be called on shape \(None, None\)"):
        Unbuilt()(Input((None,)))


def test_a_size_of_one_is_no_answer_where_the_output_may_depend_on_it():
    """The true size, 7, is known to the function alone: 1 broadcasts, but would give 8 and not 14."""
    constant = torch.ones(1, 7, 3)
    with pytest.raises(ValueError, match="cannot be called"):
        Lambda(lambda x: torch.cat([x + constant, x], 1))(Input((None, 3)))


def test_sizes_that_depend_on_values_are_unknown():
    assert ops.unique(Input(batch_shape=(3, 4))).shape == (None,)
    assert ops.unique(Input(batch_shape=(3, 4)), size=5).shape == (5,)


def test_rows_before_and_after_count_as_rows():
    x = Input((4,))
    assert torch.cat([x, torch.ones(2, 4)]).shape == (None, 4)
    assert ops.mean(x, axis=0).shape == (4,)


def test_a_large_known_batch_makes_no_huge_tensors(monkeypatch):
    """320 for each of four axes would be 80 GB."""
    biggest, full = [0], torch.full

    def noted(size, *args, **kwargs):
        biggest.append(np.prod(size))
        return full(size, *args, **kwargs)

    monkeypatch.setattr(torch, "full", noted)
    assert Add()([Input(batch_shape=(2, None, None, None, None))] * 2).shape == (2, None, None, None, None)
    assert max(biggest) < 2**24


@pytest.mark.parametrize("newshape", [(None, None, 2), (None, -1, 2)], ids=str)
def test_reshape_refuses_two_sizes_to_find(newshape):
    with pytest.raises(ValueError, match="only one size.*call"):
        ops.reshape(Input((None, 4)), newshape)
    with pytest.raises(ValueError, match="at most one size"):
        Reshape(newshape)


def test_embedding_refuses_numbers_of_real_data():
    inputs = Input((None,), dtype="int32")
    model = models.Model(inputs, Concatenate()([Embedding(5, 2)(inputs), Embedding(9, 2)(inputs)]))
    assert model.output_shape == (None, None, 4)
    with pytest.raises(ValueError, match="index 7 is out of range"):
        model(torch.tensor([[7]]))
