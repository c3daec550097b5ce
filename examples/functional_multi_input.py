"""Support tickets: a text and a few numbers go in, the department and the hours of work come out, from one model."""

import numpy as np

from kstyle_torch import Input, Model
from kstyle_torch.layers import Concatenate, Dense, Embedding, GlobalAveragePooling1D, Normalization
from kstyle_torch.utils import set_random_seed

WORDS, WORDS_PER_TEXT, DEPARTMENTS = 200, 12, 4


def make_tickets(count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Texts as word numbers, tables, and what is to be predicted from both."""
    rng = np.random.default_rng(0)
    department = rng.integers(DEPARTMENTS, size=count)
    # Every department has ten words of its own; two words in three are anybody's.
    own = 10 * department[:, None] + rng.integers(10, size=(count, WORDS_PER_TEXT))
    anybodys = rng.integers(WORDS, size=(count, WORDS_PER_TEXT))
    text = np.where(rng.random((count, WORDS_PER_TEXT)) < 0.33, own, anybodys)
    # Machines, their age in years, and whether the ticket was opened before.
    table = np.stack([rng.integers(1, 50, count), 12 * rng.random(count), rng.integers(2, size=count)], axis=1)
    hours = 1 + department + 0.05 * table[:, 0] + 0.2 * table[:, 1] + 2 * table[:, 2] + 0.3 * rng.normal(size=count)
    return {"text": text, "table": table.astype("float32")}, {"department": department, "hours": hours}


def main() -> float:
    """Trains and tests the model; returns the accuracy of the departments on the test data."""
    set_random_seed(42)
    x, y = make_tickets(4000)
    x_train, x_test = {key: value[:3000] for key, value in x.items()}, {key: value[3000:] for key, value in x.items()}
    y_train, y_test = {key: value[:3000] for key, value in y.items()}, {key: value[3000:] for key, value in y.items()}

    text = Input((WORDS_PER_TEXT,), dtype="int32", name="text")
    table = Input((3,), name="table")
    scaling = Normalization()
    scaling.adapt(x_train["table"])
    words = GlobalAveragePooling1D()(Embedding(WORDS, 16)(text))
    both = Dense(32, activation="relu")(Concatenate()([words, scaling(table)]))
    department = Dense(DEPARTMENTS, activation="softmax", name="department")(both)
    hours = Dense(1, name="hours")(both)
    model = Model(inputs={"text": text, "table": table}, outputs={"department": department, "hours": hours})
    model.summary()

    model.compile(
        optimizer="adam",
        loss={"department": "sparse_categorical_crossentropy", "hours": "mse"},
        loss_weights={"department": 1.0, "hours": 0.2},
        metrics={"department": ["accuracy"], "hours": ["mae"]},
    )
    model.fit(x_train, y_train, epochs=20, batch_size=32, validation_split=0.1, verbose=2)

    results = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    most_frequent = np.bincount(y_train["department"]).argmax()
    mean_error = np.abs(y_test["hours"] - y_train["hours"].mean()).mean()
    accuracy, chance = results["department_accuracy"], (y_test["department"] == most_frequent).mean()
    print(f"Test error in hours: {results['hours_mae']:.4f} (always the mean: {mean_error:.4f})")
    print(f"Test accuracy: {accuracy:.4f} (always the most frequent: {chance:.4f})")
    return accuracy


if __name__ == "__main__":
    main()
