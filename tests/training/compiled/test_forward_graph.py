"""evaluate and predict with a compiled forward pass: the outputs of the eager one, and the eager one where it cannot be."""

import shutil
import time

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.compiled import forward_graph
from tests.models_to_train import X, Y, network

GRAPHS = {"backend": "aot_eager"}


@pytest.fixture
def calls(monkeypatch):
    """Sizes of the batches that a compiled forward pass has run."""
    sizes, own = [], forward_graph.Forward.__call__

    def counting(self, x, weights):
        sizes.append(len(torch.utils._pytree.tree_leaves(x)[0]))
        return own(self, x, weights)

    monkeypatch.setattr(forward_graph.Forward, "__call__", counting)
    return sizes


@pytest.mark.parametrize(
    "how", [pytest.param(GRAPHS, id="graphs"), pytest.param(True, id="inductor", marks=pytest.mark.full)]
)
def test_the_outputs_of_the_eager_forward_pass(how, calls):
    """Before and after weights, a layer's attribute and batch statistics have changed."""
    if how is True and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch compiles with a C++ compiler")
    model, eager = (
        network(
            inside=[
                layers.Dense(8, "gelu"),
                layers.Dense(8, "tanh"),
                layers.BatchNormalization(),
                layers.LeakyReLU(0.1),
                layers.Dropout(0.5),
            ],
            jit_compile=one,
        )
        for one in (how, False)
    )

    def same():
        calls.clear()
        np.testing.assert_allclose(
            model.predict(X, 16, verbose=0), eager.predict(X, 16, verbose=0), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            model.evaluate(X, Y, 16, verbose=0), eager.evaluate(X, Y, 16, verbose=0), rtol=1e-5, atol=1e-6
        )

    same()
    assert calls == [16] * 7  # one to compare with, the third and fourth batch, and all whole ones of evaluate
    for each in (model, eager):
        each.set_weights([weight * 0.5 + 0.1 for weight in each.get_weights()])
    same()
    assert calls == [16] * 8
    for each in (model, eager):
        each.layers[2].negative_slope = 0.9
    same()
    assert len([call for call in model._fit.forward_engine.calls.values() if call is not None]) == 1


def test_nests_masks_and_the_models_of_subclasses(calls):
    class Own(ks.Model):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(10, 4, mask_zero=True)
            self.dense = layers.Dense(3)

        def call(self, inputs):
            read = self.embedding(inputs["words"])
            return {"read": read, "both": self.dense(inputs["numbers"])}

    x = {"numbers": X, "words": (np.arange(350).reshape(70, 5) % 10).astype("int32")}
    y = {"read": np.zeros((70, 5, 4), "float32"), "both": np.zeros((70, 3), "float32")}
    results = []
    for how in (GRAPHS, False):
        torch.manual_seed(2)
        model = Own()
        model.compile("sgd", {"read": "mse", "both": "mae"}, jit_compile=how)
        results.append([model.evaluate(x, y, 16, verbose=0), *model.predict(x, 16, verbose=0).values()])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert len(calls) == 7


class Counting(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight((), "zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x * self.count


class Deciding(layers.Layer):
    def call(self, x):
        return x if float(x.mean()) > 0 else -x


class Adding(layers.Layer):
    def call(self, x):
        self.add_loss(x.mean())
        return x


@pytest.mark.parametrize("layer", [Counting, Deciding, Adding])
def test_what_cannot_be_a_graph_runs_as_it_is(layer, calls):
    model, eager = (network(inside=[layer()], jit_compile=how) for how in (GRAPHS, False))
    assert model.evaluate(X, Y, 16, verbose=0) == eager.evaluate(X, Y, 16, verbose=0)
    np.testing.assert_array_equal(model.predict(X, 16, verbose=0), eager.predict(X, 16, verbose=0))
    assert not calls


def test_hooks_are_called_and_callbacks_see_the_model(calls):
    model, seen = network(jit_compile=GRAPHS), []
    watcher = ks.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: seen.append(batch))
    model.predict(X, 16, verbose=0, callbacks=[watcher])
    handle = model.layers[0].register_forward_hook(lambda *args: seen.append("hook"))
    model.predict(X, 16, verbose=0)
    assert seen == [0, 1, 2, 3, 4, *["hook"] * 5]
    assert not calls
    handle.remove()
    model.predict(X, 16, verbose=0)
    assert calls


def test_a_compiler_that_gives_other_numbers_is_not_used():
    def wrong(graph, inputs):
        return lambda *args: [output + 1 for output in graph(*args)]

    model, eager = network(jit_compile={"backend": wrong}), network(jit_compile=False)
    with pytest.warns(UserWarning, match="predicts without being compiled.*other numbers"):
        model.predict(X, 16, verbose=0)
    np.testing.assert_array_equal(model.predict(X, 16, verbose=0), eager.predict(X, 16, verbose=0))
    assert isinstance(model._fit.forward_engine, forward_graph.CompiledForward)


def test_a_compiled_forward_pass_is_used_however_long_it_takes():
    """The same program gives the same bits in each run."""
    model = network(jit_compile={"backend": slow})
    assert np.isfinite(model.predict(X, 16, verbose=0)).all()
    assert [call is None for call in model._fit.forward_engine.calls.values()] == [False]


def slow(graph, inputs):
    return lambda *args: [time.sleep(0.01), *graph(*args)][1:]


@pytest.mark.parametrize(
    ("how", "depth", "rows", "is_small"),
    [
        (True, 3, 32, True),
        ("default", 3, 32, True),
        (True, 4, 32, False),  # eight kernels
        (True, 3, 2**14, False),  # products of many numbers
        (GRAPHS, 3, 32, False),  # a backend that the user names
        ("max-autotune", 3, 32, False),
    ],
)
def test_the_size_of_the_work_decides_what_is_compiled(how, depth, rows, is_small):
    model = ks.Sequential([ks.Input((6,)), *[layers.Dense(8, "relu") for _ in range(depth)]])
    model.compile("sgd", "mse", jit_compile=GRAPHS)
    model.predict(X[:4], verbose=0)
    with torch.no_grad():
        forward = forward_graph.Forward(model, torch.ones(rows, 6), [*model.parameters(), *model.buffers()])
    assert forward.is_too_small(how) is is_small


def test_what_is_too_small_is_run_as_it_is(calls):
    model = network(jit_compile=True)
    for _ in range(3):
        model.predict(X, batch_size=16, verbose=0)
    assert calls == []
    assert set(model._fit.forward_engine.calls.values()) == {None}
