"""The ways in which a model is shown: the summary as text, and as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstyle_torch.training.protocols import Trainable


class Shown(Trainable):
    """Base of models that can be shown."""

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Prints a table of the layers, their output shapes and parameters.

        Args:
            line_length: Width of the table.
            positions: Ends of the columns, as shares or characters.
            print_fn: Called with the text instead of `print`.
            expand_nested: Whether to list the layers of nested models.
            show_trainable: Whether to add a column for `trainable`.
            layer_range: First and last name of the layers to list.
        """
        from kstyle_torch.utils.summary import summary

        self.follow_children()
        summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def _repr_html_(self) -> str:
        """Returns the summary as HTML, which notebooks show for a model at the end of a cell."""
        from kstyle_torch.utils.summary_html import summary_html

        return summary_html(self)
