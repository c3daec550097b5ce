"""Editor of weights files, for use after a change of the architecture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kstyle_torch.budget import Budget
from kstyle_torch.saving import archive, hdf5, keras_file, weight_tree
from kstyle_torch.saving.atomic import replacing

MAX_DEPTH = 100


class KerasFileEditor:
    """Shows, edits and saves the weights of a `.keras` or `.weights.h5` file.

    Args:
        filepath: The file; it is not changed.
    Raises: ValueError: if it is neither, or broken.

    Example:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/m.weights.h5"
        >>> Sequential([Input((3,)), Dense(2)]).save_weights(path)
        >>> editor = KerasFileEditor(path)
        >>> editor.rename_object("dense", "dense_7")
        >>> editor.summary()
        layers/dense_7
            0: (3, 2) float32
            1: (2,) float32
    """

    def __init__(self, filepath: str | os.PathLike[str]):
        path = Path(filepath)
        self.filepath = str(filepath)
        self.metadata: Any = None
        self.config: Any = None
        if not path.name.endswith((".keras", ".weights.h5")):
            raise ValueError(f"Expected a file that ends in '.keras' or '.weights.h5'; got {self.filepath!r}.")
        with keras_file.explained(path):
            if path.suffix == ".keras":
                with archive.opened(path) as source, Budget(source.stored(archive.WEIGHTS)):
                    self.config, self.metadata = source.json(archive.CONFIG), source.json(archive.METADATA)
                    with source.binary(archive.WEIGHTS) as file, hdf5.opened(file) as root:
                        self.weights_dict = _extract(root)
            else:
                with hdf5.opened(path) as root, Budget(path.stat().st_size):
                    self.weights_dict = _extract(root)

    def summary(self) -> None:
        """Prints every object that has weights, and their shapes."""
        for path, weights in _objects(self.weights_dict):
            print(path or "(the model)")
            for name, value in weights.items():
                print(f"    {name}: {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}")

    def compare(self, reference_model: Any) -> dict[str, Any]:
        """Prints the differences between the file and a built model.

        Returns: `status` ("success" or "error"), `error_count` and `match_count`.
        """
        wanted: dict[str, dict[str, Any]] = {}
        weight_tree.write(reference_model, lambda at: wanted.setdefault(at, _Shapes()))
        here = {
            (path, name): tuple(value.shape)
            for path, group in _objects(self.weights_dict)
            for name, value in group.items()
        }
        there = {(path, name): tuple(shape) for path, group in wanted.items() for name, shape in group.items()}
        differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        for key in differing:
            print(f"{'/'.join(key)}: {here.get(key, 'missing')} in the file, {there.get(key, 'missing')} in the model")
        both = [key for key in here.keys() & there.keys() if here[key] == there[key]]
        status = "error" if differing else "success"
        return {"status": status, "error_count": len(differing), "match_count": len(both)}

    def rename_object(self, object_name: str, new_name: str) -> None:
        """Renames an object.

        Args:
            object_name: Its name or path (`"layers/dense"`).
            new_name: A name, not a path.
        Raises: ValueError: if the object does not exist or is ambiguous, or `new_name` is a path.
        """
        if "/" in new_name:
            raise ValueError(f"new_name must be a name, not a path; got {new_name!r}.")
        home, name = self._home_of(object_name)
        home[new_name] = home.pop(name)

    def delete_object(self, object_name: str) -> None:
        """Removes an object and everything in it.

        Raises: ValueError: if the object does not exist or is ambiguous.
        """
        home, name = self._home_of(object_name)
        del home[name]

    def add_object(self, object_path: str, weights: dict[str, Any]) -> None:
        """Adds an object.

        Args:
            object_path: Its path; all but the last name must exist.
            weights: Name (`"0"`, `"1"`, ...) -> array.
        Raises: ValueError: if the parent of `object_path` does not exist, or `weights` is not a dict.
        """
        above, _, name = object_path.rpartition("/")
        home = self.weights_dict
        for part in above.split("/") if above else ():
            if not isinstance(home.get(part), dict):
                raise ValueError(f"The file has no {above!r}.")
            home = home[part]
        home[name] = dict(_checked(weights))

    def delete_weight(self, object_name: str, weight_name: str) -> None:
        """Removes one weight of an object.

        Raises: ValueError: if the object or the weight does not exist.
        """
        home, name = self._home_of(object_name)
        if weight_name not in home[name]:
            raise ValueError(f"{object_name!r} has no weight {weight_name!r}; it has {list(home[name])}.")
        del home[name][weight_name]

    def add_weights(self, object_name: str, weights: dict[str, Any]) -> None:
        """Adds weights to an object.

        Raises: ValueError: if the object does not exist, or `weights` is not a dict.
        """
        home, name = self._home_of(object_name)
        home[name].update(_checked(weights))

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Writes everything to a `.weights.h5` file.

        Raises: ValueError: for another ending.
        """
        path = Path(filepath)
        if not path.name.endswith(".weights.h5"):
            raise ValueError(f"Expected a file that ends in '.weights.h5'; got {str(filepath)!r}.")
        with replacing(path) as unfinished, hdf5.created(unfinished) as root:
            for at, weights in _objects(self.weights_dict, empty=True):
                group = root.require_group(f"{at}/vars" if at else "vars")
                for name, value in weights.items():
                    hdf5.write_array(group, name, value)

    resave_weights = save

    def _home_of(self, object_name: str) -> tuple[dict[str, Any], str]:
        """Returns the dict that an object is in, and its name there."""
        inside = "/" in object_name
        found = []
        for path, home in _dicts(self.weights_dict):
            for name, value in home.items():
                whole = f"{path}/{name}" if path else name
                if isinstance(value, dict) and object_name == (whole if inside else name):
                    found.append((home, name))
        if len(found) != 1:
            what = "no" if not found else "more than one"
            raise ValueError(f"The file has {what} object {object_name!r}{'; give its whole path' if found else ''}.")
        return found[0]


class _Shapes(dict[str, Any]):
    """Stand-in for an HDF5 group of which only the shapes are used."""

    attrs: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.attrs = {}

    def create_dataset(self, key: str, data: Any) -> _Shapes:
        self[key] = data.shape
        return _Shapes()


def _checked(weights: Any) -> dict[str, Any]:
    if not isinstance(weights, dict):
        raise ValueError(f"weights must be a dict of arrays, such as {{'0': kernel}}; got {type(weights).__name__}.")
    return weights


def _extract(group: Any, met: set[Any] | None = None, depth: int = 0) -> dict[str, Any]:
    """Returns all arrays below a group, without the level `vars`. An untrusted file may contain cycles."""
    import h5py

    met = set() if met is None else met
    place = h5py.h5o.get_info(group.id).addr
    if depth > MAX_DEPTH or place in met:
        raise ValueError("its groups are nested too deeply, or one of them is in two places.")
    met.add(place)
    found: dict[str, Any] = {}
    for name in group:
        item = hdf5.child(group, name)
        if isinstance(item, h5py.Dataset):
            found[name] = hdf5.counted_array_of(item)
        else:
            below = _extract(item, met, depth + 1)
            found.update(below) if name == "vars" else found.update({name: below})
    return found


def _dicts(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, tree
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _dicts(value, f"{path}/{name}" if path else name)


def _objects(tree: dict[str, Any], empty: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields path and weights of each object that has weights; of all objects if `empty`."""
    for path, home in _dicts(tree):
        weights = {name: value for name, value in home.items() if not isinstance(value, dict)}
        if weights or empty:
            yield path, weights
