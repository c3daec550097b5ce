"""Weights files: Keras' own, safetensors, and torch's."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch.saving import archive, keras_file
from kstyle_torch.saving.atomic import replacing

KERAS_SUFFIX = ".weights.h5"
TORCH_SUFFIXES = (".pt", ".pth")
SUFFIXES = (KERAS_SUFFIX, ".safetensors", *TORCH_SUFFIXES)


def save_weights(model: Any, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Writes a model's weights; see `saving.save_weights`."""
    path = Path(filepath)
    _check_suffix(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    _check_built(model, "saving")
    if path.name.endswith(KERAS_SUFFIX):
        with replacing(path) as unfinished:
            keras_file.write_weights(model, unfinished)
        return
    state = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
    with replacing(path) as unfinished:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, unfinished)
        else:
            torch.save(state, unfinished)


def load_weights(model: Any, filepath: str | os.PathLike[str], skip_mismatch: bool = False) -> None:
    """Reads a model's weights; see `saving.load_weights`."""
    path = Path(filepath)
    if path.suffix != ".keras":
        _check_suffix(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no weights file {path}.")
    _check_built(model, "loading")
    with keras_file.explained(path):
        if path.name.endswith(KERAS_SUFFIX):
            keras_file.read_weights(model, path, skip_mismatch=skip_mismatch)
        elif path.suffix == ".keras":
            with archive.opened(path) as source, source.binary(archive.WEIGHTS) as file:
                keras_file.read_weights(model, file, skip_mismatch=skip_mismatch)
        else:
            state = _read(path)
            _check_state(model, state, skip_mismatch)
            model.load_state_dict(state, strict=not skip_mismatch)


def _check_built(model: Any, what: str) -> None:
    if not model.built or not model.state_dict():
        raise ValueError(f"{type(model).__name__} has no weights yet: build it or call it on data before {what}.")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_state(model: nn.Module, state: dict[str, Any], skip_mismatch: bool) -> None:
    """Takes out of `state` what does not fit, with a warning; or raises a ValueError that names it."""
    own = model.state_dict()
    problems = {key: f"missing: {key}" for key in own.keys() - state.keys()}
    problems |= {key: f"unknown: {key}" for key in state.keys() - own.keys()}
    problems |= {
        key: f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    }
    if not problems:
        return
    listed = "; ".join(sorted(problems.values())[:8])
    if not skip_mismatch:
        raise ValueError(f"it does not fit {type(model).__name__}: {listed}.")
    warnings.warn(f"Some weights are left as they are: {listed}.", stacklevel=5)
    for key in problems:
        state.pop(key, None)


def _check_suffix(path: Path) -> None:
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"A weights file must end in {', '.join(map(repr, SUFFIXES))}; got {str(path)!r}.")
