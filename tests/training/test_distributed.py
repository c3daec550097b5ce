"""Modules that exchange data with other processes keep doing so in every tier; going past a wrapper is an error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.training.engines.collectives import exchanging_module

PROGRAM = Path(__file__).with_name("replicas.py")


@pytest.mark.full
def test_two_processes_stay_equal(tmp_path):
    options = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}}
    program = [sys.executable, str(PROGRAM)]
    both = [subprocess.Popen([*program, str(rank), str(tmp_path / "meeting")], **options) for rank in range(2)]
    first, second = (json.loads(process.communicate()[0]) for process in both)
    assert first == second
    assert first["from_torch"] == first["in-a-graph"] == first["in-a-subclass"] == first["asked"]
    np.testing.assert_allclose(first["sharded"], first["from-a-model"], rtol=1e-5)
    assert len(first["warnings"]) == 1 and "DistributedDataParallel exchanges" in first["warnings"][0]
    assert "from_torch(DDP(model))" in first["past"]
    assert len(first["alone"]) == 1 and "process group of 2 processes" in first["alone"][0]


@pytest.fixture
def group(tmp_path):
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def data_parallel():
    return ks.from_torch(DataParallel(nn.Linear(4, 1)))


def synchronized():
    return ks.Sequential([ks.Input((4,)), layers.BatchNormalization(synchronized=True), layers.Dense(1)])


def sharded():
    from torch.distributed.fsdp import fully_shard

    model = ks.Sequential([ks.Input((4,)), layers.Dense(8), layers.Dense(1)])
    fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
    return model


MODELS = {
    "DDP": lambda: ks.from_torch(DistributedDataParallel(nn.Linear(4, 1))),
    "DDP-inside": lambda: ks.Sequential([ks.Input((4,)), DistributedDataParallel(nn.Linear(4, 1))]),
    "DataParallel": data_parallel,
    "SyncBatchNorm": lambda: ks.from_torch(nn.Sequential(nn.SyncBatchNorm(4), nn.Linear(4, 1))),
    "synchronized": synchronized,
    "fully_shard": sharded,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_their_steps_are_neither_recorded_nor_compiled(make, group):
    model = make()
    assert exchanging_module(model) is not None
    model.compile("sgd", "mse", jit_compile="record")
    x = np.ones((8, 4), "float32")
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        return  # torch's has no kernel for the CPU
    with pytest.warns(UserWarning, match="exchanges data with other processes|not an ordinary parameter"):
        model.fit(x, x[:, :1], verbose=0)
    model.compile("sgd", "mse", jit_compile=True)
    with pytest.warns(UserWarning, match="trained without being compiled, because .* exchanges data"):
        model.fit(x, x[:, :1], verbose=0)
    model.evaluate(x, x[:, :1], batch_size=1, verbose=0)
    model.predict(x, batch_size=1, verbose=0)
    assert not model._fit.forward_engine.calls


def test_an_ordinary_model_exchanges_nothing(group):
    assert exchanging_module(ks.Sequential([ks.Input((4,)), layers.BatchNormalization(), nn.BatchNorm1d(4)])) is None


@pytest.mark.parametrize("train", ["fit", "train_on_batch"])
@pytest.mark.parametrize("around", [lambda model: model, nn.Sequential], ids=["itself", "within"])
def test_training_past_the_wrapper(train, around, group):
    model = ks.Sequential([ks.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    wrapper = DistributedDataParallel(around(model))
    with pytest.raises(
        ValueError, match=r"sequential is wrapped in DistributedDataParallel.*from_torch\(DDP\(model\)\)"
    ):
        getattr(model, train)(np.ones((8, 4)), np.ones((8, 1)))
    model.predict(np.ones((8, 4)), verbose=0)
    assert wrapper.module is not None
