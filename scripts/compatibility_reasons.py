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
    "config.is_nnx_enabled": OTHER,
    "config.set_backend": "torch is the only backend",
    "Model": "names the arguments `inputs`, `outputs` and `name` in place of `*args`",
    "models.Model": "names the arguments `inputs`, `outputs` and `name` in place of `*args`",
    "Model.call": "takes what Keras' functional models take: `inputs`, `training`, `mask`",
    "Model.export": "no default of another framework: the suffix of the file says the format",
    "optimizers.legacy.*": "today's optimizer of that name, where Keras raises an ImportError",
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
