"""SplitMix64 on tensors against the same with Python's whole numbers, and the numbers made of its bits."""

import pytest
import torch

from kstyle_torch import layers, splitmix64
from tests.oracle import assert_close

SEEDS = [0, 1, -1, 12345, 2**63, -(2**70)]
COUNTERS = [0, 7, -5, 2**63 - 2, splitmix64.PER_DRAW * 3]


def upper_bits(number, seed):
    """24 of the bits, as in the paper; the last step there changes the lower half alone."""
    z = (number * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z >> 40


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_are_those_of_whole_numbers(seed):
    for counter in COUNTERS:
        drawn = splitmix64.uniform((3, 2), torch.tensor(counter), splitmix64.start_of(seed))
        expected = [upper_bits(counter + position, seed) / 2**24 for position in range(6)]
        assert torch.equal(drawn, torch.tensor(expected).view(3, 2))


def test_normal_numbers_are_the_quantiles_of_the_uniform_ones():
    counter = torch.tensor(3)
    middle = splitmix64.uniform((1000,), counter, 5).double() + 2.0**-25
    assert_close(splitmix64.normal((1000,), counter, 5), torch.special.ndtri(middle).float(), rtol=1e-4, atol=1e-5)


def test_normal_numbers_are_finite_and_symmetric(monkeypatch):
    ends = torch.tensor([0.0, 1 - 2.0**-24])
    monkeypatch.setattr(splitmix64, "uniform", lambda *args: ends)
    low, high = splitmix64.normal((2,), torch.tensor(0))
    assert -6 < low < -5 and high == -low


def test_draws_do_not_overlap():
    noise, zeros = layers.GaussianNoise(1.0, seed=3), torch.zeros(10_000)
    first, second = noise(zeros, training=True), noise(zeros, training=True)
    assert torch.isin(first, second).sum() < 100
