"""Counter of changes to layers, used to invalidate recorded and compiled code."""

from __future__ import annotations

from typing import Any

from torch.nn.modules.module import register_module_parameter_registration_hook


class Changes:
    """Counter of assignments to attributes of any layer, except `training`, and of parameters that modules get.

    Caches compare it with an older value.
    """

    count = 0


changes = Changes()


def _count_parameter(*_: Any) -> None:
    changes.count += 1


register_module_parameter_registration_hook(_count_parameter)
