"""Conversion of the configs of Keras 2, and of those that Keras 3 writes into `.h5` files, to the current format."""

from __future__ import annotations

from typing import Any

TENSOR = "__keras_tensor__"
GONE = ("time_major", "ragged", "experimental_run_tf_function")
WRAPPERS = ("MeanMetricWrapper", "LossFunctionWrapper", "SumOverBatchSizeMetricWrapper")


def modern(config: Any) -> Any:
    """Returns the config of a layer or model, nested ones included, as Keras 3 would write it."""
    if isinstance(config, list):
        return [modern(item) for item in config]
    if not isinstance(config, dict):
        return config
    if not isinstance(config.get("class_name"), str) or not isinstance(config.get("config"), dict):
        return {key: modern(item) for key, item in config.items()}
    inner = {key: modern(item) for key, item in config["config"].items() if key not in GONE}
    made = {**config, "config": inner}
    if config["class_name"] == "Model":
        made["class_name"] = "Functional"
    if config["class_name"] == "InputLayer" and "batch_input_shape" in inner:
        inner["batch_shape"] = inner.pop("batch_input_shape")
    if isinstance(inner.get("dtype"), dict):  # a policy
        inner["dtype"] = inner["dtype"].get("config", {}).get("name")
    if isinstance(inner.get("axis"), list) and len(inner["axis"]) == 1:
        inner["axis"] = inner["axis"][0]
    if inner.get("groups") == 1 and config["class_name"].startswith(("Depthwise", "Separable")):
        del inner["groups"]
    for ends in ("input_layers", "output_layers"):  # Keras 2 wrote a single layer as a list of one
        if isinstance(inner.get(ends), list) and len(inner[ends]) == 1 and _is_triple(inner[ends][0]):
            inner[ends] = inner[ends][0]
    if isinstance(config.get("inbound_nodes"), list):
        made["inbound_nodes"] = [_node(node) for node in config["inbound_nodes"]]
    made.setdefault("module", None)
    made.setdefault("registered_name", None)
    return made


def _node(node: Any) -> Any:
    """Converts a call to a dict; Keras 2 wrote `[layer, call, output, keyword arguments]` for every tensor."""
    if not isinstance(node, list):
        return modern(node)
    tensors = [_tensor(entry) for entry in node]
    kwargs = next((entry[3] for entry in node if len(entry) > 3 and isinstance(entry[3], dict)), {})
    return {
        "args": tensors if len(tensors) == 1 else [tensors],
        "kwargs": {key: _tensor(value) if _is_triple(value) else modern(value) for key, value in kwargs.items()},
    }


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _tensor(entry: Any) -> dict[str, Any]:
    if not _is_triple(entry):
        raise ValueError(f"Expected a call of Keras 2, [layer, call, output]; got {entry!r}.")
    return {"class_name": TENSOR, "config": {"shape": None, "dtype": None, "keras_history": list(entry[:3])}}


def compile_config(training: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `compile` from the `training_config` of an `.h5` file."""
    made = {key: training.get(key) for key in ("loss", "loss_weights", "weighted_metrics")}
    made = {key: _named(value) for key, value in made.items()}
    made["metrics"] = _named(training.get("metrics"))
    if isinstance(made["metrics"], list) and len(made["metrics"]) == 1 and isinstance(made["metrics"][0], list):
        made["metrics"] = made["metrics"][0]  # of the only output
    made["optimizer"] = _optimizer(training.get("optimizer_config"))
    return made


def _named(value: Any) -> Any:
    """Replaces metrics by their names.

    For "accuracy", Keras 2 wrote `{"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": ...}}`.
    """
    if isinstance(value, list):
        return [_named(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in WRAPPERS:
        inner = value.get("config", {})
        return (
            inner["fn"] if isinstance(inner.get("fn"), str) and inner.get("name") != "accuracy" else inner.get("name")
        )
    return modern(value) if "class_name" in value else {key: _named(item) for key, item in value.items()}


def _optimizer(config: Any) -> Any:
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        return config
    inner = {key: value for key, value in config["config"].items() if key not in ("decay", "is_legacy_optimizer")}
    if "lr" in inner:
        inner["learning_rate"] = inner.pop("lr")
    return modern({**config, "class_name": config["class_name"].rpartition(">")[2], "config": inner})
