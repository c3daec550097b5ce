"""Weights files: safetensors, and torch's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch.saving.atomic import replacing

TORCH_SUFFIXES = (".pt", ".pth")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


def save_weights(model: nn.Module, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Writes the model's `state_dict`; a file of that name is replaced only once the new one is whole.

    Raises: ValueError: for a suffix that is not known, or a model without weights yet. FileExistsError: if there is
        such a file and `overwrite` is False.
    """
    path = Path(filepath)
    _check_suffix(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    state = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
    if not state:
        raise ValueError(f"{type(model).__name__} has no weights yet: build it or call it on data before saving.")
    with replacing(path) as unfinished:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, unfinished)
        else:
            torch.save(state, unfinished)


def load_weights(model: nn.Module, filepath: str | os.PathLike[str]) -> None:
    """Reads what `save_weights` wrote into a model of the same layers; nothing changes unless everything fits.

    Raises: FileNotFoundError: if there is no such file. ValueError: if names or shapes differ.
    """
    path = Path(filepath)
    _check_suffix(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no weights file {path}.")
    state = _read(path)
    _check_state(model, state, path)
    model.load_state_dict(state)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_state(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    own = model.state_dict()
    if not own:
        raise ValueError(f"{type(model).__name__} has no weights yet: build it or call it on data before loading.")
    problems = [f"missing: {key}" for key in own.keys() - state.keys()]
    problems += [f"unknown: {key}" for key in state.keys() - own.keys()]
    problems += [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if problems:
        raise ValueError(f"{path} does not fit {type(model).__name__}: {'; '.join(sorted(problems)[:8])}.")


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"A weights file ends in {', '.join(SUFFIXES)}; got {str(path)!r}.")
