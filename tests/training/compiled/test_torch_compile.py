"""How graphs are compiled: the arguments by device, CUDA graphs, no break, and what torch keeps in its cache."""

import shutil

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.compiled import forward_graph, step_graph
from kstyle_torch.training.compiled.torch_compile import graph_options, has_cuda_graphs
from tests import models_to_train
from tests.models_to_train import X


def network(how=True, **settings):
    return models_to_train.network(inside=[layers.BatchNormalization()], jit_compile=how, **settings)


def fit(model, **arguments):
    return models_to_train.fit(model, **arguments)["loss"]


# ---------------------------------------------------------------------------------------------------------- the arguments


@pytest.mark.parametrize(
    ("how", "device", "expected", "cuda_graphs"),
    [
        (True, "cpu", {"cpp_wrapper": True, "size_asserts": False}, False),
        (True, "cuda", {"triton.cudagraphs": True}, True),
        ("default", "cuda", {}, False),
        ({"dynamic": True}, "cuda", {"triton.cudagraphs": True}, True),
        (True, "mps", {}, False),
    ],
    ids=["cpu", "cuda", "cuda, without graphs", "no options of the user", "another"],
)
def test_by_default_there_are_cuda_graphs_on_cuda_and_calls_in_cpp_on_a_cpu(how, device, expected, cuda_graphs):
    arguments = graph_options(how, device)
    options = dict(arguments.pop("options"))
    assert options.pop("guard_filter_fn")([1, 2]) == [False, False]
    assert (options, arguments) == (expected, {})
    assert has_cuda_graphs(graph_options(how, device), device) == cuda_graphs


@pytest.mark.parametrize(
    ("how", "expected", "cuda_graphs"),
    [
        ("reduce-overhead", {"mode": "reduce-overhead"}, True),
        ("max-autotune-no-cudagraphs", {"mode": "max-autotune-no-cudagraphs"}, False),
        ({"backend": "aot_eager", "fullgraph": False}, {"backend": "aot_eager"}, False),
        ({"options": {"triton.cudagraphs": True}}, {"options": {"triton.cudagraphs": True}}, True),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_the_user_says_is_taken_as_it_is(how, expected, cuda_graphs):
    arguments = graph_options(how, "cuda")
    assert arguments == expected
    assert has_cuda_graphs(arguments, "cuda") == cuda_graphs
    assert not has_cuda_graphs(arguments, "cpu")


# ------------------------------------------------------------------------------------------------------------ CUDA graphs


@pytest.mark.full
def test_what_is_kept_of_a_step_in_a_cuda_graph_is_a_copy(monkeypatch):
    """Tried on the CPU, with a backend that uses the memory of its results again, as a CUDA graph does."""

    def replaying(graph, inputs):
        memory = []

        def run(*args):
            results = graph(*args)
            memory.extend(result.clone() for result in results if not memory or len(memory) < len(results))
            for place, result in zip(memory, results, strict=True):
                place.copy_(result)
            return [*memory]

        return run

    for module in (step_graph, forward_graph):
        monkeypatch.setattr(module, "has_cuda_graphs", lambda arguments, device: True)
    model, ordinary = network({"backend": replaying}), network(False)
    np.testing.assert_allclose(fit(model), fit(ordinary), rtol=1e-5)
    np.testing.assert_allclose(
        model.predict(X, 16, verbose=0), ordinary.predict(X, 16, verbose=0), rtol=1e-5, atol=1e-6
    )
    (step,) = [step for step in model._fit.step_engine.whole.calls.values() if step is not None]
    state = step.function.state()
    assert all(
        hasattr(tensor, "_dynamo_static_input_type") for tensor in (*state.weights, *state.slots, *state.buffers)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda_steps_are_replayed_from_cuda_graphs():
    losses, outputs = [], []
    for how in (True, False):
        model = network(how, device="cuda")
        counters.clear()
        losses.append(fit(model, epochs=10))
        outputs.append(model.predict(X, 16, verbose=0))
        assert not counters["inductor"]["cudagraph_skips"]
        assert bool(counters["inductor"]) == how
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ graphs and cache


def test_a_step_is_one_graph_with_the_optimizer_in_it():
    graphs = []

    def keeping(graph, inputs):
        graphs.append(graph)
        return graph

    counters.clear()
    model = network({"backend": keeping})
    fit(model)
    assert len(graphs) == 1
    assert not counters["graph_break"]
    names = [getattr(node.target, "__name__", str(node.target)) for node in graphs[0].graph.nodes]
    assert sum("copy_" in name for name in names) == 6 + 12 + 2  # weights, momenta and velocities, batch statistics
    assert any("sqrt" in name for name in names)


@pytest.mark.full
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch compiles with a C++ compiler")
def test_graphs_are_kept_in_torchs_cache():
    """What is found again by another model is found by another process: torch looks by the graph's text."""
    expected = fit(network(), epochs=1)
    counters.clear()
    assert fit(network(), epochs=1) == expected
    assert counters["inductor"]["fxgraph_cache_hit"] == 1
    assert not counters["inductor"]["fxgraph_cache_miss"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("tier", "before"),
    [("step graph", False), ("forward and backward", True), ("epoch graph", False), ("forward graph", True)],
)
def test_compiled_code_that_fails_later_costs_one_warning(tier, before, monkeypatch):
    monkeypatch.setattr(forward_graph, "FEW_KERNELS", 0)  # small graphs are compiled, too
    x = np.random.default_rng(0).uniform(-1, 1, (64, 6)).astype("float32")

    def broken(run):
        def failing(*args):
            if not before:
                run(*args)
            raise RuntimeError("recompile_limit reached")

        return failing

    def results(how):
        torch.manual_seed(0)
        model = ks.Sequential([ks.Input((6,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(1)])
        with_optimizer = (
            tier != "forward and backward"
        )  # which other optimizers keep from being one graph with the step
        rule = ks.optimizers.SGD(0.1, momentum=0.9) if with_optimizer else ks.optimizers.Adagrad(0.1)
        model.compile(rule, "mse", jit_compile=how, steps_per_execution="epoch" if tier[0] == "e" and how else 1)
        fits = {"batch_size": 16, "shuffle": False, "verbose": 0}
        model.fit(x, x[:, :1], **fits)
        predicted = [model.predict(x, batch_size=16, verbose=0)]
        if how:
            with pytest.warns(UserWarning, match=r"that fails \(RuntimeError: recompile_limit") as caught:  # noqa: PT031
                if tier == "forward graph":
                    engine = model._fit.forward_engine
                    call = next(call for call in engine.calls.values() if call is not None)
                    call.call = broken(call.call)
                    predicted.append(model.predict(x, batch_size=16, verbose=0))
                else:
                    if tier == "epoch graph":
                        call = model._fit.epoch_engine.calls[0][1]
                        call.call = broken(call.call)
                    elif tier == "step graph":
                        call = next(iter(model._fit.step_engine.whole.calls.values()))
                        call.call = broken(call.call)
                    else:
                        model._fit.step_engine.forward = broken(model._fit.step_engine.forward)
                    model.fit(x, x[:, :1], **fits)
            assert len(caught) == 1
        if tier != "forward graph":
            model.fit(x, x[:, :1], **fits)
        if not how and tier != "forward graph":
            model.fit(x, x[:, :1], **fits)
        return model.get_weights(), predicted, model.optimizer.iterations

    weights, predicted, iterations = results({"backend": "aot_eager"})
    expected, outputs, number = results(False)
    assert int(iterations) == int(number)
    for mine, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    for mine in predicted:
        np.testing.assert_allclose(mine, outputs[0], rtol=1e-4, atol=1e-5)
