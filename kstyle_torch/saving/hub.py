"""Folders in the format of the Hugging Face Hub: `config.json` and `model.safetensors`, neither of which contains code."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from kstyle_torch import initializers
from kstyle_torch.budget import Budget
from kstyle_torch.saving import keras_file, untrusted, weights
from kstyle_torch.saving.atomic import write_text
from kstyle_torch.serialization import custom_object_scope, safe_mode_scope, serialize_keras_object, whole_configs

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MAX_CONFIG_BYTES = 2**26
LIBRARY = "kstyle-torch"
CARD_TEXT = """---
library_name: {library}
tags:
- keras
- pytorch
---

A model of `kstyle_torch`: the Keras API on plain PyTorch.

```python
from kstyle_torch import Model

model = Model.from_pretrained("{repo_id}")
```
"""


def save_pretrained(model: Any, folder: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
    """Writes `config.json` (the layers, and how the model was compiled) and `model.safetensors` (the weights).

    Args:
        model: A built model.
        folder: The folder; created if it does not exist.
        push_to_hub: Whether to call `push_to_hub` afterwards.
        kwargs: For `push_to_hub`; `repo_id` defaults to the folder's name.
    Raises: ValueError: if the model has no weights. TypeError: if a layer has no config. NotADirectoryError: if `folder`
        is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"save_pretrained() writes a folder, and {str(folder)!r} is a file.")
    with whole_configs():
        # in the model's order; `save_id` detects a later save that is killed between the two files
        save_id = secrets.token_hex(8)
        more = {"library_name": LIBRARY, "weight_keys": [*model.state_dict()], "save_id": save_id}
        config = json.dumps({**serialize_keras_object(model), **more}, indent=1)
    if not model.state_dict():
        raise ValueError(f"{model.name!r} has no weights yet: build it or call it on data before saving.")
    folder.mkdir(parents=True, exist_ok=True)
    # the weights file also holds the config, so the folder is complete even if the process is killed before the next line
    weights.save_weights(model, folder / WEIGHTS, metadata={"config": config, "save_id": save_id})
    write_text(folder / CONFIG, config)
    if push_to_hub:
        repo_id = kwargs.pop("repo_id", folder.name)
        return _upload(folder, repo_id, **kwargs)
    return None


def from_pretrained(
    name_or_folder: str | os.PathLike[str],
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    **kwargs: Any,
) -> Any:
    """Returns the model in a folder that `save_pretrained` wrote, or in a repository of the Hub.

    Code in either is not run, and modules that they name are not imported.

    Args:
        name_or_folder: A folder, or `"user/name"`.
        custom_objects: `{name: class or function}` of your own that the config refers to.
        compile: Whether the model is compiled as before; the optimizer starts with new state.
        safe_mode: Whether lambdas, which contain code, are refused.
        kwargs: For the download: `revision`, `token`, `cache_dir`, `local_files_only`.
    Raises: FileNotFoundError: if a file is missing. ValueError: if they do not fit, or name an unknown class.
        ImportError: for a repository, without the extra `hub`.
    """
    folder = Path(name_or_folder)
    if not folder.is_dir():
        folder = _download(str(name_or_folder), **kwargs)
    for name in (CONFIG, WEIGHTS):
        if not os.path.lexists(folder / name):
            raise FileNotFoundError(f"{str(name_or_folder)!r} has no {name}.")
    with custom_object_scope(custom_objects), safe_mode_scope(safe_mode), keras_file.explained(name_or_folder):
        text, stored = _member(folder, CONFIG), _member(folder, WEIGHTS)
        with Budget(stored.stat().st_size, text.stat().st_size):
            config, beside = untrusted.read_json(text, MAX_CONFIG_BYTES), weights.metadata_of(folder / WEIGHTS)
            if "save_id" in beside and isinstance(config, dict) and beside["save_id"] != config.get("save_id"):
                config = untrusted.parse_json(beside.get("config", ""), f"the config in {WEIGHTS}")
            with initializers.left_out():
                model = keras_file.model_from_config(config, compile)
            weights.load_weights(model, folder / WEIGHTS, keys=config.get("weight_keys"))
    return model


def _member(folder: Path, name: str) -> Path:
    """Returns a file of an untrusted folder. Links are not followed, except those within the Hub's cache.

    There, `models--user--name/snapshots/REVISION/config.json` is a link to `models--user--name/blobs/HASH`.
    """
    home = folder.absolute()
    if home.parent.name == "snapshots" and (home / name).is_symlink():
        target = Path(os.path.normpath(home / (home / name).readlink()))
        blobs = home.parents[1] / "blobs"
        if target.parent == blobs and not blobs.is_symlink():
            return untrusted.check_member(target, blobs)
    return untrusted.check_member(home / name, home)


def push_to_hub(
    model: Any,
    repo_id: str,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    **kwargs: Any,
) -> Any:
    """Uploads what `save_pretrained` writes, and a model card, to the Hub.

    Args:
        model: A built model.
        repo_id: `"user/name"`; created if it does not exist. An existing model card is kept.
        commit_message: Message of the commit.
        private: Whether a new repository is private.
        token: Access token; if None, that of the logged-in account.
        kwargs: For `HfApi.upload_folder`: `revision`, `create_pr`, ...
    Returns: The Hub's description of the commit.
    Raises: ImportError: without the extra `hub`; and the errors of `huggingface_hub` if the Hub refuses.
    """
    _hub()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        return _upload(Path(folder), repo_id, commit_message, private, token, **kwargs)


def _upload(
    folder: Path,
    repo_id: str,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    **kwargs: Any,
) -> Any:
    api = _hub().HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if not api.file_exists(repo_id, CARD):
        card = CARD_TEXT.format(library=LIBRARY, repo_id=repo_id)
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo=CARD, repo_id=repo_id)
    return api.upload_folder(
        repo_id=repo_id,
        folder_path=str(folder),
        allow_patterns=[CONFIG, WEIGHTS],
        commit_message=commit_message or "Upload model",
        **kwargs,
    )


def _download(repo_id: str, **kwargs: Any) -> Path:
    if repo_id.count("/") != 1 or repo_id.startswith((".", "/")):
        raise FileNotFoundError(
            f"The folder {repo_id!r} does not exist, and it is not a name on the Hub ('user/name')."
        )
    return Path(_hub().snapshot_download(repo_id, allow_patterns=[CONFIG, WEIGHTS], **kwargs))


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("The Hub needs huggingface_hub: pip install 'kstyle-torch[hub]'.") from error
    return huggingface_hub
