"""Random numbers from a key: their distribution, and that a key and the number of the call decide."""

import pytest
import torch
import torch.nn.functional as F

from kstyle_torch import layers
from kstyle_torch.training.compiled.stateless_random import draw_keys, keyed

X = torch.ones(200, 200)


def drawn(function, key=5):
    with keyed(torch.tensor(key)):
        return function()


FUNCTIONS = {
    "dropout": (lambda: F.dropout(X, 0.3), 1.0, (0.3 / 0.7) ** 0.5),
    "the layer": (lambda: layers.Dropout(0.3)(X, training=True), 1.0, (0.3 / 0.7) ** 0.5),
    "channels": (lambda: layers.SpatialDropout1D(0.3)(torch.ones(200, 2, 200), training=True), 1.0, (0.3 / 0.7) ** 0.5),
    "uniform": (lambda: torch.rand(200, 200), 0.5, 12**-0.5),
    "normal": (lambda: torch.randn((200, 200)), 0.0, 1.0),
    "likes": (lambda: torch.rand_like(X) + torch.randn_like(X), 0.5, (1 + 1 / 12) ** 0.5),
}


@pytest.mark.parametrize(("function", "mean", "deviation"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_numbers_are_distributed_as_those_of_torch_and_depend_on_the_key(function, mean, deviation):
    state = torch.get_rng_state()
    first = drawn(function)
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(float(first.mean()) - mean) < 0.03
    assert abs(float(first.std()) - deviation) < 0.03
    assert torch.equal(first, drawn(function))
    assert not torch.equal(first, drawn(function, key=6))
    one, other = drawn(lambda: (function(), function()))
    assert torch.equal(one, first)
    assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.03


def test_keys_come_from_the_random_state():
    torch.manual_seed(3)
    keys = draw_keys(4)
    assert len({*keys.tolist()}) == 4
    torch.manual_seed(3)
    assert torch.equal(draw_keys(4), keys)


def test_attention_drops_weights_only_where_it_should():
    query, key, value = (torch.randn(2, heads, 5, 4) for heads in (4, 2, 2))
    plain = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    def attend(p):
        return lambda: F.scaled_dot_product_attention(query, key, value, dropout_p=p, is_causal=True, enable_gqa=True)

    torch.testing.assert_close(drawn(attend(0.0)), plain)
    torch.testing.assert_close(drawn(attend(1e-9)), plain)
    many = torch.stack([drawn(attend(0.3), key) for key in range(400)]).mean(0)
    assert float((many - plain).abs().max()) < 0.35


def test_outside_training_and_with_a_generator_nothing_is_changed():
    assert drawn(lambda: F.dropout(X, 0.5, training=False)) is X
    generator = torch.Generator().manual_seed(1)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn(lambda: torch.rand(3, generator=generator)), expected)
    assert float(drawn(lambda: F.dropout(X, 1.0)).abs().max()) == 0.0
