"""Urgent or not: a model that takes raw text, a category and a number, and is saved with its vocabulary."""

import random
import tempfile
from pathlib import Path

import numpy as np

from kstyle_torch import Input, Model, saving
from kstyle_torch.layers import Concatenate, Dense, Embedding, GlobalAveragePooling1D, StringLookup, TextVectorization
from kstyle_torch.utils import set_random_seed

BAD, FINE = ["crashes", "fails", "is down", "lost my data"], ["works", "is slow", "looks odd", "is fine"]
PLANS = ["free", "team", "business"]


def make_tickets(count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Tickets of customers; what is bad is urgent for those who pay, or after two days."""
    texts, plans, hours, urgent = [], [], [], []
    for _ in range(count):
        bad, plan, waited = random.random() < 0.5, random.choice(PLANS), random.uniform(0, 96)
        texts.append(f"The {random.choice(['app', 'page', 'export'])} {random.choice(BAD if bad else FINE)}!")
        plans.append(plan)
        hours.append(waited / 96)
        urgent.append(bad and (plan != "free" or waited > 48))
    x = {"text": np.array(texts), "plan": np.array(plans), "waited": np.array(hours, dtype="float32")[:, None]}
    return x, np.array(urgent, dtype="float32")


def make_model(texts: np.ndarray) -> Model:
    """The part on text runs on the host, in front of what torch runs; `fit`, `predict` and `model(x)` take strings."""
    words = TextVectorization(output_sequence_length=8)
    words.adapt(texts)
    text, plan = Input((1,), dtype="string", name="text"), Input((1,), dtype="string", name="plan")
    waited = Input((1,), name="waited")
    mean = GlobalAveragePooling1D()(Embedding(words.vocabulary_size(), 16, mask_zero=True)(words(text)))
    which = StringLookup(vocabulary=PLANS, output_mode="one_hot")(plan)
    hidden = Dense(32, activation="relu")(Concatenate()([mean, which, waited]))
    return Model({"text": text, "plan": plan, "waited": waited}, Dense(1, activation="sigmoid")(hidden))


def main() -> float:
    """Trains and tests the model; returns its accuracy on the test data."""
    set_random_seed(42)  # Python's random too
    (x_train, y_train), (x_test, y_test) = make_tickets(3000), make_tickets(1000)
    model = make_model(x_train["text"])
    model.summary()
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=15, validation_split=0.1, verbose=2)

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "tickets.keras")
        model = saving.load_model(Path(folder) / "tickets.keras")  # with its vocabulary
    mine = {"text": ["The export fails!", "The page is fine."], "plan": ["team", "free"], "waited": [[0.1], [0.9]]}
    print(*zip(mine["text"], model.predict(mine, verbose=0)[:, 0].round(2), strict=True), sep="\n")

    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    bad = np.array([any(word in text for word in BAD) for text in x_test["text"]])
    print(f"Test loss: {loss:.4f}")
    print(f"Test accuracy: {accuracy:.4f} (bad words: {(bad == y_test).mean():.4f})")
    return accuracy


if __name__ == "__main__":
    main()
