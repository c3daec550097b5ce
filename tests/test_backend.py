"""`keras.backend`: Keras 3's names, and what older programs call by it."""

import itertools

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import backend, layers
from tests.oracle import assert_close, uniform

X = uniform(2, 3, 4)
CALLS = {
    "sum": (lambda k: k.sum(X, axis=-1), X.numpy().sum(-1)),
    "mean": (lambda k: k.mean(k.square(X), axis=1, keepdims=True), np.square(X.numpy()).mean(1, keepdims=True)),
    "argmax": (lambda k: k.argmax(X), X.numpy().argmax(-1)),
    "concatenate": (lambda k: k.concatenate([X, X]), np.concatenate([X.numpy()] * 2, -1)),
    "expand_dims": (lambda k: k.expand_dims(X), X.numpy()[..., None]),
    "repeat_elements": (lambda k: k.repeat_elements(X, 2, 1), X.numpy().repeat(2, 1)),
    "flatten": (lambda k: k.flatten(X), X.numpy().ravel()),
    "batch_flatten": (lambda k: k.batch_flatten(X), X.numpy().reshape(2, 12)),
    "permute_dimensions": (lambda k: k.permute_dimensions(X, (1, 0, 2)), X.numpy().transpose(1, 0, 2)),
    "pow": (lambda k: k.pow(k.abs(X), 0.5), np.abs(X.numpy()) ** 0.5),
    "clip": (lambda k: k.clip(X, k.epsilon(), 0.5), X.numpy().clip(1e-7, 0.5)),
    "dot": (lambda k: k.dot(X, k.ones((4, 2))), X.numpy() @ np.ones((4, 2), "float32")),
}


def test_the_names_of_keras_3():
    public = {name for name in dir(keras.backend) if not name.startswith("_")}
    assert public <= {*dir(backend)}


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_values(call, expected):
    assert_close(call(backend), expected)


def test_in_a_graph():
    inputs = ks.Input((3, 4))
    assert backend.int_shape(inputs) == (None, 3, 4)
    model = ks.Model(inputs, layers.Lambda(backend.batch_flatten)(inputs))
    assert_close(model(X), X.reshape(2, 12))


def test_values_of_variables():
    model = ks.Sequential([ks.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    backend.set_value(model.optimizer.learning_rate, 0.25)
    assert float(backend.get_value(model.optimizer.learning_rate)) == 0.25
    with pytest.raises(TypeError, match="needs a variable"):
        backend.set_value(0.1, 0.2)


DTYPES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 bfloat16 float16 float32 float64 complex64".split()
WEAK = [int, float, None]


@pytest.mark.parametrize("floatx", ["float32", "float64", "float16", "bfloat16"])
def test_promotion(floatx):
    """All pairs and triples of dtypes and Python numbers."""
    given = [*DTYPES, *WEAK]
    cases = [(), *[(a,) for a in given], *itertools.product(given, given)]
    cases += [(a, b, c) for a, b in itertools.combinations(given, 2) for c in ("bool", int, float, "uint8", "int16")]
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    ks.config.set_floatx(floatx)
    try:
        wrong = [case for case in cases if backend.result_type(*case) != keras.backend.result_type(*case)]
    finally:
        keras.config.set_floatx(before)
    assert wrong == []


@pytest.mark.parametrize("dtypes", [("string", "int8"), ("float8_e4m3fn", "int8"), ("nonsense",)], ids=str)
def test_what_is_not_promoted(dtypes):
    for library in (keras, ks):
        with pytest.raises(ValueError):
            library.backend.result_type(*dtypes)


@pytest.mark.parametrize("dtype", [*DTYPES, "complex128", "string", "float8_e5m2", int, float, bool, None], ids=str)
def test_kinds_of_dtypes(dtype):
    for name in ("is_float_dtype", "is_int_dtype", "standardize_dtype"):
        assert getattr(backend, name)(dtype) == getattr(keras.backend, name)(dtype)


def test_numbers_of_names():
    rows = []
    for library in (keras, ks):
        library.utils.clear_session()
        rows.append([library.backend.get_uid(name) for name in ("", "dense", "dense", "")])
        rows[-1].append(library.layers.Dense(1).name)
    assert rows[0] == rows[1]


# ----------------------------------------------------------------------------- functions of Keras 2, which Keras 3 lacks

P = np.random.default_rng(0).uniform(0.1, 0.9, (2, 3)).astype("float32")
T = np.array([[1, 0, 1], [0, 1, 0]], "float32")
IMAGES = np.arange(32, dtype="float32").reshape(1, 4, 4, 2)
KERNEL = np.ones((2, 2, 2, 3), "float32")
OLDER = {
    "binary_crossentropy": (lambda k: k.binary_crossentropy(T, P), -(T * np.log(P) + (1 - T) * np.log(1 - P))),
    "categorical": (
        lambda k: k.categorical_crossentropy(T, P),
        -(T * np.log(P / P.sum(-1, keepdims=True))).sum(-1),
    ),
    "one_hot": (lambda k: k.one_hot([0, 2], 3), np.eye(3, dtype="float32")[[0, 2]]),
    "tile": (lambda k: k.tile(P, (1, 2)), np.tile(P, (1, 2))),
    "gather": (lambda k: k.gather(P, [1, 0]), P[[1, 0]]),
    "repeat": (lambda k: k.repeat(P, 2), np.repeat(P[:, None], 2, 1)),
    "l2_normalize": (lambda k: k.l2_normalize(P, axis=-1), P / np.linalg.norm(P, axis=-1, keepdims=True)),
    "hard_sigmoid": (lambda k: k.hard_sigmoid(10 * P - 5), np.clip(0.2 * (10 * P - 5) + 0.5, 0, 1)),
    "relu": (lambda k: k.relu(P - 0.5, alpha=0.1), np.where(P > 0.5, P - 0.5, 0.1 * (P - 0.5))),
    "in_top_k": (lambda k: k.in_top_k([[0.1, 0.9], [0.8, 0.2]], [1, 1], 1), np.array([True, False])),
    "switch": (lambda k: k.switch(k.greater(X[:, :, 0], 0), X, -X), np.where(X.numpy()[:, :, :1] > 0, X, -X)),
    "switch of functions": (lambda k: k.switch(k.constant(True), lambda: X, lambda: -X), X.numpy()),
    "map_fn": (lambda k: k.map_fn(k.sum, X), X.numpy().sum((1, 2))),
    "foldl": (lambda k: k.foldl(lambda a, b: a * 2 + b, P), P[0] * 2 + P[1]),
    "foldr": (lambda k: k.foldr(lambda a, b: a * 2 + b, P, k.ones((3,))), (2 + P[1]) * 2 + P[0]),
    "cumsum": (lambda k: k.cumsum(P, axis=1), P.cumsum(1)),
    "reverse": (lambda k: k.reverse(P, 1), P[:, ::-1]),
    "logsumexp": (lambda k: k.logsumexp(P, axis=1), np.log(np.exp(P).sum(1))),
    "conv2d": (lambda k: k.conv2d(IMAGES, KERNEL), IMAGES[:, :-1, :-1] + IMAGES[:, :-1, 1:] + 0),
    "pool2d": (lambda k: k.pool2d(IMAGES, (2, 2), (2, 2)), IMAGES[:, 1::2, 1::2]),
    "pool2d avg": (
        lambda k: k.pool2d(IMAGES, (2, 2), (2, 2), pool_mode="avg"),
        IMAGES.reshape(1, 2, 2, 2, 2, 2).mean((2, 4)),
    ),
    "temporal_padding": (lambda k: k.temporal_padding(X, (1, 2)), np.pad(X.numpy(), ((0, 0), (1, 2), (0, 0)))),
    "spatial_2d_padding": (
        lambda k: k.spatial_2d_padding(IMAGES, ((1, 0), (0, 2))),
        np.pad(IMAGES, ((0, 0), (1, 0), (0, 2), (0, 0))),
    ),
    "bias_add": (lambda k: k.bias_add(IMAGES, np.array([1.0, 2.0], "float32")), IMAGES + [1.0, 2.0]),
    "batch_normalization": (lambda k: k.batch_normalization(P, 0.5 * P[0], P[1], T[0], T[1]), None),
    "cast_to_floatx": (lambda k: k.cast_to_floatx(np.arange(3)), np.arange(3, dtype="float32")),
    "stop_gradient": (lambda k: k.stop_gradient([X])[0], X.numpy()),
}
OLDER["conv2d"] = (OLDER["conv2d"][0], None)


@pytest.mark.parametrize("name", OLDER)
def test_older_functions(name):
    call, expected = OLDER[name]
    if name == "conv2d":
        expected = keras.ops.conv(IMAGES, KERNEL)
    if name == "batch_normalization":
        expected = T[1] * (P - 0.5 * P[0]) / np.sqrt(P[1] + 1e-3) + T[0]
    assert_close(call(backend), expected)


def test_functions_of_a_graph():
    model = ks.Sequential([ks.Input((3,)), layers.Dense(4, activation="relu"), layers.Dropout(0.5), layers.Dense(2)])
    x = np.ones((5, 3), "float32")
    hidden, result = backend.function([model.input], [model.layers[0].output, model.output])([x])
    assert isinstance(hidden, np.ndarray)
    assert_close(hidden, model.layers[0](x))
    assert_close(result, model(x))
    phases = backend.function([model.input, backend.learning_phase()], [model.layers[1].output])
    assert (phases([x, 1])[0] != phases([x, 0])[0]).any()
    assert_close(backend.function(model.input, model.output)(x), model(x))
    with pytest.raises(ValueError, match="takes 1 values; got 2"):
        backend.function([model.input], [model.output])([x, 1])
    with pytest.raises(ValueError, match="assign to variables"):
        backend.function([model.input], [model.output], updates=[1])


def test_gradients():
    variable = ks.Variable([2.0, 3.0])
    other = torch.tensor([1.0], requires_grad=True)
    found = backend.gradients(backend.sum(variable * variable), [variable, other])
    assert found[0].tolist() == [4.0, 6.0] and found[1] is None
    with pytest.raises(TypeError, match="needs tensors with values"):
        backend.gradients(ks.Input((3,)), [ks.Input((3,))])


def test_variables_of_older_programs():
    a, b = backend.variable([1.0, 2.0]), backend.variable(3.0)
    backend.batch_set_value([(a, [4.0, 5.0]), (b, 6.0)])
    backend.update_add(b, 1.0)
    backend.update_sub(a, [1.0, 1.0])
    backend.moving_average_update(b, 1.0, 0.5)
    values = backend.batch_get_value([a, b])
    assert values[0].tolist() == [3.0, 4.0] and values[1] == backend.eval(b) == 4.0
    assert backend.update(b, 2.0) is b and backend.count_params(a) == 2
    assert backend.placeholder((None, 3)).shape == (None, 3) and backend.placeholder(ndim=2).shape == (None, None)
    assert backend.image_dim_ordering() == "tf"


@pytest.mark.parametrize("greedy", [True, False])
def test_ctc(greedy):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), (2, 6)).astype("float32")
    lengths = np.array([6, 4])
    labels, scores = backend.ctc_decode(probabilities, lengths, greedy, top_paths=1)
    strategy = "greedy" if greedy else "beam_search"
    theirs, their_scores = keras.ops.ctc_decode(np.log(probabilities + 1e-7), lengths, strategy, mask_index=4)
    assert_close(labels[0], theirs[0])
    assert_close(scores, their_scores, rtol=1e-4)
    targets, target_lengths = np.array([[0, 1, 2], [3, 1, 0]]), np.array([[3], [2]])
    cost = backend.ctc_batch_cost(targets, probabilities, lengths[:, None], target_lengths)
    log = np.log(probabilities + 1e-7)
    assert_close(cost[:, 0], keras.ops.ctc_loss(targets, log, target_lengths[:, 0], lengths, mask_index=4), rtol=1e-4)


def test_random_numbers_of_older_programs():
    assert backend.random_bernoulli((1000,), p=0.25, seed=1).mean().item() == pytest.approx(0.25, abs=0.05)
    assert backend.truncated_normal((1000,), seed=1).abs().max() <= 2
    assert (backend.dropout(backend.ones((100,)), 0.5, seed=1) == 0).sum() > 20
