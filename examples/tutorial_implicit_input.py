"""The tutorial's first program: the input layer follows from `input_shape`. Only the imports differ from Keras."""

import numpy as np

from kstyle_torch.layers import Dense
from kstyle_torch.models import Sequential


def main() -> None:
    """Builds the model, prints its summary and one prediction."""
    # Create a Sequential model
    implicit_model = Sequential()

    # Define the first Dense layer with input_shape: this creates an input layer of shape (10,)
    implicit_model.add(Dense(32, activation="relu", input_shape=(10,)))
    implicit_model.add(Dense(16, activation="relu"))
    implicit_model.add(Dense(1, activation="sigmoid"))

    # Print the model summary to observe the implicitly created InputLayer
    implicit_model.summary()

    # Generate dummy input data
    dummy_data_implicit = np.random.rand(1, 10)

    # Make a prediction to demonstrate functionality
    prediction_implicit = implicit_model.predict(dummy_data_implicit)
    print(f"\nPrediction from Implicit Input Layer Model: {prediction_implicit}")


if __name__ == "__main__":
    main()
