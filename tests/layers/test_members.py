"""Public methods, properties and arguments of layers that others than their own tests do not meet: as in Keras."""

import base64
import inspect
import io
import re

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers, tree
from kstyle_torch.layers.preprocessing.image.base import BaseImagePreprocessingLayer
from tests.layers.test_hooks import on_both, with_weights
from tests.oracle import assert_close, integers, uniform


def defaults_by_rank(library):
    names = [f"{name}{rank}D" for name in ("Conv", "MaxPooling", "UpSampling", "ZeroPadding") for rank in (1, 2, 3)]
    names += ["Conv2DTranspose", "Conv3DTranspose", "DepthwiseConv2D", "SeparableConv2D"]
    found = [str(inspect.signature(getattr(library.layers, name))) for name in names]
    return [
        str(re.findall(r"(?:strides|dilation_rate|pool_size|size|padding)[^=,]*= ?([^a-z]+)", each)) for each in found
    ]


def defaults_in_configs(library):
    made = [library.layers.Conv2D(3, 2), library.layers.MaxPooling2D(), library.layers.ZeroPadding3D()]
    names = ("strides", "dilation_rate", "pool_size", "padding")
    configs = [layer.get_config() for layer in made]
    return str([config[name] for config in configs for name in names if config.get(name) and name != "strides"])


def serialization_specs(library):
    made = {
        "dense": library.layers.Dense(2),
        "einsum": library.layers.EinsumDense("ab,bc->ac", 2),
        "embedding": library.layers.Embedding(3, 2),
        "tied": library.layers.ReversibleEmbedding(3, 2),
        "untied": library.layers.ReversibleEmbedding(3, 2, tie_weights=False),
    }
    return str({name: layer.variable_serialization_spec[None] for name, layer in made.items()})


def mel_matrix(library):
    layer = library.layers.MelSpectrogram()
    some = layer.linear_to_mel_weight_matrix(8, 65, 16000, 20.0, 7000.0, "float32")
    return layer.linear_to_mel_weight_matrix(), some


def adapted_normalization(library):
    layer = library.layers.Normalization()
    layer.build((None, 3))
    layer.adapt_mean.assign([1.0, 2.0, 3.0])
    layer.adapt_variance.assign([1.0, 4.0, 9.0])
    layer.finalize_state()
    return layer(uniform(4, 3)), layer.mean, layer.variance


def discretization_dtypes(library):
    made = [library.layers.Discretization([0.0], output_mode=mode) for mode in ("int", "one_hot")]
    return str([(layer.input_dtype, layer.output_dtype) for layer in made])


def spectral_weights(library):
    layer = library.layers.SpectralNormalization(library.layers.Dense(4), power_iterations=2)
    layer.build((None, 3))
    with_weights(layer)
    return layer.normalized_weights()


def embedding_shapes(library):
    layer = library.layers.ReversibleEmbedding(9, 4)
    shapes = layer.compute_output_shape((2, 3)), layer.compute_output_shape((2, 3, 4), reverse=True)
    return str([tuple(shape) for shape in shapes])


def embedding_masks(library):
    return library.layers.Embedding(5, 2, mask_zero=True).compute_mask(integers(2, 3), mask=None)


def merged_masks(library):
    xs, masks = (
        [uniform(2, 3, 4)] * 2,
        [torch.tensor([[True, False, True]] * 2), torch.tensor([[False, False, True]] * 2)],
    )
    names = ("Add", "Maximum", "Concatenate")
    return [getattr(library.layers, name)().compute_mask(xs, mask=masks) for name in names]


def recurrent_masks(library):
    mask = torch.tensor([[True, False]])
    made = [library.layers.GRU(2, **arguments) for arguments in ({}, {"return_sequences": True, "return_state": True})]
    both = library.layers.Bidirectional(library.layers.LSTM(2, return_sequences=True), merge_mode=None)
    masks = [layer.compute_mask(None, mask) for layer in (*made, both)]
    return [str(leaf) for leaf in tree.flatten(masks)]


def points_and_boxes(library):
    transform = uniform(2, 8)
    boxes = uniform(2, 3, 4, low=0, high=9)
    shift = uniform(2, 1, seed=3), uniform(2, 1, seed=4)
    ends = [uniform(2, 1, low=low, high=high, seed=5) for low, high in ((6, 8), (0, 2), (6, 8), (0, 2))]
    made = [
        library.layers.RandomTranslation(0.1, 0.1),
        library.layers.RandomShear(0.1, 0.1),
        library.layers.RandomZoom(0.1),
    ]
    points = [layer.get_transformed_x_y(2.0, 3.0, transform) for layer in made]
    moved = [layer.get_shifted_bbox({"boxes": boxes}, *shift)["boxes"] for layer in made[:2]]
    return points, moved, made[2].get_clipped_bbox({"boxes": boxes}, *ends)["boxes"]


def elastic_parameters(library):
    return str(library.layers.RandomElasticTransform().get_elastic_transform_params(20, 10, 0.5))


def gray_parts(library):
    layer = library.layers.RandomGrayscale(1.0)
    boxes, labels, masks = {"boxes": uniform(1, 2, 4)}, uniform(2), uniform(2, 4, 4, 1)
    return (
        layer.transform_images(uniform(2, 4, 4, 3, low=0), None),
        layer.get_random_transformation(uniform(2, 4, 4, 3)),
        layer.transform_bounding_boxes(boxes, other=1)["boxes"],
        layer.transform_labels(labels, other=1),
        layer.transform_segmentation_masks(masks, other=1),
    )


def single_parts(library):
    layer = library.layers.RandomFlip("horizontal", seed=1, bounding_box_format="xyxy")
    how = {"flips": torch.ones(1, 1, 1, 1, dtype=torch.bool), "input_shape": (1, 4, 4, 3)}
    return layer.transform_single_label(torch.tensor(3), how, training=True), layer.convert_weight(torch.ones(2))


def defaults_of_transform_images(library):
    images = uniform(2, 4, 4, 3, low=0)
    made = [library.layers.Resizing(2, 2), library.layers.CenterCrop(2, 2), library.layers.AutoContrast((0, 1))]
    return [layer.transform_images(images) for layer in made]


def shapes_of_wrapped_modules(library):
    layer = library.layers.TorchModuleWrapper(torch.nn.Linear(3, 2), "linear", (7, 2))
    return str(tuple(layer.compute_output_shape((7, 3)))), str(layer.output_shape)


def modes_of_wrapped_modules(library):
    layer = library.layers.TorchModuleWrapper(torch.nn.Dropout(1.0))
    return layer(torch.ones(2), training=True), layer(torch.ones(2), training=False)


def input_layers(library):
    layer = library.layers.InputLayer((3,), 4, "int32", None, None, None, None, True, "data")
    given = library.Input((2, 3))
    kept = library.Input(tensor=given, name="mine")
    facts = (layer.batch_shape, layer.dtype, layer.optional, layer.name, layer.sparse, layer.ragged)
    return str(facts), str(kept is given), str(tuple(layer.output.shape)), str(layer.call())


def older_input_layers(library):
    with pytest.warns(UserWarning, match="input_shape"):
        first = library.layers.InputLayer(input_shape=(3,))
    second = library.layers.InputLayer(batch_input_shape=(4, 3))
    again = [library.layers.InputLayer.from_config(layer.get_config()) for layer in (first, second)]
    return str([layer.batch_shape for layer in (first, second, *again)])


def optional_inputs(library):
    class Plus(library.layers.Layer):
        def call(self, x, y=None):
            return x if y is None else x + y

        def compute_output_shape(self, x_shape, *rest):
            return x_shape

    inputs = [library.Input((2,), name="x"), library.Input((2,), name="y", optional=True)]
    model = library.Model(inputs, library.layers.Dense(1)(Plus()(*inputs)))
    with_weights(model)
    model.compile(library.optimizers.SGD(0.1), "mse")
    x = uniform(4, 2)
    predicted = [torch.tensor(model.predict([x.numpy(), other], verbose=0)) for other in (x.numpy(), None)]
    history = model.fit([x.numpy(), None], np.ones((4, 1)), epochs=2, verbose=0).history["loss"]
    return model([x, x]), model([x, None]), model({"x": x, "y": None}), predicted, torch.tensor(history).float()


def intermediate_inputs(library):
    hidden = library.layers.Dense(2)(library.Input((3,)))
    inputs = library.Input(tensor=hidden, name="inside")
    model = with_weights(library.Model(inputs, library.layers.Dense(1)(inputs)))
    return model(uniform(4, 2)), str(len(model.weights)), model.layers[0].name


def trained_layers(library):
    x = uniform(2, 5, 4)
    made = [
        (library.layers.Dense(3), (x,)),
        (library.layers.EinsumDense("abc,cd->abd", (None, 3)), (x,)),
        (library.layers.MultiHeadAttention(2, 3), (x, x)),
        (library.layers.GroupQueryAttention(3, 2, 1), (x, x)),
        (library.layers.AdditiveAttention(), ([x, x],)),
    ]
    outputs = []
    for layer, args in made:
        layer(*args, training=True)
        outputs.append(with_weights(layer)(*args, training=True))
    return outputs


def custom_objects(library):
    class Doubled(library.layers.Dense):
        def call(self, inputs, training=None):
            return super().call(inputs, training=training) * 2

    wrappers = (library.layers.TimeDistributed, library.layers.SpectralNormalization)
    made = []
    for wrapper in wrappers:
        config = wrapper(Doubled(3, name="inside")).get_config()
        made.append(wrapper.from_config(config, custom_objects={"Doubled": Doubled}).layer.units)
    return str(made)


PROGRAMS = [
    *(defaults_by_rank, defaults_in_configs),
    *(serialization_specs, mel_matrix, adapted_normalization, discretization_dtypes, spectral_weights),
    *(embedding_shapes, embedding_masks, merged_masks, recurrent_masks, points_and_boxes, elastic_parameters),
    *(gray_parts, single_parts, defaults_of_transform_images, shapes_of_wrapped_modules, modes_of_wrapped_modules),
    *(input_layers, older_input_layers, optional_inputs, intermediate_inputs, trained_layers, custom_objects),
]


@pytest.mark.parametrize("program", [pytest.param(each, id=each.__name__) for each in PROGRAMS])
def test_members(program):
    on_both(program)


BAD_INPUTS = {
    "shape": lambda library, x: {"tensor": x, "shape": (3,)},
    "batch_size": lambda library, x: {"tensor": x, "batch_size": 4},
    "batch_shape": lambda library, x: {"tensor": x, "batch_shape": (1, 2)},
    "dtype": lambda library, x: {"tensor": x, "dtype": "int32"},
    "real": lambda library, x: {"tensor": torch.ones(1)},
    "sparse": lambda library, x: {"shape": (2,), "sparse": True},
    "ragged": lambda library, x: {"shape": (2,), "ragged": True},
    "none": lambda library, x: {},
    "two": lambda library, x: {"batch_shape": (1, 2), "shape": (2,)},
    "size-twice": lambda library, x: {"batch_shape": (1, 2), "batch_size": 3},
}


@pytest.mark.parametrize("arguments", BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_inputs_that_contradict_themselves(arguments):
    for library in (keras, ks):
        with pytest.raises(ValueError):
            library.Input(**arguments(library, library.Input((2,))))


@pytest.mark.parametrize("name", ["Dense", "EinsumDense", "Embedding"])
def test_quantization_is_not_built_yet(name):
    args = {"Dense": (2,), "EinsumDense": ("ab,bc->ac", 2), "Embedding": (3, 2)}[name]
    assert getattr(layers, name)(*args, quantization_config=None).get_config()["quantization_config"] is None
    with pytest.raises(NotImplementedError, match="quantization is not built yet"):
        getattr(layers, name)(*args, quantization_config={"class_name": "Int8QuantizationConfig"})


def test_a_pickled_module_in_a_config():
    module = torch.nn.Linear(3, 2)
    held = io.BytesIO()
    torch.save(module, held)
    config = {"name": "linear", "module": base64.b64encode(held.getvalue()).decode()}
    with pytest.raises(ValueError, match="stored as a pickle"):
        layers.TorchModuleWrapper.from_config(config)
    made = layers.TorchModuleWrapper.from_config(config, safe_mode=False)
    x = uniform(4, 3)
    assert_close(made(x), module(x))


def test_a_lambda_of_a_trusted_config():
    theirs = keras.layers.Lambda(lambda x: x * 2, name="twice").get_config()
    with pytest.raises(ValueError, match="Python lambda"):
        layers.Lambda.from_config(theirs)
    assert_close(layers.Lambda.from_config(theirs, safe_mode=False)(torch.ones(2)), [2, 2])


def test_transformations_of_single_images():
    class Marked(BaseImagePreprocessingLayer):
        def get_random_transformation(self, data, training=True, seed=None):
            return tuple(data["images"].shape)

        def transform_images(self, images, transformation, training=True):
            return images + len(transformation)

        def transform_single_label(self, label, transformation, training=True):
            return label + 10

    given = {"images": torch.zeros(2, 2, 1), "labels": torch.tensor(1)}
    single = Marked()(given)
    batch = Marked()({name: part[None] for name, part in given.items()})
    assert (single["images"].unique().tolist(), single["labels"].item()) == ([3.0], 11)
    assert (batch["images"].unique().tolist(), batch["labels"].tolist()) == ([4.0], [1])


def test_bounding_boxes_of_a_single_image():
    layer = layers.RandomFlip("horizontal", seed=3, bounding_box_format="xyxy")
    image = uniform(6, 8, 3)
    boxes = {"boxes": torch.tensor([[1.0, 2.0, 3.0, 4.0]]), "labels": torch.tensor([1.0])}
    one = layer({"images": image, "bounding_boxes": boxes, "segmentation_masks": image[..., :1]}, training=True)
    again = layers.RandomFlip("horizontal", seed=3, bounding_box_format="xyxy")
    parts = {"images": image, "bounding_boxes": boxes, "segmentation_masks": image[..., :1]}
    batch = again(tree.map_structure(lambda leaf: leaf[None], parts), training=True)
    for mine, other in zip(tree.flatten(one), tree.flatten(batch), strict=True):
        assert_close(mine, other[0])


def mistaken_inputs():
    sequence, image, volume = (2, 6, 4), (2, 8, 8, 4), (2, 5, 5, 5, 4)
    yield from (("Dense", (3,), {}, (3, 4)), ("EinsumDense", ("abc,cd->abd", (None, 5)), {}, sequence))
    for rank, shape in (("1D", sequence), ("2D", image), ("3D", volume)):
        yield from ((f"Conv{rank}", (2, 2), {}, shape), (f"Conv{rank}Transpose", (2, 2), {}, shape))
        yield f"ConvLSTM{rank}", (2, 2), {}, (2, 3, *shape[1:])
    yield from (("DepthwiseConv2D", (2,), {}, image), ("SeparableConv1D", (2, 2), {}, sequence))
    for name in ("LSTM", "GRU", "SimpleRNN"):
        yield from ((name, (3,), {}, sequence), (name, (3,), {"return_state": True, "activation": "sigmoid"}, sequence))
    yield from ((name, (), {}, sequence) for name in ("LayerNormalization", "RMSNormalization", "BatchNormalization"))
    yield from ((name, (), {"axis": 1}, image) for name in ("LayerNormalization", "BatchNormalization"))
    yield from (("GroupNormalization", (2,), {}, image), ("PReLU", (), {}, (3, 4)))
    yield "GroupNormalization", (2,), {"center": False, "scale": False}, image
    yield "BatchNormalization", (), {"center": False, "scale": False}, sequence
    yield "Normalization", (), {"mean": [1.0, 2, 3, 4], "variance": [1.0, 2, 3, 4]}, (3, 4)


@pytest.mark.parametrize(
    ("name", "args", "arguments", "shape"),
    [pytest.param(*row, id="-".join([row[0], *row[2]])) for row in mistaken_inputs()],
)
@pytest.mark.parametrize("size", [1, 6])
def test_a_wrong_size_is_named(name, args, arguments, shape, size):
    layer = getattr(layers, name)(*args, **arguments, name="mine")
    layer(uniform(*shape))
    axis = arguments.get("axis", -1)
    wrong = list(shape)
    wrong[axis] = size
    expected = (
        f"expected size {shape[axis]} along axis {axis}|expected size {shape[axis]} along axis {axis % len(shape)}"
    )
    for mode in ({}, {"training": True}) if "Norm" in name and name != "Normalization" else ({},):
        with pytest.raises(ValueError, match=expected) as caught:
            layer(uniform(*wrong), **mode)
        assert "cell" in str(caught.value) or "mine" in str(caught.value)
    outside = layers.Bidirectional(layers.LSTM(2))
    outside(uniform(2, 6, 4))
    with pytest.raises(ValueError, match="expected size 4 along axis -1"):
        outside(uniform(2, 6, size))


@pytest.mark.parametrize("name", ["MultiHeadAttention", "GroupQueryAttention"])
def test_a_wrong_size_of_one_of_several_inputs_is_named(name):
    layer = getattr(layers, name)(2, 4, 2)
    x = uniform(2, 5, 8)
    layer(x, x)
    with pytest.raises(ValueError, match="key: expected size 8 along axis -1"):
        layer(x, uniform(2, 5, 7))
