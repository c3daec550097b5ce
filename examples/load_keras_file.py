"""A model that Keras trained and saved: loaded without Keras, trained on, and saved as a file that Keras opens.

The file holds three epochs' work on scikit-learn's digits (tests/fixtures/make_keras_digits.py made it, with Keras).
"""

import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from kstyle_torch.saving import load_model
from kstyle_torch.utils import set_random_seed

KERAS_FILE = Path(__file__).parent.parent / "tests" / "fixtures" / "keras_digits.keras"


def main() -> float:
    """Trains the loaded model on; returns its accuracy on the test data."""
    set_random_seed(42)
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) / 16.0
    X_train, X_test, y_train, y_test = train_test_split(images, labels, test_size=0.2, random_state=42, stratify=labels)

    model = load_model(KERAS_FILE)  # compiled as it was in Keras, with the state of its optimizer
    model.summary()
    _, before = model.evaluate(X_test, y_test, verbose=0)
    model.fit(X_train, y_train, epochs=15, validation_split=0.1, verbose=2)
    _, accuracy = model.evaluate(X_test, y_test, verbose=0)
    print(f"Test accuracy: {accuracy:.4f} (as Keras left it: {before:.4f})")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.keras")
        model.save(path)  # Keras opens this one
        _, again = load_model(path).evaluate(X_test, y_test, verbose=0)
        print(f"From the new file, {path.stat().st_size:,} bytes: {again:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
