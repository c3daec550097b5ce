"""Keras on its torch backend is the oracle: its settings, made before anything imports it."""

import collections
import gc
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import pytest
import torch

from kstyle_torch import config, draws
from kstyle_torch.compat import keras2
from kstyle_torch.layer import added_losses
from kstyle_torch.registry import reset_names
from kstyle_torch.training.recorded import engine

VARIATIONS = {
    *("callbacks", "data", "distillation", "export", "graph_passes", "layer", "models", "optimizers", "saving"),
    *("training", "utils"),
}
QUICK_ROWS = 3
MANY_OBJECTS = 200_000  # beside the frozen ones
collect_ignore = ["accelerator.py", "callbacks/interrupted.py", "training/replicas.py"]  # programs that tests start


def pytest_configure(config):
    """Warnings are errors, Keras' own excepted."""
    config.addinivalue_line("filterwarnings", r"ignore:.*:Warning:keras\..*")
    config.addinivalue_line("filterwarnings", r"ignore:__array__ implementation doesn't:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """The quick set has the first rows of tests whose rows are variations: tiers, kinds of data, what a user may do."""
    rows = collections.Counter()
    for item in items:
        if {*item.path.parts} & VARIATIONS and item.get_closest_marker("full") is None:
            test = (item.path, getattr(item, "originalname", item.name))
            rows[test] += 1
            if rows[test] > QUICK_ROWS:
                item.add_marker(pytest.mark.full)


def pytest_collection_finish():
    """What is there now stays until the end; collections need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect():
    """Freezes what earlier modules have left, such as torch's compiler, which takes each collection 1 s to walk."""
    if len(gc.get_objects()) > MANY_OBJECTS:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def fresh_process_state():
    """Every test starts from the same seed, names, device and settings."""
    torch.manual_seed(0)
    keras2._told.clear()
    added_losses.pending.clear()
    draws._Seeding.seed = None  # as before the first call of set_random_seed
    reset_names()
    with config.device_scope("cpu"):
        yield
    config.set_floatx("float32")
    config.set_dtype_policy(None)
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")


@pytest.fixture
def recorded_soon(monkeypatch):
    """Steps are recorded however few of them lie ahead."""
    monkeypatch.setattr(engine, "PAYS_AFTER", 1)


@pytest.fixture(scope="session")
def keras():
    """The oracle."""
    import keras

    return keras
