"""The configs of layers, optimizers, losses and metrics have Keras' keys and values, users' subclasses included."""

import json

import keras
import pytest

import kstyle_torch
from kstyle_torch import layers
from tests.choice import parameters
from tests.layers.layer_cases import CASES

MORE = {  # keys that Keras leaves out, where their values are not the default
    *"activity_regularizer lora_rank lora_alpha flash_attention implementation mask output_shape seed sparse".split(),
    *"use_cudnn fill_value".split(),
}
LESS = {
    "data_format",
    "lora_alpha",
    "quantization_config",
    "seed",
    "unroll",
    "zero_output_for_mask",
}  # of base classes, not given
SETTLED = """kernel_size strides dilation_rate pool_size padding output_size size cropping value_dim dtype activation
    recurrent_activation""".split()
OBJECTS = ("_initializer", "_regularizer", "_constraint")
ROWS = [case for case in CASES if case.has_config and case.oracle]


def made(library, case):
    name = case.keras_layer or case.layer if library is keras else case.layer
    return getattr(library.layers, name)(**case.arguments_for(library))


@pytest.mark.parametrize("case", parameters(ROWS, lambda case: case.layer, lambda case: case.id))
def test_the_config_has_keras_form(case):
    theirs, ours = made(keras, case).get_config(), made(kstyle_torch, case).get_config()
    assert theirs.keys() - ours.keys() <= LESS
    assert ours.keys() - theirs.keys() <= MORE
    shared = [name for name in theirs if name in ours and (name in SETTLED or name.endswith(OBJECTS))]
    for name in shared:
        assert in_one_precision(ours[name]) == in_one_precision(theirs[name]), name


def in_one_precision(value):
    """A config with its numbers rounded, as Keras rounds some factors to float32."""
    if isinstance(value, dict):
        return {key: in_one_precision(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def test_no_key_is_more_or_less_of_the_common_layers():
    for name, *arguments in [("Dense", 3), ("Conv2D", 3, 3), ("BatchNormalization",), ("LSTM", 3), ("GRU", 3)]:
        theirs, ours = (getattr(library.layers, name)(*arguments, name="x") for library in (keras, kstyle_torch))
        assert ours.get_config() == theirs.get_config()
        assert [*ours.get_config()][:3] == ["name", "trainable", "dtype"]


def test_configs_written_before_keras_form():
    """Names stood for objects and policies, and None for the linear activation."""
    before = {"units": 3, "activation": None, "kernel_initializer": "he_normal", "kernel_regularizer": None}
    before |= {"lora_rank": None, "name": "d", "trainable": True, "dtype": "mixed_bfloat16"}
    layer = layers.Dense.from_config(before)
    assert layer.get_config()["kernel_initializer"]["class_name"] == "HeNormal"
    assert layer.dtype_policy.name == "mixed_bfloat16"
    entry = {"shape": (3,), "batch_size": None, "dtype": "float32", "batch_shape": None, "name": "i", "trainable": True}
    assert layers.InputLayer.from_config(entry).batch_shape == (None, 3)


UNKNOWN = {
    "implementation",
    "lora_alpha",
    "lora_rank",
    "seed",
    "use_cudnn",
}  # set by the user's constructor, and in no attribute
EXTENDED = [case for case in ROWS if case.layer != "RandomZoom"]  # its factors are as settled


@pytest.mark.parametrize("case", parameters(EXTENDED, lambda case: case.layer, lambda case: case.id))
def test_a_users_get_config_starts_from_that_of_the_class(case):
    layer = made(kstyle_torch, case)
    base, arguments = type(layer), case.arguments_for(kstyle_torch)

    class Extended(base):
        def __init__(self):
            super().__init__(**arguments)

        def get_config(self):
            return super().get_config()

    config = Extended().get_config()
    assert config.keys() ^ layer.get_config().keys() <= UNKNOWN
    assert without_names(base.from_config(config).get_config()) == without_names(config)


def without_names(config):
    if isinstance(config, dict):
        return {key: without_names(value) for key, value in config.items() if key != "name"}
    return [*map(without_names, config)] if isinstance(config, (list, tuple)) else config


def same(program):
    theirs, ours = program(keras), program(kstyle_torch)
    assert json.dumps(ours) == json.dumps(theirs)


def test_arguments_passed_on_by_a_users_class():
    def program(library):
        class Three(library.layers.Dense):
            def __init__(self, extra=lambda x: x, **kwargs):
                super().__init__(3, activation="relu", **kwargs)
                self.extra = extra

            def get_config(self):
                config = super().get_config()
                assert config.pop("units") == 3
                return config

        return Three(name="three").get_config()

    same(program)


def own_layer(library):
    class Own(library.layers.Layer):
        def __init__(self, function=lambda x: x, size=3, **kwargs):
            super().__init__(**kwargs)
            self.function, self.size = function, size

        def get_config(self):
            return {**super().get_config(), "size": self.size}

    return Own(name="own").get_config()


def own_model(library):
    class Own(library.Model):
        def __init__(self, function=lambda x: x, **kwargs):
            super().__init__(**kwargs)

        def get_config(self):
            return super().get_config()

    return Own(name="own").get_config()


def own_metric(library):
    class Own(library.metrics.Metric):
        def __init__(self, function=lambda x: x, name="own", **kwargs):
            super().__init__(name=name, **kwargs)

        def get_config(self):
            return super().get_config()

    return Own().get_config()


def own_loss(library):
    class Own(library.losses.Loss):
        def __init__(self, function=lambda x: x, name="own", **kwargs):
            super().__init__(name=name, **kwargs)

        def get_config(self):
            return super().get_config()

    return Own().get_config()


def own_optimizer(library):
    class Own(library.optimizers.SGD):
        def __init__(self, learning_rate=0.1, function=lambda x: x, name="own", **kwargs):
            super().__init__(learning_rate, momentum=0.5, name=name, **kwargs)

        def get_config(self):
            return super().get_config()

    return Own().get_config()


@pytest.mark.parametrize("program", [own_layer, own_model, own_metric, own_loss, own_optimizer])
def test_arguments_without_a_plain_form(program):
    same(program)


OPTIMIZERS = "Adadelta Adagrad Adam AdamW Adamax Ftrl Lamb Lion Nadam RMSprop SGD ScheduleFreeAdamW Adafactor".split()
LOSSES = "MeanSquaredError BinaryCrossentropy CategoricalCrossentropy KLDivergence Tversky Dice Circle".split()
METRICS = "AUC Accuracy BinaryAccuracy F1Score Mean MeanSquaredError Precision R2Score TopKCategoricalAccuracy".split()


@pytest.mark.parametrize(
    ("home", "names"),
    [("optimizers", OPTIMIZERS), ("losses", LOSSES), ("metrics", METRICS)],
    ids=lambda each: str(each)[:9],
)
def test_configs_of_what_compile_takes(home, names):
    for name in names:
        same(lambda library, name=name: getattr(getattr(library, home), name)(name="x").get_config())
