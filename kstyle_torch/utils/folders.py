"""Datasets from folders of files, with one subfolder per class."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.data.batch_dataset import BatchDataset, check_format
from kstyle_torch.messages import say
from kstyle_torch.ops.image.sizes import resize
from kstyle_torch.utils.audio import fitted, read_wav, resampled
from kstyle_torch.utils.images import img_to_array, load_img
from kstyle_torch.utils.numeric import to_categorical

IMAGE_FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}
LABEL_MODES = ("int", "categorical", "binary", None)
MAX_WORKERS = 8


class FolderDataset(BatchDataset):
    """Batches of files, with `class_names` and `file_paths`."""

    class_names: list[str] | None
    file_paths: list[str]


def image_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Returns batches of the images in a folder, read by threads on demand.

    Args:
        directory: The folder; each subfolder is a class if labels are `"inferred"`.
        labels: `"inferred"`, None, or a list of class numbers in the order of the sorted files.
        label_mode: `"int"`, `"categorical"` (one-hot), `"binary"` (0.0 or 1.0, two classes), or None for images only.
        class_names: The subfolders in the order of class numbers; alphabetical if None.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`.
        batch_size: Images in a batch; None for single images.
        image_size: (height, width) to which all are resized.
        shuffle: Whether each epoch has a new order; files are sorted otherwise.
        seed: Seed of that order, and of the split.
        validation_split: Share of the files for validation.
        subset: `"training"`, `"validation"`, or `"both"` for a pair of datasets; needed with `validation_split`.
        interpolation: See `ops.image.resize`.
        follow_links: Whether to follow links to folders.
        crop_to_aspect_ratio: Whether to crop images to the aspect ratio around the center.
        pad_to_aspect_ratio: Whether to pad images instead.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
        format: `"tf"` or `"grain"`, as in Keras; batches are torch tensors with both.
        verbose: Whether to print the number of files.
    Returns: A dataset of `(images, labels)`, images float32 in 0 to 255, (batch, height, width, channels); with
        `class_names` and `file_paths`.
    Raises: ValueError: for contradictory arguments, or a folder without images.
    """
    check_format(format)
    if color_mode not in CHANNELS:
        raise ValueError(f"color_mode must be one of {', '.join(CHANNELS)}; got {color_mode!r}.")
    first = (data_format or config.image_data_format()) == "channels_first"

    def read_file(path: str) -> Tensor:
        image = torch.from_numpy(img_to_array(load_img(path, color_mode), "channels_last", "float32").copy())
        image = resize(
            image,
            tuple(image_size),
            interpolation,
            crop_to_aspect_ratio=crop_to_aspect_ratio,
            pad_to_aspect_ratio=pad_to_aspect_ratio,
            data_format="channels_last",
        )
        return image.permute(2, 0, 1) if first else image

    def read(paths: list[str]) -> Tensor:
        return torch.stack([read_file(path) for path in paths])

    return _dataset(
        directory, IMAGE_FORMATS, read, labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset,
        follow_links, verbose,
    )  # fmt: skip


def text_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Returns batches of the `.txt` files in a folder, as lists of str for `TextVectorization`.

    Args:
        directory: See `image_dataset_from_directory`, as are all others.
        max_length: Largest number of characters of a text.
    Returns: A dataset of `(texts, labels)`, with `class_names` and `file_paths`.
    Raises: ValueError: see `image_dataset_from_directory`.
    """
    check_format(format)

    def read(paths: list[str]) -> list[str]:
        return [Path(path).read_text(encoding="utf-8", errors="replace")[:max_length] for path in paths]

    return _dataset(
        directory, (".txt",), read, labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset,
        follow_links, verbose,
    )  # fmt: skip


def audio_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    batch_size: int | None = 32,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """Returns batches of the `.wav` files in a folder, as float32 samples from -1 to 1.

    Args:
        directory: See `image_dataset_from_directory`, as are all others.
        sampling_rate: Sampling rate to which all are resampled, with a band-limited filter; None for no resampling.
        output_sequence_length: Number of steps to which all are truncated or padded with zeros; if None, that of the longest
            in the batch.
        ragged: Whether each keeps its length, and batches are lists of tensors.
    Returns: A dataset of `(audio, labels)`, audio (batch, steps, channels), with `class_names` and `file_paths`.
    Raises: ValueError: see `image_dataset_from_directory`; for a bad sampling rate; for `ragged` with a length.
    """
    if ragged and output_sequence_length is not None:
        raise ValueError(f"ragged=True keeps the lengths; output_sequence_length={output_sequence_length} sets them.")
    if sampling_rate is not None and (not isinstance(sampling_rate, int) or sampling_rate <= 0):
        raise ValueError(f"sampling_rate must be a positive int; got {sampling_rate!r}.")

    def read_file(path: str) -> Tensor:
        audio, rate = read_wav(path)
        audio = audio if sampling_rate is None else resampled(audio, rate, sampling_rate)
        return audio if output_sequence_length is None else fitted(audio, output_sequence_length)

    def read(paths: list[str]) -> Any:
        files = [read_file(path) for path in paths]
        if ragged or batch_size is None:
            return files
        steps, channels = (max(file.shape[axis] for file in files) for axis in (0, 1))
        return torch.stack([F.pad(fitted(file, steps), (0, channels - file.shape[1])) for file in files])

    return _dataset(
        directory, (".wav",), read, labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset,
        follow_links, verbose,
    )  # fmt: skip


def _dataset(
    directory: Any,
    formats: tuple[str, ...],
    read: Callable[[list[str]], Any],
    labels: Any,
    label_mode: str | None,
    class_names: list[str] | None,
    batch_size: int | None,
    shuffle: bool,
    seed: int | None,
    validation_split: float | None,
    subset: str | None,
    follow_links: bool,
    verbose: bool,
) -> Any:
    """Returns one or two datasets of files and labels, split and shuffled."""
    _check_split(validation_split, subset, shuffle, seed)
    if label_mode not in LABEL_MODES:
        raise ValueError(f"label_mode must be 'int', 'categorical', 'binary' or None; got {label_mode!r}.")
    label_mode = None if labels is None else label_mode
    paths, numbers, names = index_directory(directory, formats, labels, class_names, follow_links)
    if label_mode == "binary" and len(names) != 2:
        raise ValueError(f"label_mode='binary' needs two classes; {directory} has {len(names)}: {', '.join(names)}.")
    if verbose:
        of_classes = "" if labels is None else f" belonging to {len(names)} classes"
        say(f"Found {len(paths)} files{of_classes}.")
    order = np.arange(len(paths))
    if shuffle:
        np.random.default_rng(seed).shuffle(order)
    held_out = int((validation_split or 0) * len(paths))
    parts = {"training": order[: len(paths) - held_out], "validation": order[len(paths) - held_out :], None: order}
    targets = _targets(numbers, label_mode, len(names))

    def dataset(rows: np.ndarray) -> FolderDataset:
        chosen = [paths[row] for row in rows]

        def read_rows(places: np.ndarray) -> Any:
            data = read([chosen[place] for place in places])
            batch = data if targets is None else (data, targets[torch.from_numpy(rows[places])])
            return batch if batch_size is not None else (batch[0] if targets is None else (batch[0][0], batch[1][0]))

        made = FolderDataset(
            len(chosen), read_rows, batch_size or 1, shuffle, seed, workers=min(MAX_WORKERS, os.cpu_count() or 1)
        )
        made.class_names, made.file_paths = (None if labels is None else names), chosen
        return made

    if subset == "both":
        return dataset(parts["training"]), dataset(parts["validation"])
    return dataset(parts[subset])


def index_directory(
    directory: Any, formats: tuple[str, ...], labels: Any, class_names: list[str] | None, follow_links: bool
) -> tuple[list[str], list[int], list[str]]:
    """Returns the files in a folder, their class numbers, and the names of the classes.

    Raises: ValueError: if there are no files, or `labels` or `class_names` do not fit them.
    """
    root = os.fspath(directory)
    if labels != "inferred" if isinstance(labels, str) else False:
        raise ValueError(f"labels must be 'inferred', None or a list of class numbers; got {labels!r}.")
    inferred = isinstance(labels, str)
    if class_names is not None and not inferred:
        raise ValueError("class_names can only be given with labels='inferred'.")
    folders = class_folders(root) if inferred else [""]
    if class_names is not None:
        missing = [name for name in class_names if name not in folders]
        if missing:
            raise ValueError(
                f"class_names has {missing[0]!r}, which is not a folder in {root}; it has {', '.join(folders)}."
            )
        folders = list(class_names)
    files = [list_files(os.path.join(root, folder), formats, follow_links) for folder in folders]
    paths = [path for listed in files for path in listed]
    if not paths:
        raise ValueError(f"No files found in {root}; looked for {', '.join(formats)}.")
    if inferred:
        return paths, [number for number, listed in enumerate(files) for _ in listed], folders
    if labels is None:
        return paths, [0] * len(paths), []
    if len(labels) != len(paths):
        raise ValueError(f"labels has {len(labels)} entries, but there are {len(paths)} files in {root}.")
    return paths, [int(label) for label in labels], [str(label) for label in sorted(set(labels))]


def class_folders(root: str) -> list[str]:
    """Returns the subfolders of a folder, without hidden ones."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def list_files(folder: str, formats: tuple[str, ...], follow_links: bool) -> list[str]:
    """Returns the files below a folder with one of these suffixes, folder by folder, sorted."""
    found = sorted(os.walk(folder, followlinks=follow_links))
    names = ((root, name) for root, _, listed in found for name in sorted(listed))
    return [os.path.join(root, name) for root, name in names if name.lower().endswith(formats)]


def _targets(numbers: list[int], label_mode: str | None, num_classes: int) -> Tensor | None:
    if label_mode is None:
        return None
    if label_mode == "categorical":
        return torch.from_numpy(to_categorical(numbers, num_classes)).float()
    labels = torch.tensor(numbers)
    return labels[:, None].float() if label_mode == "binary" else labels


def _check_split(share: float | None, subset: str | None, shuffle: bool, seed: int | None) -> None:
    if share is not None and not 0 < share < 1:
        raise ValueError(f"validation_split must be between 0 and 1; got {share!r}.")
    if (share is None) != (subset is None):
        raise ValueError(f"validation_split and subset go together; got {share!r} and {subset!r}.")
    if subset not in ("training", "validation", "both", None):
        raise ValueError(f"subset must be 'training', 'validation' or 'both'; got {subset!r}.")
    if share is not None and shuffle and seed is None:
        raise ValueError("With validation_split and shuffle, pass a seed, so that the parts do not overlap.")
