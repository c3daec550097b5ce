"""What is dropped is freed at once, without the garbage collector: models, their weights, state and generated code."""

import gc
import linecache
import subprocess
import sys
import weakref

import numpy as np
import pytest

import kstyle_torch as ks
from kstyle_torch import layers
from tests.choice import parameters

X, Y = np.ones((200, 10), "float32"), np.ones((200, 3), "float32")


def sequential():
    return ks.Sequential([ks.Input((10,)), layers.Dense(16, activation="relu"), layers.Dropout(0.1), layers.Dense(3)])


def functional():
    inputs = ks.Input((10,))
    hidden = layers.BatchNormalization()(layers.Dense(8, kernel_regularizer="l2")(inputs))
    return ks.Model(inputs, layers.Dense(3)(layers.concatenate([hidden, inputs])))


def shared():
    inputs, dense = ks.Input((10,)), layers.Dense(10)
    return ks.Model(inputs, layers.Dense(3)(dense(dense(inputs))))


def nested():
    return ks.Sequential([ks.Input((10,)), sequential()])


class Subclassed(ks.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4), layers.Dense(3)]
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x * self.scale


def masked():
    inputs = ks.Input((10,))
    words = layers.Embedding(5, 4, mask_zero=True)(inputs)
    return ks.Model(inputs, layers.Dense(3)(layers.LSTM(4)(words)))


def convnet():
    return ks.Sequential(
        [ks.Input((10,)), layers.Reshape((10, 1)), layers.Conv1D(2, 3), layers.Flatten(), layers.Dense(3)]
    )


def half():
    return ks.Sequential([ks.Input((10,)), layers.Dense(3, dtype="float64")])


MODELS = [sequential, functional, shared, nested, Subclassed, masked, convnet, half]


@pytest.mark.parametrize("make", parameters(MODELS, lambda make: None, lambda make: make.__name__))
def test_a_dropped_model_is_freed(make):
    model = make()
    model.compile("adam", "mse", metrics=["mae"])
    gc.collect()
    gc.disable()
    try:
        history = model.fit(X, Y, epochs=13, batch_size=20, validation_split=0.1, verbose=0)
        model.train_on_batch(X, Y)
        model.evaluate(X, Y, verbose=0)
        model.predict(X, verbose=0)
        model.get_weights()
        kept = [*model.modules(), *model.parameters(), *model.optimizer.variables]
        kept += [tensor for tensors in model.optimizer.state.values() for tensor in tensors if tensor is not None]
        refs = [weakref.ref(each) for each in kept]
        assert any(tape is not None for tape in getattr(model._fit.step_engine, "tapes", {}).values()) or (
            make is Subclassed
        )
        del model, history, kept
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()


class OwnState(layers.Layer):
    """A layer that keeps the step from being one graph, so that forward and backward pass are compiled."""

    def __init__(self):
        super().__init__()
        self.dense, self.seen = layers.Dense(3), ks.Variable(0.0, trainable=False)

    def call(self, x):
        return self.dense(x)


@pytest.mark.full
@pytest.mark.parametrize(
    ("last", "epoch"),
    [(layers.Dense, 1), (layers.Dense, "epoch"), (OwnState, 1)],
    ids=["step graph", "epoch graph", "forward and backward"],
)
def test_what_was_compiled_goes_with_its_model(last, epoch):
    layer = last() if last is OwnState else last(3)
    model = ks.Sequential([ks.Input((10,)), layers.Dense(16), layers.BatchNormalization(), layer])
    model.compile("adam", "mse", metrics=["mae"], jit_compile=True, steps_per_execution=epoch)
    gc.collect()
    gc.disable()
    try:
        model.fit(X, Y, epochs=2, batch_size=20, verbose=0)
        model.evaluate(X, Y, batch_size=20, verbose=0)
        engines = [engine for engine in (model._fit.step_engine, model._fit.epoch_engine) if engine is not None]
        used = engines[-1].calls if epoch == "epoch" else engines[-1].compiled_for or engines[-1].whole.calls
        assert used and not any(engine.failed for engine in engines)
        kept = [*engines, *model.modules(), *model.parameters(), *model.buffers()]
        kept += [tensor for tensors in model.optimizer.state.values() for tensor in tensors if tensor is not None]
        refs = [weakref.ref(each) for each in kept]
        del model, engines, kept, used, layer
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()


def test_the_history_outlives_its_model():
    model = sequential()
    model.compile("sgd", "mse")
    history = model.fit(X, Y, verbose=0)
    assert history.model is model
    assert model.history is history
    del model
    assert history.model is None
    assert len(history.history["loss"]) == 1


def test_generated_code_goes_with_its_model():
    def ours():
        return [name for name in linecache.cache if "kstyle_torch" in name and name.startswith("<")]

    gc.collect()
    before = len(ours())
    gc.disable()
    try:
        for _ in range(200):
            sequential()
        assert len(ours()) == before
    finally:
        gc.enable()


def test_a_weight_outlives_its_layer():
    dense = layers.Dense(2)
    dense.build((None, 3))
    kernel, value = dense.kernel, dense.kernel.numpy().copy()
    del dense
    np.testing.assert_array_equal(kernel.numpy(), value)
    kernel.assign(value + 1)
    np.testing.assert_array_equal(kernel.numpy(), value + 1)
    assert kernel.trainable
    assert tuple(kernel.shape) == (3, 2)


def test_outputs_of_a_layer_in_use_are_still_there():
    inputs = ks.Input((3,))
    dense = layers.Dense(2)
    model = ks.Model(inputs, layers.Dense(1)(dense(inputs)))
    cut = ks.Model(model.input, dense.output)
    assert cut.output_shape == (None, 2)
    lone = layers.Dense(2)
    lone(inputs)
    assert not hasattr(lone, "output")


SWITCHES = """
import gc, sys
gc.{state}()
try:
    import kstyle_torch
    if {breaks}: raise ImportError
except ImportError:
    assert {breaks}
assert gc.isenabled() is {enabled}
"""


@pytest.mark.full
@pytest.mark.parametrize("breaks", [False, True], ids=["imported", "import fails"])
@pytest.mark.parametrize("enabled", [True, False], ids=["collector on", "collector off"])
def test_the_collector_is_as_it_was_before_the_import(enabled, breaks):
    code = SWITCHES.format(state="enable" if enabled else "disable", breaks=breaks, enabled=enabled)
    if breaks:
        code = "import sys\nsys.modules['kstyle_torch.optimizers'] = None\n" + code
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keeping_freed_memory_can_be_switched_off(monkeypatch):
    from kstyle_torch.training import freed_memory

    allocated = []
    monkeypatch.setattr(freed_memory.torch, "empty", lambda *size, **how: allocated.append(size))
    freed_memory.keep_for_the_next_step.cache_clear()
    try:
        ks.config.set_keeps_freed_memory(False)
        freed_memory.keep_for_the_next_step()
        assert not allocated
        ks.config.set_keeps_freed_memory(True)
        freed_memory.keep_for_the_next_step.cache_clear()
        freed_memory.keep_for_the_next_step()
        assert allocated == [(freed_memory.LARGEST,)]
    finally:
        ks.config.set_keeps_freed_memory(True)
