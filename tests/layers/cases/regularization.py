"""Layers that disturb the signal."""

from tests.layers.case import CHANNELS_FIRST, IMAGE, Case

VOLUME = (2, 4, 3, 5, 6)


def rows(id, layer, arguments, shape):
    """A layer in inference, in training and in training with a seed."""
    seeded = {**arguments, "seed": 3}
    return [
        Case(id, layer, arguments, (shape,)),
        Case(f"{id}-train", layer, arguments, (shape,), training=True, random=True),
        Case(f"{id}-seed", layer, seeded, (shape,), training=True, random=True),
    ]


CASES = [
    *rows("dropout", "Dropout", {"rate": 0.5}, (5, 3)),
    *rows("dropout-noise-shape", "Dropout", {"rate": 0.5, "noise_shape": (None, 1)}, (5, 3)),
    Case("dropout-zero", "Dropout", {"rate": 0.0}, ((5, 3),), training=True),
    *rows("spatial-dropout-1d", "SpatialDropout1D", {"rate": 0.5}, (2, 6, 3)),
    *rows("spatial-dropout-2d", "SpatialDropout2D", {"rate": 0.5}, IMAGE),
    *rows(
        "spatial-dropout-2d-first", "SpatialDropout2D", {"rate": 0.5, "data_format": "channels_first"}, CHANNELS_FIRST
    ),
    *rows("spatial-dropout-3d", "SpatialDropout3D", {"rate": 0.5}, VOLUME),
    *rows("gaussian-dropout", "GaussianDropout", {"rate": 0.5}, (5, 3)),
    *rows("gaussian-noise", "GaussianNoise", {"stddev": 0.5}, (5, 3)),
    *rows("alpha-dropout", "AlphaDropout", {"rate": 0.5}, (5, 3)),
    *rows("alpha-dropout-noise-shape", "AlphaDropout", {"rate": 0.5, "noise_shape": (None, 1)}, (5, 3)),
    Case("activity-regularization", "ActivityRegularization", {"l1": 0.1, "l2": 0.2}, ((5, 3),)),
]
