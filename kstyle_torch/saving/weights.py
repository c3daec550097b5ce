"""Weights files: Keras' own, safetensors, and torch's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch.budget import Budget
from kstyle_torch.saving import archive, hdf5, keras_file, torch_file, untrusted
from kstyle_torch.saving.atomic import replacing

KERAS_SUFFIX, SHARDS_SUFFIX = ".weights.h5", ".weights.json"
TORCH_SUFFIXES = (".pt", ".pth")
SUFFIXES = (KERAS_SUFFIX, SHARDS_SUFFIX, ".safetensors", *TORCH_SUFFIXES)
READ_TOO = (".keras", ".h5", ".hdf5")


def save_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    overwrite: bool = True,
    max_shard_size: float | None = None,
    metadata: dict[str, str] | None = None,
    skipped: Sequence[Any] | None = None,
) -> None:
    """Writes a model's weights; see `saving.save_weights`.

    Args:
        metadata: Texts for the metadata of a `.safetensors` file.
        skipped: Layers that are left out.
    """
    path = Path(filepath)
    _check_suffix(path, SUFFIXES)
    _check_skipped(path, skipped)
    if (max_shard_size is not None) != path.name.endswith(SHARDS_SUFFIX):
        raise ValueError(f"max_shard_size and a file that ends in {SHARDS_SUFFIX!r} go together; got {str(path)!r}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    _check_built(model, "saving")
    if max_shard_size is not None:
        from kstyle_torch.saving import shards

        shards.write(model, path, int(max_shard_size * 1024**3), skipped or ())
        return
    if path.name.endswith(KERAS_SUFFIX):
        with replacing(path) as unfinished:
            keras_file.write_weights(model, unfinished, skipped=skipped or ())
        return
    state = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
    with replacing(path) as unfinished:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, unfinished, metadata)
        else:
            torch.save(state, unfinished)


def load_weights(
    model: Any,
    filepath: str | os.PathLike[str],
    skip_mismatch: bool = False,
    by_name: bool = False,
    keys: Sequence[str] | None = None,
    skipped: Sequence[Any] | None = None,
) -> None:
    """Loads a model's weights; see `saving.load_weights`.

    Args:
        keys: Names of the weights in a `.safetensors` or `.pt` file, in the model's order, if they differ from the model's.
        skipped: Layers that are not loaded.
    """
    path = Path(filepath)
    _check_suffix(path, (*SUFFIXES, *READ_TOO))
    _check_skipped(path, skipped)
    if not path.exists():
        raise FileNotFoundError(f"The weights file {path} does not exist.")
    _check_built(model, "loading")
    with keras_file.explained(path):
        if not path.is_dir():
            untrusted.check_file(path)
        if path.suffix in TORCH_SUFFIXES or path.suffix == ".safetensors":
            state = _read(path)
            own = [*model.state_dict()]
            if keys is not None and {*keys} == {*state} and len(own) == len(keys):
                state = {key: state[old] for key, old in zip(own, keys, strict=True)}
            _check_state(model, state, skip_mismatch)
            model.load_state_dict(state, strict=not skip_mismatch)
        elif path.name.endswith(SHARDS_SUFFIX):
            from kstyle_torch.saving import shards

            shards.read(model, path, skip_mismatch, skipped or ())
        elif path.suffix == ".keras":
            with (
                archive.opened(path) as source,
                Budget(source.stored(archive.WEIGHTS)),
                source.binary(archive.WEIGHTS) as file,
            ):
                keras_file.read_weights(model, file, skip_mismatch=skip_mismatch)
        else:
            _read_hdf5(model, path, skip_mismatch, by_name, skipped or ())


def _read_hdf5(model: Any, path: Path, skip_mismatch: bool, by_name: bool, skipped: Sequence[Any]) -> None:
    """Loads Keras' `.weights.h5`, or an `.h5` file of Keras 2 with weights alone or a whole model."""
    hdf5.check_heaps(path)
    with hdf5.opened(path) as root, Budget(path.stat().st_size):
        group = hdf5.group_at(root, "model_weights") or root
        is_legacy = "layer_names" in group.attrs or "layer_names0" in group.attrs
        if is_legacy:
            from kstyle_torch.saving import legacy_h5

            legacy_h5.read_weights(model, group, by_name, skip_mismatch)
            return
    if by_name:
        raise ValueError("by_name=True is for the '.h5' files of Keras 2; this one holds weights by path.")
    with Budget(path.stat().st_size):
        keras_file.read_weights(model, path, skip_mismatch=skip_mismatch, skipped=skipped)


def _check_skipped(path: Path, skipped: Sequence[Any] | None) -> None:
    if skipped is not None and not path.name.endswith((KERAS_SUFFIX, SHARDS_SUFFIX)):
        raise ValueError(f"objects_to_skip is for files that end in {KERAS_SUFFIX!r}; got {str(path)!r}.")


def _check_built(model: Any, what: str) -> None:
    empty = not model.state_dict() and not all(getattr(module, "built", True) for module in model.modules())
    if not model.built or empty:
        raise ValueError(f"{type(model).__name__} has no weights yet: build it or call it on data before {what}.")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"it is not a safetensors file, or it is truncated: {error}.") from error
    state = torch_file.load(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"expected a state_dict; it holds a {type(state).__name__}.")
    return state


def _misfit(value: Any, own: Any) -> str | None:
    """Returns why a tensor of a file cannot be loaded into one of a model; None if it can."""
    if not isinstance(own, Tensor):
        return "it is not a tensor in the model"
    if value.shape != own.shape:
        return f"{tuple(value.shape)} in the file, {tuple(own.shape)} in the model"
    if isinstance(own, (nn.UninitializedParameter, nn.UninitializedBuffer)):
        return None
    if own.is_meta:
        return "on the meta device in the model, without memory; call to_empty(device=...) first"
    if value.is_meta or value.layout != torch.strided or value.is_quantized:
        return "without plain values in the file (meta, sparse or quantized)"
    if value.is_complex() and not own.is_complex():
        return "complex in the file, real in the model"
    return None


def metadata_of(path: Path) -> dict[str, str]:
    """Returns the metadata of a `.safetensors` file.

    Raises: ValueError: if it is broken.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"it is not a safetensors file, or it is truncated: {error}.") from error


def _check_state(model: nn.Module, state: dict[str, Any], skip_mismatch: bool) -> None:
    """Removes entries that do not fit from `state`, with a warning; or raises a ValueError that lists them."""
    own = model.state_dict()
    problems = {key: f"missing: {key}" for key in own.keys() - state.keys()}
    problems |= {key: f"unknown: {key}" for key in state.keys() - own.keys()}
    both = {key: _misfit(state[key], own[key]) for key in own.keys() & state.keys()}
    problems |= {key: f"{key}: {problem}" for key, problem in both.items() if problem is not None}
    if not problems:
        return
    listed = "; ".join(text[:200] for text in sorted(problems.values())[:8])
    if not skip_mismatch:
        raise ValueError(f"it does not fit {type(model).__name__}: {listed}.")
    warnings.warn(f"Some weights are not loaded: {listed}.", stacklevel=5)
    for key in problems:
        state.pop(key, None)


def _check_suffix(path: Path, known: tuple[str, ...]) -> None:
    if not path.name.endswith(known):
        raise ValueError(f"A weights file must end in {', '.join(map(repr, known))}; got {str(path)!r}.")
