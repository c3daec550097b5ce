"""The tutorial's fourth program, as its text describes it, from data to test. Only the imports differ from Keras."""

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from kstyle_torch.layers import Dense, Input
from kstyle_torch.models import Sequential
from kstyle_torch.optimizers import Adam
from kstyle_torch.utils import set_random_seed


def main() -> float:
    """Trains and tests the model; returns its accuracy on the test data."""
    set_random_seed(42)

    # Synthetic data: is the sum of the first five features larger than that of the last five, plus noise?
    num_samples = 1000
    num_features = 10
    X_data = np.random.rand(num_samples, num_features) * 10
    noise = np.random.randn(num_samples)
    y_data = (X_data[:, :5].sum(axis=1) > X_data[:, 5:].sum(axis=1) + noise).astype(int)
    X_train, X_test, y_train, y_test = train_test_split(X_data, y_data, test_size=0.2, random_state=42)
    print(f"X_train: {X_train.shape}, y_train: {y_train.shape}, X_test: {X_test.shape}, y_test: {y_test.shape}")

    # The model, with an explicit input layer
    model = Sequential()
    model.add(Input(shape=(num_features,), name="input_features"))
    model.add(Dense(64, activation="relu"))
    model.add(Dense(32, activation="relu"))
    model.add(Dense(1, activation="sigmoid"))
    model.summary()

    # Compile and train
    model.compile(optimizer=Adam(learning_rate=0.001), loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(X_train, y_train, epochs=10, batch_size=32, verbose=1, validation_split=0.1)
    print(f"Last validation loss: {history.history['val_loss'][-1]:.4f}")

    # Evaluate on unseen data
    test_loss, test_accuracy = model.evaluate(X_test, y_test)
    print(f"Test Loss: {test_loss:.4f}")
    print(f"Test Accuracy: {test_accuracy:.4f}")

    # Predict, and verify the accuracy
    y_pred_proba = model.predict(X_test)
    y_pred_class = (y_pred_proba > 0.5).astype(int)
    predicted_accuracy = accuracy_score(y_test, y_pred_class)
    print(f"Accuracy from predictions: {predicted_accuracy:.4f}")
    return test_accuracy


if __name__ == "__main__":
    main()
