"""Mistakes in calling and writing layers get an error where Keras gives one, of Keras' exception type."""

import keras
import numpy as np
import pytest

import kstyle_torch

X, SEQUENCES = np.ones((2, 3), "float32"), np.ones((2, 5, 3), "float32")


def layer_of(library, call=lambda self, x: x, **attributes):
    """A layer of a user's class."""
    return type("Own", (library.layers.Layer,), {"call": call, **attributes})


def called_twice(layer, first, second):
    layer(first)
    layer(second)


def with_spec(library, *specs):
    """A layer with an `input_spec`, which its `__init__` sets."""
    layer = layer_of(library)()
    layer.input_spec = specs[0] if len(specs) == 1 else list(specs)
    return layer


def without_init(library, content):
    def init(self):
        content(self)

    return layer_of(library, __init__=init)


def pair(self, a, b):
    return a + b


def late_spec(library):
    def build(self, input_shape):
        self.input_spec = library.layers.InputSpec(axes={-1: 4})

    return layer_of(library, build=build)()


MISTAKES = {
    "string": lambda k: k.layers.Dense(3)("a"),
    "string-second": lambda k: k.layers.Dense(3)(X, "a"),
    "number-second": lambda k: layer_of(k, pair)()(X, 2.0),
    "bool-second": lambda k: k.layers.Dropout(0.5)(X, True),
    "string-in-a-list": lambda k: k.layers.Add()([X, "a"]),
    "none": lambda k: k.layers.Dense(3)(None),
    "no-arguments": lambda k: k.layers.Dense(3)(),
    "unknown-argument": lambda k: k.layers.Dense(3)(X, foo=1),
    "too-many-arguments": lambda k: k.layers.Dense(3)(X, X, X, X),
    "missing-argument": lambda k: layer_of(k, pair)()(X),
    "missing-value": lambda k: k.layers.MultiHeadAttention(2, 4)(SEQUENCES),
    "trainable": lambda k: k.layers.Dense(3, trainable=3),
    "name": lambda k: k.layers.Dense(3, name="a/b"),
    "unknown-constructor-argument": lambda k: k.layers.Layer(foo=3),
    "position": lambda k: k.layers.Layer(3),
    "no-call": lambda k: type("Own", (k.layers.Layer,), {})()(X),
    "no-call-symbolic": lambda k: type("Own", (k.layers.Layer,), {})()(k.Input((3,))),
    "type-error-symbolic": lambda k: layer_of(k, lambda self, x: x + {})()(k.Input((3,))),
    "attribute-error-symbolic": lambda k: layer_of(k, lambda self, x: self.missing)()(k.Input((3,))),
    "no-init": lambda k: without_init(k, lambda self: None)()(X),
    "no-init-weight": lambda k: without_init(k, lambda self: self.add_weight(shape=()))()(X),
    "rank": lambda k: k.layers.Conv2D(3, 2)(X),
    "features": lambda k: called_twice(k.layers.Dense(3), X, X[:, :2]),
    "features-of-a-list": lambda k: called_twice(k.layers.Dense(3), X, [[1.0, 2.0]]),
    "channels": lambda k: called_twice(k.layers.Conv1D(3, 2), SEQUENCES, SEQUENCES[..., :2]),
    "channels-first": lambda k: called_twice(
        k.layers.Conv1D(3, 2, data_format="channels_first"), SEQUENCES.swapaxes(1, 2), SEQUENCES.swapaxes(1, 2)[:, :2]
    ),
    "spec-rank": lambda k: with_spec(k, k.layers.InputSpec(ndim=2))(SEQUENCES),
    "spec-rank-later": lambda k: called_twice(with_spec(k, k.layers.InputSpec(ndim=2)), X, SEQUENCES),
    "spec-axis-later": lambda k: called_twice(with_spec(k, k.layers.InputSpec(axes={-1: 3})), X, X[:, :2]),
    "spec-symbolic": lambda k: with_spec(k, k.layers.InputSpec(ndim=2))(k.Input((5, 3))),
    "spec-dtype": lambda k: with_spec(k, k.layers.InputSpec(ndim=2, dtype="int32"))(X),
    "spec-count": lambda k: with_spec(k, k.layers.InputSpec(ndim=2), k.layers.InputSpec(ndim=2))(X),
    "spec-of-build": lambda k: late_spec(k)(X),
    "build-arguments": lambda k: layer_of(k, pair, build=lambda self, a, b: None)()(X, X),
    "build-arguments-unknown": lambda k: layer_of(k, pair, build=lambda self, a_shape, c_shape: None)()(X, X),
    "output-shape": lambda k: layer_of(k, compute_output_shape=lambda self, input_shape: 3)()(k.Input((3,))),
    "weight-fourth-position": lambda k: k.layers.Layer().add_weight((2, 3), "zeros", "float32", True),
    "weight-name-first": lambda k: k.layers.Layer().add_weight("kernel", (2, 3)),
    "weight-shape-twice": lambda k: k.layers.Layer().add_weight((2, 3), shape=(2, 3)),
    "weight-initializer-twice": lambda k: k.layers.Layer().add_weight((2, 3), "zeros", initializer="zeros"),
    "weight-dtype-twice": lambda k: k.layers.Layer().add_weight((2, 3), "zeros", "float32", dtype="float32"),
    "weight-unknown-argument": lambda k: k.layers.Layer().add_weight((2, 3), foo=1),
    "weight-open-size": lambda k: k.layers.Layer().add_weight((None, 3)),
    "weight-number-for-a-shape": lambda k: k.layers.Layer().add_weight(shape=3),
    "weight-name": lambda k: k.layers.Layer().add_weight(shape=(3,), name=3),
    "weight-slash": lambda k: k.layers.Layer().add_weight(shape=(3,), name="a/b"),
    "weight-aggregation": lambda k: k.layers.Layer().add_weight(shape=(3,), aggregation="foo"),
    "add-metric": lambda k: k.layers.Layer().add_metric(3, name="a"),
    "add-loss-number": lambda k: k.layers.Layer().add_loss(3.0),
    "add-loss-function": lambda k: k.layers.Layer().add_loss(lambda: 3.0),
    "count-params": lambda k: k.layers.Dense(3).count_params(),
    "stateless-unbuilt": lambda k: k.layers.Dense(3).stateless_call([], [], X),
    "stateless-count": lambda k: k.layers.Dense(3).stateless_call([X], [], X),
    "same-names": lambda k: k.Sequential([k.layers.Dense(2, name="a"), k.layers.Dense(2, name="a")]),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_raise_what_keras_raises(mistake):
    with pytest.raises(Exception) as theirs:  # whichever it is
        mistake(keras)
    with pytest.raises(theirs.type):
        mistake(kstyle_torch)


def own_layer_that_loses_masks(library):
    return layer_of(library, lambda self, x: x * 1)()(library.layers.Masking()(SEQUENCES))


def own_layer_that_loses_masks_in_a_graph(library):
    return layer_of(library, lambda self, x: x * 1)()(library.layers.Masking()(library.Input((5, 3))))


def build_without_a_build(library):
    layer = layer_of(library, lambda self, x: self.inner(x))()
    layer.inner = library.layers.Dense(3)
    layer.build((2, 3))


WARNINGS = {
    own_layer_that_loses_masks: "mask",
    own_layer_that_loses_masks_in_a_graph: "mask",
    build_without_a_build: r"build\(\)",
}


@pytest.mark.parametrize(("mistake", "match"), WARNINGS.items(), ids=[mistake.__name__ for mistake in WARNINGS])
@pytest.mark.parametrize("library", [kstyle_torch, keras], ids=["ours", "keras"])
def test_mistakes_of_which_both_warn(library, mistake, match):
    with pytest.warns(UserWarning, match=match):
        mistake(library)


def test_a_misfit_is_explained():
    layer = kstyle_torch.layers.Dense(4, name="scores")
    layer(X)
    with pytest.raises(
        ValueError,
        match=r"'scores' \(Dense\) expected size 3 along axis -1 of the input, as it was built; got an input of shape",
    ):
        layer(X[:, :2])


@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "LSTM"])
@pytest.mark.parametrize("features", [2, 4])
def test_sequences_of_other_features_are_refused(name, features):
    """torch's LSTM on the CPU does not look, and gives numbers made of other memory."""
    layer = getattr(kstyle_torch.layers, name)(3)
    layer(SEQUENCES)
    with pytest.raises(ValueError, match="expected size 3 along axis -1"):
        layer(np.ones((2, 5, features), "float32"))
