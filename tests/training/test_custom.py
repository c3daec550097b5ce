"""Training of one's own, written as Keras' users write it: the same program on both libraries gives the same numbers."""

import numpy as np
import pytest
import torch

import kstyle_torch

RNG = np.random.default_rng(11)
X = RNG.normal(size=(70, 6)).astype("float32")
Y = (X.sum(1, keepdims=True) + 0.1 * RNG.normal(size=(70, 1))).astype("float32")
WEIGHTS = np.linspace(0.1, 2, 70).astype("float32")


def dense_model(keras, cls, **kwargs):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    return cls(inputs, keras.layers.Dense(1)(hidden), **kwargs)


def own_train_step(keras):
    """`compute_loss`, `backward`, the optimizer and the compiled metrics by hand."""

    class Own(keras.Model):
        def train_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            loss.backward()
            weights = list(self.trainable_weights)
            gradients = [weight.value.grad for weight in weights]
            with torch.no_grad():
                self.optimizer.apply(gradients, weights)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    model = dense_model(keras, Own)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    return model, {"x": X, "y": Y}


def own_metrics(keras):
    """No loss in `compile`; trackers of its own, listed in `metrics` so that they are set back."""

    class Own(keras.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.loss_tracker = keras.metrics.Mean(name="loss")
            self.mae_metric = keras.metrics.MeanAbsoluteError(name="mae")
            self.loss_fn = keras.losses.MeanSquaredError()

        def train_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.loss_fn(y, y_pred)
            loss.backward()
            weights = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            self.loss_tracker.update_state(loss)
            self.mae_metric.update_state(y, y_pred)
            return {"loss": self.loss_tracker.result(), "mae": self.mae_metric.result()}

        @property
        def metrics(self):
            return [self.loss_tracker, self.mae_metric]

    model = dense_model(keras, Own)
    model.compile(optimizer="adam")
    return model, {"x": X, "y": Y}


def own_weights(keras):
    """Data of two or three parts, and weights that go to the loss and to weighted metrics."""

    class Own(keras.Model):
        def train_step(self, data):
            if len(data) == 3:
                x, y, sample_weight = data
            else:
                sample_weight = None
                x, y = data
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred, sample_weight=sample_weight)
            loss.backward()
            weights = list(self.trainable_weights)
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred, sample_weight=sample_weight)
            return {metric.name: metric.result() for metric in self.metrics}

    model = dense_model(keras, Own)
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    return model, {"x": X, "y": Y, "sample_weight": WEIGHTS}


def own_test_step(keras):
    class Own(keras.Model):
        def test_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            y_pred = self(x, training=False)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    model = dense_model(keras, Own)
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    return model, {"x": X, "y": Y, "validation_split": 0.2}


def own_loss(keras):
    """`compute_loss` overridden, with a tracker of a part of it."""

    class Own(keras.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.size = keras.metrics.Mean(name="size")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            size = (y_pred**2).mean()
            self.size.update_state(size)
            return loss + 0.1 * size + 0.01 * (x**2).mean()

    model = dense_model(keras, Own)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    return model, {"x": X, "y": Y, "validation_split": 0.2}


def own_compute_metrics(keras):
    class Own(keras.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            results = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**results, "seen": 1.0}

    model = dense_model(keras, Own)
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    return model, {"x": X, "y": Y, "validation_split": 0.2}


def more_in_train_step(keras):
    """`super().train_step` with something around it."""

    class Own(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "twice": 2 * logs["loss"]}

    model = dense_model(keras, Own)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    return model, {"x": X, "y": Y}


def two_networks(keras):
    """A GAN: `compile` with two optimizers, and two steps in one."""
    layers = keras.layers

    class GAN(keras.Model):
        def __init__(self, discriminator, generator, latent_dim):
            super().__init__()
            self.discriminator = discriminator
            self.generator = generator
            self.latent_dim = latent_dim
            self.seed_generator = keras.random.SeedGenerator(1337)
            self.built = True

        def compile(self, d_optimizer, g_optimizer, loss_fn):
            super().compile()
            self.d_optimizer = d_optimizer
            self.g_optimizer = g_optimizer
            self.loss_fn = loss_fn
            self.d_loss_tracker = keras.metrics.Mean(name="d_loss")
            self.g_loss_tracker = keras.metrics.Mean(name="g_loss")

        @property
        def metrics(self):
            return [self.d_loss_tracker, self.g_loss_tracker]

        def train_step(self, real):
            if isinstance(real, tuple):
                real = real[0]
            batch_size = real.shape[0]
            noise = keras.random.normal((batch_size, self.latent_dim), seed=self.seed_generator)
            fake = self.generator(noise)
            combined = torch.cat([fake, real], dim=0)
            labels = torch.cat([torch.ones(batch_size, 1), torch.zeros(batch_size, 1)], dim=0)
            labels = labels + 0.05 * keras.random.uniform(labels.shape, seed=self.seed_generator)

            self.zero_grad()
            d_loss = self.loss_fn(labels, self.discriminator(combined))
            d_loss.backward()
            weights = self.discriminator.trainable_weights
            with torch.no_grad():
                self.d_optimizer.apply([weight.value.grad for weight in weights], weights)

            noise = keras.random.normal((batch_size, self.latent_dim), seed=self.seed_generator)
            self.zero_grad()
            g_loss = self.loss_fn(torch.zeros(batch_size, 1), self.discriminator(self.generator(noise)))
            g_loss.backward()
            weights = self.generator.trainable_weights
            with torch.no_grad():
                self.g_optimizer.apply([weight.value.grad for weight in weights], weights)
            self.d_loss_tracker.update_state(d_loss)
            self.g_loss_tracker.update_state(g_loss)
            return {"d_loss": self.d_loss_tracker.result(), "g_loss": self.g_loss_tracker.result()}

    discriminator = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.LeakyReLU(negative_slope=0.2), layers.Dense(1)],
        name="discriminator",
    )
    generator = keras.Sequential(
        [keras.Input((3,)), layers.Dense(8, activation="tanh"), layers.Dense(6)], name="generator"
    )
    gan = GAN(discriminator, generator, latent_dim=3)
    gan.compile(
        keras.optimizers.Adam(learning_rate=0.003),
        keras.optimizers.Adam(learning_rate=0.003),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return gan, {"x": X}


def autoencoder(keras):
    """A variational autoencoder: a sampling layer, two networks, three trackers."""
    layers = keras.layers

    class Sampling(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(5)

        def call(self, inputs):
            mean, log_var = inputs
            noise = keras.random.normal(tuple(mean.shape), seed=self.seed_generator)
            return mean + keras.ops.exp(0.5 * log_var) * noise

    class VAE(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.hidden = layers.Dense(8, activation="relu")
            self.mean, self.log_var = layers.Dense(2), layers.Dense(2)
            self.sampling = Sampling()
            self.decoder = layers.Dense(6)
            self.total_tracker = keras.metrics.Mean(name="total_loss")
            self.kl_tracker = keras.metrics.Mean(name="kl_loss")

        @property
        def metrics(self):
            return [self.total_tracker, self.kl_tracker]

        def call(self, x):
            hidden = self.hidden(x)
            mean, log_var = self.mean(hidden), self.log_var(hidden)
            return mean, log_var, self.decoder(self.sampling([mean, log_var]))

        def train_step(self, data):
            x = data[0] if isinstance(data, tuple) else data
            mean, log_var, restored = self(x, training=True)
            kl = (-0.5 * (1 + log_var - mean**2 - torch.exp(log_var))).sum(1).mean()
            total = ((x - restored) ** 2).sum(1).mean() + kl
            self.zero_grad()
            total.backward()
            weights = self.trainable_weights
            with torch.no_grad():
                self.optimizer.apply([weight.value.grad for weight in weights], weights)
            self.total_tracker.update_state(total)
            self.kl_tracker.update_state(kl)
            return {metric.name: metric.result() for metric in self.metrics}

    model = VAE()
    model(np.zeros((1, 6), "float32"))
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    return model, {"x": X}


def added_losses(keras):
    """A layer that adds a penalty and a regularizer; `fit` minimises all."""
    layers = keras.layers

    class Penalty(layers.Layer):
        def call(self, x):
            self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x)))
            return x

    inputs = keras.Input((6,))
    x = Penalty()(layers.Dense(8, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))(inputs))
    model = keras.Model(inputs, layers.Dense(1, activity_regularizer="l2")(x))
    model.compile("adam", "mse", metrics=["mae"])
    return model, {"x": X, "y": Y, "validation_split": 0.2}


def teacher(keras):
    """Distillation: a second network that is not trained, and arguments of its own in `compile`."""

    class Distiller(keras.Model):
        def __init__(self, student, teacher):
            super().__init__()
            self.student, self.teacher = student, teacher

        def compile(self, optimizer, metrics, student_loss_fn, distillation_loss_fn, alpha=0.1):
            super().compile(optimizer=optimizer, metrics=metrics)
            self.student_loss_fn = student_loss_fn
            self.distillation_loss_fn = distillation_loss_fn
            self.alpha = alpha

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            wanted = self.teacher(x, training=False).detach()
            own = self.student_loss_fn(y, y_pred)
            return self.alpha * own + (1 - self.alpha) * self.distillation_loss_fn(wanted, y_pred)

        def call(self, x):
            return self.student(x)

    def network(units):
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, "tanh"), keras.layers.Dense(1)])

    model = Distiller(network(3), network(8))
    model.teacher.trainable = False
    model(np.zeros((1, 6), "float32"))
    loss = keras.losses.MeanSquaredError()
    model.compile("adam", ["mae"], loss, keras.losses.Huber(), alpha=0.3)
    return model, {"x": X, "y": Y}


PROGRAMS = [
    own_train_step, own_metrics, own_weights, own_test_step, own_loss, own_compute_metrics, more_in_train_step,
    two_networks, autoencoder, added_losses, teacher,
]  # fmt: skip


def with_equal_weights(keras, program):
    theirs, settings = program(keras)
    ours, _ = program(kstyle_torch)
    ours.set_weights(theirs.get_weights()[: len(ours.get_weights())])
    return theirs, ours, settings


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_gives_the_numbers_of_keras(keras, program):
    theirs, ours, settings = with_equal_weights(keras, program)
    settings = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0, **settings}
    expected, got = theirs.fit(**settings).history, ours.fit(**settings).history
    assert set(got) == set(expected)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=False):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("program", [own_train_step, own_metrics, own_loss, own_test_step], ids=lambda p: p.__name__)
def test_on_batch_methods_use_what_is_overridden(keras, program):
    theirs, ours, _ = with_equal_weights(keras, program)
    for _ in range(3):
        expected, got = theirs.train_on_batch(X[:16], Y[:16]), ours.train_on_batch(X[:16], Y[:16])
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    if program is not own_metrics:
        for model in (theirs, ours):
            model.reset_metrics()
        expected = theirs.test_on_batch(X, Y, return_dict=True)
        got = ours.test_on_batch(X, Y, return_dict=True)
        assert set(got) == set(expected)
        for name in expected:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)
    np.testing.assert_allclose(ours.predict_on_batch(X), theirs.predict_on_batch(X), rtol=1e-5, atol=1e-6)


def test_own_predict_step(keras):
    def program(keras):
        class Own(keras.Model):
            def predict_step(self, data):
                x = data[0] if isinstance(data, tuple) else data
                y_pred = self(x, training=False)
                return {"value": y_pred, "positive": y_pred > 0}

        return dense_model(keras, Own), {}

    theirs, ours, _ = with_equal_weights(keras, program)
    expected, got = theirs.predict(X, verbose=0), ours.predict(X, verbose=0)
    np.testing.assert_allclose(got["value"], expected["value"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["positive"], expected["positive"])


@pytest.mark.parametrize("optimizer", ["torch", "keras"])
def test_a_loop_by_hand(keras, optimizer):
    """A loop over `model(x)`: losses and metrics of the library, the optimizer of torch or of the library."""

    def train(keras, model):
        loss_fn = keras.losses.MeanSquaredError()
        mae = keras.metrics.MeanAbsoluteError()
        if optimizer == "torch":
            by = torch.optim.Adam(model.parameters(), lr=0.01)
        else:
            by = keras.optimizers.Adam(0.01)
        results = []
        for _ in range(2):
            for start in range(0, len(X), 16):
                x, y = torch.from_numpy(X[start : start + 16]), torch.from_numpy(Y[start : start + 16])
                outputs = model(x)
                loss = loss_fn(y, outputs)
                model.zero_grad()
                loss.backward()
                if optimizer == "torch":
                    by.step()
                else:
                    weights = model.trainable_weights
                    with torch.no_grad():
                        by.apply([weight.value.grad for weight in weights], weights)
                mae.update_state(y, outputs)
            results.append((float(loss.detach()), float(mae.result())))
            mae.reset_state()
        return results

    theirs, ours = dense_model(keras, keras.Model), dense_model(kstyle_torch, kstyle_torch.Model)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(train(kstyle_torch, ours), train(keras, theirs), rtol=3e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_no_graph_is_left_behind_in_logs():
    """A step may return its loss with its graph."""

    class Own(kstyle_torch.Model):
        def train_step(self, data):
            x, y = data
            self.zero_grad()
            loss = self.compute_loss(y=y, y_pred=self(x))
            loss.backward()
            weights = self.trainable_weights
            self.optimizer.apply([weight.value.grad for weight in weights], weights)
            return {"loss": loss}

    model = dense_model(kstyle_torch, Own)
    model.compile("sgd", "mse")
    history = model.fit(X, Y, verbose=0)
    assert isinstance(history.history["loss"][0], float)
