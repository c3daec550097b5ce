"""Normalization."""

from tests.layers.case import CHANNELS_FIRST, IMAGE, Case
from tests.oracle import integers

SEQUENCE = (2, 6, 4)
PLAIN = {"center": False, "scale": False}


def mask(*shape):
    """Some places, and not others."""
    return {"mask": integers(*shape, high=2) > 0}


CASES = [
    Case("batch-norm", "BatchNormalization", {}, ((5, 3),)),
    Case("batch-norm-train", "BatchNormalization", {}, ((5, 3),), training=True),
    Case("batch-norm-train-image", "BatchNormalization", {"momentum": 0.8}, (IMAGE,), training=True),
    Case("batch-norm-train-axis", "BatchNormalization", {"axis": 1}, (CHANNELS_FIRST,), training=True),
    Case("batch-norm-axis", "BatchNormalization", {"axis": 2, "epsilon": 0.1}, (IMAGE,)),
    Case("batch-norm-train-sequence", "BatchNormalization", {}, ((2, 6, 3),), training=True),
    Case("batch-norm-train-no-center", "BatchNormalization", {"center": False}, ((5, 3),), training=True),
    Case("batch-norm-train-no-scale", "BatchNormalization", {"scale": False}, (IMAGE,), training=True),
    Case("batch-norm-train-bare", "BatchNormalization", PLAIN, ((5, 3),), training=True),
    Case("batch-norm-train-one-row", "BatchNormalization", {}, ((1, 3),), training=True),
    Case("batch-norm-mask", "BatchNormalization", {}, (SEQUENCE,), call=lambda: mask(2, 6)),
    Case("batch-norm-mask-train", "BatchNormalization", {}, (SEQUENCE,), training=True, call=lambda: mask(2, 6)),
    Case(
        "batch-norm-mask-axis", "BatchNormalization", {"axis": 1}, (IMAGE,), training=True, call=lambda: mask(2, 7, 6)
    ),
    Case("batch-norm-renorm", "BatchNormalization", {"renorm": True}, ((5, 3),)),
    Case("batch-norm-renorm-train", "BatchNormalization", {"renorm": True}, ((5, 3),), training=True),
    Case("batch-norm-renorm-bare", "BatchNormalization", {"renorm": True, **PLAIN}, (IMAGE,), training=True),
    Case("batch-norm-renorm-no-scale", "BatchNormalization", {"renorm": True, "scale": False}, (IMAGE,), training=True),
    Case(
        "batch-norm-renorm-clipping",
        "BatchNormalization",
        {
            "renorm": True,
            "renorm_clipping": {"rmax": 0.9, "rmin": 0.4, "dmax": 0.5},
            "renorm_momentum": 0.5,
            "momentum": 0.7,
        },
        (SEQUENCE,),
        training=True,
        call=lambda: mask(2, 6),
    ),
    Case("layer-norm", "LayerNormalization", {}, ((5, 4),)),
    Case("layer-norm-sequence", "LayerNormalization", {"epsilon": 0.1}, (SEQUENCE,)),
    Case("layer-norm-last-axes", "LayerNormalization", {"axis": [-2, -1]}, (IMAGE,)),
    Case("layer-norm-axes", "LayerNormalization", {"axis": (3, 1)}, (IMAGE,)),
    Case("layer-norm-no-center", "LayerNormalization", {"center": False}, (SEQUENCE,)),
    Case("layer-norm-no-scale", "LayerNormalization", {"scale": False}, (SEQUENCE,)),
    Case("layer-norm-bare", "LayerNormalization", PLAIN, (SEQUENCE,)),
    Case("group-norm", "GroupNormalization", {"groups": 2}, (IMAGE,)),
    Case("group-norm-vector", "GroupNormalization", {"groups": 2, "epsilon": 0.1}, ((5, 4),)),
    Case("group-norm-sequence", "GroupNormalization", {"groups": 4}, (SEQUENCE,)),
    Case("group-norm-instance", "GroupNormalization", {"groups": -1}, (IMAGE,)),
    Case("group-norm-first", "GroupNormalization", {"groups": 2, "axis": 1}, (CHANNELS_FIRST,)),
    Case("group-norm-middle", "GroupNormalization", {"groups": 3, "axis": -2}, (IMAGE,)),
    Case("group-norm-no-center", "GroupNormalization", {"groups": 2, "center": False}, (IMAGE,)),
    Case("group-norm-no-scale", "GroupNormalization", {"groups": 1, "scale": False}, (IMAGE,)),
    Case("rms-norm", "RMSNormalization", {}, ((5, 4),)),
    Case("rms-norm-last-axes", "RMSNormalization", {"axis": [1, 2], "epsilon": 0.1}, (SEQUENCE,)),
    Case("unit-norm", "UnitNormalization", {}, ((5, 4),)),
    Case("unit-norm-axes", "UnitNormalization", {"axis": [1, 2]}, (IMAGE,)),
    Case("spectral-norm", "SpectralNormalization", lambda lib: {"layer": lib.layers.Dense(3)}, ((5, 4),)),
    Case(
        "spectral-norm-train",
        "SpectralNormalization",
        lambda lib: {"layer": lib.layers.Dense(3, activation="relu")},
        ((5, 4),),
        training=True,
    ),
    Case(
        "spectral-norm-conv",
        "SpectralNormalization",
        lambda lib: {"layer": lib.layers.Conv2D(3, 2, use_bias=False), "power_iterations": 3},
        (IMAGE,),
        training=True,
    ),
]
