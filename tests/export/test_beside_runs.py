"""Export in one thread while another trains or runs the model. Where they meet is decided by events in a layer."""

import threading

import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch import mode as modes
from kstyle_torch.export import ExportArchive, to_program, to_source
from kstyle_torch.layers import InputSpec
from tests.choice import parameters
from tests.oracle import assert_close
from tests.training.test_threads import Beside, Thread, X, bare, compiled, fit, gates, ours, state, subclassed, wrapped

SPEC = InputSpec(shape=(None, 10))


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    is_compiling = torch.compiler.is_compiling
    yield
    gates.clear()
    assert modes.holds == {} and modes.modeless == [] and modes.active == []
    assert torch.compiler.is_compiling is is_compiling and not is_compiling()


def from_archive(model, folder):
    archive = ExportArchive()
    archive.add_endpoint("serve", model.call, [SPEC])
    archive.write_out(folder, verbose=False)
    return torch.export.load(folder / "serve.pt2").module()


EXPORTS = {
    "to_program": lambda model, path: to_program(model, SPEC).module(),
    "to_source": lambda model, path: to_source(model, SPEC),
    "archive": from_archive,
}
CASES = [(make, export) for export in EXPORTS for make in (bare, ours, wrapped, subclassed)]


@pytest.mark.parametrize(
    ("make", "export"), parameters(CASES, lambda case: case[1], lambda case: f"{case[1]}-{case[0].__name__}")
)
def test_an_export_beside_fit_changes_nothing_of_it(make, export, tmp_path):
    """It stops in the middle of tracing while `fit` goes on."""
    alone, other = compiled(make, jit_compile=False), compiled(make, jit_compile=False)
    expected, beside = fit(alone), Beside(lambda model: EXPORTS[export](model, tmp_path / "a"))
    history = fit(other, beside)
    assert history.history == expected.history
    assert all(map(torch.equal, state(alone), state(other)))
    assert other._fit.runs == [] and not any(module.training for module in other.modules())
    exported, x = beside.thread.result, torch.from_numpy(X)
    if export == "to_source":
        namespace = {"__name__": "written"}
        exec(exported, namespace)
        module = namespace["Model"]().eval()
        module.load_state_dict(other.state_dict())
        assert_close(module(x).detach(), other(x).detach())
    else:  # in inference mode, whose outputs do not depend on the other rows, nor on chance
        assert_close(exported(x)[:5].detach(), exported(x[:5]).detach())
    assert beside.thread.seen and not all(beside.thread.seen)


def test_to_source_draws_no_random_numbers():
    model, before = compiled(bare), torch.get_rng_state()
    to_source(model, SPEC)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_begins_after_an_export_waits_for_it():
    model = compiled(bare)
    exporting = Thread(lambda model: to_program(model, SPEC), model)
    exporting.until_inside()
    thread = threading.Thread(target=fit, args=(model,))
    thread.start()
    weights = [parameter.detach().clone() for parameter in state(compiled(bare))]
    exporting.finish()
    thread.join()
    assert not all(map(torch.equal, weights, state(model)))
    assert not any(isinstance(tensor, torch._subclasses.FakeTensor) for tensor in state(model))


@pytest.mark.parametrize("what", ["function", "object"])
def test_a_model_that_refers_to_itself_is_not_exported_beside_a_run(what):
    class Bound(ks.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.gate, self.norm = layers.Dense(8), compiled(bare).layers[1], nn.BatchNorm1d(8)
            self.run = (lambda x: self.norm(x)) if what == "function" else Holder(self)

        def call(self, x):
            x = self.gate(self.dense(x))
            return self.run(x) if what == "function" else self.run.model.norm(x)

    class Holder:
        def __init__(self, model):
            self.model = model

    model = Bound()
    model(torch.ones(2, 10))
    thread = Thread(lambda model: model.predict(X, verbose=0), model)
    thread.until_inside()
    with pytest.raises(RuntimeError, match="another thread.*function or an object"):
        to_program(model, SPEC)
    thread.finish()
    assert to_program(model, SPEC).module()(torch.ones(3, 10)).shape == (3, 8)
