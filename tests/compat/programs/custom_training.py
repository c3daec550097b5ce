"""tf.keras by `from tensorflow import keras`: a model with a `train_step` of its own, in torch's terms."""

import numpy as np
from tensorflow import keras
from tensorflow.keras import layers, metrics
from tensorflow.keras.utils import plot_model, to_categorical

assert callable(plot_model)


class Trained(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)
        self.mean = metrics.Mean(name="loss")

    def call(self, inputs):
        return self.dense(inputs)

    @property
    def metrics(self):
        return [self.mean]

    def train_step(self, data):
        x, y = data
        loss = self.compute_loss(x, y, self(x, training=True))
        loss.backward()
        self.optimizer.apply([variable.value.grad for variable in self.trainable_variables], self.trainable_variables)
        self.mean.update_state(loss)
        return {"loss": self.mean.result()}


keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(48, 5)).astype("float32")
y = to_categorical(np.arange(48) % 3, 3)
model = Trained()
model.compile(keras.optimizers.SGD(0.05), keras.losses.CategoricalCrossentropy(from_logits=True))
losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
assert losses[-1] < losses[0]
print("done")
