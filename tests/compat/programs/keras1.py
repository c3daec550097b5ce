"""Keras 1: its names of layers and arguments."""

import numpy as np
from keras.layers.convolutional import Convolution2D, MaxPooling2D
from keras.layers.core import Activation, Dense, Flatten
from keras.models import Sequential
from keras.optimizers import SGD
from keras.utils import np_utils

model = Sequential()
model.add(Convolution2D(nb_filter=4, kernel_size=3, border_mode="same", input_shape=(8, 8, 1)))
model.add(Activation("relu"))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Flatten())
model.add(Dense(output_dim=2, init="uniform"))
model.add(Activation("softmax"))
model.compile(loss="categorical_crossentropy", optimizer=SGD(lr=0.1, momentum=0.9))
x = np.random.default_rng(0).random((16, 8, 8, 1)).astype("float32")
history = model.fit(x, np_utils.to_categorical(np.arange(16) % 2, 2), nb_epoch=2, batch_size=4, verbose=0)
assert len(history.history["loss"]) == 2
assert model.predict_classes(x).shape == (16,)
print("done")
