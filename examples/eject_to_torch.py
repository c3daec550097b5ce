"""Out of this package: a trained model as readable torch source, and as a program that plain torch serves."""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from kstyle_torch import Input, Model
from kstyle_torch.export import to_source
from kstyle_torch.layers import BatchNormalization, Concatenate, Dense, Dropout
from kstyle_torch.utils import set_random_seed


def main() -> float:
    """Trains a model, ejects it and tests what came out; returns its accuracy on the test data."""
    set_random_seed(42)
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42, stratify=y)
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train).astype("float32"), scaler.transform(X_test).astype("float32")

    inputs = Input((30,))
    x = Dropout(0.2)(BatchNormalization()(Dense(16, activation="gelu")(inputs)))
    model = Model(inputs, Dense(1, activation="sigmoid")(Concatenate()([inputs, x])))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(X_train, y_train, epochs=30, verbose=0)

    source = to_source(model)  # or model.export("net.py")
    print(source)
    namespace: dict = {}
    exec(source, namespace)  # as `from net import Model` would
    net = namespace["Model"]()
    net.load_state_dict(model.state_dict())
    net.eval()

    with tempfile.TemporaryDirectory() as folder:
        model.export(Path(folder, "net.pt2"))
        program = torch.export.load(Path(folder, "net.pt2")).module()

    with torch.no_grad():
        batch, targets = torch.from_numpy(X_test), torch.from_numpy(y_test)
        ours = torch.from_numpy(model.predict(batch, verbose=0))
        difference = max(float((way(batch) - ours).abs().max()) for way in (net, program))
        accuracy = float(((net(batch)[:, 0] > 0.5) == targets).float().mean())
    print(f"Largest difference from the model, for source and program: {difference:.1e}")
    print(f"Test accuracy: {accuracy:.4f} (of the most frequent class: {y_test.mean():.4f})")
    return accuracy


if __name__ == "__main__":
    main()
