"""The part of a model that works on text, which exported programs lack: a note of what is left out, and plain Python for it."""

from __future__ import annotations

from typing import Any

from kstyle_torch import tree
from kstyle_torch.graph_passes.split_text import TextPart
from kstyle_torch.layers.preprocessing.string_lookup import StringLookup
from kstyle_torch.layers.preprocessing.text_vectorization import STANDARDS, WORD, TextVectorization
from kstyle_torch.symbolic.graph import Call

A_LINE = 8  # entries of a table in a line
NUMBERS = '''

def numbers_of(inputs):
    """Returns the inputs of `Model` for a dict of inputs with lists of texts."""
    return {{{items}}}
'''

TOKENS = '''
VOCABULARY{n} = {{{tokens}}}
TABLE{n} = {{{table}}}

def text{n}(texts):
    """{layer}"""
    texts = [text.translate(TABLE{n}) for text in texts]
    rows = [{split}{cut} for text in texts]
    width = {width}
    indices = [[VOCABULARY{n}.get(token, 1) for token in row] + [0] * (width - len(row)) for row in rows]
    return torch.tensor(indices, dtype=torch.int64).reshape(len(texts), width)
'''

LOOKUP = '''
VOCABULARY{n} = {{{tokens}}}


def text{n}(texts):
    """{layer}"""
    return torch.tensor([VOCABULARY{n}.get(text, {unknown}) for text in texts], dtype=torch.int64).reshape({shape})
'''

MISSING = '''

def text{n}(*inputs):
    """{layer}"""
    raise NotImplementedError("not written: call the layer of the model that this was written from")
'''


def left_out(model: Any) -> str | None:
    """Returns a sentence on the text that an exported model does not take; None if the model takes none."""
    part = getattr(model, "_text_part", None)
    if part is None:
        return None
    texts = [source.name for source in part.graph.sources if source.is_text]
    return (
        f"{model.name}: the part on text is left out. In the place of {', '.join(map(repr, texts))}, what is written takes the "
        f"numbers {', '.join(map(repr, part.numbers))} in a dict: model.without_text(x) converts x."
    )


def source_of_text(model: Any) -> str:
    """Returns Python functions for the part on text, to follow the source of `Model`: `numbers_of` calls them.

    TextVectorization and StringLookup that give indices are written; functions for others raise an error.
    """
    part = getattr(model, "_text_part", None)
    if part is None:
        return ""
    sources = zip(tree.flatten(part.graph.inputs), part.graph.sources, strict=True)
    names = {ref: source.name for ref, source in sources}
    functions, items = [], [f"{name!r}: inputs[{name!r}]" for name in part.others]
    makers = {ref: call for call in part.calls for ref in call.writes()}
    for n, (name, ref) in enumerate(part.numbers.items()):
        call = makers[ref]
        functions.append(_function(part, call, n))
        read = [names[each] for each in call.reads() if each in names]
        items.append(f"{name!r}: text{n}({', '.join(f'inputs[{each!r}]' for each in read)})")
    return "\n".join(functions) + NUMBERS.format(items=", ".join(items))


def _function(part: TextPart, call: Call, n: int) -> str:
    layer: Any = call.target
    filled = {"n": n, "layer": type(layer).__name__}
    read = [*call.reads()]
    shape = part.specs[read[0].index].shape
    if len(read) > 1 or call.kwargs or not (len(shape) == 1 or shape[1:] == (1,)):
        return MISSING.format(**filled)
    if type(layer) is TextVectorization and _is_usual(layer):
        standardize, split, length = layer.standardize, layer.split, layer.output_sequence_length
        splits: dict[Any, str] = {"whitespace": f"re.findall({WORD.pattern!r}, text)", "character": "list(text)"}
        table: dict[Any, Any] = {} if standardize is None else STANDARDS[str(standardize)]
        return TOKENS.format(
            **filled,
            tokens=_listed(layer.lookup._indices()),
            table=_listed(table),
            split=splits[split],
            cut="" if length is None else f"[:{length}]",
            width="max(map(len, rows), default=0)" if length is None else length,
        )
    if type(layer) is StringLookup and layer.output_mode == "int" and layer.num_oov_indices == 1 and not layer.invert:
        sizes = ", ".join(["len(texts)", *map(str, shape[1:])])
        return LOOKUP.format(**filled, tokens=_listed(layer._indices()), unknown=layer._oov_start(), shape=sizes)
    return MISSING.format(**filled)


def _is_usual(layer: Any) -> bool:
    by_name = layer.standardize in (None, *STANDARDS) and layer.split in ("whitespace", "character")
    return by_name and layer.output_mode == "int" and layer.ngrams is None


def _listed(table: dict[Any, Any]) -> str:
    """Returns the entries of a dict as literals, several in a line."""
    entries = [f"{key!r}: {value!r}" for key, value in table.items()]
    lines = [", ".join(entries[start : start + A_LINE]) for start in range(0, len(entries), A_LINE)]
    return "".join(f"\n    {line}," for line in lines) + "\n" * bool(lines)
