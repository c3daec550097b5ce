"""`docs/compatibility.md` is what `scripts/compatibility.py` finds, and every difference has a reason."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import compatibility
import compatibility_reasons

import kstyle_torch as ks


@pytest.mark.full
def test_the_page_is_up_to_date():
    run = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compatibility.py", "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def keras_like(x, y=1, *, z=None, **kwargs): ...


DIFFERENCES = {
    "same": (lambda x, y=1, *, z=None, **kwargs: 0, ""),
    "more, as keywords": (lambda x, y=1, *, z=None, more=0, **kwargs: 0, ""),
    "lacks": (lambda x, *, z=None, **kwargs: 0, "lacks y"),
    "name": (lambda a, y=1, *, z=None, **kwargs: 0, "lacks x; has a"),
    "default": (lambda x, y=2, *, z=None, **kwargs: 0, "y=2"),
    "required": (lambda x, y, *, z=None, **kwargs: 0, "y=required"),
    "order": (lambda y=1, x=0, *, z=None, **kwargs: 0, "order y, x, z; x=0"),
    "kind": (lambda x, y=1, z=None, **kwargs: 0, "z is positional or keyword"),
    "no kwargs": (lambda x, y=1, *, z=None: 0, "lacks **kwargs"),
    "more, by position": (lambda x, y=1, more=0, *, z=None, **kwargs: 0, "has more"),
}


@pytest.mark.parametrize(("ours", "phrase"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_difference_of_signatures_is_seen(ours, phrase):
    assert compatibility.difference(inspect.signature(keras_like), inspect.signature(ours)) == phrase


class TheirClass:
    __module__ = "keras.somewhere"

    def method(self, a, b=1): ...

    @property
    def value(self): ...


TheirClass.method.__module__ = "keras.somewhere"


class OurClass:
    def __init__(self):
        self.value = 3

    def method(self, a): ...


class Bare: ...


def test_members_of_a_class_are_compared():
    rows = {row.name: row for row in compatibility.compare("here", "Class", TheirClass, OurClass, {})}
    assert (rows["Class.method"].state, rows["Class.method"].detail) == ("different", "lacks b")
    assert rows["Class.value"].state == "same"
    rows = {row.name: row for row in compatibility.compare("here", "Class", TheirClass, Bare, {})}
    assert rows["Class.method"].state == rows["Class.value"].state == "missing"


def test_every_reason_is_needed():
    paths = [(row.path, row.detail) for row in compatibility.rows() if row.state != "same"]
    patterns = compatibility_reasons.REASONS
    used = {compatibility_reasons.pattern_for(path) for path, _ in paths}
    examples = compatibility_reasons.EXAMPLES
    assert {*patterns} - used == set(), "delete the reasons of what is the same now"
    assert all(patterns.values()) and all(examples.values())


def test_the_behavior_that_differs_does():
    """As the page says, of what has the same name and signature."""
    layer = ks.layers.Dense(2)
    layer.build((None, 3))
    weight = layer.add_weight(shape=(2,), trainable=False, initializer="zeros")
    assert weight.dtype is torch.float32 and not isinstance(weight, ks.Variable)
    same = weight
    same += 1
    assert layer.weights[-1].numpy().tolist() == [1, 1]
    assert isinstance(layer.kernel, ks.Variable) and not isinstance(layer.kernel.value, torch.nn.Parameter)
    with pytest.raises(TypeError, match=r"must be torch.dtype"):
        torch.zeros(2, dtype=ks.Input((2,)).dtype)
    assert len(compatibility_reasons.BEHAVIOR) == 3
