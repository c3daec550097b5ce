"""Dense, Embedding and the other core layers."""

from torch import nn

from tests.layers.case import Case


def doubled(x):
    """For Lambda: a function that has a name, so that it can be pickled."""
    return 2 * x


def power_in(x, power, training=None):
    """For Lambda, with arguments."""
    return x**power + (1.0 if training else 0.0)


def einsum(id, equation, output_shape, shape, **arguments):
    """A row of EinsumDense."""
    return Case(
        f"einsum-{id}", "EinsumDense", {"equation": equation, "output_shape": output_shape, **arguments}, (shape,)
    )


CASES = [
    Case("input", "InputLayer", {"shape": (3,)}, ((2, 3),)),
    Case("dense", "Dense", {"units": 4}, ((5, 3),)),
    Case("dense-activation", "Dense", {"units": 4, "activation": "tanh"}, ((5, 3),)),
    Case("dense-softmax", "Dense", {"units": 4, "activation": "softmax"}, ((5, 3),)),
    Case("dense-no-bias", "Dense", {"units": 4, "use_bias": False}, ((5, 3),)),
    Case("dense-sequence", "Dense", {"units": 4, "activation": "relu"}, ((2, 6, 3),)),
    Case("dense-4d", "Dense", {"units": 4}, ((2, 5, 6, 3),)),
    Case(
        "dense-initializers", "Dense", {"units": 4, "bias_initializer": "ones", "kernel_regularizer": "l2"}, ((5, 3),)
    ),
    Case("dense-lora", "Dense", {"units": 4, "lora_rank": 2, "kernel_regularizer": "l2"}, ((5, 3),)),
    einsum("plain", "ab,bc->ac", 6, (5, 3)),
    einsum("bias", "abc,cd->abd", (None, 6), (2, 5, 3), bias_axes="d", activation="tanh"),
    einsum("bias-axes", "abc,cde->abde", (5, 6, 4), (2, 5, 3), bias_axes="be"),
    einsum("heads", "abcd,cde->abe", (None, 6), (2, 5, 3, 4), bias_axes="e"),
    einsum("shared-axis", "abc,bcd->abd", (5, 6), (2, 5, 3), bias_axes="bd"),
    einsum("left", "...x,xy->...y", 6, (2, 5, 7, 3), bias_axes="y"),
    einsum("left-two", "...ab,bc->...ac", (None, 6), (2, 5, 4, 3), bias_axes="c"),
    einsum("left-nothing", "...ab,bc->...ac", 6, (5, 3), bias_axes="c"),
    einsum("right", "abc...,bcd->ad...", 6, (2, 5, 3, 4), bias_axes="d"),
    einsum("lora", "abc,cde->abde", (None, 6, 4), (2, 5, 3), bias_axes="e", lora_rank=2, lora_alpha=5),
    Case("embedding", "Embedding", {"input_dim": 9, "output_dim": 4}, ((3, 5),), high=9),
    Case("embedding-mask", "Embedding", {"input_dim": 9, "output_dim": 4, "mask_zero": True}, ((3, 5),), high=9),
    Case("embedding-vector", "Embedding", {"input_dim": 9, "output_dim": 4}, ((3,),), high=9),
    Case("embedding-lora", "Embedding", {"input_dim": 9, "output_dim": 4, "lora_rank": 2}, ((3, 5),), high=9),
    Case("reversible", "ReversibleEmbedding", {"input_dim": 9, "output_dim": 4}, ((3, 5),), high=9),
    Case(
        "reversible-mask",
        "ReversibleEmbedding",
        {"input_dim": 9, "output_dim": 4, "mask_zero": True, "tie_weights": False},
        ((3, 5),),
        high=9,
    ),
    Case(
        "reversible-reverse",
        "ReversibleEmbedding",
        {"input_dim": 9, "output_dim": 4, "logit_soft_cap": 0.5},
        ((3, 5, 4),),
        call=lambda: {"reverse": True},
    ),
    Case(
        "reversible-reverse-free",
        "ReversibleEmbedding",
        {"input_dim": 9, "output_dim": 4, "tie_weights": False},
        ((3, 5, 4),),
        call=lambda: {"reverse": True},
    ),
    Case(
        "reversible-reverse-lora",
        "ReversibleEmbedding",
        {"input_dim": 9, "output_dim": 4, "lora_rank": 2},
        ((3, 5, 4),),
        call=lambda: {"reverse": True},
    ),
    Case("identity", "Identity", {}, ((5, 3),)),
    Case("masking", "Masking", {}, ((3, 5, 2),)),
    Case("masking-value", "Masking", {"mask_value": 1}, ((3, 5, 1),), high=3),
    Case("lambda", "Lambda", {"function": doubled}, ((5, 3),), has_config=False),
    Case("lambda-builtin", "Lambda", {"function": nn.functional.silu}, ((5, 3),), has_config=False),
    Case(
        "lambda-arguments",
        "Lambda",
        {"function": power_in, "arguments": {"power": 3}},
        ((5, 3),),
        training=True,
        has_config=False,
    ),
    Case(
        "torch-linear",
        "TorchModule",
        {"module": nn.Linear(3, 2)},
        ((5, 3),),
        has_config=False,
        keras_layer="TorchModuleWrapper",
    ),
    Case(
        "torch-sequential",
        "TorchModule",
        {"module": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))},
        ((5, 3),),
        has_config=False,
        keras_layer="TorchModuleWrapper",
    ),
]
