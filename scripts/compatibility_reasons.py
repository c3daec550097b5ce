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
    "applications.*": LATER,
    "distribution.*": LATER,
    "quantizers.*": LATER,
    "Quantizer": LATER,
    "dtype_policies.AWQ*": LATER,
    "dtype_policies.GPTQ*": LATER,
    "dtype_policies.Int4*": LATER,
    "dtype_policies.Quantized*": LATER,
    "wrappers.*": LATER,
    "*quantize*": LATER,
    "*quantization*": LATER,
}


def reason_for(path: str, detail: str) -> str:  # noqa: ARG001
    """Returns the reason for a difference; "" where there is none."""
    return next((reason for pattern, reason in REASONS.items() if fnmatch.fnmatchcase(path, pattern)), "")
