"""`import kstyle_torch as keras`: the names that are there are the names that Keras has."""

import importlib

import pytest

import kstyle_torch as ks

WHOLE = {
    "activations": set(),
    "constraints": set(),
    "initializers": set(),
    "metrics": set(),
    "ops": set(),
    "random": set(),
    "regularizers": set(),
    "tree": set(),
    "layers": {"TFSMLayer", "JaxLayer", "FlaxLayer"},  # of other frameworks
    "mixed_precision": {"LossScaleOptimizer"},  # comes with the other optimizers
    "dtype_policies": {  # for quantization
        "AWQDTypePolicy",
        "DTypePolicyMap",
        "FloatDTypePolicy",
        "GPTQDTypePolicy",
        "Int4DTypePolicy",
        "QuantizedDTypePolicy",
        "QuantizedFloat8DTypePolicy",
    },
}


@pytest.mark.parametrize("namespace", WHOLE)
def test_a_namespace_has_every_name_of_keras(namespace):
    theirs = {name for name in dir(importlib.import_module(f"keras.{namespace}")) if not name.startswith("_")}
    assert theirs - {*dir(getattr(ks, namespace))} <= WHOLE[namespace]
