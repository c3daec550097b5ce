"""Order of the keys in an optimizer's config, which is that of Keras."""

from __future__ import annotations

from typing import Any

# the arguments of every optimizer
SHARED = """name learning_rate weight_decay clipnorm global_clipnorm clipvalue use_ema ema_momentum ema_overwrite_frequency
    loss_scale_factor gradient_accumulation_steps""".split()


def in_keras_order(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the config with the arguments of every optimizer before the class's own."""
    return {name: config[name] for name in SHARED if name in config} | config
