"""LoRA, Lambda, embeddings, penalties, and layers to and from their configs."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.layers.cases.core import doubled, power_in
from tests.oracle import array, assert_close, integers, uniform

ADAPTABLE = {
    "dense": (lambda lib: lib.layers.Dense(4, kernel_regularizer="l2"), uniform(5, 3)),
    "einsum": (lambda lib: lib.layers.EinsumDense("abc,cde->abde", (None, 6, 4), bias_axes="e"), uniform(2, 5, 3)),
    "embedding": (lambda lib: lib.layers.Embedding(9, 4), integers(3, 5, high=9)),
}
adaptable = pytest.mark.parametrize(("make", "x"), ADAPTABLE.values(), ids=ADAPTABLE)


def adapted(make, x, **arguments):
    layer = make(ks)
    layer(x)
    layer.enable_lora(2, **arguments)
    return layer


@adaptable
def test_enable_lora_equals_keras(make, x):
    ours, theirs = adapted(make, x, lora_alpha=3), make(keras)
    theirs(x)
    theirs.enable_lora(2, lora_alpha=3)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    ours.set_weights([array(uniform(*w.shape, seed=i)) for i, w in enumerate(ours.get_weights())])
    theirs.set_weights(ours.get_weights())
    assert_close(ours(x), theirs(x))
    assert [w.name for w in ours.trainable_weights] == [w.name for w in theirs.trainable_weights]
    assert_close(sum(ours.losses, torch.zeros(())), sum(theirs.losses, torch.zeros(())))
    assert {k: ours.get_config()[k] for k in ("lora_rank", "lora_alpha")} == {"lora_rank": 2, "lora_alpha": 3}


MERGED = {
    **ADAPTABLE,
    "conv1d": (lambda lib: lib.layers.Conv1D(4, 2), uniform(2, 5, 3)),
    "conv2d": (lambda lib: lib.layers.Conv2D(4, 3, data_format="channels_last"), uniform(2, 5, 6, 3)),
    "bfloat16": (lambda lib: lib.layers.Dense(4, dtype="bfloat16"), uniform(5, 3).bfloat16()),
    "mixed": (lambda lib: lib.layers.Dense(4, dtype="mixed_bfloat16"), uniform(5, 3)),
    "float64": (lambda lib: lib.layers.Dense(4, dtype="float64"), uniform(5, 3).double()),
}


@pytest.mark.parametrize(("make", "x"), MERGED.values(), ids=MERGED)
def test_matrix_of_a_layer_with_lora_includes_the_update(make, x):
    ours, theirs = adapted(make, x, lora_alpha=3), make(keras)
    theirs(x)
    theirs.enable_lora(2, lora_alpha=3)
    ours.set_weights([array(uniform(*w.shape, seed=i)) for i, w in enumerate(ours.get_weights())])
    theirs.set_weights(ours.get_weights())
    name = ours._lora_target
    merged, frozen = getattr(ours, name), next(w for w in ours.weights if w.name == name)
    expected = getattr(theirs, name)
    assert merged.dtype == expected.dtype
    assert merged.requires_grad
    tolerance = 2e-2 if merged.dtype is torch.bfloat16 else 1e-5
    assert_close(merged.float(), expected.float(), atol=tolerance, rtol=tolerance)
    plain = make(ks)
    plain(x)
    plain.set_weights(
        [array(merged.float()) if w.name == name else w.numpy() for w in ours.weights[: len(plain.weights)]]
    )
    assert_close(ours(x).float(), plain(x).float(), atol=10 * tolerance, rtol=tolerance)
    assert not np.allclose(array(merged.float()), array(frozen.value.float()))


def test_spectral_normalization_of_a_layer_with_lora_changes_the_frozen_matrix():
    x, inside = uniform(5, 3), layers.Dense(4, lora_rank=2)
    layer = layers.SpectralNormalization(inside)
    layer(x)
    inside.lora_kernel_b.assign(uniform(2, 4))
    update = inside.kernel - inside.weights[0].value
    layer(x, training=True)
    assert_close(inside.kernel - inside.weights[0].value, update)
    assert_close(layer(x), x @ inside.kernel + inside.bias.value)


def test_embedding_with_lora_starts_from_a_table():
    table = array(uniform(9, 4))
    assert_close(layers.Embedding(9, 4, weights=[table], lora_rank=2).embeddings, table)


@adaptable
def test_lora_starts_from_the_layer_as_it_is(make, x):
    layer = make(ks)
    before = layer(x)
    layer.enable_lora(2)
    assert_close(layer(x), before)


@adaptable
def test_lora_matrix_stays_frozen_when_the_layer_thaws(make, x):
    layer = make(ks)
    layer(x)
    layer.trainable = False
    layer.enable_lora(2)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    layer.trainable = True
    assert layer.weights[0].trainable is False
    assert [w.trainable for w in layer.weights[-2:]] == [True, True]


def test_lora_alpha_counts_in_the_constructor():
    layer, x = layers.Dense(4, lora_rank=2, lora_alpha=6), uniform(5, 3)
    layer(x)
    layer.set_weights([array(uniform(*w.shape, seed=i)) for i, w in enumerate(layer.get_weights())])
    kernel, bias, a, b = layer.get_weights()
    assert_close(layer(x), x.numpy() @ (kernel + 3 * a @ b) + bias)


def test_lora_in_half_precision_trains_in_float32():
    layer = layers.Dense(4, dtype="bfloat16", lora_rank=2)
    assert layer(uniform(5, 3).bfloat16()).dtype == torch.bfloat16
    assert layer.lora_kernel_a.dtype == torch.float32


@pytest.mark.parametrize(
    ("action", "message"),
    {
        "not-built": (lambda: layers.Dense(4).enable_lora(2), "not built yet"),
        "twice": (lambda: adapted(*ADAPTABLE["dense"]).enable_lora(2), "adapted already, with rank 2"),
        "constraint": (
            lambda: layers.Dense(4, kernel_constraint="max_norm", lora_rank=2)(uniform(2, 3)),
            "kernel_constraint; remove it",
        ),
        "rank": (lambda: adapted(lambda lib: layers.Dense(4), uniform(2, 3)).enable_lora(0), "adapted already"),
    }.values(),
    ids=["not-built", "twice", "constraint", "rank"],
)
def test_lora_mistakes(action, message):
    with pytest.raises(ValueError, match=message):
        action()


# ----------------------------------------------------------------------------------------------------------- einsum


@pytest.mark.parametrize("equation", ["abc,cde->abde", "abc,dec->abde"])
@pytest.mark.parametrize("initializer", ["glorot_uniform", "he_normal", "orthogonal"])
def test_einsum_initializer_knows_its_axes(equation, initializer):
    x = uniform(2, 5, 300)
    ours = layers.EinsumDense(equation, (None, 30, 40), kernel_initializer=initializer)
    theirs = keras.layers.EinsumDense(equation, (None, 30, 40), kernel_initializer=initializer)
    ours(x), theirs(x)
    assert np.std(ours.get_weights()[0]) == pytest.approx(np.std(theirs.get_weights()[0]), rel=0.02)


# -------------------------------------------------------------------------------------------------------- embedding


@pytest.mark.parametrize(
    "wrap", [lambda table: table, lambda table: [table], torch.from_numpy], ids=["array", "list", "tensor"]
)
def test_embedding_starts_from_weights(wrap):
    table = array(uniform(9, 4))
    layer = layers.Embedding(9, 4, weights=wrap(table))
    assert_close(layer.get_weights()[0], table)
    assert "weights" not in layer.get_config()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.float32, torch.bool])
def test_embedding_takes_numbers_of_any_dtype(dtype):
    layer, ids = layers.Embedding(9, 4), integers(3, 5, high=2)
    assert_close(layer(ids.to(dtype)), layer(ids))


def test_reversible_embedding_masks_one_way_only():
    embedding, ids = layers.ReversibleEmbedding(9, 4, mask_zero=True), integers(3, 5, high=3)
    vectors = embedding(ids)
    assert torch.equal(vectors._keras_mask, ids != 0)
    assert not hasattr(embedding(vectors.detach(), reverse=True), "_keras_mask")
    symbol = ks.Input((5,))
    there = embedding(symbol)
    assert there.mask is not None
    assert embedding(there, reverse=True).mask is None
    model = ks.Model(symbol, embedding(layers.Dense(4, kernel_initializer="identity")(there), reverse=True))
    assert_close(model(ids), embedding(vectors, reverse=True))


def test_reversible_embedding_in_another_dtype():
    embedding = layers.ReversibleEmbedding(9, 4, reverse_dtype="float64")
    assert embedding(embedding(integers(3, 5, high=9)), reverse=True).dtype == torch.float64


def test_masking_feeds_the_mask():
    x = torch.tensor([[[1.0, 2.0], [7.0, 7.0], [7.0, 1.0]]])
    ours, theirs = layers.Masking(7.0)(x), keras.layers.Masking(7.0)(x)
    assert_close(ours, theirs)
    assert torch.equal(ours._keras_mask, theirs._keras_mask)


# ----------------------------------------------------------------------------------------------------------- Lambda


def shifted(x, mask, training):
    return x + (0 if mask is None else mask.unsqueeze(-1)) + (10 if training else 0)


def first_step_only(x, mask):
    return torch.zeros_like(mask)


def test_lambda_gets_mask_and_mode():
    x = torch.tensor([[1, 2, 0]])
    embedding, layer = layers.Embedding(3, 2, mask_zero=True), layers.Lambda(shifted, mask=first_step_only)
    y = layer(embedding(x), training=True)
    assert_close(y, embedding(x) + torch.tensor([1.0, 1.0, 0.0]).reshape(1, 3, 1) + 10)
    assert not y._keras_mask.any()
    symbol = ks.Input((3,))
    model = ks.Model(symbol, layer(embedding(symbol)))
    assert_close(model(x), layer(embedding(x)))
    assert not model(x)._keras_mask.any()


def test_lambda_with_a_constant_mask():
    keep = torch.tensor([True, False])
    symbol = ks.Input((2, 3))
    model = ks.Model(symbol, layers.Lambda(doubled, mask=keep)(symbol))
    assert torch.equal(model(uniform(4, 2, 3))._keras_mask, keep)


@pytest.mark.parametrize("shape", [(7,), [7], lambda shape: (shape[0], 7)], ids=["tuple", "list", "function"])
def test_lambda_output_shape(shape):
    assert layers.Lambda(doubled, output_shape=shape).compute_output_shape((None, 3)) == (None, 7)


def test_lambda_without_a_name_works_in_memory_only():
    layer = layers.Lambda(lambda x: x + 1, name="plus")
    x = uniform(2, 3)
    assert_close(copy.deepcopy(layer)(x), x + 1)
    assert_close(copy.copy(layer)(x), x + 1)
    with pytest.raises(TypeError, match="plus: a Python lambda .*test_core.py.* cannot be part of a config or a file"):
        layer.get_config()
    with pytest.raises(pickle.PicklingError, match="plus: the function .*<lambda> .*test_core.py.* cannot be pickled"):
        pickle.dumps(ks.Sequential([ks.Input((3,)), layer]))


def test_lambda_of_a_function_has_a_config():
    layer = layers.Lambda(power_in, arguments={"power": 2}, output_shape=(3,))
    config = layers.serialize(layer)
    theirs = keras.layers.serialize(keras.layers.Lambda(power_in, arguments={"power": 2}, output_shape=(3,)))
    keys = ("module", "class_name", "config")
    assert [config["config"]["function"][key] for key in keys] == [theirs["config"]["function"][key] for key in keys]
    back = keras.layers.deserialize(config, custom_objects={"power_in": power_in})
    assert_close(back(uniform(2, 3)), uniform(2, 3) ** 2)
    again = layers.deserialize(config, custom_objects={"power_in": power_in})
    assert_close(again(uniform(2, 3)), uniform(2, 3) ** 2)


def test_lambda_bytecode_is_refused():
    config = keras.layers.Lambda(lambda x: x, name="code").get_config()
    with pytest.raises(ValueError, match="function of Lambda layer 'code' is a Python lambda, stored as bytecode"):
        layers.Lambda.from_config(config)


# ------------------------------------------------------------------------------------------------- penalties, configs


def penalised(lib):
    ids = lib.Input((5,), dtype="int64")
    x = lib.layers.Embedding(9, 4, embeddings_regularizer="l1")(ids)
    x = lib.layers.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d", kernel_regularizer="l2", bias_regularizer="l1")(x)
    x = lib.layers.PReLU(alpha_regularizer="l2")(x)
    x = lib.layers.ActivityRegularization(0.1, 0.2)(x)
    x = lib.layers.Dense(2, activity_regularizer="l2", kernel_regularizer="l1", bias_regularizer="l2")(x)
    return lib.Model(ids, x)


def test_losses_equal_keras():
    ours, theirs, x = penalised(ks), penalised(keras), integers(3, 5, high=9)
    weights = [array(uniform(*w.shape, seed=i)) for i, w in enumerate(ours.get_weights())]
    ours.set_weights(weights), theirs.set_weights(weights)
    ours(x), theirs(x)
    mine, other = (sorted(float(loss.detach()) for loss in model.losses) for model in (ours, theirs))
    assert mine == pytest.approx(other, rel=1e-5)
    assert len(mine) == 8


def test_serialize_and_deserialize():
    config = layers.serialize(layers.Dense(4, activation="relu", name="front"))
    theirs = keras.layers.deserialize(config)
    assert (theirs.units, theirs.name) == (4, "front")
    again = layers.deserialize(keras.layers.serialize(theirs))
    assert (again.units, again.name, again.activation) == (4, "front", ks.activations.relu)


def test_deserialize_makes_layers_only():
    with pytest.raises(ValueError, match="the config of a layer; got that of a Adam"):
        layers.deserialize(ks.optimizers.serialize(ks.optimizers.Adam()))


def test_leaky_relu_by_its_older_name():
    with pytest.warns(UserWarning, match="negative_slope"):
        layer = layers.LeakyReLU(alpha=0.7)
    assert layers.LeakyReLU.from_config(layer.get_config()).negative_slope == 0.7
