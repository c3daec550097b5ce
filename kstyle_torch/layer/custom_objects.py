"""Objects by name for a single `from_config`."""

from __future__ import annotations

from typing import Any

from kstyle_torch.registry import custom_object_scope


class TakesCustomObjects:
    """Base of the layers that hold other objects, whose classes `from_config` may be given."""

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Returns a layer of this class from what `get_config` gave.

        Args:
            config: The config.
            custom_objects: Classes and functions by name, beside those that are registered.
        """
        with custom_object_scope(custom_objects):
            return super().from_config(config)  # type: ignore[misc]
