"""Layers that move values around."""

from tests.layers.case import CHANNELS_FIRST, IMAGE, Case

SEQUENCE, SEQUENCE_FIRST = (2, 9, 4), (2, 4, 9)
VOLUME, VOLUME_FIRST = (2, 5, 4, 6, 2), (2, 2, 5, 4, 6)
FIRST = {"data_format": "channels_first"}

CASES = [
    Case("flatten", "Flatten", {}, (IMAGE,)),
    Case("flatten-vector", "Flatten", {}, ((5, 3),)),
    Case("flatten-channels-first", "Flatten", FIRST, (CHANNELS_FIRST,)),
    Case("flatten-scalar", "Flatten", {}, ((5,),)),
    Case("reshape", "Reshape", {"target_shape": (3, 4)}, ((2, 12),)),
    Case("reshape-open", "Reshape", {"target_shape": (-1, 2)}, ((2, 3, 4),)),
    Case("reshape-image", "Reshape", {"target_shape": (6, 28)}, (IMAGE,)),
    Case("permute", "Permute", {"dims": (2, 1)}, (SEQUENCE,)),
    Case("permute-image", "Permute", {"dims": (3, 1, 2)}, (IMAGE,)),
    Case("permute-ints", "Permute", {"dims": (2, 1)}, (SEQUENCE,), high=5),
    Case("repeat-vector", "RepeatVector", {"n": 3}, ((5, 4),)),
    Case("cropping1d", "Cropping1D", {}, (SEQUENCE,)),
    Case("cropping1d-pair", "Cropping1D", {"cropping": (2, 0)}, (SEQUENCE,)),
    Case("cropping2d-nothing", "Cropping2D", {}, (IMAGE,)),
    Case("cropping2d-int", "Cropping2D", {"cropping": 2}, (IMAGE,)),
    Case("cropping2d-axes", "Cropping2D", {"cropping": (1, 2)}, (IMAGE,)),
    Case("cropping2d-pairs", "Cropping2D", {"cropping": ((0, 2), (3, 0))}, (IMAGE,)),
    Case("cropping2d-channels-first", "Cropping2D", {"cropping": ((1, 2), (3, 1)), **FIRST}, (CHANNELS_FIRST,)),
    Case("cropping3d", "Cropping3D", {}, (VOLUME,)),
    Case("cropping3d-axes", "Cropping3D", {"cropping": (2, 0, 1)}, (VOLUME,)),
    Case("cropping3d-channels-first", "Cropping3D", {"cropping": ((1, 0), (0, 3), (2, 1)), **FIRST}, (VOLUME_FIRST,)),
    Case("zero-padding1d", "ZeroPadding1D", {}, (SEQUENCE,)),
    Case("zero-padding1d-pair", "ZeroPadding1D", {"padding": (3, 0)}, (SEQUENCE,)),
    Case("zero-padding1d-channels-first", "ZeroPadding1D", {"padding": (1, 2), **FIRST}, (SEQUENCE_FIRST,)),
    Case("zero-padding2d", "ZeroPadding2D", {}, (IMAGE,)),
    Case("zero-padding2d-axes", "ZeroPadding2D", {"padding": (1, 2)}, (IMAGE,)),
    Case("zero-padding2d-pairs", "ZeroPadding2D", {"padding": ((0, 1), (2, 3))}, (IMAGE,)),
    Case("zero-padding2d-channels-first", "ZeroPadding2D", {"padding": ((0, 1), (2, 3)), **FIRST}, (CHANNELS_FIRST,)),
    Case("zero-padding3d", "ZeroPadding3D", {}, (VOLUME,)),
    Case("zero-padding3d-pairs", "ZeroPadding3D", {"padding": ((0, 1), (2, 3), (1, 0))}, (VOLUME,)),
    Case("zero-padding3d-channels-first", "ZeroPadding3D", {"padding": (1, 2, 0), **FIRST}, (VOLUME_FIRST,)),
    Case("up-sampling1d", "UpSampling1D", {}, (SEQUENCE,)),
    Case("up-sampling1d-ints", "UpSampling1D", {"size": 3}, (SEQUENCE,), high=5),
    Case("up-sampling2d", "UpSampling2D", {}, (IMAGE,)),
    Case("up-sampling2d-axes", "UpSampling2D", {"size": (1, 3)}, (IMAGE,)),
    Case("up-sampling2d-channels-first", "UpSampling2D", {"size": (3, 2), **FIRST}, (CHANNELS_FIRST,)),
    Case("up-sampling2d-bilinear", "UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}, (IMAGE,)),
    Case("up-sampling2d-bicubic", "UpSampling2D", {"size": 3, "interpolation": "bicubic"}, (IMAGE,)),
    Case(
        "up-sampling2d-bilinear-channels-first",
        "UpSampling2D",
        {"interpolation": "BILINEAR", **FIRST},
        (CHANNELS_FIRST,),
    ),
    Case("up-sampling3d", "UpSampling3D", {}, (VOLUME,)),
    Case("up-sampling3d-channels-first", "UpSampling3D", {"size": (1, 3, 2), **FIRST}, (VOLUME_FIRST,)),
]
