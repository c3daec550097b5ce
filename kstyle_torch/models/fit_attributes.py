"""Attributes of a model that are stored in its `FitState`."""

from __future__ import annotations

from typing import Any

from kstyle_torch.training.run import stop


class FitAttribute:
    """Attribute that is stored in the model's `FitState`, since setting it does not change what a training step computes."""

    def __init__(self, field: str, doc: str):
        self.field, self.__doc__ = field, doc

    def __get__(self, model: Any, owner: type) -> Any:
        return self if model is None else getattr(model._fit, self.field)

    def __set__(self, model: Any, value: Any) -> None:
        setattr(model._fit, self.field, value)


class StopFlag(FitAttribute):
    """Attribute that ends a run: that of the current thread if it has one, else those of all threads.

    Args:
        kind: Kind of run.
    """

    def __init__(self, kind: str, doc: str):
        super().__init__(f"stop_{kind}", doc)
        self.kind = kind

    def __set__(self, model: Any, value: Any) -> None:
        super().__set__(model, value)
        stop(model, self.kind, bool(value))
