"""Masks reach the layers that take them: outside of graphs, through nested models, through layers made of layers."""

import copy
import pickle

import keras
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import MaskReader, assert_close

IDS = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])


class Composite(layers.Layer):
    """Has a layer inside that takes the mask, and takes none itself."""

    def compute_mask(self, inputs, previous_mask):
        return None

    def __init__(self):
        super().__init__()
        self.linear, self.reader = layers.Activation("linear"), MaskReader()

    def call(self, x):
        return self.reader(self.linear(x))


class Subclassed(ks.Model):
    def __init__(self, embedding, dense, reader):
        super().__init__()
        self.parts = [embedding, dense, reader]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


@pytest.fixture
def parts():
    embedding, dense = layers.Embedding(6, 3, mask_zero=True), layers.Dense(4)
    expected = (dense(embedding(IDS)) * (IDS != 0).unsqueeze(-1)).sum(1)
    return embedding, dense, expected


def encoder(embedding, dense):
    ids = ks.Input((4,), dtype="int64")
    return ks.Model(ids, dense(embedding(ids)))


def reading(reader):
    x = ks.Input((4, 4))
    return ks.Model(x, reader(x))


def joined(first, second):
    ids = ks.Input((4,), dtype="int64")
    return ks.Model(ids, second(first(ids)))


WAYS = {
    "eager": lambda e, d: lambda ids: MaskReader()(d(e(ids))),
    "graph": lambda e, d: joined(encoder(e, d), MaskReader()),
    "sequential": lambda e, d: ks.Sequential([e, d, MaskReader()]),
    "subclass": lambda e, d: Subclassed(e, d, MaskReader()),
    "subclass-in-a-graph": lambda e, d: joined(lambda ids: ids, Subclassed(e, d, MaskReader())),
    "model-of-models": lambda e, d: joined(encoder(e, d), reading(MaskReader())),
    "model-of-models-of-models": lambda e, d: joined(encoder(e, d), joined_rest(reading(MaskReader()))),
    "sequential-of-models": lambda e, d: ks.Sequential([encoder(e, d), reading(MaskReader())]),
    "models-called-eagerly": lambda e, d: lambda ids: reading(MaskReader())(encoder(e, d)(ids)),
    "composite": lambda e, d: joined(encoder(e, d), Composite()),
    "composite-eager": lambda e, d: lambda ids: Composite()(d(e(ids))),
}


def joined_rest(model):
    x = ks.Input((4, 4))
    return ks.Model(x, model(x))


@pytest.mark.parametrize("way", WAYS)
def test_mask_reaches_the_layer_that_takes_it(way, parts):
    embedding, dense, expected = parts
    assert_close(WAYS[way](embedding, dense)(IDS), expected)


@pytest.mark.parametrize("way", ["model-of-models", "composite", "subclass-in-a-graph"])
@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        lambda model: torch.compile(model, fullgraph=True, backend="eager"),
        lambda model: torch.export.export(model, (IDS,)).module(),
    ],
    ids=["deepcopy", "compile", "export"],
)
def test_masked_models_copy_compile_and_export(way, again, parts):
    embedding, dense, expected = parts
    torch.compiler.reset()
    assert_close(again(WAYS[way](embedding, dense))(IDS), expected)


def test_masked_models_pickle(parts):
    embedding, dense, expected = parts
    model = pickle.loads(pickle.dumps(WAYS["model-of-models"](embedding, dense)))
    assert_close(model(IDS), expected)


def test_a_model_still_runs_without_a_mask(parts):
    embedding, dense, expected = parts
    model = reading(MaskReader())
    values = dense(embedding(IDS))
    assert_close(model(values), expected)
    assert_close(model(values.clone()), values.sum(1))


def test_an_explicit_mask_wins(parts):
    embedding, dense, _ = parts
    values = dense(embedding(IDS))
    assert_close(MaskReader()(values, mask=torch.ones(2, 4, dtype=torch.bool)), values.sum(1))


def test_a_mask_ends_at_a_layer_that_does_not_support_it(parts):
    class Plain(layers.Layer):
        def call(self, x):
            return x * 1

    with pytest.warns(UserWarning, match="got an input with a mask, and does not hand it on"):
        assert not hasattr(Plain()(parts[0](IDS)), "_keras_mask")


def test_the_loss_of_a_nested_model_sees_the_mask_as_in_keras():
    def network(library):
        ids = library.Input((4,), dtype="int64")
        inner = library.Model(ids, library.layers.Embedding(6, 3, mask_zero=True)(ids))
        outer = library.Input((4,), dtype="int64")
        model = library.Model(outer, library.layers.Dense(2)(inner(outer)))
        model.compile("sgd", "mse")
        return model

    ours, theirs = network(ks), network(keras)
    theirs.set_weights(ours.get_weights())
    targets = torch.ones(2, 4, 2)
    assert ours.evaluate(IDS, targets, verbose=0) == pytest.approx(theirs.evaluate(IDS, targets, verbose=0))
    ours.fit(IDS, targets, verbose=0, shuffle=False)
    theirs.fit(IDS, targets, verbose=0, shuffle=False)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)


def test_layers_are_listed_as_in_keras_where_only_one_is_masked():
    def network(library):
        a, b = library.Input((4,), name="a"), library.Input((4,), name="b")
        plain = library.layers.Embedding(6, 3, name="plain")(a)
        masked = library.layers.Embedding(6, 3, mask_zero=True, name="masked")(b)
        return library.Model(
            [a, b], library.layers.Dense(2, name="out")(library.layers.Concatenate(name="c")([plain, masked]))
        )

    assert [layer.name for layer in network(ks).layers] == [layer.name for layer in network(keras).layers]


def test_a_mask_passed_as_none_by_position_is_filled():
    class Summed(MaskReader):
        def call(self, x, mask=None):
            return x.sum(1) if mask is None else (x * mask.unsqueeze(-1)).sum(1)

    values = layers.Embedding(6, 3, mask_zero=True)(IDS)
    assert_close(Summed()(values, None), (values * (IDS != 0).unsqueeze(-1)).sum(1))
