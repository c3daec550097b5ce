"""Programs written for Keras and tf.keras: the alias under which they run here, and spellings of Keras 1 and 2.

`alias` lets `import keras` mean this package; `keras_src`, with `internal_places` and `internals`, knows Keras' own modules,
and `tensorflow_stub` is what `import tensorflow` gives. `port` rewrites a program's imports for good. `keras2` has the older
spellings; it alone is part of every program.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kstyle_torch.compat.alias import install, load_ipython_extension, uninstall, unload_ipython_extension

__all__ = ["install", "load_ipython_extension", "uninstall", "unload_ipython_extension"]


def __getattr__(name: str) -> Any:
    """Imports the alias when it is used, since few programs need it."""
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.alias"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
