"""`legacy.saving` under the name that it had in `utils`."""

from kstyle_torch.legacy.saving import deserialize_keras_object, serialize_keras_object

__all__ = ["deserialize_keras_object", "serialize_keras_object"]
