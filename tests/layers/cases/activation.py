"""Activation layers."""

import torch

from tests.layers.case import IMAGE, Case

KEEP = torch.tensor([True, False, True])

CASES = [
    Case("activation", "Activation", {"activation": "relu"}, ((5, 3),)),
    Case("activation-softmax", "Activation", {"activation": "softmax"}, ((5, 3),)),
    Case("activation-image", "Activation", {"activation": "elu"}, (IMAGE,)),
    Case("relu", "ReLU", {}, ((5, 3),)),
    Case("relu-max", "ReLU", {"max_value": 0.5}, ((5, 3),)),
    Case("relu-slope", "ReLU", {"negative_slope": 0.1}, ((5, 3),)),
    Case("relu-all", "ReLU", {"max_value": 0.8, "negative_slope": 0.1, "threshold": 0.4}, (IMAGE,)),
    Case("leaky-relu", "LeakyReLU", {}, ((5, 3),)),
    Case("leaky-relu-slope", "LeakyReLU", {"negative_slope": 0.7}, ((5, 3),)),
    Case("prelu", "PReLU", {}, ((5, 3),)),
    Case("prelu-image", "PReLU", {"alpha_initializer": "ones", "alpha_regularizer": "l2"}, (IMAGE,)),
    Case("prelu-shared", "PReLU", {"shared_axes": [1, 2]}, (IMAGE,)),
    Case("prelu-shared-one", "PReLU", {"shared_axes": 1}, ((2, 6, 3),)),
    Case("elu", "ELU", {}, ((5, 3),)),
    Case("elu-alpha", "ELU", {"alpha": 0.3}, ((5, 3),)),
    Case("softmax", "Softmax", {}, ((5, 3),)),
    Case("softmax-axis", "Softmax", {"axis": 1}, ((2, 6, 3),)),
    Case("softmax-axes", "Softmax", {"axis": [1, 2]}, (IMAGE,)),
    Case("softmax-one-axis", "Softmax", {"axis": [2]}, (IMAGE,)),
    Case("softmax-mask", "Softmax", {}, ((5, 3),), call=lambda: {"mask": KEEP.expand(5, 3)}),
    Case("softmax-mask-floats", "Softmax", {}, ((5, 3),), call=lambda: {"mask": KEEP.float().expand(5, 3)}),
    Case("softmax-mask-all", "Softmax", {}, ((5, 3),), call=lambda: {"mask": torch.zeros(5, 3, dtype=torch.bool)}),
    Case("softmax-mask-axes", "Softmax", {"axis": (1, 2)}, ((2, 6, 3),), call=lambda: {"mask": KEEP.expand(2, 6, 3)}),
]
