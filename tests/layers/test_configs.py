"""The keys of every layer's config, and the values that are settled when it is made, are Keras' or have a reason."""

import keras
import pytest

import kstyle_torch
from tests.choice import parameters
from tests.layers.layer_cases import CASES

MORE = {  # keys that Keras leaves out
    "activity_regularizer": "an argument, which Keras' Dense loses",
    "lora_rank": "None, where Keras writes it only of layers with LoRA",
    "lora_alpha": "likewise",
    "flash_attention": "an argument, which Keras loses",
    "gptq_unpacked_column_size": "an argument of Keras",
    "implementation": "an argument, which Keras loses",
    "input_length": "an argument of older Keras",
    "mask": "None, where Keras writes it only if it is given",
    "output_shape": "likewise",
    "seed": "an argument, which Keras' SimpleRNN loses",
    "sparse": "an argument, which Keras loses",
    "use_cudnn": "an argument, which Keras loses",
    "weights": "None, the argument for a first table",
    "fill_value": "an argument, which Keras loses",
    "shape": "as InputLayer was given it",
    "batch_size": "likewise",
    "trainable": "of an InputLayer",
}
LESS = {  # keys of base classes' arguments that were not given
    "activity_regularizer", "data_format", "quantization_config", "seed", "unroll", "zero_output_for_mask", "lora_alpha",
}  # fmt: skip
SETTLED = {*"kernel_size strides dilation_rate pool_size padding output_size size cropping value_dim".split()}
ROWS = [case for case in CASES if case.has_config and case.oracle]


def config_of(library, case):
    name = case.keras_layer or case.layer if library is keras else case.layer
    return getattr(library.layers, name)(**case.arguments_for(library)).get_config()


@pytest.mark.parametrize("case", parameters(ROWS, lambda case: case.layer, lambda case: case.id))
def test_the_config_has_keras_form(case):
    theirs, ours = config_of(keras, case), config_of(kstyle_torch, case)
    assert theirs.keys() - ours.keys() <= LESS
    assert ours.keys() - theirs.keys() <= MORE.keys()
    settled = SETTLED & theirs.keys() & ours.keys()
    assert {name: ours[name] for name in settled} == {name: theirs[name] for name in settled}
