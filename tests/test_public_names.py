"""`import kstyle_torch as keras`: the names that are there are the names that Keras has."""

import functools
import importlib
import re
from pathlib import Path

import pytest

import kstyle_torch as ks

APPLICATIONS = (
    "convnext densenet efficientnet efficientnet_v2 imagenet_utils inception_resnet_v2 inception_v3 mobilenet mobilenet_v2 "
    "mobilenet_v3 nasnet resnet resnet50 resnet_v2 vgg16 vgg19 xception"
).split()
WHOLE = {
    "activations": set(),
    "applications": set(),
    **{f"applications.{name}": set() for name in APPLICATIONS},
    "constraints": set(),
    "datasets": set(),
    "distillation": set(),
    "initializers": set(),
    "metrics": set(),
    "models": set(),
    "ops": set(),
    "random": set(),
    "regularizers": set(),
    "saving": set(),
    "tree": set(),
    "layers": {"TFSMLayer", "JaxLayer", "FlaxLayer"},  # of other frameworks
    "mixed_precision": set(),
    "utils": {"legacy"},
    "utils.bounding_boxes": set(),
    "visualization": set(),
    "wrappers": set(),
    "optimizers": set(),
    "optimizers.legacy": set(),
    "optimizers.schedules": set(),
    "dtype_policies": {  # for quantization
        "AWQDTypePolicy",
        "GPTQDTypePolicy",
        "Int4DTypePolicy",
        "QuantizedDTypePolicy",
        "QuantizedFloat8DTypePolicy",
    },
}
# Names that Keras does not have: each stands in the README.
BEYOND = {
    "callbacks": {"LearningRateFinder", "MLflowLogger", "MaxTime", "OptunaPruning", "TorchScheduler", "WandbLogger"},
    "utils": {"plot_history"},
}


@pytest.mark.parametrize("namespace", WHOLE)
def test_a_namespace_has_every_name_of_keras(namespace):
    theirs = {name for name in dir(importlib.import_module(f"keras.{namespace}")) if not name.startswith("_")}
    assert theirs - {*dir(functools.reduce(getattr, namespace.split("."), ks))} <= WHOLE[namespace]


@pytest.mark.parametrize("namespace", BEYOND)
def test_names_beyond_keras_are_public_and_in_the_readme(namespace):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    theirs = {*dir(importlib.import_module(f"keras.{namespace}"))}
    assert BEYOND[namespace] - {*getattr(ks, namespace).__all__} == set() == BEYOND[namespace] & theirs
    assert [name for name in sorted(BEYOND[namespace]) if not re.search(rf"\b{name}\b", readme)] == []
