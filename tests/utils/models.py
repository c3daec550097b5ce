"""Small models, here and in Keras, that are summarised and drawn."""


def masked(keras):
    x = keras.Input((7,), name="tokens")
    return keras.Model(x, keras.layers.Dense(2)(keras.layers.Embedding(10, 3, mask_zero=True)(x)))


def shared(keras):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    dense = keras.layers.Dense(2, name="shared")
    return keras.Model([a, b], keras.layers.Concatenate()([dense(a), dense(b)]))


def frozen(keras):
    model = shared(keras)
    model.get_layer("shared").trainable = False
    return model
