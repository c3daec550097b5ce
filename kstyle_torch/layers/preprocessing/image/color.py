"""Augmentation of color: hue, saturation, grayscale, inversion, posterization, jitter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.base import Factor, Range, rescaled
from kstyle_torch.layers.preprocessing.image.random import (
    Draws,
    LeavesAlone,
    RandomImageLayer,
    RandomValueLayer,
    per_image,
)
from kstyle_torch.layers.preprocessing.image.tone import RandomBrightness, RandomContrast
from kstyle_torch.ops.image.color import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv

register = layer_registry.register


@register()
class RandomHue(LeavesAlone, RandomValueLayer):
    """Random shift of the hue of each image, in training.

    Args:
        factor: How far: from 0 to 1 (half a turn), or the limits of a random one; `f` means from 0 to `f`.
        value_range: Smallest and largest value of a pixel.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: for a factor outside of 0 and 1.

    Example:
        >>> RandomHue(0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor,
        value_range: Range = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, data_format=data_format, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        sign = torch.where(draws.uniform(draws.rows) > 0.5, -1.0, 1.0)
        return {"factor": sign * draws.uniform(draws.rows, between=self.factor) * 0.5}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        hsv = rgb_to_hsv(rescaled(images, self.value_range, (0, 1)), self.data_format)
        hue, saturation, value = hsv.unbind(self.channel_axis)
        hue = hue + transformation["factor"].to(images.dtype)[:, None, None]
        turned = torch.stack((hue, saturation, value), self.channel_axis)  # hsv_to_rgb accepts hues outside of 0 to 1
        return rescaled(hsv_to_rgb(turned, self.data_format).clamp(0, 1), (0, 1), self.value_range)


@register()
class RandomSaturation(LeavesAlone, RandomValueLayer):
    """Random change of the saturation of each image, in training.

    Args:
        factor: 0 makes gray, 0.5 leaves alone, 1 makes full colors; a number, or the limits of a random one.
        value_range: Smallest and largest value of a pixel; as in Keras, it also limits the saturation.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: for a factor outside of -1 and 1.

    Example:
        >>> RandomSaturation(0.2)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Range = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, data_format=data_format, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        factor = draws.uniform(draws.rows, between=self.factor)
        return {"factor": factor / (1 - factor + config.epsilon())}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        hue, saturation, value = rgb_to_hsv(images, self.data_format).unbind(self.channel_axis)
        factor = transformation["factor"].to(images.dtype)[:, None, None]
        saturation = (saturation * factor).clamp(*self.value_range)
        return hsv_to_rgb(torch.stack((hue, saturation, value), self.channel_axis), self.data_format)


@register()
class RandomColorDegeneration(LeavesAlone, RandomValueLayer):
    """Random blend of each image with its grayscale version, in training.

    Args:
        factor: Share of gray: 0 for no change, 1 for gray; a number `f` means from `-f` to `f`, or the two that it is drawn
            between.
        value_range: Smallest and largest value of a pixel.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: for a factor outside of -1 and 1.

    Example:
        >>> RandomColorDegeneration(0.5)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        factor: Factor,
        value_range: Range = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, data_format=data_format, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        return {"factor": per_image(draws.uniform(draws.rows, between=self.factor))}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        gray = rgb_to_grayscale(images, self.data_format)
        factor = transformation["factor"].to(images.dtype)
        return (images + factor * (gray - images)).clamp(*self.value_range)


@register()
class RandomGrayscale(RandomValueLayer):
    """Random conversion of some images to grayscale, with the same number of channels, in training.

    Args:
        factor: Probability, 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: for a factor outside of 0 and 1.

    Example:
        >>> RandomGrayscale(1.0)(torch.tensor([[[1.0, 0.0, 0.0]]]), training=True)
        tensor([[[0.2989, 0.2989, 0.2989]]])
    """

    def __init__(self, factor: float = 0.5, data_format: str | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(data_format=data_format, seed=seed, **kwargs)
        if not 0 <= factor <= 1:
            raise ValueError(f"{self.name}: factor must be from 0 to 1; got {factor!r}.")
        self.factor = factor

    def get_random_transformation(self, images: Any, training: bool = True, seed: Any = None) -> Any:
        """Returns which images become gray, (batch, 1, 1, 1)."""
        return super().get_random_transformation(images, training, seed)

    def _draw(self, draws: Draws) -> Any:
        return per_image(draws.uniform(draws.rows)) < self.factor

    def transform_images(self, images: Tensor, transformation: Any, training: bool = True) -> Tensor:
        """Returns the batch of images, some of them gray, which are drawn without a transformation."""
        if transformation is None:
            transformation = self.get_random_transformation(images, training)
        return super().transform_images(images, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Returns the boxes unchanged."""
        return bounding_boxes

    def transform_labels(self, labels: Tensor, transformations: Any = None, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Returns the labels unchanged."""
        return labels

    def transform_segmentation_masks(  # type: ignore[override]
        self, segmentation_masks: Any, transformations: Any = None, **kwargs: Any
    ) -> Any:
        """Returns the masks unchanged."""
        return segmentation_masks

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return torch.where(transformation, rgb_to_grayscale(images, self.data_format), images)


@register()
class RandomInvert(RandomValueLayer):
    """Random inversion of some images, in training.

    Args:
        factor: Probability, from 0 to 1, or the limits of a random one; `p` means from 0 to `p`.
        value_range: Smallest and largest value of a pixel.
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of 0 and 1.

    Example:
        >>> RandomInvert((1.0, 1.0))(torch.zeros(1, 1, 1), training=True)
        tensor([[[255.]]])
    """

    factor_bounds = (0.0, 1.0)

    def __init__(
        self,
        factor: Factor = 1.0,
        value_range: Range = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, seed=seed, data_format=data_format, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        return {"apply_inversion": draws.happens(self.factor)}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return torch.where(per_image(transformation["apply_inversion"]), self.value_range[1] - images, images)


@register()
class RandomPosterization(LeavesAlone, RandomValueLayer):
    """Random reduction of the values of each image to their most significant bits, in training.

    Args:
        factor: How many bits, 1 to 8: a number means from 1 on and below it, or the limits of a random one.
        value_range: Smallest and largest value of a pixel.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of 1 and 8.

    Example:
        >>> RandomPosterization((1, 1))(torch.tensor([[[127.0], [200.0]]]), training=True)[..., 0]
        tensor([[  0., 128.]])
    """

    factor_bounds = (1, 8)

    def __init__(
        self,
        factor: Factor,
        value_range: Range = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor=factor, data_format=data_format, seed=seed, **kwargs)

    def _draw(self, draws: Draws) -> Any:
        fewest, most = (int(bits) for bits in self.factor)
        bits = draws.whole(draws.rows, start=fewest, below=max(most, fewest + 1))
        return {"shift_factor": (8 - bits).to(torch.uint8)}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        shift = per_image(transformation["shift_factor"])
        values = rescaled(images, self.value_range, (0, 255)).to(torch.uint8)
        return rescaled(((values >> shift) << shift).to(images.dtype), (0, 255), self.value_range)


@register()
class Solarization(RandomValueLayer):
    """Random inversion of pixels that are brighter than a threshold, in training.

    Args:
        addition_factor: How much is added before: from 0 to 1 of the range, or the limits of a random one; `f`
            means from 0 to `f`.
        threshold_factor: The threshold, likewise.
        value_range: Smallest and largest value of a pixel.
        seed: Int for reproducible numbers.
    Output shape: that of the input.
    Raises: ValueError: for a factor outside of 0 and 1.

    Example:
        >>> Solarization()(torch.tensor([[[10.0], [200.0]]]), training=True)[..., 0]
        tensor([[245.,  55.]])
    """

    def __init__(
        self,
        addition_factor: Factor = 0.0,
        threshold_factor: Factor = 0.0,
        value_range: Range = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, seed=seed, **kwargs)
        self.addition_factor = self._range(addition_factor, "addition_factor", 0.0, 1.0)
        self.threshold_factor = self._range(threshold_factor, "threshold_factor", 0.0, 1.0)

    def _draw(self, draws: Draws) -> Any:
        drawn = {}
        for name, (low, high) in (("additions", self.addition_factor), ("thresholds", self.threshold_factor)):
            drawn[name] = per_image(
                draws.uniform(draws.rows, between=(low, high * 255))
            )  # only the upper one, as in Keras
        return drawn

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        values = rescaled(images, self.value_range, (0, 255))
        values = (values + transformation["additions"].to(values.dtype)).clamp(0, 255)
        values = torch.where(values < transformation["thresholds"], values, 255 - values)
        return rescaled(values, (0, 255), self.value_range)


@register()
class RandomColorJitter(RandomValueLayer):
    """Random change of brightness, contrast, saturation and hue of each image, in this order, in training.

    Args:
        value_range: Smallest and largest value of a pixel.
        brightness_factor: As in `RandomBrightness`; None for no change.
        contrast_factor: As in `RandomContrast`.
        saturation_factor: As in `RandomSaturation`.
        hue_factor: As in `RandomHue`.
        seed: Int for reproducible numbers.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: as those layers do.

    Example:
        >>> RandomColorJitter(hue_factor=0.2, contrast_factor=0.1)(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        value_range: Range = (0, 255),
        brightness_factor: Factor | None = None,
        contrast_factor: Factor | None = None,
        saturation_factor: Factor | None = None,
        hue_factor: Factor | None = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, seed=seed, data_format=data_format, **kwargs)
        common: dict[str, Any] = {"value_range": value_range, "seed": seed, "data_format": self.data_format}
        self._steps: list[str] = []
        for name, layer, factor in (
            ("random_brightness", RandomBrightness, brightness_factor),
            ("random_contrast", RandomContrast, contrast_factor),
            ("random_saturation", RandomSaturation, saturation_factor),
            ("random_hue", RandomHue, hue_factor),
        ):
            if factor is not None:
                setattr(self, name, layer(factor, **common))
                self._steps.append(name)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Returns the transformations of the four layers, by their names."""
        seed = self._generator if seed is None else seed
        return {name: getattr(self, name).get_random_transformation(data, training, seed) for name in self._steps}

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        for name, drawn in transformation.items():
            layer: RandomImageLayer = getattr(self, name)
            images = layer.transform_images(images, drawn)
        return images
