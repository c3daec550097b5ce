"""Programs written for Keras and tf.keras: the alias under which they run here, and spellings of Keras 1 and 2.

`alias` lets `import keras` mean this package, `keras_src` knows Keras' own modules and `tensorflow_stub` is what
`import tensorflow` gives; `port` rewrites a program's imports for good; `keras2` has the older spellings.
"""

from kstyle_torch.compat.alias import install, load_ipython_extension, uninstall, unload_ipython_extension

__all__ = ["install", "load_ipython_extension", "uninstall", "unload_ipython_extension"]
