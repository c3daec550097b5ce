"""Where does the traveller want to go? A small transformer, of a block of one's own, reads requests for tickets."""

import random

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from kstyle_torch import Input, Model, ops
from kstyle_torch.layers import (
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    Layer,
    LayerNormalization,
    MultiHeadAttention,
    TextVectorization,
)
from kstyle_torch.optimizers import Adam
from kstyle_torch.utils import set_random_seed

CITIES = ["athens", "berlin", "lisbon", "london", "madrid", "paris", "rome", "vienna"]
REQUESTS = [
    "from {start} to {goal} please",
    "to {goal} from {start} on {day}",
    "a ticket to {goal} for {day} , i start in {start}",
    "on {day} i leave {start} and go to {goal}",
    "i am in {start} and need to be in {goal} on {day}",
    "please get me to {goal} , i am in {start}",
]
LENGTH = 16


def make_requests(count: int) -> tuple[list[str], np.ndarray]:
    """Requests, and the number of the city each wants to go to."""
    texts, goals = [], []
    for _ in range(count):
        start, goal = random.sample(CITIES, 2)
        texts.append(random.choice(REQUESTS).format(start=start, goal=goal, day=random.choice(["monday", "friday"])))
        goals.append(CITIES.index(goal))
    return texts, np.array(goals)


class TokenAndPositionEmbedding(Layer):
    """What each word is, plus where it stands."""

    def __init__(self, length, words, size, **kwargs):
        super().__init__(**kwargs)
        self.words, self.positions = Embedding(words, size), Embedding(length, size)

    def call(self, x):
        return self.words(x) + self.positions(ops.arange(x.shape[-1]))


class TransformerBlock(Layer):
    """Attention and two Dense layers, each added to its input and normalized."""

    def __init__(self, size, heads, hidden, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.attention = MultiHeadAttention(num_heads=heads, key_dim=size // heads)
        self.hidden, self.output_dense = Dense(hidden, activation="relu"), Dense(size)
        self.norm1, self.norm2 = LayerNormalization(epsilon=1e-6), LayerNormalization(epsilon=1e-6)
        self.dropout1, self.dropout2 = Dropout(rate), Dropout(rate)

    def call(self, x):
        x = self.norm1(x + self.dropout1(self.attention(x, x)))
        return self.norm2(x + self.dropout2(self.output_dense(self.hidden(x))))


def main() -> float:
    """Trains and tests the model; returns its accuracy on the test data."""
    set_random_seed(42)  # Python's random too
    (texts_train, y_train), (texts_test, y_test) = make_requests(3000), make_requests(1000)
    vectorization = TextVectorization(output_sequence_length=LENGTH)
    vectorization.adapt(texts_train)

    inputs = Input((LENGTH,), dtype="int64")
    x = TokenAndPositionEmbedding(LENGTH, vectorization.vocabulary_size(), 32)(inputs)
    x = TransformerBlock(32, heads=2, hidden=64)(x)
    x = GlobalAveragePooling1D()(x)
    model = Model(inputs, Dense(len(CITIES), activation="softmax")(x))
    model.summary()
    model.compile(optimizer=Adam(learning_rate=0.003), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(vectorization(texts_train), y_train, epochs=16, batch_size=32, validation_split=0.1, verbose=2)

    loss, accuracy = model.evaluate(vectorization(texts_test), y_test, verbose=0)
    counts = CountVectorizer().fit(texts_train)
    words = LogisticRegression().fit(counts.transform(texts_train), y_train).score(counts.transform(texts_test), y_test)
    print(f"Test loss: {loss:.4f}")
    print(f"Test accuracy: {accuracy:.4f} (bag of words: {words:.4f})")
    return accuracy


if __name__ == "__main__":
    main()
