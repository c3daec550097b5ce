"""A glance at what a recorded step takes for granted and no mark tells of, quick enough for every step."""

from __future__ import annotations

import operator
from typing import Any

from kstyle_torch.layers.base import Layer
from kstyle_torch.layers.walk import modules_of
from kstyle_torch.training.guards import FLEETING, SETTINGS, penalties, watched


class Glance:
    """What there is now: the attributes of modules that are no layers of ours, of losses and penalties; modes, weights.

    It keeps alive what a fingerprint knows by its id, so that nothing else gets that id.

    Args:
        model: Compiled.
    """

    def __init__(self, model: Any):
        self.model, self.compiled = model, model._compiled
        modules = modules_of(model)
        parts = [*(entry.loss for entry in self.compiled.loss.entries), *penalties(model)]
        self.fields = [vars(module) for module in modules]
        self.parameters = [each for module in modules for each in module._parameters.values() if each is not None]
        self.watched_fields = [vars(module) for module in modules if not isinstance(module, Layer)]
        self.watched_fields += [vars(part) for part in parts if hasattr(part, "__dict__")]
        self.objects, self.numbers, self.attributes = self._objects(), self._numbers(), self._attributes()

    def _objects(self) -> list[Any]:
        """What must be the very same."""
        found = [value for fields in self.watched_fields for value in fields.values()]
        found += [value for fields in self.fields for value in fields["_modules"].values()]
        found += [fields.get("training") for fields in self.fields]  # of modules that are not ours
        found += penalties(self.model)
        return [*found, *(entry.loss for entry in self.compiled.loss.entries), self.compiled.optimizer]

    def _numbers(self) -> list[Any]:
        """What must be equal."""
        numbers: list[Any] = [(each.requires_grad, each.data_ptr()) for each in self.parameters]
        numbers += [len(fields["_parameters"]) for fields in self.fields]
        return [*numbers, *(setting() for setting in SETTINGS), self.compiled.optimizer.loss_scale_factor]

    def _attributes(self) -> list[Any]:
        """Those of all modules."""
        return [value for fields in self.fields for name, value in fields.items() if name not in FLEETING]

    def attributes_are_same(self) -> bool:
        """Whether every attribute is the very object that it was, after one was set."""
        now = self._attributes()
        return len(now) == len(self.attributes) and all(map(operator.is_, now, self.attributes))

    def shows_nothing(self) -> bool:
        """Whether all is as it was."""
        objects = self._objects()
        if len(objects) != len(self.objects) or not all(map(operator.is_, objects, self.objects)):
            return False
        return self._numbers() == self.numbers and not watched()
