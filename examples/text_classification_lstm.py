"""Praise or blame: an LSTM reads sentences in which the order of the words decides."""

import random

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from kstyle_torch import Input, Sequential
from kstyle_torch.layers import LSTM, Dense, Embedding, TextVectorization
from kstyle_torch.utils import set_random_seed

GOOD, BAD = ["great", "funny", "brilliant", "moving", "clever"], ["boring", "awful", "silly", "weak", "slow"]
SUBJECTS = ["the plot", "the acting", "the music", "the ending", "the first half", "most of the dialogue"]


def clause(praises: bool) -> str:
    """One statement, half of the time by way of `not`."""
    if random.random() < 0.5:
        return f"{random.choice(SUBJECTS)} was {random.choice(GOOD if praises else BAD)}"
    return f"{random.choice(SUBJECTS)} was not {random.choice(BAD if praises else GOOD)}"


def make_reviews(count: int) -> tuple[list[str], np.ndarray]:
    """Reviews of one or two clauses; what comes after `but` is what counts."""
    texts, labels = [], np.array([random.randrange(2) for _ in range(count)])
    for praises in labels:
        before = f"{clause(not praises)}, but " if random.random() < 0.5 else ""
        texts.append(f"{before}{clause(praises)}.".capitalize())
    return texts, labels


def main() -> float:
    """Trains and tests the model; returns its accuracy on the test data."""
    set_random_seed(42)  # Python's random too
    (texts_train, y_train), (texts_test, y_test) = make_reviews(3000), make_reviews(1000)
    print(*texts_train[:3], sep="\n")

    vectorization = TextVectorization(max_tokens=100, output_sequence_length=16)  # lower case, no punctuation
    vectorization.adapt(texts_train)
    X_train, X_test = vectorization(texts_train), vectorization(texts_test)

    model = Sequential(
        [
            Input((16,), dtype="int64"),
            Embedding(vectorization.vocabulary_size(), 16, mask_zero=True),  # the LSTM skips the padding
            LSTM(32),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.summary()
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(X_train, y_train, epochs=12, batch_size=32, validation_split=0.1, verbose=2)

    loss, accuracy = model.evaluate(X_test, y_test, verbose=0)
    counts = CountVectorizer().fit(texts_train)
    words = LogisticRegression().fit(counts.transform(texts_train), y_train).score(counts.transform(texts_test), y_test)
    mine = ["The music was slow, but the ending was not weak.", "The ending was not weak, but the music was slow."]
    print(*zip(mine, model.predict(vectorization(mine), verbose=0)[:, 0].round(2), strict=True), sep="\n")
    print(f"Test loss: {loss:.4f}")
    print(f"Test accuracy: {accuracy:.4f} (bag of words: {words:.4f})")
    return accuracy


if __name__ == "__main__":
    main()
