"""The small network's training in plain JAX: Adam by hand, a whole epoch in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZES = (64, 32, 1)


def make_fit(x: np.ndarray, y: np.ndarray, batch_size: int) -> Callable[[int], tuple[float, float]]:
    """A function that trains for some epochs and gives the last loss and accuracy. x (N, D), y (N,)."""
    data, targets, rows = jnp.asarray(x), jnp.asarray(y)[:, None], len(x)
    state = (*_zeros_and_weights(x.shape[1]), jnp.zeros((), jnp.int32))
    key = jax.random.key(0)

    def loss_of(weights: Any, inputs: Any, labels: Any) -> tuple[Any, Any]:
        for kernel, bias in weights[:-1]:
            inputs = jax.nn.relu(inputs @ kernel + bias)
        logits = inputs @ weights[-1][0] + weights[-1][1]
        losses = jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return losses.mean(), ((logits > 0) == (labels > 0.5)).mean()

    def step(state: Any, indices: Any) -> tuple[Any, Any]:
        weights, means, squares, count = state
        (loss, right), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, data[indices], targets[indices])
        count = count + 1
        means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
        squares = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, squares, gradients)
        size = 0.001 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        weights = jax.tree.map(lambda w, m, v: w - size * m / (jnp.sqrt(v) + 1e-7), weights, means, squares)
        return (weights, means, squares, count), (loss, right)

    @jax.jit
    def epoch(state: Any, key: Any) -> tuple[Any, Any, Any]:
        order = jax.random.permutation(key, rows)[: rows // batch_size * batch_size].reshape(-1, batch_size)
        state, (losses, right) = jax.lax.scan(step, state, order)
        return state, losses.mean(), right.mean()

    def fit(epochs: int) -> tuple[float, float]:
        nonlocal state, key
        for _ in range(epochs):
            key, used = jax.random.split(key)
            state, loss, accuracy = epoch(state, used)
            history = float(loss), float(accuracy)
        return history

    return fit


def _zeros_and_weights(features: int) -> tuple[Any, Any, Any]:
    key, weights = jax.random.key(1), []
    for inputs, outputs in zip((features, *SIZES), SIZES):
        key, used = jax.random.split(key)
        limit = (6 / (inputs + outputs)) ** 0.5
        weights.append((jax.random.uniform(used, (inputs, outputs), minval=-limit, maxval=limit), jnp.zeros(outputs)))
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return weights, zeros, zeros
