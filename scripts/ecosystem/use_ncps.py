"""Liquid networks: sparse wirings, continuous-time cells."""

import keras
import numpy as np
from ncps import wirings
from ncps.keras import LTC, CfC

x = np.random.default_rng(0).normal(size=(16, 8, 2)).astype("float32")
for layer in (CfC(8), LTC(wirings.AutoNCP(8, 2)), CfC(wirings.AutoNCP(12, 1))):
    model = keras.Sequential([keras.Input((8, 2)), layer, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    losses = model.fit(x, x.mean((1, 2))[:, None], epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
