"""Normalization beyond the rows: axes that Keras on torch cannot take, masks, replicas, spectral norms, mistakes."""

import keras
import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

import kstyle_torch
from kstyle_torch import layers
from kstyle_torch.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Embedding,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    SpectralNormalization,
    UnitNormalization,
)
from tests.oracle import array, assert_close, integers, uniform, value_and_grad

# ------------------------------------------------------------------------------------------------- of each sample by itself


@pytest.mark.parametrize("axis", [1, -2])
@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_axis_in_the_middle(name, axis):
    """Keras on torch refuses it, so it is compared with the last axis of a turned input."""
    layer, theirs, x = getattr(layers, name)(axis=axis), getattr(keras.layers, name)(), uniform(2, 7, 4, 5)
    layer(x), theirs(x.movedim(axis, -1))
    layer.set_weights([array(uniform(*w.shape, low=0.5, seed=i)) for i, w in enumerate(layer.get_weights())])
    theirs.set_weights(layer.get_weights())
    y, gradient = value_and_grad(layer, x)
    expected, other = value_and_grad(lambda x: theirs(x.movedim(axis, -1)).movedim(-1, axis), x)
    assert_close(y, expected)
    assert_close(gradient, other)


@pytest.mark.parametrize("axis", [-1, [1, 3]])
@pytest.mark.filterwarnings("ignore:You passed")
def test_rms_scaling(axis):
    x = uniform(2, 3, 4, 5)
    with pytest.warns(UserWarning, match="use RMSNormalization"):
        layer = LayerNormalization(axis=axis, rms_scaling=True, scale=False)
    theirs = keras.layers.LayerNormalization(axis=axis, rms_scaling=True, scale=False)
    layer(x), theirs(x)
    layer.set_weights([array(uniform(*w.shape)) for w in layer.get_weights()])
    theirs.set_weights(layer.get_weights())
    assert [w.name for w in layer.weights] == ["gamma"]
    (y, gradient), (expected, other) = value_and_grad(layer, x), value_and_grad(theirs, x)
    assert_close(y, expected)
    assert_close(gradient, other)


@pytest.mark.parametrize(
    ("make", "cls"),
    [(LayerNormalization, nn.LayerNorm), (RMSNormalization, nn.RMSNorm), (lambda: GroupNormalization(2), nn.GroupNorm)],
    ids=["layer", "rms", "group"],
)
def test_native_modules_are_held(make, cls):
    layer = make()
    layer(uniform(2, 3, 4))
    assert type(layer.norm) is cls
    assert {*layer.state_dict()} <= {"norm.weight", "norm.bias"}


@pytest.mark.parametrize("arguments", [{}, {"center": False}, {"scale": False}, {"axis": 1}], ids=str)
@pytest.mark.parametrize("asks", [True, False])
def test_group_norm_of_an_input_without_gradient(arguments, asks):
    """torch's backward has crashed there, in channels_last memory."""
    layer, x = GroupNormalization(2, **arguments), uniform(2, 6, 5, 4)
    layer(x)
    x = x.to(memory_format=torch.channels_last) if arguments.get("axis") == 1 else x
    layer(x.clone().requires_grad_(asks)).square().sum().backward()
    moved = x if arguments.get("axis") == 1 else x.movedim(-1, 1)
    normed = nn.functional.group_norm(moved, 2, eps=1e-3)
    if layer.scale:
        assert_close(layer.gamma.value.grad, 2 * normed.square().sum((0, 2, 3)), rtol=1e-4)
    if layer.center:
        assert_close(layer.beta.value.grad, 2 * normed.sum((0, 2, 3)), atol=1e-4)


def test_unit_norm_of_nothing():
    x = torch.zeros(2, 3, requires_grad=True)
    y = UnitNormalization()(x)
    y.sum().backward()
    assert not y.any() and x.grad.isfinite().all()


# ------------------------------------------------------------------------------------------------------ of whole batches


def masked_model(library):
    words = library.Input((6,), dtype="int32")
    x = library.layers.Embedding(9, 4, mask_zero=True)(words)
    return library.Model(words, library.layers.BatchNormalization(momentum=0.5)(x))


def test_batch_norm_finds_the_mask_in_a_graph():
    ours, theirs = masked_model(kstyle_torch), masked_model(keras)
    theirs.set_weights(ours.get_weights())
    words = integers(5, 6, high=9)
    y, expected = ours(words, training=True), theirs(words, training=True)
    assert_close(y, expected)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)
    assert torch.equal(y._keras_mask, words != 0)


def test_batch_norm_ignores_what_is_masked():
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[:, 3:] = False
    x, layer, twin = uniform(4, 6, 3), BatchNormalization(), BatchNormalization()
    x[:, 3:] = float("nan")
    assert_close(layer(x, mask=mask, training=True)[:, :3], twin(x[:, :3].clone(), training=True))
    for mine, other in zip(layer.get_weights(), twin.get_weights(), strict=True):
        assert_close(mine, other)


def test_batch_norm_of_nothing_but_mask():
    layer = BatchNormalization()
    y = layer(uniform(4, 6, 3), mask=torch.zeros(4, 6, dtype=torch.bool), training=True)
    assert y.isfinite().all()
    assert_close(layer.moving_mean.numpy(), np.zeros(3))


@pytest.mark.parametrize("arguments", [{}, {"renorm": True}, {"synchronized": True}], ids=str)
def test_frozen_batch_norm_uses_and_keeps_its_statistics(arguments):
    layer, x = BatchNormalization(**arguments), uniform(5, 3)
    layer(x, training=True)
    layer.trainable = False
    before = layer.get_weights()
    assert torch.equal(layer(x, training=True), layer(x))
    for mine, other in zip(layer.get_weights(), before, strict=True):
        assert np.array_equal(mine, other)


def test_synchronized_alone_is_plain():
    x, layer, twin = uniform(4, 5, 6, 3), BatchNormalization(synchronized=True), BatchNormalization()
    layer(x), twin(x)
    layer.train(), twin.train()
    (y, gradient), (expected, other) = value_and_grad(layer, x), value_and_grad(twin, x)
    assert_close(y, expected)
    assert_close(gradient, other)
    for mine, theirs in zip(layer.get_weights(), twin.get_weights(), strict=True):
        assert_close(mine, theirs)


def half_a_batch(rank, folder):
    """Runs one of two replicas, without and with a mask, and saves what it computes."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for masked in (False, True):
        x, mask = whole_batch()
        layer = BatchNormalization(synchronized=True)
        x, mask = x[2 * rank : 2 * rank + 2 + rank], mask[2 * rank : 2 * rank + 2 + rank]  # two rows, and three
        layer(x)
        layer.train()
        x = x.clone().requires_grad_()
        y = layer(x, mask=mask if masked else None)
        y.square().mul(weights_of(y.shape[0], rank)).sum().backward()
        torch.save((y.detach(), x.grad, layer.get_weights()), f"{folder}/{rank}-{masked}.pt")
    torch.distributed.destroy_process_group()


def whole_batch():
    mask = integers(5, 4, high=2) > 0
    mask[:, 0] = True
    return uniform(5, 4, 3), mask


def weights_of(rows, rank):
    return uniform(5, 4, 3, seed=3)[2 * rank : 2 * rank + rows]


@pytest.mark.full  # starts two processes
def test_replicas_share_the_statistics(tmp_path):
    torch.multiprocessing.spawn(half_a_batch, (str(tmp_path),), nprocs=2)
    for masked in (False, True):
        check_replicas(tmp_path, masked)


def check_replicas(folder, masked):
    parts = [torch.load(folder / f"{rank}-{masked}.pt", weights_only=False) for rank in range(2)]
    (x, mask), layer = whole_batch(), BatchNormalization()
    layer(x)
    layer.train()
    x.requires_grad_()
    y = layer(x, mask=mask if masked else None)
    y.square().mul(weights_of(5, 0)).sum().backward()
    assert_close(torch.cat([part[0] for part in parts]), y)
    assert_close(torch.cat([part[1] for part in parts]), x.grad)
    for part in parts:
        for mine, other in zip(part[2], layer.get_weights(), strict=True):
            assert_close(mine, other)


# --------------------------------------------------------------------------------------------------------- spectral norm


@pytest.mark.parametrize("inner", [lambda: Dense(5), lambda: Conv2D(5, 2)], ids=["dense", "conv"])
def test_training_calls_bring_the_spectral_norm_to_one(inner):
    layer, x = SpectralNormalization(inner()), uniform(2, 4, 4, 3)
    layer(x)
    layer.set_weights([np.abs(w) * 10 + 1 for w in layer.get_weights()])

    def norm():
        return float(torch.linalg.matrix_norm(layer.kernel.read().detach().reshape(-1, 5), 2))

    before = norm()
    layer(x)
    assert norm() == before > 10
    for _ in range(30):
        layer(x, training=True)
    assert norm() == pytest.approx(1.0, abs=1e-3)


def test_two_calls_in_a_step_of_spectral_norm():
    """As a critic is called on what is real and what is not; the kernel changes in between."""
    layer, x = SpectralNormalization(Dense(3)), uniform(4, 5).requires_grad_()
    first, second = layer(x, training=True), layer(2 * x, training=True)
    (first.sum() + second.square().sum()).backward()
    assert layer.kernel.value.grad.abs().sum() > 0 and x.grad.abs().sum() > 0


def test_spectral_norm_of_a_kernel_of_zeros():
    layer = SpectralNormalization(Dense(3, kernel_initializer="zeros"))
    y = layer(uniform(4, 5))
    u = layer.vector_u.clone()
    assert torch.equal(layer(uniform(4, 5), training=True), y)
    assert torch.equal(layer.vector_u, u) and not array(layer.kernel).any()


def test_spectral_norm_of_an_embedding():
    """Keras gives whole numbers here: it casts the output to the input's type."""
    layer, words = SpectralNormalization(Embedding(6, 4)), integers(2, 3, high=6)
    table = layer(words) @ torch.eye(4)
    assert table.dtype == torch.float32
    layer(words, training=True)
    assert not torch.equal(layer(words), table)


# -------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BatchNormalization(axis=[1]), ValueError, r"axis must be an int; got \[1\]"),
        (lambda: BatchNormalization(renorm=True, renorm_clipping={"max": 1}), ValueError, "renorm_clipping knows rmax"),
        (lambda: BatchNormalization(renorm=True, renorm_clipping={"dmax": -1}), ValueError, "dmax >= 0"),
        (
            lambda: BatchNormalization(renorm=True, renorm_clipping={"rmin": 2, "rmax": 1}),
            ValueError,
            "rmin <= rmax",
        ),
        (lambda: LayerNormalization(axis="last"), TypeError, "axis must be an int or a list of ints; got 'last'"),
        (
            lambda: LayerNormalization(axis=3)(torch.ones(2, 3)),
            ValueError,
            "axis 3 is out of range for an input of 2 axes",
        ),
        (lambda: RMSNormalization(axis=[]), TypeError, "axis must be an int or a list of ints"),
        (lambda: UnitNormalization(axis=2.0), TypeError, "axis must be an int or a list of ints; got 2.0"),
        (lambda: GroupNormalization(0), ValueError, "groups must be a positive int; got 0"),
        (lambda: GroupNormalization(3)(torch.ones(2, 4)), ValueError, "got 3 groups for 4 channels"),
        (lambda: GroupNormalization()(torch.ones(2, 4)), ValueError, "got 32 groups for 4 channels"),
        (lambda: SpectralNormalization("dense"), ValueError, "expected a layer; got 'dense'"),
        (
            lambda: SpectralNormalization(Dense(3), power_iterations=0),
            ValueError,
            "power_iterations must be a positive",
        ),
        (
            lambda: SpectralNormalization(layers.Flatten())(torch.ones(2, 4)),
            ValueError,
            "Flatten has neither `kernel` nor `embeddings`",
        ),
        (
            lambda: BatchNormalization()(torch.ones(2, 3, 4), mask=torch.ones(2)),
            ValueError,
            r"one axis less than the input; got \(2,\) for \(2, 3, 4\)",
        ),
    ],
)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()
