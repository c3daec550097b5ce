"""The alias: in this process `keras`, `tf_keras` and `tensorflow.keras` mean kstyle_torch, submodules included.

A finder in front of Python's own enters the modules of this package into `sys.modules` under Keras' names. They are the
same objects, so classes, pickles and files know nothing of the alias. `keras` itself is the one exception: a second
module with the same names, because its `__version__` is that of Keras.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from kstyle_torch.compat import keras_src, tensorflow_stub

PACKAGE = __name__.partition(".")[0]
TAKEN = ("keras", "tf_keras", "tensorflow")  # the top-level names that change their meaning
# Modules that are Keras as a whole, longest first: a name belongs to the first that it starts with.
ROOTS = ("tensorflow.python.keras", "keras._tf_keras.keras", "tensorflow.keras", "keras.api", "tf_keras", "keras")
# TensorBoard writes files with TensorFlow where there is one, unless it finds this empty module.
TENSORBOARD_SWITCH = "tensorboard.compat.notf"


def install() -> None:
    """Lets `import keras`, `import tf_keras` and `import tensorflow` mean this package, until the process ends.

    Nothing outside the process changes, and an installed Keras or TensorFlow is not touched. Call it before the first
    import of Keras; a second call does nothing.

    Raises: ImportError: if the real Keras or TensorFlow has been imported: programs would get classes of both.

    Example:
        import kstyle_torch.compat
        kstyle_torch.compat.install()
        import keras  # kstyle_torch
    """
    if _finder in sys.meta_path:
        return
    if real := [name for name in TAKEN if sys.modules.get(name) is not None]:
        raise ImportError(
            f"The real {' and '.join(real)} has been imported already, so it cannot mean {PACKAGE} any more. Call "
            f"{PACKAGE}.compat.install() before the first import of Keras or TensorFlow, in a fresh process.",
            name=real[0],
        )
    importlib.import_module(PACKAGE)
    sys.meta_path.insert(0, _finder)


def uninstall() -> None:
    """Gives the names back: later imports find the installed Keras and TensorFlow, or nothing."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        for name in [name for name in sys.modules if _target(name) is not None]:
            del sys.modules[name]
        _finder.keras = None


def load_ipython_extension(ipython: Any) -> None:  # noqa: ARG001
    """Installs the alias in a notebook: `%load_ext kstyle_torch.compat`."""
    install()


def unload_ipython_extension(ipython: Any) -> None:  # noqa: ARG001
    """Gives the names back: `%unload_ext kstyle_torch.compat`."""
    uninstall()


class AliasFinder(MetaPathFinder):
    """The first of Python's finders: it knows every module under the names that have changed their meaning."""

    def __init__(self) -> None:
        self.keras: ModuleType | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds the module that a name stands for; None for names that keep their meaning."""
        found = _target(fullname)
        return None if found is None else ModuleSpec(fullname, _AliasLoader(self, found), is_package=True)

    def root(self) -> ModuleType:
        """Returns the module `keras`: the names of this package, with Keras' version."""
        if self.keras is None:
            package = sys.modules[PACKAGE]
            version = importlib.import_module(f"{PACKAGE}.saving.keras_file").FORMAT_VERSION
            self.keras = ModuleType("keras", package.__doc__)
            own = vars(self.keras)
            own.update({name: value for name, value in vars(package).items() if name not in own})
            own.update(__version__=version, __path__=[], __spec__=ModuleSpec("keras", None, is_package=True))
            own["version"] = lambda: version
            for name in keras_src.STAND_INS:
                own.setdefault(name, keras_src.own_module(name))
        return self.keras


class _AliasLoader(Loader):
    """A loader that puts a module which exists under another name into `sys.modules`.

    Python makes an empty module first; were it handed the existing one, it would overwrite that module's `__spec__`.

    Args:
        finder: What has the module `keras`.
        target: The kind of module, and its path, as `_target` returns them.
    """

    def __init__(self, finder: AliasFinder, target: tuple[str, str]):
        self.finder, self.target = finder, target

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        kind, path = self.target
        if kind == "empty":
            return
        try:
            if kind == "root":
                found = self.finder.root()
            elif kind == "source":
                found = keras_src.module(path)
            elif kind == "tensorflow":
                found = tensorflow_stub.module(path)
            else:
                found = keras_src.own_module(path)
        except ModuleNotFoundError as error:  # under the name that was asked for, by which Python knows it
            raise ModuleNotFoundError(str(error), name=module.__name__) from None
        sys.modules[module.__name__] = found


def _target(fullname: str) -> tuple[str, str] | None:
    """Returns the kind and path of the module that a name stands for; None for names that keep their meaning."""
    if fullname == TENSORBOARD_SWITCH:
        return "empty", ""
    for root in ROOTS:
        if fullname == root:
            return "root", ""
        if fullname.startswith(f"{root}."):
            path = fullname.removeprefix(f"{root}.")
            is_source = path == "src" or path.startswith("src.")
            return ("source", path.removeprefix("src").removeprefix(".")) if is_source else ("same", path)
    if fullname == "tensorflow" or fullname.startswith("tensorflow."):
        return "tensorflow", fullname.removeprefix("tensorflow").removeprefix(".")
    return None


_finder = AliasFinder()
