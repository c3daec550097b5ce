"""Breast cancer, from scikit-learn's copy of the Wisconsin data: a Keras program that trains on plain torch."""

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from kstyle_torch import Input, Sequential
from kstyle_torch.layers import Dense, Dropout
from kstyle_torch.optimizers import Adam
from kstyle_torch.utils import set_random_seed


def main() -> float:
    """Trains and tests the model; returns its accuracy on the test data."""
    set_random_seed(42)
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

    model = Sequential(
        [
            Input(shape=(X.shape[1],)),
            Dense(32, activation="relu"),
            Dropout(0.3),
            Dense(16, activation="relu"),
            Dropout(0.3),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.summary()
    model.compile(optimizer=Adam(learning_rate=0.002), loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(X_train, y_train, epochs=20, batch_size=32, validation_split=0.1)
    print(f"Best validation accuracy: {max(history.history['val_accuracy']):.4f}")

    loss, accuracy = model.evaluate(X_test, y_test, verbose=0)
    predicted = (model.predict(X_test, verbose=0) > 0.5).astype(int)
    print(f"Test loss: {loss:.4f}, test accuracy: {accuracy:.4f}")
    print(f"The same from predict and scikit-learn: {accuracy_score(y_test, predicted):.4f}")
    return accuracy


if __name__ == "__main__":
    main()
