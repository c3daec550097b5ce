"""The batches of an `ImageDataGenerator`: a `PyDataset` that is also an infinite iterator, as older programs expect."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from kstyle_torch.data.py_dataset import PyDataset
from kstyle_torch.messages import say
from kstyle_torch.utils.folders import class_folders, list_files
from kstyle_torch.utils.images import array_to_img, img_to_array, load_img
from kstyle_torch.utils.numeric import to_categorical

FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff")
CLASS_MODES = ("categorical", "binary", "sparse", "input", None)
CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}


class Iterator(PyDataset):
    """Batches by index, and as an infinite iterator.

    Args:
        n: Number of samples.
        batch_size: Samples in a batch.
        shuffle: Whether each pass has a new order.
        seed: Seed of orders and augmentations.
    """

    keeps_order = True

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int | None):
        super().__init__()
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.batch_index = self.total_batches_seen = 0
        self.index_array: np.ndarray | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches; got the index {index}.")
        with self._lock:
            self._count()
            if self.index_array is None:
                self.on_epoch_end()
        return self._batch(self._rows(index))

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        with self._lock:
            self._count()
            if self.batch_index == 0:
                self.on_epoch_end()
            rows = self._rows(self.batch_index)
            self.batch_index = (self.batch_index + 1) % len(self)
        return self._batch(rows)

    def next(self) -> Any:
        """Returns the next batch."""
        return next(self)

    def reset(self) -> None:
        """Starts again with the first batch."""
        self.batch_index = 0

    def on_epoch_end(self) -> None:
        self.index_array = np.random.permutation(self.n) if self.shuffle else np.arange(self.n)

    def _count(self) -> None:
        if self.seed is not None:
            np.random.seed(self.seed + self.total_batches_seen)
        self.total_batches_seen += 1

    def _rows(self, index: int) -> np.ndarray:
        assert self.index_array is not None
        return self.index_array[index * self.batch_size : (index + 1) * self.batch_size]

    def _batch(self, rows: np.ndarray) -> Any:
        raise NotImplementedError


class _Images(Iterator):
    def __init__(
        self, generator: Any, batch_size: int, shuffle: bool, seed: Any, folder: Any, prefix: str, suffix: str
    ):
        self.image_data_generator, self.save_to_dir = generator, folder
        self.save_prefix, self.save_format = prefix, suffix
        super().__init__(self._number(), batch_size, shuffle, seed)

    def _number(self) -> int:
        raise NotImplementedError

    def _image(self, row: int) -> np.ndarray:
        raise NotImplementedError

    def _images(self, rows: np.ndarray) -> np.ndarray:
        """Returns the augmented and normalized images of some rows."""
        generator = self.image_data_generator
        changed = (generator.random_transform(self._image(row).astype(generator.dtype)) for row in rows)
        images = np.stack([generator.standardize(np.array(image)) for image in changed]).astype(generator.dtype)
        if self.save_to_dir:
            for row, image in zip(rows, images, strict=True):
                name = f"{self.save_prefix}_{row}_{np.random.randint(10**7)}.{self.save_format}"
                array_to_img(image, generator.data_format).save(os.path.join(self.save_to_dir, name))
        return images


class NumpyArrayIterator(_Images):
    """Batches of images in memory.

    Args:
        x: (images, height, width, channels); or a pair of that and an array or list of arrays, which are batched along.
        y: Targets, or None.
        image_data_generator: Augments the images.
        batch_size: Images in a batch.
        shuffle: Whether each pass has a new order.
        sample_weight: A weight for each image.
        seed: Seed of orders and augmentations.
        save_to_dir: Folder to which augmented images are written, for inspection.
        save_prefix: Prefix of their names.
        save_format: `"png"` or `"jpeg"`.
        subset: `"training"`, or `"validation"` for the first `validation_split` of the data.
        ignore_class_split: Whether the two may contain different classes.
    Raises: ValueError: if lengths differ, or `x` is not an array of images.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        image_data_generator: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        sample_weight: Any = None,
        seed: int | None = None,
        save_to_dir: Any = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        ignore_class_split: bool = False,
    ):
        others: list[Any] = []
        if isinstance(x, (tuple, list)):
            x, other = x
            others = list(other) if isinstance(other, list) else [other]
        parts = [np.asarray(x), *map(np.asarray, others)]
        targets, weights = (None if part is None else np.asarray(part) for part in (y, sample_weight))
        lengths = [len(part) for part in (*parts, targets, weights) if part is not None]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"x, y and sample_weight must have the same number of samples; got {', '.join(map(str, lengths))}."
            )
        if subset is not None:
            chosen = _subset(len(x), image_data_generator.validation_split, subset)
            _check_classes(targets, chosen, ignore_class_split)
            parts = [part[chosen] for part in parts]
            targets, weights = (None if part is None else part[chosen] for part in (targets, weights))
        if parts[0].ndim != 4:
            raise ValueError(f"flow() takes images of 4 axes; got an array of shape {parts[0].shape}.")
        self.x, self.x_misc, self.y, self.sample_weight = parts[0], parts[1:], targets, weights
        super().__init__(image_data_generator, batch_size, shuffle, seed, save_to_dir, save_prefix, save_format)

    def _number(self) -> int:
        return len(self.x)

    def _image(self, row: int) -> np.ndarray:
        return self.x[row]

    def _batch(self, rows: np.ndarray) -> Any:
        images = self._images(rows)
        x = [images, *(part[rows] for part in self.x_misc)] if self.x_misc else images
        if self.y is None:
            return x
        return (x, self.y[rows]) if self.sample_weight is None else (x, self.y[rows], self.sample_weight[rows])


class DirectoryIterator(_Images):
    """Batches of the images in a folder.

    Args:
        directory: The folder; each subfolder is a class.
        image_data_generator: Augments the images.
        target_size: (height, width) to which all are resized.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`.
        classes: The subfolders in the order of class numbers; all, sorted, if None.
        class_mode: Targets: `"categorical"` one-hot, `"binary"` or `"sparse"` numbers, `"input"` the images, None none.
        batch_size: Images in a batch.
        shuffle: Whether each pass has a new order.
        seed: Seed of orders and augmentations.
        save_to_dir: Folder to which augmented images are written, for inspection.
        save_prefix: Prefix of their names.
        save_format: `"png"` or `"jpeg"`.
        follow_links: Whether to follow links to folders.
        subset: `"training"`, or `"validation"` for the first `validation_split` of the files of each class.
        interpolation: See `load_img`.
        keep_aspect_ratio: See `load_img`.
    Raises: ValueError: for unknown modes.
    """

    def __init__(
        self,
        directory: Any,
        image_data_generator: Any,
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
    ):
        if class_mode not in CLASS_MODES:
            raise ValueError(f"class_mode must be one of {', '.join(map(repr, CLASS_MODES))}; got {class_mode!r}.")
        if color_mode not in CHANNELS:
            raise ValueError(f"color_mode must be one of {', '.join(CHANNELS)}; got {color_mode!r}.")
        self.directory = os.fspath(directory)
        names = list(classes) if classes else class_folders(self.directory)
        self.class_indices = {name: number for number, name in enumerate(names)}
        self.num_classes, self.class_mode = len(names), class_mode
        self.target_size, self.color_mode = (target_size[0], target_size[1]), color_mode
        self.interpolation, self.keep_aspect_ratio = interpolation, keep_aspect_ratio
        self.filepaths: list[str] = []
        labels: list[int] = []
        for name, number in self.class_indices.items():
            files = list_files(os.path.join(self.directory, name), FORMATS, follow_links)
            chosen = files[_subset(len(files), image_data_generator.validation_split, subset)] if subset else files
            self.filepaths += chosen
            labels += [number] * len(chosen)
        self.filenames = [os.path.relpath(path, self.directory) for path in self.filepaths]
        self.classes = self.labels = np.array(labels, dtype="int32")
        self.samples = len(labels)
        height, width = self.target_size
        sizes = (height, width, CHANNELS[color_mode])
        first = image_data_generator.data_format == "channels_first"
        self.image_shape = (sizes[2], height, width) if first else sizes
        say(f"Found {self.samples} images belonging to {self.num_classes} classes.")
        super().__init__(image_data_generator, batch_size, shuffle, seed, save_to_dir, save_prefix, save_format)

    def _number(self) -> int:
        return self.samples

    def _image(self, row: int) -> np.ndarray:
        image = load_img(
            self.filepaths[row], self.color_mode, self.target_size, self.interpolation, self.keep_aspect_ratio
        )
        return img_to_array(image, self.image_data_generator.data_format)

    def _batch(self, rows: np.ndarray) -> Any:
        images = self._images(rows)
        if self.class_mode is None:
            return images
        if self.class_mode == "input":
            return images, images.copy()
        labels = self.classes[rows]
        if self.class_mode == "categorical":
            return images, to_categorical(labels, self.num_classes).astype(images.dtype)
        return images, labels.astype(images.dtype)


def _subset(number: int, share: float, subset: str) -> slice:
    if subset not in ("training", "validation"):
        raise ValueError(f"subset must be 'training' or 'validation'; got {subset!r}.")
    boundary = int(number * share)
    return slice(boundary) if subset == "validation" else slice(boundary, None)


def _check_classes(y: Any, chosen: slice, ignored: bool) -> None:
    if y is None or ignored:
        return
    if not np.array_equal(np.unique(y[chosen]), np.unique(np.delete(y, np.arange(len(y))[chosen], axis=0))):
        raise ValueError(
            "Training and validation contain different classes; shuffle sorted data before, or pass ignore_class_split=True."
        )
