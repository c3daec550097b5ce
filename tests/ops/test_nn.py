"""Operations of neural networks: names, arguments, values, dtypes and gradients of Keras."""

import itertools

import keras
import pytest
import torch

from kstyle_torch import config, ops
from kstyle_torch.ops import nn
from tests.choice import first_of_each, per_row
from tests.ops.row import (
    Row,
    assert_same_parameters,
    check_equal,
    check_gradients,
    check_symbolic,
    check_traced,
    number_of_tensors,
)
from tests.oracle import array, assert_close, integers, uniform

NAMES = sorted(name for name in dir(keras.ops.nn) if name[0] != "_")

# off the corners themselves, where a derivative is a matter of taste
GRID = torch.linspace(-7.97, 8.03, 60).reshape(10, 6)


def grid():
    return (GRID.clone(),)


def image(channels=3, size=(7, 6), seed=0):
    return uniform(2, *size, channels, seed=seed)


def images(*shapes):
    """An image and a kernel, or two."""
    return lambda: tuple(uniform(*shape, seed=seed) for seed, shape in enumerate(shapes))


def probabilities(*shape, seed=1):
    return uniform(*shape, low=0.05, high=0.95, seed=seed)


def one_hot_rows():
    return torch.eye(5)[integers(4)]


ACTIVATIONS = [
    *[Row(name, grid) for name in "relu relu6 sigmoid sparse_sigmoid softplus softsign sparse_plus silu swish".split()],
    *[Row(name, grid) for name in "log_sigmoid hard_sigmoid hard_silu hard_swish selu tanh_shrink hard_tanh".split()],
    *[Row(name, grid) for name in "leaky_relu elu celu gelu glu squareplus soft_shrink hard_shrink softmax".split()],
    Row("log_softmax", grid),
    Row("leaky_relu", grid, {"negative_slope": 0.4}),
    Row("elu", grid, {"alpha": 0.5}),
    Row("celu", grid, {"alpha": 0.5}),
    Row("gelu", grid, {"approximate": False}),
    Row("glu", grid, {"axis": 1}),
    Row("squareplus", grid, {"b": 2}),
    Row("soft_shrink", grid, {"threshold": 2.0}),
    Row("hard_shrink", grid, {"threshold": 2.0}),
    Row("threshold", grid, {"threshold": 0.3, "default_value": -2.0}),
    *[Row(name, grid, {"axis": axis}) for name in ("softmax", "log_softmax") for axis in (0, None, (0, 1))],
    *[Row("softmax", lambda: (uniform(2, 3, 4, 5),), {"axis": axis}) for axis in ((1, 3), (3, 1), (0, 2), 1)],
]
CONVOLUTIONS = [
    *[
        Row("conv", images(shape, kernel), {"padding": padding, "strides": strides})
        for shape, kernel in [((2, 9, 3), (4, 3, 5)), ((2, 7, 6, 3), (3, 2, 3, 4)), ((2, 5, 6, 4, 2), (2, 3, 2, 2, 3))]
        for padding, strides in itertools.product(("valid", "same"), (1, 2))
    ],
    Row("conv", images((2, 7, 6, 3), (3, 3, 3, 4)), {"padding": "SAME", "strides": (1, 3)}),
    Row("conv", images((2, 9, 8, 3), (3, 2, 3, 4)), {"padding": "same", "dilation_rate": (2, 3)}),
    Row("conv", images((2, 9, 8, 3), (3, 2, 3, 4)), {"dilation_rate": 2}),
    Row("conv", images((2, 7, 6, 4), (3, 2, 2, 6))),  # two groups
    Row("conv", images((2, 3, 7, 6), (3, 2, 3, 4)), {"data_format": "channels_first", "padding": "same"}),
    Row("depthwise_conv", images((2, 9, 3), (4, 3, 2))),
    Row("depthwise_conv", images((2, 7, 6, 3), (3, 2, 3, 2)), {"padding": "same", "strides": 2}),
    Row("depthwise_conv", images((2, 3, 7, 6), (3, 2, 3, 1)), {"data_format": "channels_first"}),
    Row("separable_conv", images((2, 7, 6, 3), (3, 2, 3, 2), (1, 1, 6, 5)), {"padding": "same", "strides": 2}),
    Row("separable_conv", images((2, 9, 3), (3, 3, 1), (1, 3, 5)), {"dilation_rate": 2}),
    *[
        Row("conv_transpose", images(shape, kernel), {"padding": padding, "strides": strides})
        for shape, kernel in [((2, 5, 3), (4, 5, 3)), ((2, 4, 3, 3), (3, 2, 4, 3)), ((2, 2, 3, 4, 2), (3, 1, 2, 3, 2))]
        for padding, strides in itertools.product(("valid", "same"), (1, 2, 4))
    ],
    *[
        Row(
            "conv_transpose",
            images((2, 4, 5, 3), (3, 4, 2, 3)),
            {"strides": 3, "padding": padding, "output_padding": n},
        )
        for padding, n in itertools.product(("valid", "same"), (0, 1, 2, (1, 2)))
    ],
    Row("conv_transpose", images((2, 4, 5, 3), (3, 2, 2, 3)), {"dilation_rate": 2, "padding": "same"}),
    Row("conv_transpose", images((2, 4, 5, 3), (3, 2, 2, 3)), {"dilation_rate": (1, 3)}),
    Row("conv_transpose", images((2, 3, 4, 5), (3, 3, 2, 3)), {"data_format": "channels_first", "strides": 2}),
    Row("unfold", lambda: (uniform(2, 3, 7, 8),), {"kernel_size": 3}),
    Row(
        "unfold", lambda: (uniform(2, 3, 7, 8),), {"kernel_size": (2, 3), "dilation": 2, "padding": 1, "stride": (1, 2)}
    ),
    Row("fold", lambda: (uniform(2, 12, 30),), {"output_size": (6, 7), "kernel_size": 2}),
    Row("fold", lambda: (uniform(2, 12, 9),), {"output_size": 6, "kernel_size": (2, 2), "stride": 2}),
    *[
        Row(name, lambda: (uniform(2, 4, 8, 12),), {"block_size": 2, "data_format": data_format})
        for name, data_format in itertools.product(
            ("depth_to_space", "space_to_depth"), ("channels_last", "channels_first")
        )
    ],
]
POOLS = [
    *[
        Row(name, images(shape), {"pool_size": size, "strides": strides, "padding": padding})
        for name in ("max_pool", "average_pool")
        for shape, size, strides in [
            ((2, 9, 3), 2, None),
            ((2, 7, 6, 3), (3, 2), 2),
            ((2, 7, 6, 3), 3, 1),
            ((2, 5, 6, 4, 2), 2, (1, 2, 3)),
        ]
        for padding in ("valid", "same")
    ],
    Row("max_pool", images((2, 3, 7, 6)), {"pool_size": 2, "data_format": "channels_first", "padding": "same"}),
    Row("average_pool", images((2, 3, 7, 6)), {"pool_size": 2, "data_format": "channels_first", "padding": "same"}),
    *[
        Row(name, images(shape), {"output_size": size})
        for name in ("adaptive_max_pool", "adaptive_average_pool")
        for shape, size in [((2, 9, 3), 4), ((2, 7, 6, 3), (3, 2)), ((2, 7, 6, 3), 2), ((2, 5, 6, 4, 2), (2, 3, 2))]
    ],
    Row("adaptive_max_pool", images((2, 3, 7, 6)), {"output_size": 2, "data_format": "channels_first"}),
]
NORMALIZATIONS = [
    Row("batch_normalization", lambda: (image(), uniform(3), probabilities(3), -1)),
    Row(
        "batch_normalization",
        lambda: (uniform(2, 3, 4, 5), uniform(3), probabilities(3), 1, uniform(3, seed=4), uniform(3, seed=5)),
        {"epsilon": 0.1},
    ),
    Row("batch_normalization", lambda: (image(), uniform(3), probabilities(3), 3, None, uniform(3, seed=5))),
    Row("layer_normalization", lambda: (uniform(3, 4, 5),)),
    Row("layer_normalization", lambda: (uniform(3, 4, 5), uniform(5, seed=1), uniform(5, seed=2)), {"epsilon": 1e-3}),
    Row("layer_normalization", lambda: (uniform(3, 4, 5), uniform(4, 5, seed=1), uniform(4, 5, seed=2), (-2, -1))),
    Row("layer_normalization", lambda: (uniform(3, 4, 2, 5), uniform(4, 5, seed=1), uniform(4, 5, seed=2), (1, 3))),
    Row("rms_normalization", lambda: (uniform(3, 4, 5),)),
    Row("rms_normalization", lambda: (uniform(3, 4, 5), uniform(5, seed=1)), {"epsilon": 1e-3}),
    Row("rms_normalization", lambda: (uniform(3, 4, 5), uniform(4, 5, seed=1)), {"axis": (-1, -2)}),
    Row("rms_normalization", lambda: (uniform(3, 4, 2, 5), uniform(4, 1, 1, seed=1)), {"axis": (1, 3)}),
    Row("normalize", lambda: (uniform(3, 4, 5),)),
    Row("normalize", lambda: (uniform(3, 4, 5),), {"axis": (1, 2)}),
    Row("normalize", lambda: (uniform(3, 4, 5),), {"axis": 1, "order": 1}),
    Row("normalize", lambda: (uniform(3, 4, 5),), {"axis": 1, "order": 3, "epsilon": 2.5}),
    Row("normalize", lambda: (integers(3, 4) + 1,), {"axis": 0}, grad=False),
    *[Row("moments", lambda: (uniform(3, 4, 5),), {"axes": axes}) for axes in (0, [0], (1, 2), [-1])],
    Row("moments", lambda: (uniform(3, 4, 5),), {"axes": [0, 2], "keepdims": True}),
]
LOSSES = [
    Row("binary_crossentropy", lambda: (integers(4, 5, high=2).float(), probabilities(4, 5)), {}, (0, 1)),
    Row("binary_crossentropy", lambda: (torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]])), {}, (0, 1)),
    Row("binary_crossentropy", lambda: (probabilities(4, 5, seed=2), uniform(4, 5)), {"from_logits": True}, (0, 1)),
    Row("categorical_crossentropy", lambda: (one_hot_rows(), probabilities(4, 5)), {}, (0, 1)),
    Row("categorical_crossentropy", lambda: (one_hot_rows(), torch.eye(5)[:4]), {}, (0, 1), grad=False),
    Row("categorical_crossentropy", lambda: (one_hot_rows(), uniform(4, 5)), {"from_logits": True}, (0, 1)),
    Row("categorical_crossentropy", lambda: (probabilities(4, 5, 3), probabilities(4, 5, 3)), {"axis": 1}, (0, 1)),
    Row("sparse_categorical_crossentropy", lambda: (integers(4), probabilities(4, 5)), {}, (0, 1)),
    Row("sparse_categorical_crossentropy", lambda: (integers(4, 1), uniform(4, 5)), {"from_logits": True}, (0, 1)),
    Row("sparse_categorical_crossentropy", lambda: (integers(4, 6), probabilities(4, 6, 5)), {}, (0, 1)),
    Row("sparse_categorical_crossentropy", lambda: (integers(4, 6), probabilities(4, 5, 6)), {"axis": 1}, (0, 1)),
    Row("sparse_categorical_crossentropy", lambda: (torch.tensor(2), probabilities(5)), {}, ()),
    *[
        Row("one_hot", lambda: (integers(4, 3) - 1,), {"num_classes": 5, **kwargs}, grad=False)
        for kwargs in ({}, {"axis": 1}, {"axis": 0}, {"dtype": "int32"}, {"dtype": "bool"})
    ],
    Row("one_hot", lambda: (torch.tensor(2),), {"num_classes": 5}, (), grad=False),
    Row("multi_hot", lambda: (integers(4, 3),), {"num_classes": 5}, grad=False),
    Row("multi_hot", lambda: (integers(4),), {"num_tokens": 5, "dtype": "int32"}, (), grad=False),
    Row("multi_hot", lambda: (integers(4, 3, 2),), {"num_classes": 5, "axis": 1}, grad=False),
    Row(
        "ctc_loss",
        lambda: (
            torch.tensor([[1, 2, 1, 0], [3, 3, 1, 2], [2, 0, 0, 0]]),
            uniform(3, 9, 4),
            torch.tensor([3, 4, 1]),
            torch.tensor([9, 8, 5]),
        ),
        {},
        (0, 1, 2, 3),
        traced=False,
    ),
    Row(
        "ctc_loss",
        lambda: (torch.tensor([[1, 2, 1], [0, 0, 1]]), uniform(2, 9, 4), torch.tensor([3, 2]), torch.tensor([9, 8])),
        {"mask_index": 3},
        (0, 1, 2, 3),
    ),
]
DECODED = [
    Row("ctc_decode", lambda: (uniform(5, 9, 4, high=3.0), torch.tensor([9, 4, 1, 7, 9])), kwargs, (0, 1), grad=False)
    for kwargs in [
        {},
        {"merge_repeated": False},
        {"mask_index": 3},
        {"mask_index": None},
        {"strategy": "beam_search", "beam_width": 4, "top_paths": 2},
        {"strategy": "beam_search", "beam_width": 50, "top_paths": 5},
        {"strategy": "beam_search", "beam_width": 10, "mask_index": 2},
        {"strategy": "beam_search", "beam_width": 1, "mask_index": None},
    ]
]


def heads(queries=4, keys=4, steps=5, others=6):
    return lambda: (
        uniform(2, steps, queries, 8),
        uniform(2, others, keys, 8, seed=1),
        uniform(2, others, keys, 8, seed=2),
    )


MASK = integers(2, 4, 5, 6, high=2, seed=3).bool()
MASK[0, 0, 0] = False  # a row that may attend to nothing
ATTENTION = [
    Row("dot_product_attention", heads(), kwargs, (0, 1, 2))
    for kwargs in [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"mask": MASK[:1, :1]},
        {"mask": MASK[:1, :1], "is_causal": True},
        {"bias": uniform(1, 4, 5, 6, seed=4)},
    ]
] + [
    Row("dot_product_attention", heads(), {"mask": MASK}, ()),
    Row("dot_product_attention", heads(queries=4, keys=2), {}, (0, 1, 2)),
    Row("dot_product_attention", heads(queries=4, keys=1), {}, (0, 1, 2)),
]
OTHERS = [
    Row("psnr", lambda: (image(), image(seed=1)), {"max_val": 2.0}, (0, 1)),
    Row("polar", lambda: (probabilities(3, 4), uniform(3, 4, high=4.0)), {}, (0, 1)),
]
ROWS = [*ACTIVATIONS, *CONVOLUTIONS, *POOLS, *NORMALIZATIONS, *LOSSES, *DECODED, *ATTENTION, *OTHERS]
OWN = {"sparsemax"}  # Keras' sums the wrong terms: its rows exceed 1. tests/test_activations.py proves ours


def test_names_and_parameters_are_those_of_keras():
    for name in NAMES:
        assert getattr(ops, name) is getattr(nn, name)
        assert_same_parameters(getattr(nn, name), getattr(keras.ops.nn, name))


def test_every_operation_has_a_row():
    assert {row.name for row in ROWS} | OWN == {*NAMES} == {*nn.__all__}


@per_row(ROWS)
def test_equals_keras(row):
    check_equal(row)


@per_row([row for row in ROWS if row.grad])
def test_gradients_equal_keras(row):
    check_gradients(row)


@per_row([row for row in ROWS if row.symbolic])
def test_symbolic_is_real(row):
    check_symbolic(row)


@per_row([row for row in first_of_each(ROWS) if row.traced], number_of_tensors)
def test_compiles_in_one_graph(row):
    check_traced(row)


@pytest.mark.parametrize("name", ["relu", "softmax", "layer_normalization", "moments", "max_pool"])
def test_half_precision_stays(name):
    x, arguments = uniform(2, 4, 4, 3).half(), {"moments": {"axes": 1}, "max_pool": {"pool_size": 2}}.get(name, {})
    ours, theirs = getattr(ops, name)(x, **arguments), getattr(keras.ops, name)(x, **arguments)
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype == torch.float16
        assert_close(our, their, rtol=2e-3, atol=2e-3)


def test_moments_of_large_half_precision_are_finite():
    mean, variance = ops.moments(torch.tensor([6e4, -6e4, 6e4]).half(), axes=0)
    assert mean == 2e4 and variance == torch.finfo(torch.float16).max


def test_lists_and_arrays_are_taken():
    assert ops.relu([-1.0, 2.0]).dtype == torch.float32
    assert_close(ops.one_hot([0, 2], 3), keras.ops.one_hot([0, 2], 3))
    x = image()
    assert_close(ops.max_pool(array(x), 2), ops.max_pool(x, 2))
    assert ops.sigmoid(array(x).astype("float64")).dtype == torch.float64


def test_data_format_follows_the_config():
    x = uniform(2, 3, 7, 6)
    config.set_image_data_format("channels_first")
    assert_close(ops.max_pool(x, 2), ops.max_pool(x, 2, data_format="channels_first"))


def test_one_hot_outside_of_the_classes_is_zero():
    assert ops.one_hot(torch.tensor([-1, 3]), 3).sum() == 0


def test_softmax_over_one_value_warns():
    with pytest.warns(UserWarning, match="size 1"):
        ops.softmax(torch.ones(3, 1))


def test_layer_normalization_over_an_inner_axis():
    """Keras hands an inner axis to a kernel that normalizes the last ones."""
    x, gamma = uniform(3, 4, 5), uniform(4, seed=1)
    wanted = ops.layer_normalization(x.mT, gamma).mT
    assert_close(ops.layer_normalization(x, gamma, axis=1), wanted)
    assert_close(ops.rms_normalization(x, axis=1), ops.rms_normalization(x.mT).mT)


def test_rms_scaling_is_deprecated_but_works():
    x, gamma = uniform(3, 5), uniform(5, seed=1)
    with pytest.warns(UserWarning, match="rms_normalization"):
        ours = ops.layer_normalization(x, gamma, rms_scaling=True)
    with pytest.warns(UserWarning, match="rms_scaling"):
        assert_close(ours, keras.ops.layer_normalization(x, gamma, rms_scaling=True))


def test_gradient_of_normalize_is_finite_at_zero():
    x = torch.zeros(2, 3, requires_grad=True)
    ops.normalize(x).sum().backward()
    assert x.grad.isfinite().all()


def test_bias_and_causal_go_together():
    """Keras on torch refuses them."""
    query, key, value = heads()()
    bias = uniform(1, 4, 5, 6, seed=4)
    masked = bias.masked_fill(~torch.ones(5, 6).tril().bool(), -torch.inf)
    ours = ops.dot_product_attention(query, key, value, bias=bias, is_causal=True)
    assert_close(ours, keras.ops.dot_product_attention(query, key, value, bias=masked))


@pytest.mark.parametrize("seed", range(5))
def test_beam_search_finds_the_likeliest_sequence(seed):
    """Against the sum over all alignments, one by one."""
    logits = uniform(1, 4, 3, low=-2.0, high=2.0, seed=seed)
    log_p = logits[0].log_softmax(-1)
    sums = {}
    for alignment in itertools.product(range(3), repeat=4):
        said = tuple(c for c, _ in itertools.groupby(alignment) if c)
        p = sum(log_p[t, c] for t, c in enumerate(alignment)).exp()
        sums[said] = sums.get(said, 0) + p
    best = sorted(sums, key=sums.get, reverse=True)[:3]
    paths, scores = ops.ctc_decode(logits, [4], strategy="beam_search", beam_width=50, top_paths=3)
    assert [tuple(c for c in path if c >= 0) for path in paths[:, 0].tolist()] == best
    assert_close(scores[0].exp(), torch.stack([sums[said] for said in best]))


WRONG = [
    (lambda x: ops.conv(x, uniform(3, 3, 2, 4)), "3 input channels are not a multiple"),
    (lambda x: ops.conv(x, uniform(3, 3, 4)), "must both have rank 3, 4 or 5"),
    (lambda x: ops.conv(x, uniform(3, 3, 3, 4), padding="causal"), "padding must be 'valid' or 'same'; got 'causal'"),
    (lambda x: ops.conv(x, uniform(3, 3, 3, 4), strides=(1, 2, 3)), "strides must be one number, or one for each of 2"),
    (lambda x: ops.depthwise_conv(x, uniform(3, 3, 2, 4)), "does not fit 3 input channels"),
    (lambda x: ops.conv_transpose(x, uniform(3, 3, 4, 2)), "does not fit 3 input channels"),
    (lambda x: ops.max_pool(x[0, 0], 2), r"max_pool: inputs must have rank 3, 4 or 5; got shape \(6, 3\)"),
    (lambda x: ops.average_pool(x, 2, data_format="last"), "data_format must be"),
    (lambda x: ops.adaptive_max_pool(x, (2, 2, 2)), "output_size"),
    (lambda x: ops.unfold(x[0], 2), "unfold: expected"),
    (lambda x: ops.fold(x, 2, 2), "fold: expected"),
    (lambda x: ops.depth_to_space(x, 1), "block_size must be at least 2"),
    (lambda x: ops.normalize(x, order=0), "order must be an int"),
    (lambda x: ops.moments(x, 0, synchronized=True), "synchronized"),
    (lambda x: ops.layer_normalization(x, rms=True), "no argument 'rms'"),
    (lambda x: ops.binary_crossentropy(x, x[..., 0]), "must have the same shape"),
    (lambda x: ops.categorical_crossentropy(x, x[..., 0]), "must have the same shape"),
    (lambda x: ops.sparse_categorical_crossentropy(x[0], x), "without its classes"),
    (lambda x: ops.one_hot(x, 3, sparse=True), "dense"),
    (lambda x: ops.multi_hot(x), "needs num_classes"),
    (lambda x: ops.ctc_decode(x[0], [1], strategy="best"), "'greedy' or 'beam_search'; got 'best'"),
    (lambda x: ops.dot_product_attention(x[0], x[0], x[0]), "three times"),
    (lambda x: ops.dot_product_attention(x, x, x, bias=x, mask=x), "not both"),
    (lambda x: ops.dot_product_attention(x, x, x, attn_logits_soft_cap=1.0), "soft_cap"),
    (lambda x: ops.psnr(x, x[0], 1.0), "same shape"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(image())
