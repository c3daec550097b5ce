"""The part of a model that works on text, which exported programs lack: a note of what is left out, and plain Python for it."""

from __future__ import annotations

import textwrap
from typing import Any

from kstyle_torch import tree
from kstyle_torch.layers.preprocessing.string_lookup import StringLookup
from kstyle_torch.layers.preprocessing.text_vectorization import STANDARDS, WORD, TextVectorization
from kstyle_torch.symbolic.graph import Call, Ref

NUMBERS = '''

def numbers_of(inputs):
    """Returns the inputs of `Model` for a dict of inputs with lists of texts."""
    return {{{items}}}
'''

TOKENS = '''
VOCABULARY{n} = {{
{tokens}
}}
{table}

def text{n}(texts):
    """{layer}"""
    texts = [text.translate(TABLE{n}) for text in texts]
    rows = [{split}{cut} for text in texts]
    width = {width}
    indices = [[VOCABULARY{n}.get(token, 1) for token in row] + [0] * (width - len(row)) for row in rows]
    return torch.tensor(indices, dtype=torch.int64).reshape(len(texts), width)
'''

LOOKUP = '''
VOCABULARY{n} = {{
{tokens}
}}


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


def _function(part: Any, call: Call, n: int) -> str:
    layer, argument = call.target, call.args[0] if call.args else None
    filled = {"n": n, "layer": type(layer).__name__}
    single = isinstance(argument, Ref) and len(call.args) == 1 and not call.kwargs and argument.index < len(part.specs)
    if single and type(layer) is TextVectorization and _is_usual(layer):
        splits = {"whitespace": f"re.findall({WORD.pattern!r}, text)", "character": "list(text)"}
        table = STANDARDS[layer.standardize] if layer.standardize else {}
        written = f"TABLE{n} = {table!r}\n" if len(table) < 4 else f"TABLE{n} = {{\n{_listed(table)}\n}}\n"
        length = layer.output_sequence_length
        return TOKENS.format(
            **filled,
            tokens=_listed(layer.lookup._indices()),
            table=written,
            split=splits[layer.split],
            cut="" if length is None else f"[:{length}]",
            width="max(map(len, rows), default=0)" if length is None else length,
        )
    if single and type(layer) is StringLookup and layer.output_mode == "int" and layer.num_oov_indices == 1:
        shape = part.specs[argument.index].shape
        sizes = ", ".join(["len(texts)", *map(str, shape[1:])])
        if None not in shape[1:] and (len(shape) == 1 or shape[1:] == (1,)):
            return LOOKUP.format(
                **filled, tokens=_listed(layer._indices()), unknown=layer._oov_start(), shape=sizes
            )
    return MISSING.format(**filled)


def _is_usual(layer: TextVectorization) -> bool:
    settings = layer.standardize in (None, *STANDARDS) and layer.split in ("whitespace", "character")
    return settings and layer.output_mode == "int" and layer.ngrams is None


def _listed(table: dict[Any, Any]) -> str:
    """Returns the entries of a dict as literals, many in a line."""
    entries = ", ".join(f"{key!r}: {value!r}" for key, value in table.items())
    lines = textwrap.wrap(entries, 116, break_long_words=False, break_on_hyphens=False) if _wraps(table) else [entries]
    return "\n".join(f"    {line}" for line in lines) + ","


def _wraps(table: dict[Any, Any]) -> bool:
    """Returns whether lines may be broken at every blank: no key has one, which would be changed."""
    return not any(char.isspace() for key in table for char in str(key))
