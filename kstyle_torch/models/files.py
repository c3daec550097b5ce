"""Saving and loading of models: signatures and delegation. The formats are in `saving`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from torch import nn

from kstyle_torch.budget import Budget
from kstyle_torch.compat import keras2
from kstyle_torch.models.state_tree import set_state_tree, tree_of
from kstyle_torch.saving import api, compile_config, keras_file, untrusted
from kstyle_torch.serialization import custom_object_scope, serialize_keras_object, whole_configs


def model_from_json(json_string: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns the model described by the result of `model.to_json()`, with new weights.

    Args:
        json_string: The text, of this package or Keras.
        custom_objects: `{name: class or function}` of your own that it refers to.
    Raises: ValueError: if it does not describe a model, names an unknown class, or needs more than 4 GiB of
        weights (1 GiB in one), which `saving.raise_limits` allows.
    """
    text = str(json_string)
    with custom_object_scope(custom_objects), keras_file.explained("the JSON of a model"), Budget(None, len(text)):
        return keras_file.model_from_config(untrusted.parse_json(text, "the text"))


class Files(nn.Module):
    """Mixin of a model's methods for files."""

    if TYPE_CHECKING:  # nn.Module types every unknown attribute as a tensor or a module

        def __getattr__(self, name: str) -> Any: ...

    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
        """Writes the whole model: layers, weights, the arguments of `compile`, and the optimizer's state.

        See `saving.save_model`.
        """
        api.save_model(self, filepath, overwrite, zipped, **kwargs)

    @keras2.takes_older("save_weights", {"save_format": keras2.IGNORED, "options": keras2.IGNORED})
    def save_weights(self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None) -> None:
        """Writes the weights only, to `.weights.h5` as Keras does, `.safetensors` or `.pt`.

        See `saving.save_weights`.
        """
        api.save_weights(self, filepath, overwrite, max_shard_size)

    @keras2.takes_older("load_weights", {"options": keras2.IGNORED})
    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads weights; nothing changes unless everything fits.

        See `saving.load_weights`.
        """
        api.load_weights(self, filepath, skip_mismatch, **kwargs)

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, Any]:
        """Returns the values of all variables as nested dicts, by their paths.

        Args:
            value_format: "backend_tensor", or "numpy_array".
        Returns: A dict with the keys `trainable_variables`, `non_trainable_variables`, `optimizer_variables` and
            `metrics_variables`.
        Raises: ValueError: for another format, or if two variables have the same path.
        """
        return tree_of(self, value_format)

    def set_state_tree(self, state_tree: dict[str, Any]) -> None:
        """Sets the variables in a state tree; others are not changed.

        Args:
            state_tree: Result of `get_state_tree`, or a part of it.
        Raises: ValueError: for an unknown kind of variables, or if a shape differs.
        """
        set_state_tree(self, state_tree)

    def to_json(self, **kwargs: Any) -> str:
        """Returns the architecture as text, for `models.model_from_json`.

        Args:
            kwargs: Arguments of `json.dumps`.
        """
        with whole_configs():
            return json.dumps(serialize_keras_object(self), **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """Returns the arguments of `compile` as plain data."""
        return compile_config.compile_config(self)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model with the result of `get_compile_config`."""
        compile_config.compile_from_config(self, config)

    def export(
        self,
        filepath: Any,
        format: str | None = None,
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Writes the model for use without this package: `.pt2` for plain torch, `.onnx` for onnxruntime, or `.py`.

        Sizes that are None, including the batch, stay dynamic. `torch.export.load("m.pt2").module()` is the model again.

        Args:
            filepath: Path; the suffix determines the format.
            format: "torch", "onnx" or "source", if the suffix does not determine it; the last is `export.to_source`.
            verbose: Whether to print more.
            input_signature: The inputs of a model without a graph: an `InputSpec`, a symbolic
                tensor, or an example batch; a nest of them for several inputs.
            kwargs: `opset_version` for ONNX; for torch those of `torch.export.export`.
        Raises: ValueError: for another format, or a model that cannot be exported. ImportError: for ONNX without the
            extra `onnx`.
        """
        from kstyle_torch.export import formats

        formats.write(self, filepath, format, input_signature, verbose=verbose, **kwargs)

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Writes the model as a folder of the Hugging Face Hub: `config.json` and `model.safetensors`.

        Args:
            save_directory: The folder; created if it does not exist.
            push_to_hub: Whether to upload the folder.
            kwargs: Arguments of `push_to_hub`.
        Raises: ValueError: if the model has no weights. TypeError: if a layer has no config.
        """
        from kstyle_torch.saving import hub

        return hub.save_pretrained(self, save_directory, push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        custom_objects: dict[str, Any] | None = None,
        compile: bool = True,
        safe_mode: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Returns the model in a folder of `save_pretrained`, or in a repository of the Hub (extra `hub`).

        Args:
            pretrained_model_name_or_path: A folder, or `"user/name"`.
            custom_objects: `{name: class or function}` that the config refers to; it includes this class.
            compile: Whether the model is compiled as before; the optimizer starts with new state.
            safe_mode: Whether lambdas, which contain code, are refused.
            kwargs: For the download: `revision`, `token`, `cache_dir`, `local_files_only`.
        Raises: FileNotFoundError: if a file is missing. ValueError: if they do not fit, or name an unknown class.
        """
        from kstyle_torch.saving import hub

        known = {cls.__name__: cls, **(custom_objects or {})}
        model = hub.from_pretrained(pretrained_model_name_or_path, known, compile, safe_mode, **kwargs)
        if not isinstance(model, cls):
            raise ValueError(
                f"{str(pretrained_model_name_or_path)!r} holds a {type(model).__name__}, not a {cls.__name__}."
            )
        return model

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Uploads the model, and a model card, to the Hugging Face Hub (extra `hub`).

        Args:
            repo_id: `"user/name"`; created if it does not exist.
            kwargs: `commit_message`, `private`, `token`, and those of `HfApi.upload_folder`.
        Returns: The Hub's description of the commit.
        Raises: ImportError: without the extra `hub`.
        """
        from kstyle_torch.saving import hub

        return hub.push_to_hub(self, repo_id, **kwargs)
