"""Checks on the simulated accelerator of utilities, distillation and pictures."""

import numpy as np
import torch
from simulated_device import NAME

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.utils import bounding_boxes

RANDOM = np.random.default_rng(0)
BOXES = np.sort(RANDOM.uniform(0, 40, (2, 5, 2, 2)), axis=2).reshape(2, 5, 4).astype("float32")
FACTORS = [np.float32(values) for values in [(30, -10), (0.1, -0.2), (0.3, 0.1), (1.2, 0.7), (5, 20), (-7, 3)]]
CALLS = {
    "convert": lambda boxes: bounding_boxes.convert_format(boxes, "xyxy", "rel_center_xywh", 40, 60),
    "convert per image": lambda boxes: bounding_boxes.convert_format(
        boxes, "xyxy", "rel_xywh", *[torch.ones(2, 1, 1)] * 2
    ),
    "clip": lambda boxes: bounding_boxes.clip_to_image_size({"boxes": boxes}, 20, 30)["boxes"],
    "affine": lambda boxes: bounding_boxes.affine_transform(boxes, *FACTORS, 40, 60),
    "crop": lambda boxes: bounding_boxes.crop(boxes, 1, 2, 20, 30),
    "iou": lambda boxes: bounding_boxes.compute_iou(boxes, BOXES[0], "xyxy", use_masking=True),
    "ciou": lambda boxes: bounding_boxes.compute_ciou(boxes, BOXES, "xyxy"),
    "encode": lambda boxes: bounding_boxes.encode_box_to_deltas(BOXES[0], boxes, "xyxy", "xyxy", variance=[0.1] * 4),
    "decode": lambda boxes: bounding_boxes.decode_deltas_to_boxes(
        BOXES[0], boxes / 40, "xyxy", "xyxy", variance=[0.1] * 4
    ),
}


def check_boxes(call):
    here = call(torch.from_numpy(BOXES))
    there = call(torch.from_numpy(BOXES).to(NAME))
    assert there.device.type == NAME
    np.testing.assert_allclose(there.cpu(), here, rtol=1e-5, atol=1e-5)


def check_feature_space():
    data = {"x": RANDOM.normal(size=8), "y": RANDOM.integers(0, 3, 8), "z": RANDOM.choice(["a", "b"], 8)}
    encoded = []
    for device in ("cpu", NAME):
        ks.config.set_device(device)
        space = ks.utils.FeatureSpace(
            {"x": "float_rescaled", "y": "integer_categorical", "z": "string_categorical"}, crosses=[("y", "z")]
        )
        space.adapt(data)
        encoded.append(space(data))
        assert encoded[-1].device.type == device
    np.testing.assert_allclose(encoded[1].cpu(), encoded[0], rtol=1e-5, atol=1e-6)


def check_distiller():
    x, y = RANDOM.normal(size=(32, 4)).astype("float32"), RANDOM.integers(0, 3, 32)
    histories = []
    for device in ("cpu", NAME):
        ks.config.set_device(device)
        models = []
        for seed in range(2):
            model = ks.Sequential(
                [ks.Input((4,)), layers.Dense(5, name="hidden"), layers.Dense(3, activation="softmax")]
            )
            random = np.random.default_rng(seed)
            model.set_weights([random.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
            models.append(model)
        losses = [ks.distillation.LogitsDistillation(), ks.distillation.FeatureDistillation("mse", "hidden", "hidden")]
        distiller = ks.distillation.Distiller(*models, losses)
        distiller.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        histories.append(distiller.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4)


def check_pictures():
    images = torch.from_numpy(RANDOM.integers(0, 256, (2, 40, 50, 3), dtype="uint8"))
    boxes = {"boxes": torch.from_numpy(BOXES), "labels": torch.zeros(2, 5, dtype=torch.int64)}
    moved = {name: value.to(NAME) for name, value in boxes.items()}
    draw = ks.visualization.draw_bounding_boxes
    np.testing.assert_array_equal(draw(images.to(NAME), moved, "xyxy"), draw(images, boxes, "xyxy"))
    masks = images[..., :1].long() % 3
    draw = ks.visualization.draw_segmentation_masks
    np.testing.assert_array_equal(draw(images.to(NAME), masks.to(NAME)), draw(images, masks))


CHECKS = {
    **{f"boxes {name}": lambda call=call: check_boxes(call) for name, call in CALLS.items()},
    "feature space": check_feature_space,
    "distiller": check_distiller,
    "pictures": check_pictures,
}
