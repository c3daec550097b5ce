"""Combinations of random layers: RandAugment and AugMix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch._torch import is_compiling
from kstyle_torch.layer.base import layer_registry
from kstyle_torch.layers.preprocessing.image.affine import RandomRotation, RandomShear, RandomTranslation
from kstyle_torch.layers.preprocessing.image.base import BaseImagePreprocessingLayer, Factor, Range
from kstyle_torch.layers.preprocessing.image.color import RandomColorDegeneration, RandomPosterization, Solarization
from kstyle_torch.layers.preprocessing.image.random import RandomImageLayer
from kstyle_torch.layers.preprocessing.image.tone import (
    AutoContrast,
    Equalization,
    RandomBrightness,
    RandomContrast,
    RandomSharpness,
)

register = layer_registry.register

COLORS = ("random_brightness", "random_color_degeneration", "random_contrast", "random_sharpness")


class RandomChoiceLayer(RandomImageLayer):
    """Base class of layers that apply randomly chosen ones.

    Args:
        value_range: Smallest and largest value of a pixel.
        factor: Strength of each of them, 0 to 1.
        interpolation: Interpolation of layers that move pixels.
        colors: Whether to include layers that change colors.
        kwargs: As of every random layer on images.
    """

    factor_bounds = (0.0, 1.0)

    def __init__(self, value_range: Range, factor: Factor, interpolation: str, colors: bool = True, **kwargs: Any):
        super().__init__(factor=factor, **kwargs)
        self.value_range, self.interpolation = self._value_range(value_range), interpolation
        shared: dict[str, Any] = {"data_format": self.data_format, "bounding_box_format": self.bounding_box_format}
        shared["seed"] = self.seed
        moves: dict[str, Any] = {**shared, "interpolation": interpolation}
        values: dict[str, Any] = {**shared, "value_range": self.value_range}
        part = self.factor
        self.random_shear = RandomShear(part, part, **moves)
        self.random_translation = RandomTranslation(part, part, **moves)
        self.random_rotation = RandomRotation(part, **moves)
        if colors:
            self.random_brightness = RandomBrightness(part, **values)
            self.random_color_degeneration = RandomColorDegeneration(part, **values)
            self.random_contrast = RandomContrast(part, **values)
            self.random_sharpness = RandomSharpness(part, **values)
        self.random_posterization = RandomPosterization(max(1, int(8 * part[1])), **values)
        self.solarization = Solarization(part, part, **values)
        del values["seed"]
        self.auto_contrast = AutoContrast(**values)
        self.equalization = Equalization(**values)

    def _layer(self, name: str) -> BaseImagePreprocessingLayer:
        return getattr(self, name)


@register()
class RandAugment(RandomChoiceLayer):
    """Randomly chosen layers, out of eleven, that are applied to each batch in training.

    Args:
        value_range: Smallest and largest value of a pixel.
        num_ops: Number of layers.
        factor: Strength of each of them, 0 to 1.
        interpolation: `"bilinear"` or `"nearest"`, of those that move pixels.
        seed: Int for reproducible choices.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: for a factor outside of 0 and 1.
    Source: Cubuk et al. 2019.

    Example:
        >>> RandAugment()(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    layer_names = (
        *("random_shear", "random_translation", "random_rotation"),
        *COLORS,
        *("random_posterization", "solarization", "auto_contrast", "equalization"),
    )

    def __init__(
        self,
        value_range: Range = (0, 255),
        num_ops: int = 2,
        factor: Factor = 0.5,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor, interpolation, seed=seed, data_format=data_format, **kwargs)
        self.num_ops = num_ops

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Returns the chosen layers in order, and their transformations.

        The choice is made on the host, so that only chosen layers run. In a compiled graph, which has no branches, it is
        made on the device, and all layers run.
        """
        if not training:
            return None
        images = data["images"] if isinstance(data, dict) else data
        draws = self._draws(images, seed)
        compiled = is_compiling()
        device = images.device if compiled and draws.source is None else torch.device("cpu")
        chosen = torch.randint(len(self.layer_names), (self.num_ops,), generator=draws.source, device=device)
        names = self.layer_names if compiled else [self.layer_names[index] for index in chosen.tolist()]
        source = self._generator if seed is None else seed
        transforms = {name: self._layer(name).get_random_transformation(data, training, source) for name in names}
        return {"transforms": transforms, "layer_idxes": chosen}

    def _through(self, part: str, value: Any, transformation: Any) -> Any:
        """Returns a part of the data, after the chosen layers."""
        for index in transformation["layer_idxes"].unbind():
            if not is_compiling():
                value = self._one(self.layer_names[int(index)], part, value, transformation)
                continue
            for number, name in enumerate(self.layer_names):
                other = self._one(name, part, value, transformation)
                value = tree.map_structure(
                    lambda new, old, n=number, i=index: torch.where(i == n, new, old), other, value
                )
        return value

    def _one(self, name: str, part: str, value: Any, transformation: Any) -> Any:
        return getattr(self._layer(name), f"transform_{part}")(value, transformation["transforms"][name], training=True)

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return self._through("images", images, transformation)

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the masks, after the chosen layers that move pixels."""
        return (
            self._through("segmentation_masks", segmentation_masks, transformation) if training else segmentation_masks
        )

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes, after the chosen layers that move pixels."""
        return self._through("bounding_boxes", bounding_boxes, transformation) if training else bounding_boxes


@register()
class AugMix(RandomChoiceLayer):
    """Mixture of a batch with the results of several chains of randomly chosen layers, in training.

    Bounding boxes are not changed, as in Keras, although pixels may move. The chains are chosen on the host, so training
    cannot be compiled to one graph.

    Args:
        value_range: Smallest and largest value of a pixel.
        num_chains: Number of chains.
        chain_depth: Largest number of layers in a chain.
        factor: Strength of each of them, 0 to 1.
        alpha: Shape of the distributions (Dirichlet and Beta) of the weights.
        all_ops: Whether to include brightness, contrast, sharpness and color.
        interpolation: `"bilinear"` or `"nearest"`, of those that move pixels.
        seed: Int for reproducible choices.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Output shape: that of the input, which has 3 channels.
    Raises: ValueError: for a factor outside of 0 and 1.
    Source: Hendrycks et al. 2019.

    Example:
        >>> AugMix()(torch.ones(2, 4, 4, 3), training=True).shape
        torch.Size([2, 4, 4, 3])
    """

    def __init__(
        self,
        value_range: Range = (0, 255),
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: Factor = 0.3,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(value_range, factor, interpolation, all_ops, seed=seed, data_format=data_format, **kwargs)
        self.num_chains, self.chain_depth, self.alpha, self.all_ops = num_chains, chain_depth, alpha, all_ops
        self.layer_names = [name for name in RandAugment.layer_names if all_ops or name not in COLORS]

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """Returns the chains, the transformations of their layers, and the weights."""
        if not training:
            return None
        draws = self._draws(data["images"] if isinstance(data, dict) else data, seed)
        source = self._generator if seed is None else seed
        size = (self.num_chains, self.chain_depth)
        chosen = torch.randint(len(self.layer_names) + 1, size, generator=draws.source, device="cpu")
        chains = [
            [
                {
                    "layer_name": self.layer_names[index],
                    "transformation": self._layer(self.layer_names[index]).get_random_transformation(data, seed=source),
                }
                for index in chain
                if index < len(self.layer_names)  # the additional index means no layer
            ]
            for chain in chosen.tolist()
        ]
        alpha = torch.tensor(float(self.alpha))
        return {
            "chain_mixing_weights": draws.shares(alpha.expand(self.num_chains)),
            "weight_sample": draws.shares(alpha.expand(2))[0],
            "chain_transforms": chains,
        }

    def _apply_to(self, images: Tensor, transformation: Any) -> Tensor:
        return self._mixed("images", images, transformation).clamp(*self.value_range)

    def transform_segmentation_masks(
        self, segmentation_masks: Tensor, transformation: Any, training: bool = True
    ) -> Tensor:
        """Returns the masks, mixed like the images."""
        return self._mixed("segmentation_masks", segmentation_masks, transformation) if training else segmentation_masks

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Returns the boxes unchanged."""
        return bounding_boxes

    def _mixed(self, part: str, values: Tensor, transformation: Any) -> Tensor:
        mixed: Any = 0
        for chain, weight in zip(
            transformation["chain_transforms"], transformation["chain_mixing_weights"], strict=True
        ):
            changed = values
            for step in chain:
                transform = getattr(self._layer(step["layer_name"]), f"transform_{part}")
                changed = transform(changed, step["transformation"], training=True)
            mixed = mixed + changed * weight
        share = transformation["weight_sample"]
        return share * values + (1 - share) * mixed
