"""ConvNeXt: a residual network of large depthwise convolutions, designed after vision transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kstyle_torch import config, layers, serialization
from kstyle_torch.applications._arguments import Arguments, architecture
from kstyle_torch.applications._weights_file import pair
from kstyle_torch.applications.imagenet_utils import DEVIATIONS, MEANS, decode_predictions
from kstyle_torch.initializers import Constant
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layers import Layer
from kstyle_torch.models import Functional, Sequential
from kstyle_torch.symbolic.tensor import SymbolicTensor

__all__ = [
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "decode_predictions",
    "preprocess_input",
]

SCALE = 1e-6  # of each block's branch before training
EPSILON = 1e-6


class _Variant(NamedTuple):
    """Blocks and channels at each resolution."""

    depths: tuple[int, ...]
    filters: tuple[int, ...]
    digests: tuple[str, str]  # of the weights with the top and without


VARIANTS = {
    "Tiny": _Variant(
        (3, 3, 9, 3),
        (96, 192, 384, 768),
        (
            "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
            "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
    ),
    "Small": _Variant(
        (3, 3, 27, 3),
        (96, 192, 384, 768),
        (
            "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
            "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        ),
    ),
    "Base": _Variant(
        (3, 3, 27, 3),
        (128, 256, 512, 1024),
        (
            "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
            "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        ),
    ),
    "Large": _Variant(
        (3, 3, 27, 3),
        (192, 384, 768, 1536),
        (
            "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
            "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        ),
    ),
    "XLarge": _Variant(
        (3, 3, 27, 3),
        (256, 512, 1024, 2048),
        (
            "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
            "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        ),
    ),
}

own_layers = serialization.registry("layer of ConvNeXt", "keras.src.applications.convnext")


@own_layers.register()
class StochasticDepth(Layer):
    """Stochastic depth: in training, random samples become 0, and the others are scaled by `1 / (1 - drop_path_rate)`.

    Args:
        drop_path_rate: Probability of 0, from 0 to 1.
    Output shape: that of the input.
    Raises: ValueError: if the probability is not one.
    Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382.
    """

    def __init__(self, drop_path_rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= drop_path_rate <= 1:
            raise ValueError(f"{self.name}: drop_path_rate must be from 0 to 1; got {drop_path_rate!r}.")
        self.drop_path_rate = drop_path_rate

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Returns the input, in training with samples dropped."""
        if not training or not self.drop_path_rate:
            return x
        kept = torch.rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) >= self.drop_path_rate
        scale = 1 / (1 - self.drop_path_rate) if self.drop_path_rate < 1 else 0.0
        return x * (kept.to(x.dtype) * scale)


@own_layers.register()
class LayerScale(Layer):
    """Layer scale: multiplies each channel by a learned factor.

    Args:
        init_values: The factors before training, which are small.
        projection_dim: Number of channels.
    Input shape: (..., projection_dim). Output shape: that of the input.
    Source: Touvron et al. 2021, https://arxiv.org/abs/2103.17239.
    """

    def __init__(self, init_values: float, projection_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape: Shape) -> None:
        """Makes the factors."""
        self.gamma = self.add_weight((self.projection_dim,), Constant(self.init_values))

    def call(self, x: Tensor) -> Tensor:
        """Returns the scaled input."""
        return x * self.gamma


def _variant(key: str) -> Callable[..., Functional]:
    """Returns the function that makes a variant; they differ in numbers alone."""
    variant = VARIANTS[key]
    default_name = f"convnext_{key.lower()}"

    def make(
        include_top: bool = True,
        include_preprocessing: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        name: str | None = default_name,
    ) -> Functional:
        arguments = Arguments(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )
        files = pair(f"convnext/{default_name}", *variant.digests)
        if config.image_data_format() == "channels_first":
            raise ValueError('ConvNeXt needs channels last; call config.set_image_data_format("channels_last") first.')
        x = image = arguments.image(default_size=224, min_size=32)
        if include_preprocessing and x.shape[-1] == 3:
            x = _preprocess(x, f"{name}_prestem_normalization")
        x = _finish(_features(x, variant, f"{name}"), arguments)
        return arguments.model(image, x, files[bool(include_top)])

    make.__name__ = make.__qualname__ = f"ConvNeXt{key}"
    make.__doc__ = f"""Makes {make.__name__}, for images of 224 x 224, at least 32 x 32; channels last only.

    Args:
        include_preprocessing: Whether the network takes values from 0 to 255, and normalizes them.

    Source: Liu et al. 2022, A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545.
    """
    return architecture(make)


ConvNeXtTiny = _variant("Tiny")
ConvNeXtSmall = _variant("Small")
ConvNeXtBase = _variant("Base")
ConvNeXtLarge = _variant("Large")
ConvNeXtXLarge = _variant("XLarge")


def _preprocess(x: SymbolicTensor, name: str) -> SymbolicTensor:
    mean = [value * 255 for value in MEANS["torch"]]
    variance = [(value * 255) ** 2 for value in DEVIATIONS]
    return layers.Normalization(mean=mean, variance=variance, name=name)(x)


def _features(x: SymbolicTensor, variant: _Variant, name: str) -> SymbolicTensor:
    for stage, (depth, filters) in enumerate(zip(variant.depths, variant.filters, strict=True)):
        x = (_downsampling(filters, name, stage - 1) if stage else _stem(filters, name))(x)
        for block in range(depth):
            x = _block(x, filters, f"{name}_stage_{stage}_block_{block}")
    return x


def _stem(filters: int, name: str) -> Sequential:
    """Returns the layer that makes a vector of each patch of 4 x 4 pixels."""
    patches = layers.Conv2D(filters, 4, strides=4, name=f"{name}_stem_conv")
    return Sequential([patches, _normalization(f"{name}_stem_layernorm")], name=f"{name}_stem")


def _downsampling(filters: int, name: str, number: int) -> Sequential:
    """Returns the layer that halves the resolution."""
    normalization = _normalization(f"{name}_downsampling_layernorm_{number}")
    convolution = layers.Conv2D(filters, 2, strides=2, name=f"{name}_downsampling_conv_{number}")
    return Sequential([normalization, convolution], name=f"{name}_downsampling_block_{number}")


def _block(inputs: SymbolicTensor, filters: int, name: str) -> SymbolicTensor:
    """Returns the input plus a branch; Dense layers are its 1 x 1 convolutions, which are faster so."""
    x = layers.Conv2D(filters, 7, padding="same", groups=filters, name=f"{name}_depthwise_conv")(inputs)
    x = _normalization(f"{name}_layernorm")(x)
    x = layers.Dense(4 * filters, name=f"{name}_pointwise_conv_1")(x)
    x = layers.Activation("gelu", name=f"{name}_gelu")(x)
    x = layers.Dense(filters, name=f"{name}_pointwise_conv_2")(x)
    x = LayerScale(SCALE, filters, name=f"{name}_layer_scale")(x)
    # Stochastic depth would come here; in Keras' variants its rate is 0, for which they have a layer that does nothing.
    return inputs + layers.Activation("linear", name=f"{name}_identity")(x)


def _normalization(name: str | None = None) -> Layer:
    return layers.LayerNormalization(epsilon=EPSILON, name=name)


def _finish(x: SymbolicTensor, arguments: Arguments) -> SymbolicTensor:
    """Returns the scores of the classes, or normalized features, as the arguments say."""
    if not arguments.include_top:
        return _normalization()(arguments.pooled(x))
    name = f"{arguments.name}_head"
    x = layers.GlobalAveragePooling2D(name=f"{name}_gap")(x)
    x = _normalization(f"{name}_layernorm")(x)
    activation = arguments.classifier_activation
    return layers.Dense(arguments.classes, activation=activation, name=f"{name}_dense")(x)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:  # noqa: ARG001
    """Returns its input: the preprocessing is part of the network."""
    return x
