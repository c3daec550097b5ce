"""The History object that `fit` returns."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from kstyle_torch.callbacks.base import Callback
from kstyle_torch.callbacks.curves import curves_of, plot_history


class History(Callback, Mapping[str, list[float]]):
    """The metrics of all epochs. `fit` returns it and stores it as `model.history`.

    It can be used like the dict `.history`: `pandas.DataFrame(history)` and `history["loss"]` work.

    Attributes: history: `{name: value of each epoch}`. epoch: The number of each epoch, from 0. epochs: `{name: numbers of
        its epochs}`, fewer than all for the metrics of a validation that is not made in each.

    Example:
        >>> history = History()
        >>> history.on_train_begin()
        >>> history.on_epoch_end(0, {"loss": 0.5})
        >>> history.history, history["loss"]
        ({'loss': [0.5]}, [0.5])
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.epochs: dict[str, list[int]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
            self.epochs.setdefault(name, []).append(epoch)
        if self.model is not None:
            self.model.history = self

    def plot(self, metrics: Sequence[str] | None = None, path: Any = None) -> list[Any]:
        """Draws the metrics over the epochs: a panel for each, validation dashed. See `utils.plot_history`.

        Args:
            metrics: Names of the metrics to draw, without `val_`; all if None.
            path: File to write as well, such as `curves.png`.
        Returns: The axes of the panels.
        """
        return plot_history(self, metrics, path)

    def to_frame(self) -> Any:
        """Returns a pandas DataFrame: a column for each metric, a row for each epoch, counted from 1; NaN for no value.

        Raises: ImportError: without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("History.to_frame() needs pandas: pip install pandas.") from error
        columns = {name: pd.Series(values, index=epochs) for name, (epochs, values) in curves_of(self).items()}
        return pd.DataFrame(columns).rename_axis(index="epoch")

    @property
    def model(self) -> Any:
        """The trained model; None once it is freed, since the reference is weak: the model holds its history."""
        return None if self._model is None else self._model()

    def set_model(self, model: Any) -> None:
        self._model = None if model is None else weakref.ref(model)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __iter__(self) -> Any:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.history)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}

    def __repr__(self) -> str:
        last = ", ".join(f"{name}: {values[-1]:.4g}" for name, values in self.history.items() if values)
        return f"<History of {len(self.epoch)} epochs; last: {last or 'none'}>"
