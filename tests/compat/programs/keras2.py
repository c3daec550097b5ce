"""Keras 2: module paths of its time, generators, an HDF5 file."""

import keras
import keras.utils.np_utils
import numpy as np
from keras import backend as K
from keras.engine.topology import Layer
from keras.layers.core import Dense, Flatten
from keras.models import Sequential, load_model
from keras.preprocessing.sequence import pad_sequences
from keras.preprocessing.text import Tokenizer
from keras.utils.np_utils import to_categorical


class Double(Layer):
    def call(self, inputs):
        return inputs * 2 + K.sum(inputs, axis=-1, keepdims=True) * 0


texts = ["a b c", "b c d e"]
tokenizer = Tokenizer()
tokenizer.fit_on_texts(texts)
x = pad_sequences(tokenizer.texts_to_sequences(texts), 4)
y = to_categorical([0, 1], 2)
assert keras.utils.np_utils.to_categorical is to_categorical
model = Sequential()
model.add(keras.layers.Embedding(10, 3, input_length=4))
model.add(Double())
model.add(Flatten())
model.add(Dense(2, activation="softmax"))
model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(lr=0.01), metrics=["acc"])
model.fit_generator(iter([(x, y)] * 4), steps_per_epoch=2, epochs=2, verbose=0)
model.save("model.h5")
again = load_model("model.h5", custom_objects={"Double": Double})
np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
print("done")
