"""A library over Keras: paths of its own source, private functions, and its test case."""

import io
import unittest

import keras
import keras.src.saving
import numpy as np
from keras.src import backend, layers, ops
from keras.src.activations import ALL_OBJECTS_DICT
from keras.src.api_export import keras_export
from keras.src.applications.imagenet_utils import obtain_input_shape
from keras.src.backend.common.keras_tensor import KerasTensor, any_symbolic_tensors
from keras.src.backend.config import standardize_data_format
from keras.src.layers.layer import Layer
from keras.src.losses.losses import LossFunctionWrapper
from keras.src.models.functional import Functional
from keras.src.ops import *  # noqa: F403
from keras.src.saving.saving_lib import load_model, save_model
from keras.src.testing import TestCase
from keras.src.utils.argument_validation import standardize_tuple
from keras.src.utils.tracking import no_automatic_dependency_tracking

assert Layer is keras.layers.Layer is layers.Layer and KerasTensor is keras.KerasTensor
assert LossFunctionWrapper and ops.mean is keras.ops.mean is mean  # noqa: F405
assert ALL_OBJECTS_DICT["relu"] is keras.activations.relu and standardize_data_format(None) == "channels_last"
assert keras.src.saving.serialization_lib.serialize_keras_object is keras.saving.serialize_keras_object
ALL_OBJECTS_DICT["twice"] = lambda x: 2 * x
assert keras.activations.get("twice")(3) == 6
assert any_symbolic_tensors((keras.Input((1,)),)) and backend.standardize_dtype("float32") == "float32"
assert obtain_input_shape(None, 224, 32, "channels_last", True) == (224, 224, 3)


@keras_export("library.Blur")
class Blur(Layer):
    @no_automatic_dependency_tracking
    def __init__(self, size=3, **kwargs):
        super().__init__(**kwargs)
        self.size = standardize_tuple(size, 2, "size")

    def call(self, inputs):
        return ops.average_pool(inputs, self.size, strides=1, padding="same")

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class Tests(TestCase):
    def test_no_distribution(self):
        assert keras.src.distribution.distribution_lib.distribution() is None
        assert keras.distribution.list_devices("cpu") == ["cpu:0"]
        with self.assertRaisesRegex(NotImplementedError, "torch.distributed"):
            keras.distribution.DeviceMesh((1,), ["batch"])

    def test_blur(self):
        kwargs = {"init_kwargs": {"size": 2}, "input_shape": (2, 4, 4, 1), "expected_output_shape": (2, 4, 4, 1)}
        self.run_layer_test(Blur, expected_num_trainable_weights=0, custom_objects={"Blur": Blur}, **kwargs)
        with self.assertRaises(AssertionError):
            self.run_layer_test(Blur, expected_num_trainable_weights=1, custom_objects={"Blur": Blur}, **kwargs)

    def test_masks(self):
        x = ops.ones((2, 3))
        assert backend.get_keras_mask(x) is None
        backend.set_keras_mask(x, ops.ones((2,), "bool"))
        self.assertAllEqual(backend.get_keras_mask(x), [True, True])

    def test_open_files(self):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        assert isinstance(keras.Model(model.inputs, model.outputs), Functional)
        file = io.BytesIO()
        save_model(model, file)
        file.seek(0)
        x = np.ones((1, 3), "float32")
        self.assertAllClose(load_model(file).predict(x, verbose=0), model.predict(x, verbose=0))

    def test_missing_names(self):
        with self.assertRaisesRegex(ImportError, "public API"):
            from keras.src.layers.layer import NoSuchName  # noqa: F401
        with self.assertRaisesRegex(ModuleNotFoundError, "public API"):
            import keras.src.nothing.at.all  # noqa: F401


assert unittest.main(argv=["library"], exit=False).result.wasSuccessful()
print("done")
