"""The layers of VGG: blocks of 3 x 3 convolutions, each of them ended by a pool that halves the image."""

from __future__ import annotations

from collections.abc import Sequence

from kstyle_torch import layers
from kstyle_torch.applications._arguments import Arguments
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.models.functional import Functional

FILTERS = (64, 128, 256, 512, 512)  # of each block
HIDDEN = 4096  # units of the two dense layers below the classes


def vgg(arguments: Arguments, depths: Sequence[int], file: WeightsFile) -> Functional:
    """Returns a VGG.

    Args:
        arguments: Those of the architecture.
        depths: Number of convolutions in each block.
        file: Its published weights.
    """
    image = x = arguments.image(default_size=224, min_size=32)
    for block, (filters, depth) in enumerate(zip(FILTERS, depths), 1):
        for number in range(1, depth + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(filters, 3, activation="relu", padding="same", name=name)(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    if not arguments.include_top:
        return arguments.model(image, arguments.pooled(x), file)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(HIDDEN, activation="relu", name=name)(x)
    return arguments.model(image, arguments.predictions(x), file)
