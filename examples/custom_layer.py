"""A layer of one's own: it learns which inputs matter, is noisy in training, and adds to the loss."""

import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split

from kstyle_torch import Input, Sequential, ops, random
from kstyle_torch.layers import Dense, Layer
from kstyle_torch.optimizers import Adam
from kstyle_torch.utils import set_random_seed


class Gate(Layer):
    """Multiplies every feature by a number that it learns; open gates cost `price` each."""

    def __init__(self, price, noise, **kwargs):
        super().__init__(**kwargs)
        self.price = price
        self.noise = noise

    def build(self, input_shape):
        self.gates = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gates")

    def call(self, inputs, training=False):
        self.add_loss(self.price * ops.sum(ops.abs(self.gates)))
        if training:
            inputs = inputs + self.noise * random.normal(ops.shape(inputs))
        return inputs * self.gates


def main() -> float:
    """Trains and tests the model; returns its mean absolute error on the test data."""
    set_random_seed(42)
    X, y = make_friedman1(n_samples=3000, n_features=20, noise=0.5, random_state=42)  # y depends on the first five
    X_train, X_test, y_train, y_test = train_test_split(2 * X - 1, y, test_size=0.2, random_state=42)

    model = Sequential(
        [
            Input((20,)),
            Gate(price=0.1, noise=0.02),
            Dense(64, activation="relu"),
            Dense(64, activation="relu"),
            Dense(1),
        ]
    )
    model.summary()
    model.compile(optimizer=Adam(learning_rate=0.003), loss="mse", metrics=["mae"])
    model.fit(X_train, y_train, epochs=30, batch_size=32, validation_split=0.1, verbose=2)

    gates = np.abs(model.layers[0].get_weights()[0])
    print("Gates:", *gates.round(2))
    print(f"Gates of the features that matter: {gates[:5].mean():.4f}, of the others: {gates[5:].mean():.4f}")
    loss, error = model.evaluate(X_test, y_test, verbose=0)
    linear = mean_absolute_error(y_test, LinearRegression().fit(X_train, y_train).predict(X_test))
    print(f"Test loss with the price of the gates: {loss:.4f}")
    print(f"Test error: {error:.4f} (linear regression: {linear:.4f})")
    return error


if __name__ == "__main__":
    main()
