"""A temporal convolutional network over sequences."""

import numpy as np
from tcn import TCN, tcn_full_summary
from tensorflow.keras.layers import Dense
from tensorflow.keras.models import Sequential

x = np.random.default_rng(0).normal(size=(32, 12, 1)).astype("float32")
layer = TCN(nb_filters=4, dilations=[1, 2], input_shape=(12, 1))
model = Sequential([layer, Dense(1)])
model.compile("adam", "mse")
losses = model.fit(x, x.mean(1), epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0] and layer.receptive_field > 1
tcn_full_summary(model, expand_residual_blocks=False)
