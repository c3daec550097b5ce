"""Operations on images: Keras' `ops.image`, over torch functions."""

from kstyle_torch.ops.image.color import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv
from kstyle_torch.ops.image.filters import gaussian_blur, sobel_edges, ssim
from kstyle_torch.ops.image.patches import extract_patches, extract_patches_3d
from kstyle_torch.ops.image.sampling import map_coordinates
from kstyle_torch.ops.image.sizes import crop_images, pad_images, resize, scale_and_translate
from kstyle_torch.ops.image.warps import affine_transform, elastic_transform, perspective_transform

__all__ = [
    "affine_transform",
    "crop_images",
    "elastic_transform",
    "extract_patches",
    "extract_patches_3d",
    "gaussian_blur",
    "hsv_to_rgb",
    "map_coordinates",
    "pad_images",
    "perspective_transform",
    "resize",
    "rgb_to_grayscale",
    "rgb_to_hsv",
    "scale_and_translate",
    "sobel_edges",
    "ssim",
]
