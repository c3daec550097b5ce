"""Preprocessing of images."""

from tests.layers.case import Case

IMAGES = (3, 8, 7, 3)
CHANNELS_FIRST = (3, 3, 8, 7)
UNIT = {"value_range": (0, 1)}
FIRST = {"data_format": "channels_first"}


def random_case(name, layer, arguments, shape=IMAGES):
    """Two rows: nothing happens in inference, and training can be traced, copied and loaded."""
    return [
        Case(f"{name}-inference", layer, arguments, (shape,), low=0.0, random=True),
        Case(name, layer, arguments, (shape,), low=0.0, random=True, training=True),
    ]


CASES = [
    Case("resizing", "Resizing", {"height": 5, "width": 9}, (IMAGES,)),
    Case("resizing-nearest", "Resizing", {"height": 5, "width": 9, "interpolation": "nearest"}, (IMAGES,)),
    Case(
        "resizing-bicubic",
        "Resizing",
        {"height": 5, "width": 4, "interpolation": "bicubic", "antialias": True},
        (IMAGES,),
        training=True,
    ),
    Case("resizing-crop", "Resizing", {"height": 6, "width": 3, "crop_to_aspect_ratio": True}, (IMAGES,)),
    Case(
        "resizing-pad", "Resizing", {"height": 6, "width": 3, "pad_to_aspect_ratio": True, "fill_value": 2.0}, (IMAGES,)
    ),
    Case("resizing-channels-first", "Resizing", {"height": 5, "width": 9, **FIRST}, (CHANNELS_FIRST,)),
    Case("resizing-whole-numbers", "Resizing", {"height": 5, "width": 9}, (IMAGES,), high=256),
    Case("center-crop", "CenterCrop", {"height": 5, "width": 4}, (IMAGES,)),
    Case("center-crop-small", "CenterCrop", {"height": 5, "width": 9}, (IMAGES,), training=True),
    Case("center-crop-channels-first", "CenterCrop", {"height": 5, "width": 4, **FIRST}, (CHANNELS_FIRST,)),
    Case("center-crop-whole-numbers", "CenterCrop", {"height": 5, "width": 4}, (IMAGES,), high=256),
    Case("auto-contrast", "AutoContrast", UNIT, (IMAGES,), low=0.0),
    Case("auto-contrast-bytes", "AutoContrast", {}, (IMAGES,), high=256, training=True),
    Case("equalization", "Equalization", UNIT, (IMAGES,), low=0.0),
    Case("equalization-train", "Equalization", UNIT, (IMAGES,), low=0.0, training=True),
    Case("equalization-train-bytes", "Equalization", {}, (IMAGES,), high=256, training=True),
    Case("equalization-train-bins", "Equalization", {"bins": 16, **FIRST}, (CHANNELS_FIRST,), high=200, training=True),
    Case("clahe", "ContrastLimitedAdaptiveHistogramEqualization", UNIT, (IMAGES,), low=0.0),
    Case("clahe-bytes", "ContrastLimitedAdaptiveHistogramEqualization", {}, ((2, 33, 40, 3),), high=256),
    Case(
        "clahe-tiles",
        "ContrastLimitedAdaptiveHistogramEqualization",
        {"tile_grid_size": (3, 2), "clip_limit": 1.5, **FIRST, **UNIT},
        ((2, 1, 17, 20),),
        low=0.0,
        training=True,
    ),
    Case(
        "clahe-no-limit",
        "ContrastLimitedAdaptiveHistogramEqualization",
        {"tile_grid_size": (2, 2), "clip_limit": 0},
        ((2, 16, 20, 3),),
        high=256,
    ),
    Case("max-num-bounding-boxes", "MaxNumBoundingBoxes", {"max_number": 3}, (IMAGES,)),
    # Keras leaves images as they are in inference, of whatever size
    *random_case("random-crop", "RandomCrop", {"height": 8, "width": 7, "seed": 1}),
    *random_case("random-flip", "RandomFlip", {}),
    *random_case("random-flip-seed", "RandomFlip", {"mode": "vertical", "seed": 3, **FIRST}, CHANNELS_FIRST),
    *random_case("random-rotation", "RandomRotation", {"factor": 0.2}),
    *random_case("random-translation", "RandomTranslation", {"height_factor": 0.2, "width_factor": (-0.1, 0.4)}),
    *random_case("random-zoom", "RandomZoom", {"height_factor": 0.3, "fill_mode": "constant", "fill_value": 0.5}),
    *random_case("random-shear", "RandomShear", {"x_factor": (0.1, 0.3), "y_factor": (0.0, 0.2), "fill_mode": "wrap"}),
    *random_case("random-perspective", "RandomPerspective", {"scale": 0.4, "interpolation": "nearest"}),
    *random_case("random-elastic", "RandomElasticTransform", {"scale": (0.2, 0.8), **UNIT}),
    *random_case("random-brightness", "RandomBrightness", {"factor": 0.2, **UNIT}),
    *random_case("random-contrast", "RandomContrast", {"factor": 0.2, **UNIT}),
    *random_case("random-hue", "RandomHue", {"factor": 0.2, **UNIT}),
    *random_case("random-saturation", "RandomSaturation", {"factor": (0.2, 0.7), **UNIT}),
    *random_case("random-sharpness", "RandomSharpness", {"factor": (0.2, 0.7), **UNIT}),
    *random_case("random-color-degeneration", "RandomColorDegeneration", {"factor": 0.5, **UNIT}),
    *random_case("random-grayscale", "RandomGrayscale", {"factor": 0.7}),
    *random_case("random-invert", "RandomInvert", UNIT),
    *random_case("random-posterization", "RandomPosterization", {"factor": (2, 6), **UNIT}),
    *random_case("solarization", "Solarization", {"addition_factor": 0.2, "threshold_factor": (0.2, 0.5), **UNIT}),
    *random_case("random-color-jitter", "RandomColorJitter", {"brightness_factor": 0.1, "hue_factor": 0.3, **UNIT}),
    *random_case("random-gaussian-blur", "RandomGaussianBlur", {"kernel_size": 5, "sigma": (0.3, 0.9), **UNIT}),
    *random_case("random-erasing", "RandomErasing", {"fill_value": 0.5, "scale": 0.5, **UNIT}),
    *random_case("cut-mix", "CutMix", {"factor": 0.8}),
    *random_case("mix-up", "MixUp", {"alpha": 0.4, "seed": 4}),
    *random_case("rand-augment", "RandAugment", {"num_ops": 3, "factor": 0.3, **UNIT}),
    *random_case("aug-mix", "AugMix", {"num_chains": 2, "all_ops": False, **UNIT}),
]
