"""Pooling."""

import torch

from tests.layers.case import CHANNELS_FIRST, IMAGE, Case

SEQUENCE, SEQUENCE_FIRST = (2, 9, 4), (2, 4, 9)
VOLUME, VOLUME_FIRST = (2, 5, 4, 6, 2), (2, 2, 5, 4, 6)
FIRST = {"data_format": "channels_first"}


def mask():
    return {"mask": torch.arange(9) < torch.tensor([[4], [9]])}


WINDOWS = [
    Case("max-pooling1d", "MaxPooling1D", {}, (SEQUENCE,)),
    Case("max-pooling1d-same", "MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}, (SEQUENCE,)),
    Case("max-pooling1d-channels-first", "MaxPooling1D", {"pool_size": 3, "strides": 1, **FIRST}, (SEQUENCE_FIRST,)),
    Case("max-pooling", "MaxPooling2D", {}, (IMAGE,)),
    Case("max-pooling-same", "MaxPooling2D", {"pool_size": (3, 2), "padding": "same"}, (IMAGE,)),
    Case("max-pooling-strides", "MaxPooling2D", {"pool_size": 3, "strides": (1, 2)}, (IMAGE,)),
    Case("max-pooling-strides-same", "MaxPooling2D", {"pool_size": 3, "strides": 1, "padding": "same"}, (IMAGE,)),
    Case(
        "max-pooling-even-same", "MaxPooling2D", {"pool_size": (4, 5), "strides": (1, 2), "padding": "same"}, (IMAGE,)
    ),
    Case("max-pooling-far-same", "MaxPooling2D", {"pool_size": (1, 2), "strides": (3, 4), "padding": "same"}, (IMAGE,)),
    Case("max-pooling-wide-same", "MaxPooling2D", {"pool_size": 11, "strides": 3, "padding": "same"}, (IMAGE,)),
    Case("max-pooling-channels-first", "MaxPooling2D", FIRST, (CHANNELS_FIRST,)),
    Case(
        "max-pooling-channels-first-same",
        "MaxPooling2D",
        {"pool_size": 2, "strides": 1, "padding": "same", **FIRST},
        (CHANNELS_FIRST,),
    ),
    Case("max-pooling3d", "MaxPooling3D", {"pool_size": (2, 1, 3)}, (VOLUME,)),
    Case(
        "max-pooling3d-same",
        "MaxPooling3D",
        {"pool_size": (2, 3, 4), "strides": (1, 2, 3), "padding": "same"},
        (VOLUME,),
    ),
    Case("max-pooling3d-channels-first", "MaxPooling3D", FIRST, (VOLUME_FIRST,)),
    Case("average-pooling1d", "AveragePooling1D", {"pool_size": 3}, (SEQUENCE,)),
    Case("average-pooling1d-same", "AveragePooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}, (SEQUENCE,)),
    Case(
        "average-pooling1d-channels-first",
        "AveragePooling1D",
        {"pool_size": 2, "strides": 1, **FIRST},
        (SEQUENCE_FIRST,),
    ),
    # where one row more is padded at the end than before, tests/layers/test_pooling.py has the oracle
    Case("average-pooling", "AveragePooling2D", {"pool_size": 2}, (IMAGE,)),
    Case("average-pooling-same", "AveragePooling2D", {"pool_size": (2, 3), "padding": "same"}, (IMAGE,)),
    Case("average-pooling-strides", "AveragePooling2D", {"pool_size": 3, "strides": (1, 2)}, (IMAGE,)),
    Case(
        "average-pooling-strides-same",
        "AveragePooling2D",
        {"pool_size": (3, 5), "strides": 1, "padding": "same"},
        (IMAGE,),
    ),
    Case("average-pooling-even-same", "AveragePooling2D", {"pool_size": 2, "strides": 1, "padding": "same"}, (IMAGE,)),
    Case(
        "average-pooling-channels-first",
        "AveragePooling2D",
        {"pool_size": 2, "padding": "same", **FIRST},
        (CHANNELS_FIRST,),
    ),
    Case("average-pooling3d", "AveragePooling3D", {"pool_size": 2}, (VOLUME,)),
    Case("average-pooling3d-same", "AveragePooling3D", {"pool_size": 3, "strides": 1, "padding": "same"}, (VOLUME,)),
    Case("average-pooling3d-channels-first", "AveragePooling3D", {"pool_size": (1, 2, 3), **FIRST}, (VOLUME_FIRST,)),
]
GLOBAL = [
    Case("global-average1d", "GlobalAveragePooling1D", {}, (SEQUENCE,)),
    Case("global-average1d-mask", "GlobalAveragePooling1D", {}, (SEQUENCE,), call=mask),
    Case("global-average1d-mask-keepdims", "GlobalAveragePooling1D", {"keepdims": True}, (SEQUENCE,), call=mask),
    Case("global-average1d-mask-channels-first", "GlobalAveragePooling1D", FIRST, (SEQUENCE_FIRST,), call=mask),
    Case("global-average1d-channels-first", "GlobalAveragePooling1D", {"keepdims": True, **FIRST}, (SEQUENCE_FIRST,)),
    Case("global-average", "GlobalAveragePooling2D", {}, (IMAGE,)),
    Case("global-average-keepdims", "GlobalAveragePooling2D", {"keepdims": True}, (IMAGE,)),
    Case("global-average-channels-first", "GlobalAveragePooling2D", FIRST, (CHANNELS_FIRST,)),
    Case("global-average3d", "GlobalAveragePooling3D", {}, (VOLUME,)),
    Case("global-average3d-channels-first", "GlobalAveragePooling3D", {"keepdims": True, **FIRST}, (VOLUME_FIRST,)),
    Case("global-max1d", "GlobalMaxPooling1D", {}, (SEQUENCE,)),
    Case("global-max1d-channels-first", "GlobalMaxPooling1D", {"keepdims": True, **FIRST}, (SEQUENCE_FIRST,)),
    Case("global-max", "GlobalMaxPooling2D", {"keepdims": True}, (IMAGE,)),
    Case("global-max-channels-first", "GlobalMaxPooling2D", FIRST, (CHANNELS_FIRST,)),
    Case("global-max3d", "GlobalMaxPooling3D", {}, (VOLUME,)),
    Case("global-max3d-channels-first", "GlobalMaxPooling3D", FIRST, (VOLUME_FIRST,)),
]
ADAPTIVE = [
    Case("adaptive-average1d", "AdaptiveAveragePooling1D", {"output_size": 4}, (SEQUENCE,)),
    Case(
        "adaptive-average1d-channels-first", "AdaptiveAveragePooling1D", {"output_size": 11, **FIRST}, (SEQUENCE_FIRST,)
    ),
    Case("adaptive-average2d", "AdaptiveAveragePooling2D", {"output_size": (3, 2)}, (IMAGE,)),
    Case(
        "adaptive-average2d-channels-first", "AdaptiveAveragePooling2D", {"output_size": 4, **FIRST}, (CHANNELS_FIRST,)
    ),
    Case("adaptive-average3d", "AdaptiveAveragePooling3D", {"output_size": (2, 3, 1)}, (VOLUME,)),
    Case("adaptive-average3d-channels-first", "AdaptiveAveragePooling3D", {"output_size": 2, **FIRST}, (VOLUME_FIRST,)),
    Case("adaptive-max1d", "AdaptiveMaxPooling1D", {"output_size": 4}, (SEQUENCE,)),
    Case("adaptive-max1d-channels-first", "AdaptiveMaxPooling1D", {"output_size": 2, **FIRST}, (SEQUENCE_FIRST,)),
    Case("adaptive-max2d", "AdaptiveMaxPooling2D", {"output_size": (3, 2)}, (IMAGE,)),
    Case("adaptive-max2d-channels-first", "AdaptiveMaxPooling2D", {"output_size": 4, **FIRST}, (CHANNELS_FIRST,)),
    Case("adaptive-max3d", "AdaptiveMaxPooling3D", {"output_size": (2, 3, 1)}, (VOLUME,)),
    Case("adaptive-max3d-channels-first", "AdaptiveMaxPooling3D", {"output_size": 2, **FIRST}, (VOLUME_FIRST,)),
]
CASES = WINDOWS + GLOBAL + ADAPTIVE
