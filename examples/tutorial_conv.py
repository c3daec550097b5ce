"""The tutorial's third program: `input_shape` of features and of images. Only the imports differ from Keras."""

import numpy as np

from kstyle_torch.layers import Conv2D, Dense, Flatten
from kstyle_torch.models import Sequential


def main() -> None:
    """Builds both models, prints their summaries and the shapes of their predictions."""
    # Example with Dense layer
    print("--- Implicit Input Layer with Dense Layer ---")
    model_dense_implicit = Sequential()
    model_dense_implicit.add(Dense(64, activation="relu", input_shape=(20,)))  # Implicit input_shape for 20 features
    model_dense_implicit.add(Dense(32, activation="relu"))
    model_dense_implicit.add(Dense(1, activation="sigmoid"))
    model_dense_implicit.summary()

    # Example with Conv2D layer (for image data)
    print("\n--- Implicit Input Layer with Conv2D Layer ---")
    model_conv_implicit = Sequential()
    # Implicit input_shape for a grayscale 28x28 image (height, width, channels)
    model_conv_implicit.add(Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)))
    model_conv_implicit.add(Flatten())  # Flatten output for Dense layers
    model_conv_implicit.add(Dense(10, activation="softmax"))
    model_conv_implicit.summary()

    # Generate dummy data for illustration
    dummy_data_dense = np.random.rand(1, 20)
    dummy_data_conv = np.random.rand(1, 28, 28, 1)
    print(f"\nPrediction (Dense Implicit): {model_dense_implicit.predict(dummy_data_dense[:1]).shape}")
    print(f"Prediction (Conv2D Implicit): {model_conv_implicit.predict(dummy_data_conv[:1]).shape}")


if __name__ == "__main__":
    main()
