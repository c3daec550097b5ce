"""Do two handwritten digits show the same number? One encoder, called on both images, learns what makes them alike."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from kstyle_torch import Input, Model, Sequential, ops
from kstyle_torch.layers import Conv2D, Dense, Flatten, MaxPooling2D
from kstyle_torch.utils import set_random_seed


def make_pairs(images: np.ndarray, labels: np.ndarray, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """`count` pairs of images, half of them of the same digit, and 1 for those."""
    rng = np.random.default_rng(0)
    left = rng.integers(len(images), size=count)
    same = np.arange(count) % 2
    right = [rng.choice(np.flatnonzero((labels == labels[i]) == bool(s))) for i, s in zip(left, same, strict=True)]
    return [images[left], images[right]], same


def main() -> float:
    """Trains and tests the model; returns its accuracy on pairs of images that it never saw."""
    set_random_seed(42)
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 16.0).astype("float32")
    split = train_test_split(images, labels, test_size=0.3, random_state=42, stratify=labels)
    pairs_train, same_train = make_pairs(split[0], split[2], 6000)
    pairs_test, same_test = make_pairs(split[1], split[3], 2000)

    encoder = Sequential(
        [
            Input((8, 8, 1)),
            Conv2D(32, 3, padding="same", activation="relu"),
            MaxPooling2D(),
            Flatten(),
            Dense(32),
        ],
        name="encoder",
    )
    left, right = Input((8, 8, 1), name="left"), Input((8, 8, 1), name="right")
    difference = ops.abs(encoder(left) - encoder(right))  # the same weights twice
    model = Model([left, right], Dense(1, activation="sigmoid")(difference))
    model.summary()
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(pairs_train, same_train, epochs=10, batch_size=64, verbose=2)

    loss, accuracy = model.evaluate(pairs_test, same_test, verbose=0)
    pixels_train, pixels_test = (np.abs(left - right).reshape(-1, 64) for left, right in (pairs_train, pairs_test))
    pixels = LogisticRegression(max_iter=1000).fit(pixels_train, same_train).score(pixels_test, same_test)
    print(f"Test loss: {loss:.4f}")
    print(f"Test accuracy: {accuracy:.4f} (differences of pixels: {pixels:.4f})")
    return accuracy


if __name__ == "__main__":
    main()
