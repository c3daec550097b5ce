"""Names that public namespaces lack: the errors help, and nothing that asks for names is disturbed."""

import copy
import functools
import importlib
import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import applications, datasets, distillation, layers, namespaces, visualization, wrappers

ROOT = Path(__file__).parent.parent
LAZY = (applications, datasets, distillation, visualization, wrappers)
ALL = {module.__name__: module for start in (ks, *LAZY) for module in namespaces._namespaces(start)}

MESSAGES = {
    "near": ("layers.Dence", "Did you mean 'Dense'?"),
    "of several": ("optimizers.Adamm", "Did you mean 'Adam' or 'Nadam' or 'AdamW'?"),
    "swapped letters, small": ("optimizers.adma", "Did you mean 'Adam' or "),
    "in a data set": ("datasets.mnist.load_dat", "Did you mean 'load_data'?"),
    "a data set": ("datasets.mnits", "Did you mean 'mnist'?"),
    "below": ("optimizers.schedules.ExponentialDecay2", "Did you mean 'ExponentialDecay'"),
    "by case": ("layers.conv2d", "Did you mean 'Conv2D'"),
    "by underscores": ("layers.max_pooling2d", "Did you mean 'MaxPooling2D'"),
    "elsewhere": ("Dense", "There is 'kstyle_torch.layers.Dense'."),
    "near and elsewhere": ("layers.relu", "Did you mean 'ReLU'? There is 'kstyle_torch.activations.relu'"),
    "elsewhere, lazily": ("Tokenizer", "There is 'kstyle_torch.preprocessing.text.Tokenizer'."),
    "elsewhere, a lazy name": ("get_file", "There is 'kstyle_torch.utils.get_file'."),
    "with advice": ("layers.Linear", "Use Dense, or TorchModule"),
    "to come": ("quantizers", "Keras has it; kstyle_torch does not have it yet."),
    "to come, with advice": ("distribution", "Keras has it; kstyle_torch does not have it yet. Use from_torch(torch"),
    "unknown": ("ops.xyzzy", "dir(kstyle_torch.ops) lists what is there."),
}


def look_up(path):
    value = ks
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("path", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_missing_name(path, message):
    namespace, _, name = f"kstyle_torch.{path}".rpartition(".")
    with pytest.raises(AttributeError, match=re.escape(message)) as caught:
        look_up(path)
    assert str(caught.value).startswith(f"module {namespace!r} has no attribute {name!r}. ")
    assert caught.value.name == name
    with pytest.raises(ImportError, match=re.escape(message)) as caught:
        exec(f"from {namespace} import {name}")
    assert str(caught.value).startswith(f"cannot import name {name!r} from {namespace!r}. ")
    assert type(caught.value) is ImportError and caught.value.name == namespace and caught.value.path


def test_every_public_namespace_answers():
    assert len(ALL) > 30
    assert [name for name, module in ALL.items() if not hasattr(module, "__all__")] == []  # a module hides a function
    for module in ALL.values():
        with pytest.raises(AttributeError, match=r"Did you mean|There is|lists what is there|does not have it yet"):
            module.quantizers  # noqa: B018


def missing_names(theirs, ours):
    """Yields the namespaces and names that a module of Keras exports, and those below it do, and ours do not."""
    for name in dir(theirs):
        value = getattr(theirs, name)
        if name.startswith("_"):
            continue
        if not hasattr(ours, name):
            yield ours, name
        elif isinstance(value, ModuleType) and isinstance(getattr(ours, name), ModuleType):
            yield from missing_names(value, getattr(ours, name))


def test_each_name_of_keras_that_is_not_here_is_known(keras):
    """The table has every name that Keras exports and this does not, unless it is elsewhere or has advice of its own."""
    missing = {(ours.__name__.partition(".")[2], name): ours for ours, name in missing_names(keras, ks)}
    errors = {}
    for path, name in missing:
        with pytest.raises(AttributeError) as caught:
            getattr(missing[path, name], name)
        errors[path, name] = str(caught.value)
    elsewhere = {(path, name) for path, name in missing if re.search(rf"There is '[\w.]+\.{name}'", errors[path, name])}
    advised = {(path, name) for path, rows in namespaces.ADVICE.items() for name in rows}
    to_come = {(path, name) for path, names in namespaces.NOT_YET.items() for name in names.split()}
    assert to_come <= {*missing}, "they are here now, or Keras does not have them"
    assert {*missing} - elsewhere - advised - to_come == set()
    assert all("Keras has it; kstyle_torch does not have it yet." in errors[each] for each in to_come)


@pytest.mark.parametrize("name", ["distribution", "quantizers", "quantizers.quantizers"])
def test_a_module_of_keras_that_is_not_here(name):
    to_come = name.removesuffix(".quantizers")  # a parent is imported first
    message = f"No module named 'kstyle_torch.{to_come}'. Keras has it; kstyle_torch does not have it yet."
    for statement in (f"import kstyle_torch.{name}", f"from kstyle_torch.{name} import Quantizer"):
        with pytest.raises(ModuleNotFoundError, match=re.escape(message)) as caught:
            exec(statement)
        assert caught.value.name == f"kstyle_torch.{to_come}"
    assert importlib.util.find_spec(f"kstyle_torch.{to_come}") is None  # for those who only ask


@pytest.mark.parametrize("name", ["kstyle_torch.nothing", "kstyle_torch.layers.quantizers", "quantizers"])
def test_other_modules_that_are_not_there(name):
    with pytest.raises(ModuleNotFoundError, match=f"^No module named '{name}'$"):
        importlib.import_module(name)


def test_errors_of_a_module_that_is_there_are_its_own(tmp_path, monkeypatch):
    """When a module comes, the advice gives way, and hides nothing that goes wrong inside."""
    monkeypatch.setitem(namespaces.NOT_YET, "", "broken_module whole_module")
    with pytest.raises(ModuleNotFoundError, match="Keras has it"):
        importlib.import_module("kstyle_torch.whole_module")
    (tmp_path / "broken_module.py").write_text("import module_that_it_lacks")
    (tmp_path / "whole_module.py").write_text("number = 7")
    monkeypatch.setattr(ks, "__path__", [*ks.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="^No module named 'module_that_it_lacks'$"):
        importlib.import_module("kstyle_torch.broken_module")
    assert importlib.import_module("kstyle_torch.whole_module").number == 7
    del sys.modules["kstyle_torch.whole_module"], ks.whole_module


CALLED = {"layers.dense": "Dense", "layers.batch_normalization": "BatchNormalization"}


@pytest.mark.parametrize(("path", "wanted"), CALLED.items())
def test_a_module_that_is_called_like_a_class(path, wanted):
    """It stays a module in all else: it can be imported, patched, pickled and used in compiled code."""
    module = importlib.import_module(f"kstyle_torch.{path}")
    message = f"'kstyle_torch.{path}' is a module, which cannot be called. Did you mean '{wanted}'?"
    with pytest.raises(TypeError, match=re.escape(message)):
        look_up(path)(10)
    assert look_up(path) is module and inspect.ismodule(module)
    found = getattr(module, wanted)
    assert getattr(look_up(path.split(".")[0]), wanted) is found
    with mock.patch(f"kstyle_torch.{path}.{wanted}") as patched:
        assert getattr(module, wanted) is patched
    assert pickle.loads(pickle.dumps(module)) is module and pickle.loads(pickle.dumps(found)) is found
    compiled = torch.compile(lambda x: x + len(module.__name__), backend="eager", fullgraph=True)
    assert compiled(torch.ones(())) == 1 + len(module.__name__)


def test_advice_holds():
    """Every name in the advice is there, and every name that gets advice is not."""
    for path, rows in namespaces.ADVICE.items():
        module = look_up(path) if path else ks
        for name, advice in rows.items():
            assert name not in dir(module), f"{path}.{name} is here now: delete its advice"
            for used in re.findall(r"(?:Use|use|or|:|,) ([a-z_.]*[A-Z]\w+|utils\.\w+|[a-z_]+)(?=[(,.]|$| or)", advice):
                found = [hasattr(owner, used) for owner in (module, ks, layers)]
                in_torch = used.startswith("torch") and eval(used, {"torch": torch}) is not None
                nested = "." in used and not in_torch and look_up(used) is not None
                assert any(found) or in_torch or nested or used in ("from_torch", "tqdm"), (path, name, used)


@pytest.mark.parametrize("name", ["Dence", "__wrapped__", "quantizers"])
def test_those_who_ask_whether_a_name_is_there(name):
    assert not hasattr(layers, name)
    assert getattr(layers, name, 7) == 7


def test_names_of_python_get_no_advice():
    with pytest.raises(AttributeError) as caught:
        layers.__wrapped__  # noqa: B018
    assert str(caught.value) == "module 'kstyle_torch.layers' has no attribute '__wrapped__'"


def test_import_with_a_fallback():
    try:
        from kstyle_torch.layers import Dence
    except ImportError:
        Dence = None
    assert Dence is None


def test_submodules_that_are_not_loaded_are_imported():
    name = "kstyle_torch.__main__"
    loaded = sys.modules.pop(name, None)
    vars(ks).pop("__main__", None)
    from kstyle_torch import __main__ as found

    assert found.__name__ == name and found is not loaded


def test_tools_that_look_through_modules():
    assert inspect.unwrap(layers) is layers
    assert dict(inspect.getmembers(ks))["layers"] is layers
    dense = pickle.loads(pickle.dumps(layers.Dense(2)))
    assert copy.deepcopy(dense).units == 2
    star = {}
    exec("from kstyle_torch.layers import *", star)
    assert star["Dense"] is layers.Dense and "__getattr__" not in star
    assert importlib.reload(datasets.mnist).load_data


def run(program):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.full
def test_data_sets_are_imported_when_they_are_used():
    program = """
import sys, kstyle_torch as keras
assert "kstyle_torch.datasets" not in sys.modules and "datasets" in dir(keras)
keras.datasets.mnist.load_data
try:
    keras.datasets.mnits
except AttributeError as error:
    assert "Did you mean 'mnist'?" in str(error)
del keras.datasets, sys.modules["kstyle_torch.datasets"]
from kstyle_torch import datasets
keras.layers.Dence
"""
    found = run(program)
    assert found.returncode == 1
    assert found.stderr.count("Did you mean") == 1  # Python adds its own where it knows the object
    assert found.stderr.splitlines()[-1].endswith("has no attribute 'Dence'. Did you mean 'Dense'?")


@pytest.mark.parametrize("path", ["", "layers", "random", "config", "initializers", "callbacks", "utils"])
def test_completion_shows_public_names_only(path):
    namespace = functools.reduce(getattr, filter(None, path.split(".")), ks)
    shown = {name for name in dir(namespace) if not name.startswith("__")}
    assert shown == {*namespace.__all__} - {name for name in namespace.__all__ if name.startswith("__")} != set()
