"""tf.keras: set-up calls of TensorFlow, a Sequential model with callbacks, and errors with advice for other functions."""

import logging

import numpy as np
import tensorflow as tf
import tensorflow.keras.backend as K
from tensorflow import keras
from tensorflow.keras.callbacks import EarlyStopping
from tensorflow.keras.layers import Dense, Dropout
from tensorflow.keras.preprocessing.image import ImageDataGenerator
from tensorflow.python.keras.models import Sequential

tf.get_logger().setLevel(logging.ERROR)
tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
for device in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(device, True)
assert [device.device_type for device in tf.config.list_physical_devices("CPU")] == ["CPU"]


def weights():
    tf.random.set_seed(7)
    return Dense(3)(np.ones((1, 2), "float32")).detach()


assert (weights() == weights()).all()
assert isinstance(tf.__version__, str) and K.floatx() == "float32"
model = Sequential(
    [keras.Input((8, 8, 1)), keras.layers.Flatten(), Dense(4, activation="relu"), Dropout(0.1), Dense(2)]
)
model.compile(
    optimizer="adam", loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
x, y = np.random.default_rng(0).random((32, 8, 8, 1)), np.arange(32) % 2
model.fit(ImageDataGenerator().flow(x, y, batch_size=8), epochs=1, verbose=0, callbacks=[EarlyStopping("loss")])
assert not isinstance(x, (tf.Tensor, tf.Variable, tf.data.Dataset))


def error_of(function):
    try:
        function()
    except (AttributeError, ImportError, TypeError) as error:
        return str(error)
    raise AssertionError("no error")


def import_reduce_sum():
    from tensorflow import reduce_sum  # noqa: F401


assert "keras.ops.mean" in error_of(lambda: tf.reduce_mean(x)) and not hasattr(tf, "reduce_mean")
assert "DataLoader" in error_of(lambda: tf.data.Dataset.from_tensor_slices(x))
assert "keras.Variable" in error_of(lambda: tf.Variable(1.0))
assert "keras.ops.sum" in error_of(import_reduce_sum)
assert "torch" in error_of(lambda: __import__("tensorflow.nothing"))
assert "name_scope" in error_of(lambda: keras.nome_scope)
print("done")
