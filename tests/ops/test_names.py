"""All of Keras' names are here, with the parameters that they have there."""

import importlib
import inspect

import kstyle_torch
from kstyle_torch import ops
from tests.ops.cases import ROWS

CORE_MODULES = ("keras.src.ops.core", "keras.src.ops.einops")
CORE = (
    "associative_scan cast cond convert_to_numpy convert_to_tensor custom_gradient device_scope dtype fori_loop is_tensor "
    "map rearrange saturate_cast scan scatter scatter_update shape slice slice_update stop_gradient switch unstack "
    "vectorized_map while_loop"
).split()


def keras_names(module):
    return {name for name in dir(importlib.import_module(module)) if not name.startswith("_")}


def test_every_operation_of_keras_is_here(keras):
    assert keras_names("keras.ops") - {*ops.__all__} == set()


def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


def _module(keras, name):
    return getattr(getattr(keras.ops, name), "__module__", None)


def test_every_name_of_numpy_is_here(keras):
    assert keras_names("keras.ops.numpy") == {*ops.numpy.__all__}


def test_every_name_of_the_core_is_here(keras):
    exported = {name for name in keras_names("keras.ops") if _module(keras, name) in CORE_MODULES}
    assert exported | {"device_scope"} == {*CORE} == {*ops.core.__all__}


def test_parameters_are_those_of_keras(keras):
    names = [
        name for name in (*ops.numpy.__all__, *CORE) if name != "device_scope"
    ]  # keras.device_scope, in config here
    other = [name for name in names if parameters(getattr(ops, name)) != parameters(getattr(keras.ops, name))]
    assert other == []


def test_functions_know_their_names():
    for name in (*ops.numpy.__all__, *CORE):
        function = getattr(ops, name)
        assert function.__name__ == name
        assert getattr(importlib.import_module(function.__module__), name) is function, name
        assert function.__doc__, f"{name} has no docstring"


def test_every_name_has_a_row():
    assert {*ops.numpy.__all__} - {row.name for row in ROWS} - TESTED_ELSEWHERE == set()


# test_functions.py; what empty memory holds is not compared
TESTED_ELSEWHERE = {"empty", "empty_like", "ndim", "size", "vectorize"}


def test_public_names_of_the_package():
    assert kstyle_torch.KerasTensor is type(kstyle_torch.Input((3,)))
    assert kstyle_torch.KerasTensor((2, None), "float16").dtype == kstyle_torch.Input((3,), dtype="float16").dtype
    assert kstyle_torch.ops is ops
