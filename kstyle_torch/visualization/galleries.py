"""Galleries of images, drawn by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kstyle_torch import ops
from kstyle_torch.visualization.arrays import to_images
from kstyle_torch.visualization.boxes import draw_bounding_boxes
from kstyle_torch.visualization.masks import draw_segmentation_masks

FULL_RANGE = (0, 255)


def plot_image_gallery(
    images: Any,
    y_true: Any = None,
    y_pred: Any = None,
    label_map: dict[int, str] | None = None,
    rows: int | None = None,
    cols: int | None = None,
    value_range: tuple[float, float] = (0, 255),
    scale: float = 2,
    path: Any = None,
    show: bool | None = None,
    transparent: bool = True,
    dpi: int = 60,
    legend_handles: Any = None,
    data_format: str | None = None,
) -> None:
    """Shows images side by side, with their labels.

    Args:
        images: (batch, height, width, channels).
        y_true: Classes, (batch,).
        y_pred: Predicted classes, (batch,).
        label_map: Class -> its name; needed with classes.
        rows: Of the gallery; it is about square if None.
        cols: Likewise. Images beyond the gallery are left out.
        value_range: Smallest and largest value of the images.
        scale: Inches of an image.
        path: File to write instead of showing the gallery.
        show: Whether it is shown; by default where there is no `path`.
        transparent: Whether the file has no background.
        dpi: Dots per inch of the file.
        legend_handles: Patches of matplotlib, for a legend.
        data_format: `"channels_last"` or `"channels_first"`; `config.image_data_format()` if None.
    Raises: ValueError: for images that are not a batch, classes without `label_map`, or `path` with `show`. ImportError:
        without matplotlib.
    """
    plt = _pyplot()
    if path is not None and show:
        raise ValueError(
            f"plot_image_gallery() writes a file or shows the gallery; got path={path!r} and show={show!r}."
        )
    if label_map is None and (y_true is not None or y_pred is not None):
        raise ValueError(
            "plot_image_gallery() needs label_map, the name of each class, where y_true or y_pred is given."
        )
    pixels = _in_full_range(to_images(images, data_format), value_range).astype("uint8")
    rows = rows or math.ceil(math.sqrt(len(pixels)))
    cols = cols or math.ceil(len(pixels) / rows)
    figure, axes = plt.subplots(
        nrows=rows,
        ncols=cols,
        figsize=(cols * scale, rows * scale),
        frameon=False,
        layout="tight",
        squeeze=False,
        sharex="row",
        sharey="col",
    )
    figure.subplots_adjust(wspace=0, hspace=0)
    if legend_handles is not None:
        figure.legend(handles=legend_handles, loc="lower center")
    classes = {"Label": y_true, "Pred": y_pred}
    labels = {kind: ops.convert_to_numpy(y).tolist() for kind, y in classes.items() if y is not None}
    for number, axis in enumerate(np.ravel(axes)):
        axis.axis("off")
        if number < len(pixels):
            axis.imshow(pixels[number])
            axis.margins(x=0, y=0)
            titles = [
                f"{kind}: {(label_map or {}).get(each[number], 'Unknown')}"
                for kind, each in labels.items()
                if number < len(each)
            ]
            if titles:
                axis.set_title("  ".join(titles), fontsize=8)
    if path is not None:
        plt.savefig(fname=path, pad_inches=0, bbox_inches="tight", transparent=transparent, dpi=dpi)
        plt.close()
    elif show is None or show:
        plt.show()
        plt.close()


def plot_bounding_box_gallery(
    images: Any,
    bounding_box_format: str,
    y_true: dict[str, Any] | None = None,
    y_pred: dict[str, Any] | None = None,
    value_range: tuple[float, float] = (0, 255),
    true_color: Sequence[int] = (0, 188, 212),
    pred_color: Sequence[int] = (255, 235, 59),
    line_thickness: int = 2,
    font_scale: float = 1.0,
    text_thickness: int | None = None,
    class_mapping: dict[int, str] | None = None,
    ground_truth_mapping: dict[int, str] | None = None,
    prediction_mapping: dict[int, str] | None = None,
    legend: bool = False,
    legend_handles: Any = None,
    rows: int | None = None,
    cols: int | None = None,
    data_format: str | None = None,
    **kwargs: Any,
) -> None:
    """Shows images side by side, with true and predicted boxes on them.

    Args:
        images: See `plot_image_gallery`, as for the others that are not here.
        bounding_box_format: See `utils.bounding_boxes`.
        y_true: True boxes, see `draw_bounding_boxes`.
        y_pred: Predicted boxes, likewise.
        true_color: Of the true boxes.
        pred_color: Of the predicted boxes.
        line_thickness: See `draw_bounding_boxes`, as for `font_scale` and `text_thickness`.
        class_mapping: Class -> its name.
        ground_truth_mapping: The same, for true boxes.
        prediction_mapping: The same, for predicted boxes.
        legend: Whether a legend says which color is which.
        legend_handles: Patches of matplotlib, for another legend.
        kwargs: Of `plot_image_gallery`.
    Raises: ValueError: for images that are not a batch, or two legends. ImportError: without matplotlib.
    """
    _pyplot()
    pixels = to_images(images, data_format)
    if value_range != FULL_RANGE:
        pixels = _in_full_range(pixels, value_range).astype("uint8")
    drawings = (
        (y_true, true_color, ground_truth_mapping or class_mapping),
        (y_pred, pred_color, prediction_mapping or class_mapping),
    )
    for boxes, color, mapping in drawings:
        if boxes is not None:
            pixels = draw_bounding_boxes(
                pixels,
                boxes,
                bounding_box_format,
                mapping,
                color,
                line_thickness,
                text_thickness,
                font_scale,
                data_format="channels_last",
            )
    if legend:
        if legend_handles:
            raise ValueError("plot_bounding_box_gallery() takes legend or legend_handles; got both.")
        named = (("Ground Truth", true_color), ("Prediction", pred_color))
        legend_handles = [_patch(name, color) for name, color in named]
    plot_image_gallery(
        pixels, legend_handles=legend_handles, rows=rows, cols=cols, data_format="channels_last", **kwargs
    )


def plot_segmentation_mask_gallery(
    images: Any,
    num_classes: int | None,
    value_range: tuple[float, float] = (0, 255),
    y_true: Any = None,
    y_pred: Any = None,
    color_mapping: dict[int, Sequence[int]] | None = None,
    blend: bool = True,
    alpha: float = 0.8,
    ignore_index: int = -1,
    data_format: str | None = None,
    **kwargs: Any,
) -> None:
    """Shows a row for each image: the image, and the image with its true and with its predicted masks.

    Args:
        images: See `plot_image_gallery`, as for the others that are not here.
        num_classes: See `draw_segmentation_masks`, as for `color_mapping`, `blend`, `alpha` and `ignore_index`.
        y_true: True classes of the pixels, see there.
        y_pred: Predicted classes, likewise.
        kwargs: Of `plot_image_gallery`.
    Raises: ValueError: for images that are not a batch. ImportError: without matplotlib.
    """
    _pyplot()
    pixels = _in_full_range(to_images(images, data_format), value_range)
    columns = [pixels]
    for masks in (y_true, y_pred):
        if masks is not None:
            classes = to_images(masks, data_format) if len(np.shape(masks)) == 4 else ops.convert_to_numpy(masks)
            drawn = draw_segmentation_masks(
                pixels, classes.astype("int32"), num_classes, color_mapping, alpha, blend, ignore_index, "channels_last"
            )
            columns.append(drawn)
    stacked = np.stack(columns, axis=1).reshape(-1, *pixels.shape[1:])
    plot_image_gallery(stacked, rows=len(pixels), cols=len(columns), data_format="channels_last", **kwargs)


def _in_full_range(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Returns images with values from 0 to 255."""
    low, high = value_range
    if (low, high) == FULL_RANGE:
        return images
    return (images.astype("float32") - low) / (high - low) * 255


def _patch(label: str, color: Sequence[int]) -> Any:
    """Returns an entry of a legend."""
    from matplotlib.patches import Patch

    return Patch(color=np.array(color) / 255.0, label=label)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Galleries need matplotlib: pip install 'kstyle-torch[plot]'.") from error
    return plt
