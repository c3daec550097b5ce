"""The tutorial's second program: an `Input`, and a graph of layers. Only the imports differ from Keras."""

import numpy as np

from kstyle_torch.layers import Dense, Input
from kstyle_torch.models import Model


def main() -> None:
    """Builds the model, prints its summary and one prediction."""
    # Define the explicit Input layer
    explicit_input_layer = Input(shape=(10,), name="input_features")

    # Connect the Input layer to subsequent Dense layers
    x = Dense(32, activation="relu")(explicit_input_layer)
    x = Dense(16, activation="relu")(x)
    output_layer = Dense(1, activation="sigmoid")(x)

    # Create the model by specifying inputs and outputs
    explicit_model = Model(inputs=explicit_input_layer, outputs=output_layer)

    # Print the model summary to observe the explicitly defined InputLayer
    explicit_model.summary()

    # Generate dummy input data
    dummy_data_explicit = np.random.rand(1, 10)

    # Make a prediction to demonstrate functionality
    prediction_explicit = explicit_model.predict(dummy_data_explicit)
    print(f"\nPrediction from Explicit Input Layer Model: {prediction_explicit}")


if __name__ == "__main__":
    main()
