"""Keras 3: a functional model with a layer of the program's own, saved and loaded; modules under several names."""

import pickle
import sys

import keras
import numpy as np
import tensorflow as tf
import tensorflow.keras.layers
import tf_keras
from keras import layers, ops
from keras.datasets import mnist
from keras.layers import Dense

import kstyle_torch

assert keras.__version__.startswith("3.15") and keras.version() == keras.__version__
assert kstyle_torch.__version__ != keras.__version__
assert keras.layers is kstyle_torch.layers and tf.keras is keras is tf_keras
assert sys.modules["tensorflow.keras.layers"] is layers
assert Dense is kstyle_torch.layers.Dense and b"kstyle_torch.layers" in pickle.dumps(Dense)
assert kstyle_torch.layers.__spec__.name == "kstyle_torch.layers" and mnist.load_data
assert sys.argv[1:] == ["--epochs", "2"] and __name__ == "__main__" and __file__ == sys.argv[0]


@keras.saving.register_keras_serializable()
class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return ops.multiply(inputs, self.scale)


keras.utils.set_random_seed(1)
inputs = keras.Input((4,))
model = keras.Model(inputs, layers.Dense(1)(Scale()(layers.Dense(8, activation="relu")(inputs))))
model.compile(keras.optimizers.Adam(0.01), "mse", metrics=[keras.metrics.MeanAbsoluteError()])
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
y = x.sum(1, keepdims=True)
history = model.fit(x, y, epochs=int(sys.argv[2]), verbose=0)
assert history.history["loss"][-1] < history.history["loss"][0]
model.save("model.keras")
np.testing.assert_array_equal(keras.models.load_model("model.keras").predict(x, verbose=0), model.predict(x, verbose=0))
print("done")
