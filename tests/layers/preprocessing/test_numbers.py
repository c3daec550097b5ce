"""Rescaling, Normalization, Discretization, CategoryEncoding, the spectrograms and Pipeline beside their rows."""

import keras
import numpy as np
import pandas as pd
import pytest
import torch

from kstyle_torch import config, layers
from kstyle_torch.layers import Input
from kstyle_torch.models import Model
from tests.oracle import assert_close, uniform


def test_rescaling_of_channels_first_images():
    for namespace in (config, keras.config):
        namespace.set_image_data_format("channels_first")
    try:
        arguments = {"scale": [1.0, 2.0, 3.0], "offset": 1.0}
        x = uniform(2, 3, 4, 5)
        assert_close(layers.Rescaling(**arguments)(x), keras.layers.Rescaling(**arguments)(x))
    finally:
        keras.config.set_image_data_format("channels_last")


def test_rescaling_takes_arrays():
    layer = layers.Rescaling(scale=np.array([1.0, 2.0]), offset=np.array([0.5, 0.5]))
    theirs = keras.layers.Rescaling.from_config(layer.get_config())
    again = layers.Rescaling.from_config(theirs.get_config())
    x = uniform(3, 2)
    assert_close(layer(x), theirs(x))
    assert_close(again(x), theirs(x))


@pytest.mark.parametrize("name", ["Rescaling", "Normalization", "Discretization", "CategoryEncoding"])
def test_called_on_data_as_it_comes(name):
    arguments = {
        "Rescaling": {"scale": 2.0},
        "Normalization": {"mean": 1.0, "variance": 4.0},
        "Discretization": {"bin_boundaries": [0.5, 1.5]},
        "CategoryEncoding": {"num_tokens": 3},
    }[name]
    layer = getattr(layers, name)(**arguments)
    rows = [[0, 1], [2, 2]]
    expected = getattr(keras.layers, name)(**arguments)(np.array(rows))
    for data in (rows, np.array(rows), pd.DataFrame(rows), torch.tensor(rows)):
        assert_close(layer(data), expected)
        assert layer(data).dtype == expected.dtype


@pytest.mark.parametrize(
    "arguments",
    [
        {"mean": 1.0},
        {"variance": 1.0},
        {"mean": [1.0, 2.0], "variance": 1.0},
        {"mean": [[1.0]], "variance": [[1.0]]},
    ],
    ids=str,
)
def test_bad_normalization(arguments):
    with pytest.raises(ValueError, match="Normalization"):
        layers.Normalization(**arguments)


def test_normalization_needs_sizes():
    with pytest.raises(ValueError, match="known size"):
        layers.Normalization()(Input((None,)))
    with pytest.raises(ValueError, match="does not exist"):
        layers.Normalization(axis=3)(uniform(2, 3))
    assert layers.Normalization().mean is None


@pytest.mark.parametrize("given", [np.array, torch.tensor, tuple], ids=["array", "tensor", "tuple"])
def test_normalization_config_has_no_arrays(given):
    layer = layers.Normalization(mean=given([1.0, 2.0]), variance=given([4.0, 9.0]))
    theirs = keras.layers.Normalization.from_config(layer.get_config())
    x = uniform(3, 2)
    assert_close(layer(x), theirs(x))
    assert_close(layer.mean, theirs.mean)


def test_normalization_of_a_feature_without_spread():
    layer = layers.Normalization()
    layer.adapt(np.ones((4, 2)))
    assert_close(layer(np.ones((1, 2))), np.zeros((1, 2)))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"bin_boundaries": [1.0], "num_bins": 2},
        {"num_bins": -1},
        {"num_bins": 2, "output_mode": "ints"},
        {"num_bins": 2, "output_mode": "count", "sparse": True},
    ],
    ids=str,
)
def test_bad_discretization(arguments):
    with pytest.raises(ValueError, match="Discretization"):
        layers.Discretization(**arguments)


def test_discretization_without_bins():
    with pytest.raises(ValueError, match="adapt"):
        layers.Discretization(num_bins=3)(uniform(2, 2))


@pytest.mark.parametrize("value", [5, -1])
def test_numbers_that_are_no_category(value):
    layer = layers.CategoryEncoding(num_tokens=5)
    with pytest.raises(ValueError, match=f"number {value} is not a category"):
        layer([[0, value]])


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_tokens": 0}, {"num_tokens": 3, "output_mode": "int"}, {"num_tokens": 3, "sparse": True}],
    ids=str,
)
def test_bad_category_encoding(arguments):
    with pytest.raises(ValueError, match="CategoryEncoding"):
        layers.CategoryEncoding(**arguments)


def test_weights_of_counts():
    weights = np.array([[0.1, 0.2], [0.1, 0.1], [0.2, 0.3], [0.4, 0.2]])
    rows = [[0, 1], [0, 0], [1, 2], [3, 1]]
    ours, theirs = (library.CategoryEncoding(4, output_mode="count") for library in (layers, keras.layers))
    assert_close(ours(rows, count_weights=weights), theirs(rows, count_weights=weights))
    with pytest.raises(ValueError, match="count_weights"):
        layers.CategoryEncoding(4)(rows, count_weights=weights)


@pytest.mark.parametrize(
    "arguments",
    [{"fft_length": 16, "sequence_length": 32}, {"window": "square"}, {"fft_length": 16, "window": np.ones(9)}],
    ids=["long", "name", "length"],
)
def test_bad_mel_spectrogram(arguments):
    with pytest.raises(ValueError, match="MelSpectrogram"):
        layers.MelSpectrogram(**arguments)


def test_mel_spectrogram_of_one_sound():
    arguments = {"num_mel_bins": 16, "sampling_rate": 8000, "fft_length": 256, "sequence_stride": 64}
    x = uniform(2000)
    ours, theirs = layers.MelSpectrogram(**arguments)(x), keras.layers.MelSpectrogram(**arguments)(x)
    assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    window = np.hanning(256)
    arguments["window"] = window
    assert_close(
        layers.MelSpectrogram(**arguments)(x), keras.layers.MelSpectrogram(**arguments)(x), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "power"},
        {"frame_step": 300},
        {"frame_step": 0},
        {"fft_length": 128},
        {"window": "no such window"},
        {"window": np.ones(5)},
        {"scaling": "loud"},
        {"padding": "causal"},
        {"data_format": "last"},
    ],
    ids=str,
)
def test_bad_stft_spectrogram(arguments):
    with pytest.raises(ValueError):
        layers.STFTSpectrogram(**arguments)


def test_stft_spectrogram_of_what_is_no_signal():
    layer = layers.STFTSpectrogram(frame_length=4)
    with pytest.raises(TypeError, match="floats"):
        layer(torch.ones(1, 8, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 axes"):
        layer(torch.ones(1, 8))
    with pytest.warns(UserWarning, match="power of two"):
        layers.STFTSpectrogram(frame_length=4, fft_length=6)


def test_stft_kernels_train_unless_frozen():
    layer = layers.STFTSpectrogram(frame_length=8, mode="magnitude")
    layer(uniform(1, 32, 1))
    assert [weight.name for weight in layer.trainable_weights] == ["real_kernel", "imag_kernel"]
    frozen = layers.STFTSpectrogram(frame_length=8, mode="real", trainable=False)
    frozen(uniform(1, 32, 1))
    assert frozen.trainable_weights == [] and len(frozen.weights) == 1
    assert isinstance(frozen.real, torch.nn.Conv1d)


def test_pipeline_equals_its_layers():
    steps = [layers.Rescaling(0.5), layers.Dropout(0.5), layers.Normalization(mean=1.0, variance=4.0)]
    pipeline = layers.Pipeline(steps)
    x = uniform(3, 4)
    quiet = pipeline(x, training=False)
    assert_close(quiet, (x * 0.5 - 1) / 2)
    assert pipeline.layers == steps
    assert not torch.equal(pipeline(x), quiet)  # training mode unless it is told otherwise, as in Keras
    theirs = keras.layers.Pipeline.from_config(pipeline.get_config())
    assert_close(theirs(x, training=False), quiet)
    inputs = Input((4,))
    assert_close(Model(inputs, pipeline(inputs)).predict(x, verbose=0), quiet)


def test_pipeline_hands_masks_on():
    class Sum(layers.Layer):
        def call(self, x, mask=None):
            return (x * mask[..., None]).sum(1)

        def compute_mask(self, inputs, previous_mask):
            return None

    pipeline = layers.Pipeline([layers.Embedding(5, 2, mask_zero=True), layers.Activation("linear"), Sum()])
    x = torch.tensor([[1, 0, 2]])
    table = pipeline.layers[0](x)
    assert_close(pipeline(x), table[:, 0] + table[:, 2])


def test_pipeline_of_what_is_no_layer():
    with pytest.raises(TypeError, match="Pipeline takes"):
        layers.Pipeline([len])
