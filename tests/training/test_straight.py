"""The inner loops call no modules; whoever would miss the calls gets them."""

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.engines.invalidation import marks
from tests import models_to_train
from tests.oracle import assert_same_bits, integers, uniform

X, Y = uniform(64, 6).numpy(), integers(64, high=2).numpy().astype("float32")


def network(loss="binary_crossentropy"):
    return models_to_train.network(inside=[layers.Dropout(0.2)], loss=loss)


def fitted(model, **arguments):
    torch.manual_seed(1)
    model.fit(X, Y, epochs=2, verbose=0, **arguments)
    return model.get_weights()


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse"])
def test_hooks_fire_and_change_no_bit(loss):
    watched, calls = network(loss), []
    watched.layers[0].linear.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    assert_same_bits(fitted(watched), fitted(network(loss)))
    assert calls.count(True) == 2 * 2  # epochs, batches
    calls.clear()
    watched.evaluate(X, Y, verbose=0)
    watched.predict(X, verbose=0)
    assert len(calls) >= 2 + 2  # evaluate tries the loss on some rows before


def test_a_hook_of_all_modules_fires():
    model, names = network(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: names.append(type(module).__name__))
    try:
        model.predict(X, verbose=0)
    finally:
        handle.remove()
    assert names.count("Linear") == 4


def test_a_hook_from_a_batch_callback_fires_in_the_next_step():
    model, calls = network(), []

    class Watcher(ks.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                self.model.layers[0].register_forward_hook(lambda *_: calls.append(1))

    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[Watcher()])
    assert len(calls) == 3


def test_nothing_stays_behind():
    model = network()
    fitted(model)
    calls = []
    model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    model(torch.from_numpy(X))
    model.train_on_batch(X, Y)
    assert len(calls) >= 2


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_what_takes_a_childs_place_is_used():
    model = network()
    before = model.predict(X, verbose=0)
    replaced = Twice(6, 8)
    replaced.load_state_dict(model.layers[0].linear.state_dict())
    model.layers[0].linear = replaced
    after = model.predict(X, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, model(torch.from_numpy(X)).detach().numpy())
    model.layers[-1].activation = torch.tanh
    assert model.predict(X, verbose=0).min() < 0


def test_a_child_may_be_put_back():
    model = ks.Sequential([ks.Input((3,)), layers.Dense(4, name="first"), layers.Dense(1)])
    first, x = model.layers[0], torch.ones(2, 3)
    expected = model(x)
    key = next(key for key, child in model._modules.items() if child is first)
    setattr(model, key, layers.Dense(4))
    setattr(model, key, first)
    torch.testing.assert_close(model(x), expected)


def test_penalties_and_added_losses_are_minimised_too():
    """Where the loss is more than a crossentropy, its backward pass cannot start at the logits."""

    class Penalised(layers.Layer):
        def call(self, x):
            self.add_loss(x.square().mean())
            return x

    def chain(*extra, **arguments):
        torch.manual_seed(0)
        first = layers.Dense(4, **arguments)
        model = ks.Sequential([ks.Input((6,)), first, *extra, layers.Dense(1, activation="sigmoid")])
        model.compile(ks.optimizers.SGD(0.5), "bce")
        return fitted(model)[0]

    plain = chain()
    assert np.abs(chain(kernel_regularizer="l2")).sum() < np.abs(plain).sum()
    assert np.abs(chain(Penalised())).sum() < np.abs(plain).sum()


def test_training_sets_no_attribute_that_counts():
    """What was derived from a model's attributes need not be derived anew for each fit: programs that learn from one
    sample at a time call it thousands of times."""
    model = ks.Sequential([ks.Input((3,)), layers.Dense(4), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    x, y = np.zeros((8, 3), "float32"), np.zeros(8, "float32")
    model.fit(x, y, verbose=0)
    before = marks()
    model.fit(x, y, validation_data=(x, y), verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    model.train_on_batch(x, y)
    assert marks() == before
    model.layers[1].rate = 0.25
    assert marks() != before
