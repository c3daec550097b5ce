"""The table of a model's layers that notebooks show."""

from __future__ import annotations

import html
from typing import Any

from kstyle_torch.utils.summary import Listing, shapes_of_graph, totals

CELL = 'style="text-align: left"'
NUMBER = 'style="text-align: right"'


def summary_html(model: Any) -> str:
    """Returns the summary of a model as HTML.

    It runs nothing: notebooks ask for it whenever a model ends a cell. So shapes are those of the graph, `?` elsewhere.

    Args:
        model: The model, built or not.
    """
    listing = Listing(model, "", shapes_of_graph)
    rows = [row for name, module in listing.top() for row in listing.rows(name, module, expand=False)]
    columns = [("Layer (type)", "name", CELL), ("Output shape", "shape", CELL), ("Parameters", "params", NUMBER)]
    if not listing.is_chain:
        columns.append(("Connected to", "connected", CELL))
    columns.append(("Trainable", "trainable", CELL))
    head = "".join(f"<th {style}>{title}</th>" for title, _, style in columns)
    body = "".join(
        f"<tr>{''.join(f'<td {style}>{html.escape(getattr(row, field))}</td>' for _, field, style in columns)}</tr>"
        for row in rows
    )
    lines = [line.strip() for line in totals(model)]
    if not getattr(model, "built", True):
        lines = ["The model is not built; call build() or fit() to see its shapes and parameters."]
    return (
        f"<div><b>{html.escape(f'{type(model).__name__} {model.name!r}')}</b>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{'<br>'.join(map(html.escape, lines))}</div>"
    )
