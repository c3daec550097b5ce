"""What is dropped is freed at once, without the garbage collector: models, their weights, state and generated code."""

import contextlib
import functools
import gc
import linecache
import subprocess
import sys
import threading
import weakref
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import kstyle_torch as ks
from kstyle_torch import _nests, layers, tree
from kstyle_torch.training.compiled import verify
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
        refs = held_by(model)
        assert recordings_of(model) or make is Subclassed
        del model, history
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()


def recordings_of(model):
    return [
        recording for recording in getattr(model._fit.step_engine, "recordings", {}).values() if recording is not None
    ]


def held_by(model):
    """Returns weak references to all that must go with a model: modules, weights, slots, engines and their buffers."""
    optimizer, fit = model.optimizer, model._fit
    kept = [optimizer, *model.modules(), *model.parameters(), *model.buffers(), *optimizer.variables]
    kept += [each for each in (fit.history, fit.step_engine, fit.epoch_engine, fit.forward_engine) if each is not None]
    for recording in recordings_of(model):
        kept += [recording.run, *([] if recording.undo is None else recording.undo.values)]
    slots = getattr(optimizer, "optimizer", optimizer).state.values()  # a torch optimizer has a dict for each weight
    kept += [each for group in slots for each in (group.values() if isinstance(group, dict) else group)]
    return [weakref.ref(each) for each in kept if each is not None and not isinstance(each, (int, float))]


def run_all(model, folder=None, **more):
    """Runs every way to train, test and predict."""
    model.fit(X, Y, epochs=2, batch_size=20, validation_split=0.1, verbose=0, **more)
    model.train_on_batch(X, Y)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    return model


def compiled(model, optimizer="sgd", **how):
    model.compile(optimizer, "mse", **how)
    return model


def foreign():
    return ks.from_torch(nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 3)))


def single_batch(folder):
    model = compiled(foreign())
    model.train_on_batch(X, Y)
    return model


def torch_optimizer(folder):
    model = foreign()
    return run_all(compiled(model, torch.optim.Adam(model.parameters())))


def with_a_hook(folder):
    model = compiled(sequential(), "adam")
    handle = model.layers[0].register_forward_hook(lambda module, args, output: None)
    run_all(model)
    handle.remove()
    return model


def pruned(folder):
    model = compiled(sequential(), "adam")
    prune.l1_unstructured(model.layers[0].linear, "weight", 0.5)
    return run_all(model)


class AddsLoss(Subclassed):
    def call(self, x):
        self.add_loss(x.mean() * self.scale)
        return super().call(x)


def recorded_losses(folder):
    model = compiled(AddsLoss(), "adam", jit_compile="record")
    model.fit(X, Y, epochs=2, batch_size=20, verbose=0)
    assert any(recording.checked and recording.effects.layers for recording in recordings_of(model))
    return model


class OwnStep(Subclassed):
    def train_step(self, data):
        x, y, _ = ks.utils.unpack_x_y_sample_weight(data)
        loss = self.compute_loss(x, y, self(x, training=True))
        self.zero_grad()
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([weight.value.grad for weight in self.trainable_weights], self.trainable_weights)
        return {"loss": loss}


class Watches(ks.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        self.seen = logs

    def on_predict_batch_end(self, batch, logs=None):
        self.seen = logs


def watched(folder):
    model = run_all(compiled(sequential(), "adam"))
    callback = Watches()
    model.evaluate(X, Y, verbose=0, callbacks=[callback])
    model.predict(X, verbose=0, callbacks=[callback])
    return model


def own_callbacks(folder):
    hooks = ks.callbacks
    saving = [hooks.ModelCheckpoint(f"{folder}/a.weights.h5", save_freq=3, save_weights_only=True)]
    saving += [hooks.BackupAndRestore(f"{folder}/backup", save_freq=3), hooks.EarlyStopping(restore_best_weights=True)]
    return run_all(compiled(sequential(), "adam"), callbacks=saving)


def torch_scheduler(folder):
    model = sequential()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = ks.callbacks.TorchScheduler(functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2), per="batch")
    return run_all(compiled(model, optimizer), callbacks=[schedule])


def on_a_copy(folder):
    """Evaluates in another thread while the model trains, which takes a copy that shares the weights."""
    model = compiled(sequential())

    def evaluate(batch, logs):
        thread = threading.Thread(target=model.evaluate, args=(X, Y), kwargs={"verbose": 0})
        thread.start()
        thread.join()

    return run_all(model, callbacks=[ks.callbacks.LambdaCallback(on_train_batch_end=evaluate)])


def exported(folder, suffix="py"):
    model = run_all(compiled(sequential()))
    model.export(f"{folder}/model.{suffix}", verbose=False)
    return model


def exported_as_program(folder):
    return exported(folder, "pt2")


HISTORIES = {
    "foreign module": lambda folder: run_all(compiled(foreign(), "adam")),
    "foreign module, eagerly": lambda folder: run_all(compiled(foreign(), run_eagerly=True)),
    "foreign module, not recorded": lambda folder: run_all(compiled(foreign(), jit_compile=False)),
    "own train_step": lambda folder: run_all(compiled(OwnStep())),
    **{
        each.__name__.replace("_", " "): each
        for each in (single_batch, torch_optimizer, with_a_hook, pruned, recorded_losses, watched, own_callbacks)
    },
    **{each.__name__.replace("_", " "): each for each in (torch_scheduler, on_a_copy, exported, exported_as_program)},
}


@pytest.mark.parametrize("name", HISTORIES)
def test_nothing_outlives_a_model_whatever_was_done_with_it(name, tmp_path):
    torch.optim.Adam([torch.ones(1)])  # the first one imports modules of torch, which keep the frames that led there
    gc.collect()
    gc.disable()
    try:
        model = HISTORIES[name](tmp_path)
        refs = held_by(model)
        del model
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("refusals", [1, verify.ATTEMPTS])
def test_refused_comparisons_keep_nothing(refusals):
    def compared(attempt):
        if attempt < refusals:
            raise verify.RefusedError("differs")

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(verify.RefusedError):
            verify.attempts(compared)
        ref = weakref.ref(compared)
        del compared
        assert ref() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("nests", ["torch's", "ours"])
@pytest.mark.parametrize(
    "use",
    [
        tree.flatten_with_path,
        tree.flatten,
        lambda nest: tree.traverse(lambda node: None, nest),
        lambda nest: tree.traverse(lambda node: None, nest, top_down=False),
        lambda nest: tree.map_structure(lambda leaf: leaf, nest),
        tree.lists_to_tuples,
    ],
    ids=["flatten_with_path", "flatten", "traverse", "traverse from below", "map_structure", "lists_to_tuples"],
)
def test_nests_let_go_of_their_leaves(use, nests, monkeypatch):
    if nests == "ours":
        monkeypatch.setattr(tree, "pytree", _nests)
    leaf = torch.ones(2)
    gc.collect()
    gc.disable()
    try:
        use({"a": [leaf, (leaf, 1)], "b": deque([leaf])})
        ref = weakref.ref(leaf)
        del leaf
        assert ref() is None
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
