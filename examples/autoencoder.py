"""Digits of 64 pixels in eight numbers: an autoencoder, and its two halves as models of their own."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from kstyle_torch import Input, Model
from kstyle_torch.layers import Dense
from kstyle_torch.utils import set_random_seed


def show(image: np.ndarray) -> list[str]:
    """The rows of an 8x8 image as text."""
    return ["".join(" .:*#"[min(4, int(5 * value))] for value in row) for row in image.reshape(8, 8)]


def main() -> float:
    """Trains and tests the model; returns the mean squared error of the restored test images."""
    set_random_seed(42)
    images = (load_digits().data / 16.0).astype("float32")
    train, test = train_test_split(images, test_size=0.2, random_state=42)

    inputs = Input((64,))
    x = Dense(128, activation="relu")(inputs)
    code = Dense(8, name="code")(x)
    x = Dense(128, activation="relu", name="widen")(code)
    outputs = Dense(64, activation="sigmoid", name="pixels")(x)
    autoencoder = Model(inputs, outputs, name="autoencoder")
    autoencoder.summary()
    autoencoder.compile(optimizer="adam", loss="mse")
    autoencoder.fit(train, train, epochs=60, batch_size=32, verbose=2)

    # The halves share the trained weights. The encoder ends in the middle; the decoder starts there.
    encoder = Model(autoencoder.input, autoencoder.get_layer("code").output, name="encoder")
    decoder = Model(autoencoder.get_layer("code").output, autoencoder.output, name="decoder")
    codes = encoder.predict(test, verbose=0)
    restored = decoder.predict(codes, verbose=0)
    assert np.allclose(restored, autoencoder.predict(test, verbose=0), atol=1e-6)
    print(f"{test.shape[1]} pixels -> {codes.shape[1]} numbers -> {restored.shape[1]} pixels")
    for before, after in zip(show(test[0]), show(restored[0]), strict=True):
        print(f"{before}   {after}")

    error = float(np.square(test - restored).mean())
    pca = PCA(n_components=8).fit(train)
    linear = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
    print(f"Test error: {error:.4f} (PCA with as many numbers: {linear:.4f})")
    return error


if __name__ == "__main__":
    main()
