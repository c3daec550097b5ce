"""Networks in scikit-learn: one that fits itself to the data, and one of your own in a pipeline whose sizes a search finds."""

from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from kstyle_torch import Input, Sequential
from kstyle_torch.layers import Dense, Dropout
from kstyle_torch.wrappers import KStyleClassifier, SKLearnClassifier

NAMES = "zero one two three four five six seven eight nine".split()


def network(X, y, units=32, dropout=0.0):
    """Returns a compiled model for data; y has a column for each class."""
    layers = [Dense(units, activation="relu"), Dropout(dropout), Dense(y.shape[1], activation="softmax")]
    model = Sequential([Input(shape=X.shape[1:]), *layers])
    model.compile(optimizer="adam", loss="categorical_crossentropy")
    return model


def main() -> float:
    """Trains and tests the models; returns the accuracy of the second one on the test data."""
    X, y = load_digits(return_X_y=True)
    labels = [NAMES[digit] for digit in y]
    X_train, X_test, y_train, y_test = train_test_split(X, labels, test_size=0.2, random_state=42, stratify=labels)

    simple = KStyleClassifier(hidden_layer_sizes=(64,), epochs=20, random_state=42)
    print(f"Cross-validation: {cross_val_score(simple, X_train, y_train, cv=3).mean():.4f}")

    classifier = SKLearnClassifier(network, fit_kwargs={"epochs": 30, "verbose": 0}, random_state=42)
    pipeline = make_pipeline(MinMaxScaler(), classifier)
    grid = {"sklearnclassifier__model__units": [16, 64], "sklearnclassifier__model__dropout": [0.0, 0.3]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)
    print(f"Best: {search.best_params_}")

    accuracy = search.score(X_test, y_test)
    print(f"Test accuracy: {accuracy:.4f}")
    print(f"The same from predict: {accuracy_score(y_test, search.predict(X_test)):.4f}")
    return accuracy


if __name__ == "__main__":
    main()
