"""Operations that take functions, and what a row of the table cannot say."""

import numpy as np
import pytest
import torch

from kstyle_torch import Input, layers, ops
from tests.oracle import GraphModule, array, assert_close, uniform

X = uniform(3, 4)


def both(function, keras):
    """What a program gives, here and in Keras."""
    return function(ops), function(keras.ops)


PROGRAMS = {
    "cond": lambda o: [o.cond(o.sum(X) > value, lambda: X, lambda: -X) for value in (-100, 100)],
    "switch": lambda o: [o.switch(index, [o.add, o.subtract], X, 1.0) for index in (-3, 0, 1, 7)],
    "while_loop": lambda o: o.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (0, X)),
    "while_loop-single": lambda o: o.while_loop(lambda x: x < 10, lambda x: x * 2, 1),
    "while_loop-limited": lambda o: o.while_loop(lambda x: x < 10, lambda x: x + 1, 1, maximum_iterations=3),
    "fori_loop": lambda o: o.fori_loop(1, 4, lambda i, x: x * i, X),
    "map": lambda o: o.map(lambda x: x * 2, X),
    "map-nest": lambda o: o.map(lambda x: {"sum": x["a"] + x["b"], "a": x["a"]}, {"a": X, "b": X + 1}),
    "vectorized_map": lambda o: o.vectorized_map(lambda x: o.sum(x), X),
    "vectorized_map-list": lambda o: o.vectorized_map(lambda xs: xs[0] + xs[1], [X, X + 1]),
    "scan": lambda o: o.scan(lambda carry, x: (carry + x, carry * x), torch.zeros(4), X),
    "scan-reverse": lambda o: o.scan(lambda carry, x: (carry + x, carry * x), torch.zeros(4), X, reverse=True),
    "scan-length": lambda o: o.scan(lambda carry, x: (carry * 2, carry), torch.ones(()), length=4),
    "scan-short": lambda o: o.scan(lambda carry, x: (carry + x, x), torch.zeros(4), X, length=2),
    "scan-nest": lambda o: o.scan(
        lambda c, x: ([c[0] + x["a"], c[1]], c[1]), [torch.zeros(4), torch.ones(2)], {"a": X}
    ),
    "associative_scan": lambda o: o.associative_scan(lambda a, b: a + b, X, axis=1),
    "associative_scan-reverse": lambda o: o.associative_scan(lambda a, b: a * b, X, reverse=True),
    "associative_scan-order": lambda o: o.associative_scan(torch.matmul, uniform(5, 2, 2)),
    "associative_scan-nest": lambda o: o.associative_scan(lambda a, b: [a[0] + b[0], a[1] * b[1]], [X, X], axis=-1),
    "vectorize": lambda o: o.vectorize(lambda a, b: a + b * 2)(X, X[0]),
    "vectorize-signature": lambda o: o.vectorize(torch.dot, signature="(n),(n)->()")(X, X[0]),
    "vectorize-matrix": lambda o: o.vectorize(torch.mv, signature="(m,n),(n)->(m)")(uniform(5, 2, 3), torch.ones(3)),
    "shape": lambda o: o.shape(X),
    "dtype": lambda o: o.dtype(X),
    "convert_to_numpy": lambda o: [o.convert_to_numpy(value) for value in (X, [X, X], [1, 2], 1.5)],
    "ndim": lambda o: [o.ndim(X), o.ndim([[1]])],
    "size": lambda o: [o.size(X), o.size(np.ones((2, 3)))],
    "empty": lambda o: [o.shape(o.empty((2, 3))), o.dtype(o.empty((2, 3), "int32"))],
    "empty_like": lambda o: [o.shape(o.empty_like(X)), o.dtype(o.empty_like(X, dtype="int32"))],
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_programs_equal_keras(program, keras):
    ours, theirs = both(program, keras)
    flat_ours, flat_theirs = (torch.utils._pytree.tree_leaves(result) for result in (ours, theirs))
    assert len(flat_ours) == len(flat_theirs)
    for one, other in zip(flat_ours, flat_theirs):
        if isinstance(other, str):
            assert one == other
        else:
            assert_close(one, other)
            assert np.asarray(one).dtype.kind == np.asarray(other).dtype.kind


def doubled(x):
    return x * 2


def summed(carry, x):
    return carry + x, carry


SYMBOLIC = {
    "cond": lambda x: ops.cond(ops.sum(x) > 0, lambda: x + 1, lambda: x - 1),
    "switch": lambda x: ops.switch(1, [ops.sum, ops.abs], x),
    "while_loop": lambda x: ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (0, x))[1],
    "fori_loop": lambda x: ops.fori_loop(0, 3, lambda i, y: y * 2, x),
    "map": lambda x: ops.map(doubled, x),
    "vectorized_map": lambda x: ops.vectorized_map(doubled, x),
    "scan": lambda x: ops.scan(summed, torch.zeros(4), x)[1],
    "associative_scan": lambda x: ops.associative_scan(torch.add, x, axis=-1),
}


@pytest.mark.parametrize("program", SYMBOLIC.values(), ids=SYMBOLIC.keys())
def test_symbolic_programs_equal_eager(program):
    symbol = Input(batch_shape=(None, 4))
    result = program(symbol)
    assert result.shape == (None, 4)
    module = GraphModule([symbol], result)
    for value in (X, -X, uniform(5, 4)):
        assert_close(module([value]), program(value))


@pytest.mark.parametrize("name", ["fori_loop", "scan", "map", "associative_scan", "vectorized_map", "switch"])
def test_programs_compile_without_a_break(name):
    compiled = torch.compile(SYMBOLIC[name], fullgraph=True, backend="eager")
    assert_close(compiled(X), SYMBOLIC[name](X))


def test_vectorize_hands_on_what_is_excluded():
    def power(x, exponent, *, scale):
        assert isinstance(exponent, int)
        return x**exponent * scale

    assert_close(ops.vectorize(power, excluded={1})(X, 2, scale=3), X**2 * 3)
    with pytest.raises(ValueError, match="must be a function"):
        ops.vectorize(3)


def log1pexp(o):
    @o.custom_gradient
    def function(x):
        e = torch.exp(x)

        def gradient(*args, upstream):
            return upstream * (1 - 1 / (1 + e))

        return torch.log(1 + e), gradient

    return function


def test_custom_gradient_equals_keras(keras):
    results = []
    for library in (ops, keras.ops):
        x = X.clone().requires_grad_()
        y = log1pexp(library)(x)
        y.backward(torch.ones_like(y))
        results.append((y, x.grad))
    for one, other in zip(*results):
        assert_close(one, other)


def test_custom_gradient_of_two_arguments_and_of_jax_style():
    @ops.custom_gradient
    def product(x, y):
        return x * y, lambda upstream: (upstream * 10, upstream * 20)

    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    product(x, y).sum().backward()
    assert x.grad.tolist() == [10, 10] and y.grad.tolist() == [20, 20]


def test_stop_gradient_stops():
    x = X.clone().requires_grad_()
    (ops.stop_gradient(x) * x).sum().backward()
    assert_close(x.grad, X)


@pytest.mark.parametrize(
    "target", ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "bfloat16", "bool"]
)
@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8"])
def test_saturate_cast_never_wraps(source, target):
    dtype = getattr(torch, source)
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    x = torch.tensor([limits.min, 0, 1, limits.max], dtype=dtype)
    result = ops.saturate_cast(x, target).double()
    assert result.isfinite().all()
    assert (result.diff() >= 0).all(), "order is kept"
    assert result[1:3].tolist() == [0, 1]


def test_bfloat16_becomes_an_array():
    assert_close(ops.convert_to_numpy(X.bfloat16()), X.bfloat16().float())


def test_the_same_histogram_as_numpy():
    for value in (array(X).ravel(), np.ones(4, "float32"), np.zeros(0, "float32")):
        counts, edges = ops.histogram(value, 5)
        expected_counts, expected_edges = np.histogram(value, 5)
        assert_close(counts, expected_counts)
        assert_close(edges, expected_edges)


REFUSED = {
    "axes": (lambda: ops.rot90(X, axes=(0, 0)), "two different axes"),
    "rearrange": (lambda: ops.rearrange(X, "a b c -> b a"), "does not fit a tensor of shape"),
    "split": (lambda: ops.split(X, 3, axis=1), "cannot be split into 3 equal parts"),
    "pad-mode": (lambda: ops.pad(X, 1, "mirror"), "unknown mode 'mirror'"),
    "pad-widths": (lambda: ops.pad(X, ((1, 1), (1, 1), (1, 1))), "has 3 pairs"),
    "pad-value": (lambda: ops.pad(X, 1, "reflect", 2.0), "needs mode='constant'"),
    "bincount": (lambda: ops.bincount(torch.tensor([1]), sparse=True), "sparse=True"),
    "searchsorted": (lambda: ops.searchsorted(X, X), "must have one axis"),
    "reduction": (lambda: ops.scatter_update(X, [[0, 0]], [1.0], "mean"), "got 'mean'"),
    "scan": (lambda: ops.scan(summed, X), "needs xs or length"),
    "associative_scan": (lambda: ops.associative_scan(torch.add, [X, X[1:]]), "must have the same length"),
    "unstack": (lambda: ops.unstack(X, 2), "cannot be unstacked into num=2"),
    "sparse": (lambda: ops.convert_to_tensor(X, sparse=True), "only dense"),
    "correlate": (lambda: ops.correlate(X[0], X[0], "half"), "got 'half'"),
    "histogram": (lambda: ops.histogram(X, 0), "positive int"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ldexp_needs_integers():
    with pytest.raises(TypeError, match="must have an integer dtype"):
        ops.ldexp(X, X)


def test_layers_call_operations():
    class Scaled(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

        def call(self, inputs):
            return ops.multiply(ops.add(inputs, self.scale), ops.mean(self.scale))

    assert_close(Scaled()(X), X + 1)
