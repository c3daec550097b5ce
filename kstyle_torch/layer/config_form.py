"""Form of a layer's config, which is Keras' in its keys, their order and their values."""

from __future__ import annotations

from typing import Any

from kstyle_torch import constraints, dtype_policies, initializers, regularizers
from kstyle_torch.serialization import (
    default_arguments,
    extended_class,
    in_whole_configs,
    is_own,
    serialize_keras_object,
)

# arguments that Keras' configs have in the form of the attribute: `(3, 3)` for 3
SETTLED = frozenset(
    "kernel_size strides dilation_rate pool_size padding output_size size cropping data_format value_dim "
    "factor x_factor y_factor scale sigma sequence_length max_freq".split()
)
# by the end of an argument's name: how its identifier becomes an object
OBJECTS = {"initializer": initializers.get, "regularizer": regularizers.get, "constraint": constraints.get}
# arguments that no config of Keras has where they are not given
ANYWHERE = "flash_attention gptq_unpacked_column_size input_length lora_alpha lora_rank mask use_cudnn weights".split()
# arguments that Keras' configs lack, by class: they are written only where they are not the default
LOST = {
    **dict.fromkeys("Dense Layer Model Sequential".split(), "activity_regularizer"),
    **dict.fromkeys("Add Average Concatenate Dot Maximum Minimum Multiply Subtract".split(), "activity_regularizer"),
    **dict.fromkeys(("GRUCell", "LSTMCell"), "implementation"),
    **dict.fromkeys(("RandomGrayscale", "SimpleRNN"), "seed"),
    "CategoryEncoding": "sparse",
}
# arguments of base classes that Keras' configs have, given or not
GIVEN = {
    **dict.fromkeys("EinsumDense Embedding ReversibleEmbedding".split(), "activity_regularizer"),
    **dict.fromkeys("GRU LSTM SimpleRNN".split(), "zero_output_for_mask"),
}
NAMED = ("Discretization", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")  # their dtype is a name
# keys that stand before the others, in this order
FIRST = "return_sequences return_state go_backwards stateful unroll zero_output_for_mask depth_multiplier".split()


def keras_form(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a layer's config with Keras' keys, values and order.

    Args:
        layer: The layer.
        config: The arguments of its constructor as plain data.
    """
    cls = extended_class(type(layer)) or type(layer)
    base = {"name": layer.name, "trainable": layer.trainable, "dtype": _policy(layer, cls.__name__ in NAMED)}
    if is_own(cls) and (given := GIVEN.get(cls.__name__)) is not None:
        config.setdefault(given, serialize_keras_object(getattr(layer, given)))
    rest = sorted((key for key in config if key not in base and key != "autocast"), key=_rank)
    config = {key: config[key] for key in rest}
    if not is_own(cls):
        return base | config
    regularizer = getattr(layer, "activity_regularizer", None)
    if regularizer is not None and cls.__name__ != "ActivityRegularization":  # made of its arguments
        base["activity_regularizer"] = serialize_keras_object(regularizer)
    for key, value in config.items():
        if key in SETTLED:
            config[key] = serialize_keras_object(getattr(layer, key, value))
        elif isinstance(value, str) and (get := OBJECTS.get(key.rpartition("_")[2])) is not None:
            config[key] = serialize_keras_object(getattr(layer, key) if hasattr(layer, key) else get(value))
        elif value is None and key == "activation" and hasattr(layer, key):
            config[key] = serialize_keras_object(layer.activation)
    defaults = default_arguments(cls)
    lost = {key for key in (*ANYWHERE, LOST.get(cls.__name__)) if key in config and config[key] == defaults.get(key)}
    return base | {key: value for key, value in config.items() if key not in lost}


def _rank(key: str) -> int:
    return FIRST.index(key) if key in FIRST else len(FIRST) + (key == "noise_shape")


def _policy(layer: Any, named: bool) -> Any:
    """Returns the entry of the dtype policy; in files its name, which every version of Keras reads."""
    policy = layer.dtype_policy
    if (in_whole_configs() or named) and not isinstance(policy, dtype_policies.DTypePolicyMap):
        return policy.name
    return dtype_policies.serialize(policy)
