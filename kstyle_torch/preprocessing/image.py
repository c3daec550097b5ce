"""Image preprocessing of older Keras programs; newer ones use layers such as `RandomFlip` and `RandomRotation`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kstyle_torch import config
from kstyle_torch.ops.image.sizes import resize
from kstyle_torch.preprocessing.iterators import DirectoryIterator, NumpyArrayIterator
from kstyle_torch.utils.images import array_to_img, img_to_array, load_img, save_img

__all__ = [
    "DirectoryIterator",
    "ImageDataGenerator",
    "NumpyArrayIterator",
    "array_to_img",
    "img_to_array",
    "load_img",
    "save_img",
    "smart_resize",
]


def smart_resize(
    x: Any, size: Sequence[int], interpolation: str = "bilinear", data_format: str = "channels_last", **kwargs: Any
) -> Any:
    """Resizes images, after a center crop to the target's aspect ratio.

    Args:
        x: One image or a batch.
        size: Height and width.
        interpolation: See `ops.image.resize`.
        data_format: `"channels_last"` or `"channels_first"`.
        kwargs: Not supported.
    Returns: An array for an array, else a tensor.
    Raises: ValueError: for a bad size, number of axes or interpolation. TypeError: for unknown arguments.
    """
    if kwargs:
        raise TypeError(f"smart_resize() got unexpected keyword arguments: {', '.join(kwargs)}.")
    resized = resize(x, size, interpolation, crop_to_aspect_ratio=True, data_format=data_format)
    return resized.numpy(force=True) if isinstance(x, np.ndarray) else resized


class ImageDataGenerator:
    """Generator of batches of randomly augmented and normalized images.

    Args:
        featurewise_center: Whether to subtract the mean of the data, see `fit`.
        samplewise_center: Whether to subtract the mean of each image.
        featurewise_std_normalization: Whether to divide by the standard deviation of the data, see `fit`.
        samplewise_std_normalization: Whether to divide each image by its standard deviation.
        zca_whitening: Whether to decorrelate pixels, see `fit`.
        zca_epsilon: Prevents a division by 0 in it.
        rotation_range: Largest angle in degrees, in both directions.
        width_shift_range: Share of the width, pixels if at least 1, or a list of pixels.
        height_shift_range: Likewise for the height.
        brightness_range: Smallest and largest factor.
        shear_range: Largest shear in degrees.
        zoom_range: Smallest and largest zoom, or a number z for 1 - z to 1 + z.
        channel_shift_range: Largest number that is added.
        fill_mode: Pixels outside: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: The constant.
        horizontal_flip: Whether to mirror half of the images.
        vertical_flip: Whether to turn half of them upside down.
        rescale: Factor.
        preprocessing_function: Function of an augmented image that returns an image.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        validation_split: Share of the data for `subset="validation"`.
        interpolation_order: Order of the splines, from 0.
        dtype: Dtype of the batches; `config.floatx()` if None.
    Raises: ValueError: for an invalid range.

    Example:
        >>> generator = ImageDataGenerator(rescale=1 / 255, horizontal_flip=True)
        >>> x, y = next(generator.flow(np.ones((5, 4, 4, 3)), np.arange(5), batch_size=2))
        >>> x.shape, float(x.max() * 255)
        ((2, 4, 4, 3), 1.0)
    """

    def __init__(
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        zca_epsilon: float = 1e-06,
        rotation_range: float = 0,
        width_shift_range: Any = 0.0,
        height_shift_range: Any = 0.0,
        brightness_range: Any = None,
        shear_range: float = 0.0,
        zoom_range: Any = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        preprocessing_function: Any = None,
        data_format: str | None = None,
        validation_split: float = 0.0,
        interpolation_order: int = 1,
        dtype: Any = None,
    ):
        self.featurewise_center = featurewise_center or featurewise_std_normalization or zca_whitening
        self.samplewise_center = samplewise_center or samplewise_std_normalization
        self.featurewise_std_normalization = featurewise_std_normalization and not zca_whitening
        self.samplewise_std_normalization = samplewise_std_normalization
        self.zca_whitening, self.zca_epsilon = zca_whitening, zca_epsilon
        self.rotation_range, self.shear_range = rotation_range, shear_range
        self.width_shift_range, self.height_shift_range = width_shift_range, height_shift_range
        self.brightness_range = _pair(brightness_range, "brightness_range") if brightness_range is not None else None
        is_number = isinstance(zoom_range, (int, float))
        self.zoom_range = [1 - zoom_range, 1 + zoom_range] if is_number else _pair(zoom_range, "zoom_range")
        self.channel_shift_range = channel_shift_range
        self.fill_mode, self.cval, self.interpolation_order = fill_mode, cval, interpolation_order
        self.horizontal_flip, self.vertical_flip = horizontal_flip, vertical_flip
        self.rescale, self.preprocessing_function = rescale, preprocessing_function
        self.data_format = data_format or config.image_data_format()
        if self.data_format not in ("channels_first", "channels_last"):
            raise ValueError(f"data_format must be 'channels_first' or 'channels_last'; got {data_format!r}.")
        if validation_split and not 0 < validation_split < 1:
            raise ValueError(f"validation_split must be between 0 and 1; got {validation_split!r}.")
        self.validation_split = validation_split
        self.dtype = dtype or config.floatx()
        first = self.data_format == "channels_first"
        self.channel_axis, self.row_axis, self.col_axis = (1, 2, 3) if first else (3, 1, 2)
        self.mean: Any = None
        self.std: Any = None
        self.zca_whitening_matrix: Any = None

    def flow(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: Any = None,
        seed: int | None = None,
        save_to_dir: Any = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: str | None = None,
    ) -> NumpyArrayIterator:
        """Batches of images in memory; see `NumpyArrayIterator`."""
        return NumpyArrayIterator(
            x, y, self, batch_size, shuffle, sample_weight, seed, save_to_dir, save_prefix, save_format, subset,
            ignore_class_split,
        )  # fmt: skip

    def flow_from_directory(
        self,
        directory: Any,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: list[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: Any = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> DirectoryIterator:
        """Batches of the images in a folder with one subfolder per class; see `DirectoryIterator`."""
        return DirectoryIterator(
            directory, self, target_size, color_mode, classes, class_mode, batch_size, shuffle, seed, save_to_dir,
            save_prefix, save_format, follow_links, subset, interpolation, keep_aspect_ratio,
        )  # fmt: skip

    def standardize(self, x: np.ndarray) -> np.ndarray:
        """Rescales and normalizes one or several images, in place if possible."""
        if self.preprocessing_function is not None:
            x = self.preprocessing_function(x)
        if self.rescale:
            x *= self.rescale
        if self.samplewise_center:
            x -= np.mean(x, keepdims=True)
        if self.samplewise_std_normalization:
            x /= np.std(x, keepdims=True) + 1e-6
        if self.featurewise_center and self._fitted(self.mean, "featurewise_center"):
            x -= self.mean
        if self.featurewise_std_normalization and self._fitted(self.std, "featurewise_std_normalization"):
            x /= self.std + 1e-6
        if self.zca_whitening and self._fitted(self.zca_whitening_matrix, "zca_whitening"):
            x = (x.reshape(-1, math.prod(x.shape[-3:])) @ self.zca_whitening_matrix).reshape(x.shape)
        return x

    def _fitted(self, statistic: Any, name: str) -> bool:
        if statistic is None:
            warnings.warn(f"{name} needs the statistics of some data: call fit(x) first.", stacklevel=3)
        return statistic is not None

    def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
        """Draws the parameters of `apply_transform` for an image of this shape from NumPy's random state."""
        if seed is not None:
            np.random.seed(seed)
        uniform, degrees, shear = np.random.uniform, self.rotation_range, self.shear_range
        theta = uniform(-degrees, degrees) if degrees else 0
        tx = _shift(self.height_shift_range, img_shape[self.row_axis - 1])
        ty = _shift(self.width_shift_range, img_shape[self.col_axis - 1])
        angle = uniform(-shear, shear) if shear else 0
        low, high = self.zoom_range
        zx, zy = (1, 1) if low == high == 1 else uniform(low, high, 2)
        horizontal = (np.random.random() < 0.5) and self.horizontal_flip
        vertical = (np.random.random() < 0.5) and self.vertical_flip
        channel = self.channel_shift_range
        intensity = uniform(-channel, channel) if channel else None
        brightness = None if self.brightness_range is None else uniform(*self.brightness_range)
        return {
            **{"theta": theta, "tx": tx, "ty": ty, "shear": angle, "zx": zx, "zy": zy},
            **{"flip_horizontal": bool(horizontal), "flip_vertical": bool(vertical)},
            **{"channel_shift_intensity": intensity, "brightness": brightness},
        }

    def apply_transform(self, x: np.ndarray, transform_parameters: dict[str, Any]) -> np.ndarray:
        """Transforms an image.

        Args:
            x: One image.
            transform_parameters: `theta` and `shear` in degrees, shifts `tx` (down) and `ty`, zooms `zx` and `zy`,
                `flip_horizontal`, `flip_vertical`, `channel_shift_intensity`, `brightness`; all are optional.
        """
        given = transform_parameters
        channel = self.channel_axis - 1
        x = self._moved(x, _matrix(given))
        if given.get("channel_shift_intensity") is not None:
            x = np.clip(x + given["channel_shift_intensity"], x.min(), x.max())
        if given.get("flip_horizontal"):
            x = np.flip(x, self.col_axis - 1)
        if given.get("flip_vertical"):
            x = np.flip(x, self.row_axis - 1)
        if given.get("brightness") is not None:
            x = np.moveaxis(_brightened(np.moveaxis(x, channel, 2), given["brightness"]), 2, channel)
        return x

    def random_transform(self, x: np.ndarray, seed: int | None = None) -> np.ndarray:
        """Transforms an image randomly."""
        return self.apply_transform(x, self.get_random_transform(x.shape, seed))

    def fit(self, x: Any, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Computes mean, standard deviation and correlations of some images.

        Args:
            x: (images, height, width, channels).
            augment: Whether to augment the images before.
            rounds: Number of augmentations per image.
            seed: Seed of the augmentation.
        Raises: ValueError: for another shape.
        """
        x = np.array(x, dtype=self.dtype)
        if x.ndim != 4 or x.shape[self.channel_axis] not in (1, 3, 4):
            raise ValueError(
                f"fit() takes images {self.data_format} with 1, 3 or 4 channels; got an array of shape {x.shape}."
            )
        if seed is not None:
            np.random.seed(seed)
        if self.rescale:
            x *= self.rescale
        if augment:
            x = np.stack([self.random_transform(image) for _ in range(rounds) for image in x])
        over = (0, self.row_axis, self.col_axis)
        if self.featurewise_center:
            self.mean = x.mean(over, keepdims=True)[0]
            x -= self.mean
        if self.featurewise_std_normalization:
            self.std = x.std(over, keepdims=True)[0]
            x /= self.std + 1e-6
        if self.zca_whitening:
            u, s, _ = np.linalg.svd(x.reshape(len(x), -1).T, full_matrices=False)
            self.zca_whitening_matrix = (u * (np.sqrt(len(x)) / (s + self.zca_epsilon))) @ u.T

    def _moved(self, x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        if np.array_equal(matrix, np.eye(3)):
            return x
        from scipy import ndimage

        middle = np.array([x.shape[self.row_axis - 1] / 2 - 0.5, x.shape[self.col_axis - 1] / 2 - 0.5])
        linear = matrix[:2, :2][::-1, ::-1]  # the matrix is of (x, y), the image of (row, column)
        shift = matrix[:2, 2] + middle - matrix[:2, :2] @ middle
        planes = [
            ndimage.affine_transform(
                plane, linear, shift[::-1], order=self.interpolation_order, mode=self.fill_mode, cval=self.cval
            )
            for plane in np.moveaxis(x, self.channel_axis - 1, 0)
        ]
        return np.stack(planes, axis=self.channel_axis - 1)


def _matrix(given: dict[str, Any]) -> np.ndarray:
    """Returns the matrix of rotation, shift, shear and zoom."""
    theta, shear = np.deg2rad(given.get("theta", 0)), np.deg2rad(given.get("shear", 0))
    turn = [[np.cos(theta), -np.sin(theta), 0], [np.sin(theta), np.cos(theta), 0], [0, 0, 1]]
    move = [[1, 0, given.get("tx", 0)], [0, 1, given.get("ty", 0)], [0, 0, 1]]
    lean = [[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]]
    return np.array(turn) @ move @ lean @ np.diag([given.get("zx", 1), given.get("zy", 1), 1])


def _shift(given: Any, size: int) -> float:
    """Draws a shift in pixels, from a share of the size, a number of pixels, or a list."""
    if not np.any(given):
        return 0
    if isinstance(given, float):
        drawn = np.random.uniform(-given, given)
    else:
        drawn = np.random.choice(given) * np.random.choice([-1, 1])
    return drawn * size if np.max(given) < 1 else drawn


def _brightened(x: np.ndarray, factor: float) -> np.ndarray:
    from PIL import ImageEnhance

    low, high = x.min(), x.max()
    stretched = bool(low < 0 or high > 255)
    image = ImageEnhance.Brightness(array_to_img(x, "channels_last", scale=stretched)).enhance(factor)
    array = img_to_array(image, "channels_last")
    return array / 255 * (high - low) + low if stretched else array


def _pair(values: Any, name: str) -> Any:
    if not isinstance(values, (tuple, list)) or len(values) != 2:
        raise ValueError(f"{name} must be two numbers, the smallest and the largest; got {values!r}.")
    return values
