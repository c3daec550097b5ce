"""Keras' test case, on which libraries build their own tests of layers."""

# ruff: noqa: N802, PT009 (the names are unittest's and Keras')

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kstyle_torch import config, ops, tracebacks, tree, utils
from kstyle_torch.dtype_policies import standardize_dtype
from kstyle_torch.losses import Loss
from kstyle_torch.models import Model
from kstyle_torch.random import SeedGenerator
from kstyle_torch.serialization import CustomObjectScope, deserialize_keras_object, serialize_keras_object
from kstyle_torch.symbolic.tensor import KerasTensor
from kstyle_torch.variables import Variable

_Base: Any = unittest.TestCase
with contextlib.suppress(ImportError):  # libraries decorate their tests with its `parameterized`, which needs its class
    _Base = importlib.import_module("absl.testing.parameterized").TestCase

COUNTS = {
    "expected_num_trainable_weights": "trainable_weights",
    "expected_num_non_trainable_weights": "non_trainable_weights",
    "expected_num_non_trainable_variables": "non_trainable_variables",
}


def uses_gpu() -> bool:
    """Returns whether tensors are made on a GPU."""
    return config.device().type == "cuda"


def uses_tpu() -> bool:
    """Returns False: there are no TPUs here."""
    return False


class TestCase(_Base):
    """A test of numbers and layers."""

    maxDiff = None

    def setUp(self) -> None:
        utils.clear_session(free_memory=False)
        tracebacks.disable_traceback_filtering()

    def get_temp_dir(self) -> str:
        """Returns a new folder, which goes with the test."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def convert_to_numpy(self, x: Any) -> Any:
        """Returns a tensor, a variable or a list of numbers as an array."""
        return ops.convert_to_numpy(x) if isinstance(x, (Tensor, Variable)) else np.asarray(x)

    def assertAllClose(
        self, actual: Any, desired: Any, atol: float = 1e-6, rtol: float = 1e-6, msg: str | None = None, **tpu: Any
    ) -> None:
        """Checks that all values are near to each other."""
        actual, desired = self.convert_to_numpy(actual), self.convert_to_numpy(desired)
        np.testing.assert_allclose(actual, desired, rtol, atol, err_msg=msg or "")

    def assertNotAllClose(
        self, x1: Any, x2: Any, atol: float = 1e-6, rtol: float = 1e-6, msg: str | None = None
    ) -> None:
        """Checks that some values are not near to each other."""
        x1, x2 = self.convert_to_numpy(x1), self.convert_to_numpy(x2)
        if x1.shape == x2.shape and np.allclose(x1, x2, rtol, atol):
            raise AssertionError(f"All values are close. {msg or ''}\n{x1}")

    def assertAlmostEqual(
        self, actual: Any, desired: Any, decimal: int = 3, msg: str | None = None, **tpu: Any
    ) -> None:
        """Checks that all values are equal up to a number of decimals."""
        actual, desired = self.convert_to_numpy(actual), self.convert_to_numpy(desired)
        np.testing.assert_almost_equal(actual, desired, decimal, err_msg=msg or "")

    def assertAllEqual(self, actual: Any, desired: Any, msg: str | None = None) -> None:
        """Checks that all values are equal."""
        np.testing.assert_array_equal(self.convert_to_numpy(actual), self.convert_to_numpy(desired), err_msg=msg or "")

    def assertLen(self, iterable: Any, expected_len: int, msg: str | None = None) -> None:
        """Checks the length."""
        self.assertEqual(len(iterable), expected_len, msg)

    def assertSparse(self, x: Any, sparse: bool = True) -> None:
        """Checks whether a tensor is sparse."""
        self.assertEqual(bool(getattr(x, "sparse", False) if isinstance(x, KerasTensor) else x.is_sparse), sparse)

    def assertRagged(self, x: Any, ragged: bool = True) -> None:
        """Checks whether a tensor is ragged."""
        self.assertEqual(bool(getattr(x, "ragged", False)), ragged)

    def assertDType(self, x: Any, dtype: Any, msg: str | None = None) -> None:
        """Checks the dtype."""
        self.assertEqual(standardize_dtype(getattr(x, "dtype", type(x))), standardize_dtype(dtype), msg)

    def assertFileExists(self, path: Any) -> None:
        """Checks that there is a file."""
        self.assertTrue(Path(path).is_file(), f"There is no file {path}.")

    def run_class_serialization_test(self, instance: Any, custom_objects: Any = None) -> Any:
        """Checks that an object comes back from its config, and returns that one."""
        config = instance.get_config()
        with CustomObjectScope(custom_objects):
            again = type(instance).from_config(config)
            self.assertEqual(again.get_config(), config)
            revived = deserialize_keras_object(serialize_keras_object(instance))
        self.assertEqual(revived.get_config(), config)
        return revived

    def run_layer_test(
        self,
        layer_cls: Any,
        init_kwargs: dict[str, Any],
        input_shape: Any = None,
        input_dtype: Any = None,
        input_data: Any = None,
        call_kwargs: dict[str, Any] | None = None,
        custom_objects: Any = None,
        supports_masking: bool | None = None,
        run_training_check: bool = True,
        **expected: Any,
    ) -> None:
        """Checks a layer: its config, its weights, its outputs for symbolic and real inputs, and a step of training.

        Args:
            layer_cls: The class.
            init_kwargs: What its constructor gets.
            input_shape: Shape of the input, or a dict of shapes by the name of the argument with `_shape` behind it.
            input_dtype: Its dtype, or a dict of them by the name of the argument.
            input_data: The input, in place of the two.
            call_kwargs: What its call gets besides.
            custom_objects: For its config.
            supports_masking: The attribute that it must have.
            run_training_check: Whether to train.
            expected: `expected_output`, `expected_output_shape` and the other arguments that Keras' function has.
        """
        call_kwargs = call_kwargs or {}
        layer = layer_cls(**init_kwargs)
        self.run_class_serialization_test(layer, custom_objects)
        if supports_masking is not None:
            self.assertEqual(layer.supports_masking, supports_masking)
        if input_data is None and input_shape is None:
            return
        symbols = _symbols(input_shape, input_dtype, input_data)
        data = _ones(symbols) if input_data is None else input_data
        for inputs in (symbols, data):
            layer = layer_cls(**init_kwargs)
            output = layer(**inputs, **call_kwargs) if isinstance(inputs, dict) else layer(inputs, **call_kwargs)
            self._check(layer, output, expected)
        if expected.get("expected_output") is not None:
            wanted = tree.flatten(expected["expected_output"])
            for actual, desired in zip(tree.flatten(output), wanted, strict=True):
                self.assertAllClose(desired, actual)
        if run_training_check and not isinstance(data, dict):
            _train(layer_cls(**init_kwargs), data)

    def _check(self, layer: Any, output: Any, expected: dict[str, Any]) -> None:
        """Checks the weights of a built layer, and the shapes and dtypes of its output."""
        for argument, attribute in COUNTS.items():
            if expected.get(argument) is not None:
                self.assertLen(getattr(layer, attribute), expected[argument], f"wrong number of {attribute}")
        if expected.get("expected_num_seed_generators") is not None:
            seeds = {id(value) for part in layer._flatten_layers() for value in vars(part).values() if _is_seed(value)}
            self.assertLen(seeds, expected["expected_num_seed_generators"], "wrong number of seed generators")
        if expected.get("expected_output_shape") is not None:
            shapes = tree.map_structure(lambda x: tuple(x.shape), output)
            wanted = expected["expected_output_shape"]
            pairs = [(wanted, shapes)] if isinstance(shapes, tuple) else zip(_shapes(wanted), _shapes(shapes))
            for want, shape in pairs:
                fits = len(want) == len(shape) and all(a in (None, b) for a, b in zip(want, shape))
                self.assertTrue(fits, f"expected output shapes {wanted}, got {shapes}")
        if expected.get("expected_output_dtype") is not None:
            wanted = tree.flatten(expected["expected_output_dtype"])
            for x, dtype in zip(tree.flatten(output), wanted, strict=True):
                self.assertDType(x, dtype)


def _is_seed(value: Any) -> bool:
    return isinstance(value, SeedGenerator)


def _shapes(nest: Any) -> list[Any]:
    """Returns the shapes in a nest: tuples of sizes are leaves."""
    if isinstance(nest, dict):
        return [shape for key in sorted(nest) for shape in _shapes(nest[key])]
    if isinstance(nest, (list, tuple)) and any(isinstance(item, (list, tuple, dict)) for item in nest):
        return [shape for item in nest for shape in _shapes(item)]
    return [tuple(nest)]


def _symbols(shape: Any, dtype: Any, data: Any) -> Any:
    """Returns symbolic tensors of given shapes, or like some data."""
    if shape is None:
        return tree.map_structure(lambda x: KerasTensor(x.shape, standardize_dtype(x.dtype)), data)
    if isinstance(shape, dict):
        names = {key: key.removesuffix("_shape") for key in shape}
        dtypes = dtype if isinstance(dtype, dict) else dict.fromkeys(names.values(), dtype)
        return {name: _symbols(shape[key], dtypes.get(name), None) for key, name in names.items()}
    if isinstance(shape, list) or (isinstance(shape, tuple) and any(isinstance(item, tuple) for item in shape)):
        return type(shape)(_symbols(item, dtype, None) for item in shape)
    return KerasTensor(shape, dtype or "float32")


def _ones(symbols: Any) -> Any:
    """Returns tensors of ones of the symbols' shapes, with two rows where the number is not known."""
    return tree.map_structure(lambda x: ops.ones([size or 2 for size in x.shape], x.dtype), symbols)


def _train(layer: Any, data: Any) -> None:
    """Trains a model of one layer for a step."""

    class SumLoss(Loss):
        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            return sum(ops.sum(leaf) for leaf in tree.flatten(y_pred))

    class OneLayer(Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def call(self, inputs: Any) -> Any:  # type: ignore[override]
            return self.layer(inputs)

    model = OneLayer()
    model.compile("sgd", SumLoss())
    arrays = tree.map_structure(ops.convert_to_numpy, data)
    model.fit(iter([(arrays, arrays)]), steps_per_epoch=1, verbose=0)
