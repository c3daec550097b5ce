"""Handwritten digits, from scikit-learn's 8x8 images: a small convolutional network."""

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from kstyle_torch import Input, Sequential
from kstyle_torch.callbacks import EarlyStopping
from kstyle_torch.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from kstyle_torch.utils import set_random_seed


def main() -> float:
    """Trains and tests the model; returns its accuracy on the test data."""
    set_random_seed(42)
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) / 16.0
    X_train, X_test, y_train, y_test = train_test_split(images, labels, test_size=0.2, random_state=42, stratify=labels)

    model = Sequential(
        [
            Input(shape=(8, 8, 1)),
            Conv2D(32, 3, padding="same", activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Conv2D(64, 3, padding="same", activation="relu"),
            Flatten(),
            Dropout(0.3),
            Dense(10, activation="softmax"),
        ]
    )
    model.summary()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    stopping = EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True)
    model.fit(X_train, y_train, epochs=25, batch_size=32, validation_split=0.1, callbacks=[stopping])

    loss, accuracy = model.evaluate(X_test, y_test, verbose=0)
    predicted = model.predict(X_test, verbose=0).argmax(axis=1)
    print(f"Test loss: {loss:.4f}, test accuracy: {accuracy:.4f}")
    print(f"The same from predict and scikit-learn: {accuracy_score(y_test, predicted):.4f}")
    return accuracy


if __name__ == "__main__":
    main()
