"""Dtype policies and maps of them, as Keras has them."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import dtype_policies

NAMES = ["float32", "float64", "mixed_float16", "mixed_bfloat16", "int", "bool", "string", "float8_e5m2", "complex64"]


def seen(policy):
    fields = ("name", "compute_dtype", "variable_dtype", "quantization_mode")
    return [getattr(policy, name) for name in fields] + [repr(policy), policy.get_config()]


@pytest.mark.parametrize("kind", ["DTypePolicy", "FloatDTypePolicy"])
@pytest.mark.parametrize("name", NAMES)
def test_a_policy(kind, name, keras):
    theirs, ours = (getattr(library, kind)(name) for library in (keras, ks))
    assert seen(theirs) == seen(ours)
    for library, policy in ((keras, theirs), (ks, ours)):
        form = library.dtype_policies.serialize(policy)
        assert form["class_name"] == kind and library.dtype_policies.deserialize(form) == policy
        assert library.DTypePolicy(name) == policy != library.DTypePolicy("float16")
        with pytest.raises(AttributeError):
            policy.compute_dtype = "float16"


def test_the_policy_that_was_set_is_the_default(keras):
    for library in (keras, ks):
        library.config.set_dtype_policy("mixed_bfloat16")
        try:
            assert library.DTypePolicy().name == "mixed_bfloat16"
            assert library.dtype_policies.DTypePolicyMap().compute_dtype == "bfloat16"
        finally:
            library.config.set_dtype_policy("float32")


WRONG = {
    "name": (lambda library: library.DTypePolicy("float31"), ValueError),
    "type": (lambda library: library.DTypePolicy(3), TypeError),
    "map of a map": (
        lambda library: library.dtype_policies.DTypePolicyMap(library.dtype_policies.DTypePolicyMap()),
        ValueError,
    ),
    "list": (lambda library: library.dtype_policies.DTypePolicyMap(None, []), TypeError),
    "two patterns": (
        lambda library: library.dtype_policies.DTypePolicyMap(
            None, {"a.*": library.DTypePolicy("int8"), ".*b": library.DTypePolicy("int8")}
        )["ab"],
        ValueError,
    ),
    "policy": (lambda library: library.dtype_policies.DTypePolicyMap().__setitem__("a", object()), ValueError),
    "identifier": (lambda library: library.dtype_policies.get(object()), ValueError),
}


@pytest.mark.parametrize(("make", "error"), WRONG.values(), ids=WRONG)
def test_mistakes(make, error, keras):
    for library in (keras, ks):
        with pytest.raises(error):
            make(library)


INPUTS = {
    "float array": lambda library: np.ones(3, "float64"),
    "int array": lambda library: np.ones(3, "int8"),
    "float tensor": lambda library: torch.ones(3, dtype=torch.float64),
    "bool tensor": lambda library: torch.ones(3, dtype=torch.bool),
    "symbolic": lambda library: library.Input((3,)),
    "symbolic ints": lambda library: library.Input((3,), dtype="int32"),
    "a string": lambda library: "text",
}


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_converted(name, autocast, keras):
    results = []
    for library in (keras, ks):
        made = library.DTypePolicy("float16").convert_input(INPUTS[name](library), autocast, "float16")
        dtype = library.backend.standardize_dtype(made.dtype) if hasattr(made, "dtype") else made
        results.append((isinstance(made, torch.Tensor), dtype))
    assert results[0] == results[1]


def a_map(library):
    policies = library.dtype_policies.DTypePolicyMap("float32")
    policies["encoder/layer_0/dense"] = "bfloat16"
    policies["encoder/.*"] = library.DTypePolicy("float16")
    policies["decoder"] = library.DTypePolicy("mixed_bfloat16")
    return policies


def test_a_map(keras):
    found = []
    for library in (keras, ks):
        policies = a_map(library)
        paths = ["encoder/layer_0/dense", "encoder/attention/query", "decoder", "decoder/attention"]
        rows = [policies[path].name for path in paths]
        rows += [len(policies), list(policies), "decoder" in policies, "encoder/x" in policies, policies.name]
        del policies["decoder"]
        rows += [policies["decoder"].name, policies.get_config()["default_policy"], bool(policies)]
        with pytest.raises(ValueError):
            policies["encoder/.*"] = "int8"
        with pytest.raises(KeyError):
            del policies["nothing"]
        revived = library.dtype_policies.deserialize(library.dtype_policies.serialize(policies))
        found.append([*rows, type(revived).__name__, {path: revived[path].name for path in revived}])
    assert found[0] == found[1]


def blocks(library):
    """A layer whose children take their policies from a map, by their paths."""

    class Block(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = library.layers.Dense(2, name="first", dtype=self.dtype_policy)
            self.second = library.layers.Dense(2, name="second", dtype=self.dtype_policy)

        def build(self, input_shape):
            self.first.build(input_shape)
            self.second.build((None, 2))

        def call(self, inputs):
            return self.second(self.first(inputs))

    return Block


def test_layers_take_the_policy_of_their_path(keras):
    rows = []
    for library in (keras, ks):
        policies = library.dtype_policies.DTypePolicyMap("float32", {"block/second": library.DTypePolicy("bfloat16")})
        block = blocks(library)(name="block", dtype=policies)
        output = block(np.ones((3, 2), "float32"))
        children = (block.first, block.second)
        weights = [library.backend.standardize_dtype(each.kernel.dtype) for each in children]
        rows.append(
            (weights, [each.compute_dtype for each in children], str(output.dtype), block.dtype_policy is policies)
        )
    assert rows[0] == rows[1]


def test_a_layer_keeps_its_map_in_its_config():
    dense = ks.layers.Dense(2, name="first", dtype=a_map(ks))
    revived = ks.layers.deserialize(ks.layers.serialize(dense))
    assert revived.dtype_policy.get_config() == dense.dtype_policy.get_config()


DTYPES = [
    "float32",
    "int",
    int,
    float,
    bool,
    complex,
    str,
    None,
    np.float16,
    np.dtype("int8"),
    torch.bfloat16,
    "uint16",
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_names_of_dtypes(dtype, keras):
    made = dtype_policies.standardize_dtype(dtype)
    assert made == keras.backend.standardize_dtype(dtype) and isinstance(made, dtype_policies.DTypeName)


@pytest.mark.parametrize(
    "dtype", ["float31", list, object(), torch.complex32, []], ids=["name", "type", "object", "complex", "list"]
)
def test_what_is_no_dtype(dtype, keras):
    for function in (keras.backend.standardize_dtype, dtype_policies.standardize_dtype):
        with pytest.raises((ValueError, TypeError)):
            function(dtype)
    with pytest.raises(ValueError, match="Unknown dtype"):
        dtype_policies.standardize_dtype(dtype)
