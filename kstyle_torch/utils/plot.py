"""Drawings of models: images by graphviz, and dot and Mermaid text, which need no other package."""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kstyle_torch.utils.drawing import Box, Drawing, Group, Show

DOT_SUFFIXES = (".dot", ".gv")
MERMAID_SUFFIXES = (".mmd", ".mermaid", ".md")
RANKDIRS = ("TB", "LR", "BT", "RL")
INSTALL = 'pip install "kstyle-torch[plot]"'
TEXT_FILES = "Files ending in .dot or .mmd are written without it."


def plot_model(
    model: Any,
    to_file: Any = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Draws a model to a file: a box for each layer, and arrows for tensors between them.

    Args:
        model: A built model. One without a graph, a subclass, is drawn as its layers, without arrows.
        to_file: Path; `.dot` and `.gv`, or `.mmd`, `.mermaid` and `.md`, become dot or Mermaid text. All others (`.png`,
            `.svg`, `.pdf`, ...) are drawn by graphviz; PNG without a suffix.
        show_shapes: Whether to show the shapes of inputs and outputs; `?` if unknown.
        show_dtype: Whether to show the dtype of outputs.
        show_layer_names: Whether to show names.
        rankdir: Direction of arrows: "TB" down, "BT" up, "LR" and "RL" sideways.
        expand_nested: Whether nested models are drawn as frames around their layers.
        dpi: Dots per inch.
        show_layer_activations: Whether to show the activations of layers.
        show_trainable: Whether to show if layers with weights are trainable.
        splines: Shape of arrows in graphviz: "ortho", "curved", "polyline", "spline" or "line".
    Returns: In a notebook the image for display, unless it is a PDF or text; otherwise None.
    Raises: ValueError: if the model is not built, or for an unknown argument or suffix. ImportError: if pydot or
        graphviz is missing and needed.
    """
    _check_options(rankdir, kwargs)
    show = Show(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable)
    drawing = Drawing(model, expand_nested, show)
    path = Path(to_file)
    suffix = path.suffix.lower()
    if suffix in DOT_SUFFIXES:
        path.write_text(_dot_text(drawing, rankdir, dpi, splines), encoding="utf-8")
    elif suffix in MERMAID_SUFFIXES:
        text = _mermaid_text(drawing, rankdir)
        path.write_text(f"```mermaid\n{text}```\n" if suffix == ".md" else text, encoding="utf-8")
    else:
        file_format = suffix[1:] or "png"
        path.write_bytes(_rendered(_dot_text(drawing, rankdir, dpi, splines), file_format))
        return _notebook_image(path, file_format)
    return None


def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Returns a model as a `pydot.Dot`.

    Args:
        subgraph: Whether to return a `pydot.Subgraph`, for use in another graph.
        model, show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, dpi, show_layer_activations,
            show_trainable, splines: See `plot_model`.
    Raises: ValueError, ImportError: See `plot_model`.
    """
    _check_options(rankdir, kwargs)
    show = Show(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable)
    drawing = Drawing(model, expand_nested, show)
    if not subgraph:
        return _parsed(_dot_text(drawing, rankdir, dpi, splines))
    *frame, end = _dot_items([drawing.top])
    return _parsed("\n".join(["digraph {", *frame, *_dot_edges(drawing), end, "}"])).get_subgraphs()[0]


def model_to_mermaid(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> str:
    """Returns a model as a Mermaid flowchart, which GitHub and notebooks draw from text.

    Args:
        model, show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, show_layer_activations,
            show_trainable: See `plot_model`.
    Raises: ValueError: See `plot_model`.

    Example:
        >>> import kstyle_torch as keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head"), keras.layers.ReLU(name="out")])
        >>> print(model_to_mermaid(model))
        flowchart TB
            n1["<b>head</b> (Dense)"]
            n2["<b>out</b> (ReLU)"]
            n1 --> n2
    """
    _check_options(rankdir, {})
    show = Show(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable)
    return _mermaid_text(Drawing(model, expand_nested, show), rankdir)


def _check_options(rankdir: str, kwargs: dict[str, Any]) -> None:
    if rankdir not in RANKDIRS:
        raise ValueError(f"rankdir must be one of {', '.join(RANKDIRS)}; got {rankdir!r}.")
    if kwargs.pop("layer_range", None) is not None:
        raise ValueError("layer_range is not supported, as in Keras 3; plot a model of these layers instead.")
    if kwargs:
        raise ValueError(f"Unknown arguments: {', '.join(kwargs)}.")


# ----------------------------------------------------------------------------------------------------------- as dot


def _dot_text(drawing: Drawing, rankdir: str, dpi: int, splines: str) -> str:
    options = f'rankdir={rankdir}; concentrate=true; dpi={int(dpi)}; splines="{splines}";'
    head = ["digraph {", options, 'node [shape=plain, fontname="Helvetica"];', "edge [penwidth=2];"]
    return "\n".join([*head, *_dot_items(drawing.top.items), *_dot_edges(drawing), "}"]) + "\n"


def _dot_items(items: list[Box | Group]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Box):
            yield f"{item.key} [label=<{_html_table(item)}>];"
        else:
            yield f"subgraph cluster_{item.key} {{"
            yield f"label=<{_escaped_html(item.name)}>; labeljust=l; style=dashed;"
            yield from _dot_items(item.items)
            yield "}"


def _dot_edges(drawing: Drawing) -> list[str]:
    return [f"{source} -> {target};" for source, target in drawing.edges]


def _html_table(box: Box) -> str:
    cells = [_cell(f"{_escaped_html(what)}: <b>{_escaped_html(value)}</b>") for what, value in box.facts]
    if box.trained != "-":
        text, color = ("Trainable", "forestgreen") if box.trained == "Y" else ("Non-trainable", "firebrick")
        cells.append(_cell(f"<b>{text}</b>", color, "white"))
    span = max(1, len(cells))
    rows = [_cell(_titled(box, _escaped_html), "black", "white", span, 16)]
    if box.activation:
        rows.append(_cell(f"Activation: <b>{_escaped_html(box.activation)}</b>", span=span))
    rows += ["".join(cells)] if cells else []
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table border="0" cellborder="1" bgcolor="black" cellspacing="2" cellpadding="10">{table}</table>'


def _cell(text: str, fill: str = "white", color: str = "black", span: int = 1, size: int = 14) -> str:
    return f'<td colspan="{span}" bgcolor="{fill}"><font point-size="{size}" color="{color}">{text}</font></td>'


def _titled(box: Box, escaped: Callable[[str], str]) -> str:
    return f"<b>{escaped(box.title)}</b>" + (f" ({escaped(box.kind)})" if box.kind else "")


def _escaped_html(text: str) -> str:
    printable = re.sub(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)  # not allowed in XML
    return html.escape(printable).replace("\n", "<br/>")


# ------------------------------------------------------------------------------------------------------- as Mermaid


def _mermaid_text(drawing: Drawing, rankdir: str) -> str:
    edges = [f"    {source} --> {target}" for source, target in drawing.edges]
    return "\n".join([f"flowchart {rankdir}", *_mermaid_items(drawing.top.items, "    "), *edges]) + "\n"


def _mermaid_items(items: list[Box | Group], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Box):
            yield f'{indent}{item.key}["{_mermaid_label(item)}"]'
        else:
            yield f'{indent}subgraph {item.key}["{_escaped_mermaid(item.name)}"]'
            yield from _mermaid_items(item.items, indent + "    ")
            yield f"{indent}end"


def _mermaid_label(box: Box) -> str:
    activation = [("Activation", box.activation)] if box.activation else []
    lines = [f"{what}: {_escaped_mermaid(value)}" for what, value in activation + box.facts]
    lines += {"Y": ["Trainable"], "N": ["Non-trainable"], "-": []}[box.trained]
    return "<br/>".join([_titled(box, _escaped_mermaid), *lines])


def _escaped_mermaid(text: str) -> str:
    """Escapes everything that Mermaid or HTML could interpret, as character references."""
    parts = [re.sub(r"[^\w (),.:/?=+-]", lambda found: f"#{ord(found[0])};", line) for line in text.split("\n")]
    return "<br/>".join(parts)


# -------------------------------------------------------------------------------------------------------- as pictures


def _parsed(text: str) -> Any:
    try:
        import pydot
    except ImportError as error:
        raise ImportError(f"Drawing models needs pydot: {INSTALL}. {TEXT_FILES}") from error
    graphs: Any = pydot.graph_from_dot_data(text)
    return graphs[0]


def _rendered(text: str, file_format: str) -> bytes:
    graph = _parsed(text)
    if shutil.which("dot") is None:
        raise ImportError(
            f"Drawing models needs graphviz, whose program `dot` is not on the PATH: {INSTALL} brings pydot only, graphviz "
            f"is installed as https://graphviz.org/download says. {TEXT_FILES}"
        )
    try:
        return graph.create(format=file_format)
    except AssertionError as error:  # pydot's error if `dot` failed
        raise ValueError(
            f"graphviz cannot draw the model as {file_format!r}; .png, .svg and .pdf always work."
        ) from error


def _notebook_image(path: Path, file_format: str) -> Any:
    if "IPython" not in sys.modules or file_format == "pdf":
        return None
    from IPython import display

    return display.SVG(filename=str(path)) if file_format == "svg" else display.Image(filename=str(path))
