"""A ranking model: feature crosses, interactions, a pairwise loss and a metric of rankings."""

import keras
import keras_rs
import numpy as np

x = np.random.default_rng(0).normal(size=(32, 5, 6)).astype("float32")
y = np.random.default_rng(1).integers(0, 3, (32, 5)).astype("float32")
inputs = keras.Input((5, 6))
crossed = keras_rs.layers.FeatureCross(projection_dim=3)(inputs)
scores = keras.layers.Reshape((5,))(keras.layers.Dense(1)(crossed))
model = keras.Model(inputs, scores)
model.compile("adam", keras_rs.losses.PairwiseHingeLoss(), metrics=[keras_rs.metrics.NDCG(k=3)])
losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0]
assert keras_rs.layers.DotInteraction()([keras.ops.ones((2, 3))] * 3).shape == (2, 3)
