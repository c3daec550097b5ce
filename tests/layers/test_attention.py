"""Attention beyond the rows: masks through graphs, what is hidden stays hidden, dropout, training, mistakes."""

import re

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch
from kstyle_torch.layers import AdditiveAttention, Attention, GroupQueryAttention, MultiHeadAttention
from kstyle_torch.layers.attention import kernel
from tests.oracle import array, assert_close, integers, uniform

ROWS, STEPS, FEATURES = 3, 6, 8


def heads(**more):
    return MultiHeadAttention(num_heads=2, key_dim=4, **more)


def grouped(**more):
    return GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2, **more)


def self_attention(layer, x, **call):
    """The layer on one sequence, for those that take a list and those that do not."""
    return layer([x, x], **call) if isinstance(layer, Attention) else layer(x, x, **call)


every_layer = pytest.mark.parametrize(
    "make", [heads, grouped, Attention, AdditiveAttention], ids=["heads", "grouped", "attention", "additive"]
)


# --------------------------------------------------------------------------------------------------- what a query sees


def seen(layer, **call):
    """Which steps each step's output depends on: (query, key)."""
    x = uniform(1, STEPS, FEATURES).requires_grad_()
    y = self_attention(layer, x, **call)
    y = y[0] if isinstance(y, tuple) else y
    gradients = [torch.autograd.grad(y[0, step].sum(), x, retain_graph=True)[0] for step in range(STEPS)]
    return torch.stack([gradient[0].abs().sum(-1) > 0 for gradient in gradients])


@every_layer
def test_causal_mask_leaks_nothing(make):
    past = torch.ones(STEPS, STEPS, dtype=torch.bool).tril()
    assert torch.equal(seen(make(), use_causal_mask=True), past)
    assert torch.equal(seen(make(), use_causal_mask=True, return_attention_scores=True), past)
    assert seen(make()).all()


@pytest.mark.parametrize("make", [heads, grouped])
@pytest.mark.parametrize("causal", [False, True])
def test_window_hides_what_is_far(make, causal):
    distance = torch.arange(STEPS).unsqueeze(-1) - torch.arange(STEPS)
    expected = (distance.abs() < 3) & (distance >= 0) if causal else distance.abs() < 3
    assert torch.equal(seen(make(sliding_window=3), use_causal_mask=causal), expected)


@every_layer
def test_masked_values_are_not_seen(make):
    layer, x = make(), uniform(2, STEPS, FEATURES)
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * STEPS])
    masks = {"mask": [None, mask]} if isinstance(layer, Attention) else {"value_mask": mask}
    padding = x.clone()
    padding[0, 4:] = 100.0
    if isinstance(layer, Attention):
        first, second = layer([x, x], **masks), layer([x, padding], **masks)
    else:
        first, second = layer(x, x, **masks), layer(x, padding, **masks)
    assert torch.equal(first, second)
    assert not torch.equal(self_attention(layer, x)[0], first[0])


@pytest.mark.parametrize("rank", [3, 4])
def test_a_query_that_sees_nothing(rank):
    """It gives the mean of the values where Keras' does; and no gradient reaches what it cannot see but by the mean."""
    shape = (2, 5, FEATURES) if rank == 3 else (2, 5, 2, FEATURES)
    layer, theirs = heads(), keras.layers.MultiHeadAttention(2, 4)
    x = uniform(*shape).requires_grad_()
    mask = torch.tensor([[False] * 5, [True] * 5]).unsqueeze(1).expand(2, 5, 5)
    mask = mask if rank == 3 else mask.repeat_interleave(2, 1).repeat_interleave(2, 2).view(2, 5, 2, 5, 2)
    theirs(x, x)
    y = layer(x, x, attention_mask=mask)
    theirs.set_weights(layer.get_weights())
    assert_close(y, theirs(x, x, attention_mask=mask))
    [gradient] = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    if rank == 3:
        values = layer.value_dense(x)
        [expected] = torch.autograd.grad(layer.output_dense(values.mean(1, keepdim=True).expand_as(values)).sum(), x)
        assert_close(gradient[0], expected[0])


# ------------------------------------------------------------------------------------------------------- masks of inputs


def masked_model(library, make):
    """Embedded words through attention on themselves and on another sequence."""
    words, others = library.Input((STEPS,), dtype="int32"), library.Input((4,), dtype="int32")
    embedding = library.layers.Embedding(10, FEATURES, mask_zero=True)
    x, y = embedding(words), embedding(others)
    x = make(library.layers)(x, x)
    return library.Model([words, others], make(library.layers)(x, y, use_causal_mask=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda library: library.MultiHeadAttention(2, 4),
        lambda library: library.GroupQueryAttention(4, 4, 2),
        lambda library: lambda x, y, **call: library.Attention(use_scale=True)([x, y], **call),
        lambda library: lambda x, y, **call: library.AdditiveAttention()([x, y], **call),
    ],
    ids=["heads", "grouped", "attention", "additive"],
)
def test_masks_of_a_graph_are_those_of_keras(make):
    ours, theirs = masked_model(kstyle_torch, make), masked_model(keras, make)
    theirs.set_weights(ours.get_weights())
    words = [integers(ROWS, STEPS, high=10), integers(ROWS, 4, high=10, seed=1)]
    words[0][:, 3:], words[1][:, 3:], words[1][:, 0] = 0, 0, 5
    y, expected = ours(words), theirs(words)
    assert_close(y, expected)
    assert torch.equal(y._keras_mask, words[0] != 0)
    assert torch.equal(expected._keras_mask, y._keras_mask)


def test_eager_masks_are_found():
    layer, x = heads(), uniform(2, STEPS, FEATURES)
    mask = integers(2, STEPS, high=2) > 0
    mask[:, 0] = True
    expected = layer(x, x, query_mask=mask, value_mask=mask)
    x._keras_mask = mask
    assert torch.equal(layer(x, x), expected)
    assert torch.equal(layer(value=x, query=x), expected)
    assert not torch.equal(layer(x, x, value_mask=torch.ones_like(mask)), expected)


def test_masks_may_be_positional():
    layer, x, mask = heads(), uniform(2, STEPS, FEATURES), torch.ones(2, STEPS, dtype=torch.bool)
    mask[:, 4:] = False
    assert torch.equal(layer(x, x, x, None, mask), layer(x, x, value_mask=mask))


# --------------------------------------------------------------------------------------------------------------- dropout


def dropped_weights(layer, size=60):
    """The attention weights of a layer after dropout, for equal scores: times `size`, they are 1 without it."""
    x, values = torch.zeros(1, size, size), torch.eye(size).unsqueeze(0)
    if isinstance(layer, Attention):
        return layer([x, values, x], training=True)[0] * size
    layer(x, values, x)
    weights = [np.zeros((size, 1, size), "float32"), np.zeros((size, 1, size), "float32"), np.eye(size)[:, None]]
    layer.set_weights([*weights, np.eye(size)[None]])
    return layer(x, values, x, training=True)[0] * size


def one_head(**more):
    return MultiHeadAttention(num_heads=1, key_dim=60, use_bias=False, **more)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("make", [one_head, Attention, AdditiveAttention])
def test_dropout_by_distribution(make, seed):
    torch.manual_seed(0)
    weights = dropped_weights(make(dropout=0.4, seed=seed))
    assert abs(float((weights == 0).float().mean()) - 0.4) < 0.03
    kept = weights[weights != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.6))
    assert (dropped_weights(make(dropout=0.0, seed=seed)) > 0).all()


@pytest.mark.parametrize("make", [one_head, Attention, AdditiveAttention])
def test_seed_repeats_the_run_and_not_the_step(make):
    first, second = make(dropout=0.4, seed=3), make(dropout=0.4, seed=3)
    a, b = dropped_weights(first), dropped_weights(first)
    assert torch.equal(a, dropped_weights(second)) and torch.equal(b, dropped_weights(second))
    assert not torch.equal(a, b)


def test_scores_are_those_before_dropout():
    layer, x = heads(dropout=0.5), uniform(2, STEPS, FEATURES)
    scores = layer(x, x, return_attention_scores=True)[1]
    assert torch.equal(layer(x, x, return_attention_scores=True, training=True)[1], scores)
    assert_close(scores.sum(-1), torch.ones(2, 2, STEPS))


# ------------------------------------------------------------------------------------------------------------- the kernel


@every_layer
def test_the_fused_kernel_runs_unless_scores_are_asked_for(make, monkeypatch):
    calls = []
    fused = kernel.F.scaled_dot_product_attention
    monkeypatch.setattr(
        kernel.F, "scaled_dot_product_attention", lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs)
    )
    layer, x = make(dropout=0.5), uniform(2, STEPS, FEATURES)
    for call in ({}, {"training": True}, {"use_causal_mask": True}):
        self_attention(layer, x, **call)
    assert len(calls) == (0 if make is AdditiveAttention else 3)
    self_attention(layer, x, return_attention_scores=True)
    assert len(calls) == (0 if make is AdditiveAttention else 3)


@pytest.mark.parametrize("make", [heads, grouped])
def test_flash_kernel(make):
    layer, x = make(flash_attention=True), uniform(2, STEPS, FEATURES)
    plain = make()
    y = layer(x, x, use_causal_mask=True)
    plain(x, x)
    plain.set_weights(layer.get_weights())
    assert_close(y, plain(x, x, use_causal_mask=True))
    with pytest.raises(ValueError, match=f"{layer.name}: flash attention does not return scores"):
        layer(x, x, return_attention_scores=True)
    with pytest.raises(ValueError, match="flash attention does not support dropout"):
        make(flash_attention=True, dropout=0.1)


def test_projections_are_linear_modules():
    layer, x = heads(use_gate=True), uniform(2, STEPS, FEATURES)
    layer(x, x)
    linear = [name for name, module in layer.named_modules() if type(module) is nn.Linear]
    assert linear == [f"{part}_dense.linear" for part in ("query", "key", "gate", "value", "output")]
    assert layer.query_dense.linear.weight.shape == (2 * 4, FEATURES)
    assert tuple(layer.query_dense.kernel.shape) == (FEATURES, 2, 4)


def test_weights_are_called_as_in_keras():
    layer, theirs, x = (
        heads(use_gate=True, name="a"),
        keras.layers.MultiHeadAttention(2, 4, use_gate=True, name="a"),
        uniform(2, 3, 4),
    )
    layer(x, x), theirs(x, x)
    assert [w.path for w in layer.weights] == [w.path for w in theirs.weights]


@pytest.mark.parametrize("make", [heads, grouped])
def test_mixed_precision(make):
    layer, x = make(dtype="mixed_bfloat16", use_gate=True), uniform(2, STEPS, FEATURES)
    y = layer(x, x, use_causal_mask=True)
    assert y.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in layer.parameters())
    plain = make(use_gate=True)
    plain(x, x)
    plain.set_weights(layer.get_weights())
    assert_close(y.float(), plain(x, x, use_causal_mask=True), rtol=0.05, atol=0.05)


def test_kernels_start_different():
    layer, x = heads(), uniform(2, STEPS, FEATURES)
    layer(x, x)
    kernels = [array(part.kernel) for part in (layer.query_dense, layer.key_dense, layer.value_dense)]
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[1], kernels[2])


def test_regularizers_and_constraints_reach_the_projections():
    layer, x = heads(kernel_regularizer="l2", kernel_constraint="non_neg", activity_regularizer="l2"), uniform(2, 3, 4)
    layer(x, x)
    kernels = [view for view in layer.weights if view.name == "kernel"]
    assert len(kernels) == 4 and all(view.constraint is not None for view in kernels)
    penalties = [0.01 * float(view.read().detach().square().sum()) for view in kernels]
    assert [float(loss.detach()) for loss in layer.losses[-4:]] == pytest.approx(penalties)
    assert len(layer.losses) == 8


# -------------------------------------------------------------------------------------------------------------- training


def transformer(library):
    """Without masks: Keras' MultiHeadAttention takes the mask off its query, so a sum with the query has none."""
    words = library.Input((STEPS,), dtype="int32")
    x = library.layers.Embedding(10, FEATURES)(words)
    y = library.layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    x = library.layers.LayerNormalization()(library.layers.Add()([x, y]))
    y = library.layers.Dense(FEATURES)(library.layers.Dense(12, activation="gelu")(x))
    x = library.layers.LayerNormalization()(library.layers.Add()([x, y]))
    model = library.Model(words, library.layers.Dense(1)(x))
    model.compile(optimizer=library.optimizers.SGD(0.05, momentum=0.9), loss="mse")
    return model


@pytest.mark.filterwarnings("ignore")  # of Keras' torch trainer
def test_a_transformer_trains_as_in_keras():
    ours, theirs = transformer(kstyle_torch), transformer(keras)
    theirs.set_weights(ours.get_weights())
    before = ours.get_weights()
    words, targets = array(integers(8, STEPS, high=10)), array(uniform(8, STEPS, 1))
    for model in (ours, theirs):
        model.fit(words, targets, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_close(mine, other)
    unmoved = [
        w.path for w, start in zip(ours.weights, before, strict=True) if np.allclose(w.numpy(), start, atol=1e-6)
    ]
    assert unmoved == [ours.layers[2].key_dense.bias.path]  # it moves all scores of a query alike


# -------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiHeadAttention(0, 4), "num_heads must be a positive int; got 0"),
        (lambda: MultiHeadAttention(2, 4.5), "key_dim must be a positive int; got 4.5"),
        (lambda: MultiHeadAttention(2, 4, value_dim=-1), "value_dim must be a positive int; got -1"),
        (lambda: MultiHeadAttention(2, 4, dropout=2), "dropout must be a number from 0 to 1; got 2"),
        (lambda: MultiHeadAttention(2, 4, output_shape="3"), "output_shape must be an int or a tuple of ints; got '3'"),
        (lambda: MultiHeadAttention(2, 4, attention_axes=1.5), "attention_axes must be an int or a tuple of ints"),
        (lambda: MultiHeadAttention(2, 4, sliding_window=0), "sliding_window must be a positive int; got 0"),
        (lambda: MultiHeadAttention(2, 4, heads=3), "has no argument 'heads'"),
        (
            lambda: GroupQueryAttention(4, 4, 3),
            "num_query_heads must be a multiple of num_key_value_heads; got 4 and 3",
        ),
        (lambda: Attention(score_mode="sum"), "score_mode must be 'dot' or 'concat'; got 'sum'"),
        (lambda: Attention(dropout=-1), "rate must be a number from 0 to 1; got -1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: heads()(x, x[0]), r"must all be \(batch, ..., features\).*got shapes"),
        (lambda x: heads()(x, x, x[:, :3]), "value and key must have the same number of steps"),
        (lambda x: Attention()(x), r"expected a list, \[query, value\]"),
        (lambda x: Attention()([x]), "expected two or three tensors; got 1"),
        (lambda x: AdditiveAttention()([x, x, x, x]), "expected two or three tensors; got 4"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call(uniform(2, STEPS, FEATURES))


def test_groups_have_keras_names(tmp_path):
    """Keras' class is GroupedQueryAttention, exported and saved as GroupQueryAttention."""
    found = []
    for library in (keras, kstyle_torch):
        inputs = library.Input((5, 8))
        model = library.Model(inputs, library.layers.GroupQueryAttention(4, 4, 2)(inputs, inputs))
        layer = model.layers[1]
        entry = model.get_config()["layers"][1]
        found.append((type(layer).__name__, re.sub(r"_\d+$", "", layer.name), entry["module"], entry["class_name"]))
        model.save(tmp_path / f"{library.__name__}.keras")
    assert found[0] == found[1]
    x = uniform(2, 5, 8)
    for theirs, ours in ((keras, kstyle_torch), (kstyle_torch, keras)):
        path = tmp_path / f"{theirs.__name__}.keras"
        outputs = [library.saving.load_model(path)(x) for library in (theirs, ours)]
        assert_close(array(outputs[0]), array(outputs[1]), atol=1e-6)
