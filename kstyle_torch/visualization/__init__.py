"""Visualization of images with their labels, boxes and masks."""

import sys

from kstyle_torch import namespaces
from kstyle_torch.visualization.boxes import draw_bounding_boxes
from kstyle_torch.visualization.galleries import (
    plot_bounding_box_gallery,
    plot_image_gallery,
    plot_segmentation_mask_gallery,
)
from kstyle_torch.visualization.masks import draw_segmentation_masks

__all__ = [
    "draw_bounding_boxes",
    "draw_segmentation_masks",
    "plot_bounding_box_gallery",
    "plot_image_gallery",
    "plot_segmentation_mask_gallery",
]

namespaces.install(sys.modules[__name__])
