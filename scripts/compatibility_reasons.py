"""Reasons why a public name of Keras is missing or different, for `scripts/compatibility.py`."""

from __future__ import annotations

import fnmatch

OTHER = "of another framework"
LATER = "not built yet"

# By patterns of names. The first that fits counts. What is different and why, in a few words.
REASONS: dict[str, str] = {
    "layers.TFSMLayer": OTHER,
    "layers.JaxLayer": OTHER,
    "layers.FlaxLayer": OTHER,
    "callbacks.OrbaxCheckpoint": OTHER,
    "callbacks.TensorBoard.summary": OTHER,
    "config.is_nnx_enabled": OTHER,
    "layers.AveragePooling?D": "pool_size=2, the default of Keras 2, is kept",
    "layers.AvgPool?D": "pool_size=2, the default of Keras 2, is kept",
    "distillation.Distiller.from_config": "takes `custom_objects` too, as that of every model does",
    "export.ExportArchive": "writes programs of torch.export; SavedModel is a format of TensorFlow",
    "config.set_backend": "torch is the only backend",
    "Model": "names the arguments `inputs`, `outputs` and `name` in place of `*args`",
    "models.Model": "names the arguments `inputs`, `outputs` and `name` in place of `*args`",
    "Model.call": "takes what Keras' functional models take: `inputs`, `training`, `mask`",
    "Model.export": "no default of another framework: the suffix of the file says the format",
    "optimizers.legacy.*": "today's optimizer of that name, where Keras raises an ImportError",
    "Layer.compute_output_shape": "every layer has one: the shape is found by a run, for the first argument",
    "*.compute_output_spec": "takes the arguments of call(), whatever their names",
    "distribution.*": LATER,
    "quantizers.*": LATER,
    "Quantizer": LATER,
    "dtype_policies.AWQ*": LATER,
    "dtype_policies.GPTQ*": LATER,
    "dtype_policies.Int4*": LATER,
    "dtype_policies.Quantized*": LATER,
    "wrappers.*.set_fit_request": "scikit-learn's own, which names what can be asked for",
    "wrappers.SKLearnTransformer.fit": "without y, the model learns to give X back",
    "*quantize*": LATER,
    "*quantization*": LATER,
}

# What no name or signature shows.
BEHAVIOR: dict[str, str] = {
    "`add_weight(...)`": "returns an `nn.Parameter` (a tensor if not trainable) with the members and operators of Keras' "
    "variables: its `dtype` is torch's, `isinstance(weight, Variable)` is False, and `weight += x` changes it in place",
    "`x.dtype` of symbolic tensors, variables and layers": "a string as in Keras, which equals torch's dtype too; outside "
    "of a layer's call, torch functions take `x.dtype.torch_dtype`",
    "`variable.value`": "where torch keeps the weight in another layout, a tensor that writes through to it and is not an "
    "`nn.Parameter`, as `variable.parameter` is",
}

# Examples of Keras' docstrings that run there on torch and give something else here, by the path of the name.
INTEGERS = "Keras computes in integers there; its documentation has the numbers that we give"
SIXTY_FOUR = "an array of 64 bits keeps them here, as in torch; Keras makes 32 of them"
ONE_TARGET = "one number as the target of ten outputs is refused; Keras broadcasts it in batches of one row"
INSIDE = "imports from keras.src, which is Keras' inside"
EXAMPLES: dict[str, str] = {
    "metrics.*IoU": "update_state() gives nothing back here",
    "metrics.LogCoshError": INTEGERS,
    "metrics.MeanAbsolutePercentageError": INTEGERS,
    "metrics.Poisson": INTEGERS,
    "ops.nan*": SIXTY_FOUR,
    "ops.vander": SIXTY_FOUR,
    "ops.view_as_complex": SIXTY_FOUR,
    "layers.Dot": SIXTY_FOUR,
    "ops.average": SIXTY_FOUR,
    "ops.associative_scan": "integers stay integers, as in Keras' documentation",
    "layers.EinsumDense": "more of the shape is known here",
    "tree.pack_sequence_as": "keys of dicts are sorted, as in Keras' documentation; without optree Keras does not",
    "initializers.get": "gives a Constant for a tensor, which can be saved, and Keras a function",
    "callbacks.BackupAndRestore": ONE_TARGET,
    "callbacks.EarlyStopping": ONE_TARGET,
    "Variable": INSIDE,
    "ops.diagonal": INSIDE,
    "ops.diff": INSIDE,
    "ops.einsum": INSIDE,
    "ops.meshgrid": INSIDE,
}


def pattern_for(path: str, table: dict[str, str] = REASONS) -> str:
    """Returns the pattern of a table that fits a name; "" where none does."""
    return next((pattern for pattern in table if fnmatch.fnmatchcase(path, pattern)), "")


def reason_for(path: str) -> str:
    """Returns the reason for a difference of a name, a member or a signature; "" where there is none."""
    return REASONS.get(pattern_for(path), "")


def reason_for_example(path: str) -> str:
    """Returns the reason why an example of a name gives something else; "" where there is none."""
    whole = reason_for(path)
    return EXAMPLES.get(pattern_for(path, EXAMPLES), whole if whole in (OTHER, LATER) else "")
