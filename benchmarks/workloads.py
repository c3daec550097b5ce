"""The networks that the benchmarks train, each in Keras' words and in raw PyTorch, with its data.

B batch, N samples, T steps, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from reference import Task
from torch import Tensor, nn
from torch.nn import functional as F

WORDS, LENGTH, WIDTH = 5000, 40, 32  # of the texts


@dataclass
class Workload:
    """A network and how it is trained, with Adam at a rate of 0.001.

    Args:
        title: What the tables call it.
        batch_size: Rows of a step.
        samples: Rows of an epoch.
        loss: Keras' name of the loss.
        make_data: Gives x and y, both starting with N.
        make_keras: Makes the network of a library with Keras' API, its activation last.
        make_torch: Makes the network in PyTorch; it gives logits, (B, 1) or (B, C).
        epochs: How many a turn trains.
    """

    title: str
    batch_size: int
    samples: int
    loss: str
    make_data: Callable[[int], tuple[np.ndarray, np.ndarray]]
    make_keras: Callable[[Any], Any]
    make_torch: Callable[[], nn.Module]
    epochs: int

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.samples // self.batch_size)

    @property
    def binary(self) -> bool:
        """Whether the output is one probability."""
        return self.loss == "binary_crossentropy"

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y as arrays; images are (N, height, width, channels)."""
        return self.make_data(self.samples)

    def keras_model(self, keras: Any, **compile_arguments: Any) -> Any:
        """The network, compiled, with accuracy on."""
        model = self.make_keras(keras)
        adam = keras.optimizers.Adam(learning_rate=0.001)
        model.compile(optimizer=adam, loss=self.loss, metrics=["accuracy"], **compile_arguments)
        return model

    def torch_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of logits."""
        return F.binary_cross_entropy_with_logits if self.binary else F.cross_entropy

    def torch_data(self, device: Any = "cpu") -> tuple[Tensor, Tensor]:
        """x and y as PyTorch's networks want them; images are (N, channels, height, width)."""
        x, y = (torch.from_numpy(part).to(device) for part in self.data())
        return x.movedim(-1, 1).contiguous() if x.ndim == 4 else x, y[:, None] if self.binary else y

    def count_correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How many rows are classified right."""
        return ((logits > 0) == (targets > 0.5)).sum() if self.binary else (logits.argmax(-1) == targets).sum()

    def task(self, device: Any = "cpu", precision: torch.dtype | None = None) -> Task:
        """The same for the loops of `reference.py`."""
        x, y = self.torch_data(device)
        autocast = torch.autocast(torch.device(device).type, dtype=precision) if precision else None
        model = self.make_torch().to(device)
        return Task(model, x, y, self.torch_loss(), self.count_correct, self.batch_size, autocast)


# ---------------------------------------------------------------------------------------------------------------- data


def table(features: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """x (N, D) of normal numbers; y (N,) says whether the first half outweighs the second."""

    def make(samples: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        x = random.standard_normal((samples, features), dtype=np.float32)
        y = x[:, : features // 2].sum(1) > x[:, features // 2 :].sum(1) + 0.3 * random.standard_normal(samples)
        return x, y.astype(np.float32)

    return make


def blobs(*shape: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """x (N, *shape): one of ten patterns under noise; y (N,): which."""

    def make(samples: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        y = random.integers(0, 10, samples)
        patterns = random.standard_normal((10, *shape), dtype=np.float32)
        return patterns[y] + random.standard_normal((samples, *shape), dtype=np.float32), y

    return make


def texts(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """x (N, T) of word numbers; y (N,) says whether words of the first half of the vocabulary are more."""
    random = np.random.default_rng(0)
    x = random.integers(1, WORDS, (samples, LENGTH))
    return x, ((x < WORDS // 2).mean(1) > 0.5).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------ networks


def keras_small(keras: Any) -> Any:
    dense = keras.layers.Dense
    return keras.Sequential(
        [keras.Input((10,)), dense(64, activation="relu"), dense(32, activation="relu"), dense(1, activation="sigmoid")]
    )


def torch_small() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


def keras_large(keras: Any) -> Any:
    dense = keras.layers.Dense
    hidden = [dense(512, activation="relu"), dense(512, activation="relu")]
    return keras.Sequential([keras.Input((784,)), *hidden, dense(10, activation="softmax")])


def torch_large() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def keras_convnet(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def torch_convnet() -> nn.Module:
    first, second = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
    pool = nn.MaxPool2d(2)
    return nn.Sequential(first, nn.ReLU(), pool, second, nn.ReLU(), pool, nn.Flatten(), nn.Linear(1600, 10))


def keras_lstm(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((LENGTH,)), layers.Embedding(WORDS, WIDTH), layers.LSTM(64), layers.Dense(1, activation="sigmoid")]
    )


class TorchLSTM(nn.Module):
    """Words -> the last state -> a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, 64, batch_first=True)
        self.head = nn.Linear(64, 1)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)  # as Keras begins

    def forward(self, x: Tensor) -> Tensor:  # (B, T) -> (B, 1)
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


def keras_transformer(keras: Any) -> Any:
    layers = keras.layers

    class Places(layers.Layer):
        """Adds a learned vector for each place."""

        def build(self, shape: Any) -> None:
            self.places = self.add_weight(shape=shape[1:], initializer="uniform", name="places")

        def call(self, x: Any) -> Any:
            return x + self.places

    tokens = keras.Input((LENGTH,))
    x = Places()(layers.Embedding(WORDS, WIDTH)(tokens))
    x = layers.LayerNormalization(epsilon=1e-5)(x + layers.MultiHeadAttention(2, WIDTH // 2)(x, x))
    hidden = layers.Dense(2 * WIDTH, activation="relu")(x)
    x = layers.LayerNormalization(epsilon=1e-5)(x + layers.Dense(WIDTH)(hidden))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(1, activation="sigmoid")(x))


class TorchTransformer(nn.Module):
    """One block of attention and a feed-forward network, each with its norm behind it, on words and places."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.first_norm, self.second_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down, self.head = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        for table in (self.words, self.places):
            nn.init.uniform_(table.weight, -0.05, 0.05)  # as Keras begins

    def forward(self, x: Tensor) -> Tensor:  # (B, T) -> (B, 1)
        x = self.words(x) + self.places.weight
        query, key, value = self.project(x).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = self.first_norm(x + self.out(attended))
        x = self.second_norm(x + self.down(F.relu(self.up(x))))
        return self.head(x.mean(1))


BINARY, SPARSE = "binary_crossentropy", "sparse_categorical_crossentropy"
WORKLOADS = {
    "small": Workload("MLP 10-64-32-1, batch 32", 32, 1024, BINARY, table(10), keras_small, torch_small, 20),
    "large": Workload("MLP 784-512-512-10, batch 128", 128, 4096, SPARSE, blobs(784), keras_large, torch_large, 3),
    "convnet": Workload(
        "convnet, 28x28, batch 64", 64, 1024, SPARSE, blobs(28, 28, 1), keras_convnet, torch_convnet, 2
    ),
    "lstm": Workload("LSTM, 40 words, batch 32", 32, 1024, BINARY, texts, keras_lstm, TorchLSTM, 2),
    "transformer": Workload(
        "transformer, 40 words, batch 32", 32, 1024, BINARY, texts, keras_transformer, TorchTransformer, 3
    ),
}
