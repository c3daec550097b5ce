"""Config: a container of a program's settings."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from kstyle_torch.registry import did_you_mean


class Config:
    """Named values, read and set as attributes or items, that can be frozen.

    Args:
        kwargs: The values.

    Example:
        >>> settings = Config(learning_rate=0.1)
        >>> settings.epochs = 3
        >>> settings["learning_rate"], settings.epochs
        (0.1, 3)
        >>> settings.freeze()
        >>> settings.epochs = 4
        Traceback (most recent call last):
        ValueError: The Config is frozen, so 'epochs' cannot be set; call unfreeze() first.
    """

    _frozen = False

    def __init__(self, **kwargs: Any):
        object.__setattr__(self, "_config", kwargs)

    @property
    def frozen(self) -> bool:
        """True if it cannot be changed."""
        return self._frozen

    def freeze(self) -> None:
        """Forbids changes."""
        self._frozen = True

    def unfreeze(self) -> None:
        """Allows changes again."""
        self._frozen = False

    def as_dict(self) -> dict[str, Any]:
        """Returns the values as a new dict."""
        return dict(self._config)

    def to_json(self) -> str:
        """Returns the values as JSON."""
        return json.dumps(self._config)

    def keys(self) -> KeysView[str]:
        """Returns the names."""
        return self._config.keys()

    def values(self) -> ValuesView[Any]:
        """Returns the values."""
        return self._config.values()

    def items(self) -> ItemsView[str, Any]:
        """Returns pairs of name and value."""
        return self._config.items()

    def pop(self, *args: Any) -> Any:
        """Removes a name and returns its value, as `dict.pop` does."""
        self._check_not_frozen("popped", *args[:1])
        return self._config.pop(*args)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Sets several values, as `dict.update` does."""
        self._check_not_frozen("updated")
        self._config.update(*args, **kwargs)

    def get(self, keyname: str, value: Any = None) -> Any:
        """Returns the value of a name; `value` if it does not exist."""
        return self._config.get(keyname, value)

    def __getattr__(self, name: str) -> Any:
        if name == "_config":  # during a copy, or in a subclass without super().__init__()
            raise AttributeError(f"{type(self).__name__}.__init__() has not called super().__init__() yet.", name=name)
        if name in self._config:
            return self._config[name]
        raise AttributeError(f"The Config has no value {name!r}.{did_you_mean(name, self._config)}", name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):  # the class' own attribute, such as a property
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        return self._config[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_not_frozen("set", key)
        self._config[key] = value

    def __delitem__(self, key: str) -> None:
        self._check_not_frozen("deleted", key)
        del self._config[key]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._config))

    def __len__(self) -> int:
        return len(self._config)

    def __contains__(self, item: object) -> bool:
        return item in self._config

    def __repr__(self) -> str:
        return f"<Config {self._config}>"

    def _check_not_frozen(self, action: str, *names: Any) -> None:
        if self._frozen:
            what = repr(names[0]) if names else "it"
            raise ValueError(f"The Config is frozen, so {what} cannot be {action}; call unfreeze() first.")
