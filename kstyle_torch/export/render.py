"""Generation of the statements of a `forward` from a recorded call of a module."""

from __future__ import annotations

import builtins
import inspect
import itertools
import keyword
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch._torch import load_python_printer
from kstyle_torch.export.layout import Expr, Group, call, literal, one_line, text
from kstyle_torch.export.record import Frame, Recorder, Ref, Step, refs_in
from kstyle_torch.registry import snake_case

OPERATORS = dict(
    pair.split()
    for pair in (
        *(
            "add +",
            "sub -",
            "mul *",
            "truediv /",
            "div /",
            "floordiv //",
            "mod %",
            "pow **",
            "matmul @",
            "and &",
            "or |",
        ),
        *("xor ^", "eq ==", "ne !=", "lt <", "le <=", "gt >", "ge >=", "lshift <<", "rshift >>"),
    )
)
SIGNS = {name: OPERATORS[name] for name in "add sub mul div matmul eq ne lt le gt ge".split()} | {"rsub": "-"}
PARTS = {  # names of the results of functions with several
    "lstm": ("output", "h", "c"),
    "gru": ("output", "h"),
    "rnn_tanh": ("output", "h"),
    "rnn_relu": ("output", "h"),
    "native_batch_norm": ("normalized", "mean", "inverse_std"),
    "sort": ("values", "order"),
    "topk": ("values", "indices"),
}
UNARY = {"neg": "-", "invert": "~"}
LONGEST_INLINED = 60
RESERVED = {"self", "torch", "nn", "F", *dir(builtins), *keyword.kwlist, *keyword.softkwlist}


class UnwritableError(ValueError):
    """Error for code that cannot be written as plain torch."""


@dataclass(frozen=True)
class Statement:
    """One statement: `target = expr`, `return expr`, or only an expression.

    Args:
        prefix: Text before the expression.
        expr: The expression.
        shape: Shape of the result, for a comment.
        context: Context manager around it, such as `torch.no_grad()`.
    """

    prefix: str
    expr: Expr
    shape: str = ""
    context: str = ""


def identifier(wish: str, taken: Iterable[str] = ()) -> str:
    """Returns a valid identifier like `wish` that is not in `taken`, a keyword or a builtin."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", wish, flags=re.ASCII)[:40].strip("_") or "value"
    base = f"_{base}" if base[0].isdigit() else base
    names = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in RESERVED and name not in {*taken})


class Body:
    """Writer of the statements of one frame.

    Args:
        frame: The frame.
        recorder: The recorder with its tensors.
        attribute: `attribute(module, key)` returns the expression for a weight or a constant: `self.linear.weight`.
        method: The expression for calling a module: `self.dense`.
    """

    def __init__(
        self,
        frame: Frame,
        recorder: Recorder,
        attribute: Callable[[Frame, int], str | None],
        method: Callable[[Frame, Step], str],
    ):
        self.frame, self.recorder, self.attribute, self.method = frame, recorder, attribute, method
        self.names: dict[int, str] = {}
        self.taken: set[str] = set()
        self.sizes: dict[str, str] = {}  # a symbolic size -> its variable
        self.sizes_from: dict[str, str] = {}  # source of each of these variables
        self.statements: list[Statement] = []
        self.parameters: list[str] = []

    def write(self) -> tuple[tuple[str, ...], tuple[Statement, ...]]:
        """Returns the names of the parameters, and the statements."""
        unpacking: list[Statement] = []
        for name, nest in self.frame.inputs.items():
            parameter = self.fresh(name)
            self.parameters.append(parameter)
            if isinstance(nest, Ref):
                self.names[nest.key] = parameter
            else:
                for path, ref in _paths(nest):
                    variable = self.fresh(str(path[-1]) if isinstance(path[-1], str) else f"{name}_{path[-1]}")
                    self.names[ref.key] = variable
                    unpacking.append(Statement(f"{variable} = ", parameter + "".join(f"[{_key(k)}]" for k in path)))
        for key in self.frame.taken:
            self.names[key] = self.fresh("mask" if self.recorder.tensors[key].dtype == torch.bool else "other")
            self.parameters.append(self.names[key])
        steps = live(self.frame)
        self._used = {ref.key for step in steps for ref in refs_in((step.args, step.kwargs))}
        self._used |= {key for step in steps if step.frame for key in step.frame.taken} | {*self.frame.given}
        self._used |= {ref.key for ref in refs_in(self.frame.outputs)}
        for step in steps:
            self._step(step)
        returned: Expr = self.render(self.frame.outputs)
        if self.frame.given:
            returned = literal("()", [returned, *(self.render(Ref(key)) for key in self.frame.given)])
            returned = one_line(returned)[1:-1]
        elif (
            isinstance(returned, Group) and returned.brackets == "()" and not returned.head and len(returned.items) > 1
        ):
            returned = one_line(returned)[1:-1] if len(one_line(returned)) < 70 else returned
        self.statements.append(Statement("return ", returned))
        sizes = [Statement(f"{name} = ", where) for where, name in self._size_lines.items()]
        statements = self._inline([*unpacking, *sizes, *self.statements])
        return tuple(self.parameters), tuple(statements)

    @property
    def _size_lines(self) -> dict[str, str]:
        return {where: name for name, where in self.sizes_from.items()}

    # ------------------------------------------------------------------------------------------------------ statements

    def _step(self, step: Step) -> None:
        given = {ref.key for ref in refs_in(step.args)}  # in-place functions return their argument
        new = [ref for ref in refs_in(step.outputs) if ref.key not in self.names and ref.key not in given]
        extra = step.frame.given if step.frame is not None else []
        new += [Ref(key) for key in extra if key not in self.names]
        expr, wish = self._expression(step)
        context = self._context(step)
        if not new:
            if _mutates(step) and not _is_alias(step):
                self._say("", expr, "", context)
            return
        used = self._used
        if _mutates(step) and step.frame is None and not any(ref.key in used for ref in new):
            self._say("", expr, "", context)
            return
        if isinstance(step.outputs, Ref) and not extra:
            name = self.names[step.outputs.key] = self.fresh(wish)
            self._say(f"{name} = ", expr, self.shape(step.outputs), context)
            return
        outputs = (step.outputs, *map(Ref, extra)) if extra else step.outputs
        paths = _paths(outputs)
        if all(len(path) == 1 and isinstance(path[0], int) for path, _ in paths) and len(paths) == len(outputs):
            words = PARTS.get(wish, ())
            wishes = [words[i] if i < len(words) else "part" for i in range(len(paths))]
            wishes = [wish, *["mask"] * len(extra)] if extra and isinstance(step.outputs, Ref) else wishes
            parts = [
                self._part(ref, word) if ref.key in used and ref.key not in self.names else "_"
                for (_, ref), word in zip(paths, wishes, strict=True)
            ]
            self._say(f"{', '.join(parts)} = ", expr, "", context)
            return
        whole = self.fresh(wish)
        self._say(f"{whole} = ", expr, "", context)
        for path, ref in paths:
            if ref.key not in self.names:
                part = self._part(ref, wish)
                self._say(f"{part} = ", whole + "".join(f"[{_key(step)}]" for step in path), self.shape(ref))

    def _context(self, step: Step) -> str:
        contexts = [] if step.has_gradient or step.frame is not None else ["torch.no_grad()"]
        if step.autocast is not None:
            contexts.append(f"torch.autocast({self._device()}.device.type, dtype={step.autocast})")
        return ", ".join(contexts)

    def _part(self, ref: Ref, wish: str) -> str:
        self.names[ref.key] = self.fresh(wish)
        return self.names[ref.key]

    def _say(self, prefix: str, expr: Expr, shape: str = "", context: str = "") -> None:
        self.statements.append(Statement(prefix, expr, shape, context))

    def _expression(self, step: Step) -> tuple[Expr, str]:
        """Returns the right-hand side, and a name for the result."""
        if isinstance(step.target, nn.Module):
            head = self.method(self.frame, step)
            wish = snake_case(head.split(".")[-1].split("[")[0])
            if step.frame is None:
                return call(head, self._all(step.args), self._named(step.kwargs)), wish
            given = [self.render(nest) for nest in step.frame.inputs.values()]
            return call(head, [*given, *(self.render(Ref(key)) for key in step.frame.taken)]), wish
        return self._function(step)

    def _function(self, step: Step) -> tuple[Expr, str]:
        function, args = step.target, step.args
        name = getattr(function, "__name__", "")
        plain = name.strip("_")
        if name == "__get__":
            attribute = function.__self__.__name__
            return f"{self._operand(args[0])}.{identifier(attribute)}", snake_case(attribute)
        if name == "__getitem__":
            return f"{self._operand(args[0])}[{self._index(args[1])}]", _stem(self, args[0])
        if name == "__setitem__":
            return f"{self._operand(args[0])}[{self._index(args[1])}] = {one_line(self.render(args[2]))}", ""
        if name.startswith("__") and plain in UNARY:
            return f"{UNARY[plain]}{self._operand(args[0])}", plain
        if name.startswith("__") and len(args) == 2 and plain != "ilshift" and not step.kwargs:
            for prefix in ("", "r", "i"):
                if plain.startswith(prefix) and plain.removeprefix(prefix) in OPERATORS:
                    sign = OPERATORS[plain.removeprefix(prefix)]
                    left, right = (self._operand(arg) for arg in (reversed(args) if prefix == "r" else args))
                    return f"{left} {sign}{'=' if prefix == 'i' else ''} {right}", plain.removeprefix(prefix)
        if plain in SIGNS and name == plain and len(args) == 2 and not step.kwargs:
            left, right = (self._operand(arg) for arg in (reversed(args) if plain == "rsub" else args))
            return f"{left} {SIGNS[plain]} {right}", plain
        home = _home(function, name)
        args, kwargs = _trimmed(function, args, step.kwargs)
        if home == "Tensor":
            return call(f"{self._operand(args[0])}.{name}", self._all(args[1:]), self._named(kwargs)), _wish(name)
        return call(f"{home}.{name}", self._all(args), self._named(kwargs)), _wish(name)

    def _operand(self, value: Any) -> str:
        rendered = one_line(self.render(value))
        return rendered if re.fullmatch(r"[\w.\[\]\"]+|getattr\([^()]*\)", rendered) else f"({rendered})"

    def _all(self, values: Iterable[Any]) -> list[Expr]:
        return [self.render(value) for value in values]

    def _named(self, kwargs: dict[str, Any]) -> dict[str, Expr]:
        return {name: self.render(value) for name, value in kwargs.items() if name not in ("generator", "out")}

    def _index(self, index: Any) -> str:
        items = index if type(index) is tuple else (index,)
        rendered = [self._slice(item) for item in items]
        return ", ".join(rendered) + ("," if type(index) is tuple and len(items) == 1 else "")

    def _slice(self, item: Any) -> str:
        if item is Ellipsis:
            return "..."
        if not isinstance(item, slice):
            return one_line(self.render(item))
        start, stop, step = (
            "" if bound is None else one_line(self.render(bound)) for bound in (item.start, item.stop, item.step)
        )
        simple = all(re.fullmatch(r"-?\w*", bound) for bound in (start, stop, step))
        colon = ":" if simple else " : "
        return f"{start}{colon}{stop}".strip(" ") + (f"{colon}{step}".rstrip(" ") if step else "")

    # ---------------------------------------------------------------------------------------------------------- values

    def render(self, value: Any) -> Expr:
        """Returns a value of the run as an expression.

        Raises: UnwritableError: for an object that has no literal.
        """
        if isinstance(value, Ref):
            return self._tensor(value.key)
        if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self._size(value)
        if isinstance(value, str):
            return text(value)
        if isinstance(value, float):
            return repr(value).replace("e+", "e") if math.isfinite(value) else f'float("{value}")'
        if value is None or value is Ellipsis or isinstance(value, (bool, int, complex)):
            return "..." if value is Ellipsis else repr(value)
        if isinstance(value, np.generic):
            return self.render(value.item())
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
            return str(value)
        if isinstance(value, torch.device):
            return f"{self._device()}.device"
        if isinstance(value, slice):
            return call("slice", self._all((value.start, value.stop, value.step)))
        if isinstance(value, tuple):
            return literal("()", self._all(value)) if value else "()"
        if isinstance(value, list):
            return literal("[]", self._all(value)) if value else "[]"
        if isinstance(value, dict):
            items = [(f"{_key(key)}: ", self.render(item)) for key, item in value.items()]
            return Group("", "{}", tuple(items)) if items else "{}"
        raise UnwritableError(f"it passes {value!r:.60} to a function of torch")

    def _tensor(self, key: int) -> str:
        if key in self.names:
            return self.names[key]
        found = self.attribute(self.frame, key)
        if found is None:
            raise UnwritableError("it uses a tensor that is not a weight of the model")
        return found

    def _device(self) -> str:
        if self.parameters:
            first = next(iter(self.names.values()))
            return first
        for step in self.frame.steps:
            for ref in refs_in((step.args, step.kwargs)):
                found = self.attribute(self.frame, ref.key)
                if found is not None:
                    return found
        raise UnwritableError("it creates a tensor on a device that no input or weight is on")

    def _size(self, value: Any) -> str:
        """Returns a size as an expression of the inputs' sizes."""
        if not hasattr(value, "node"):
            return repr(value)
        expr = value.node.expr
        known = self._known_sizes()
        if str(expr) in known:
            return self._variable(str(expr), known)
        import_free = {symbol: self._symbol(symbol, known) for symbol in expr.free_symbols}
        printer = load_python_printer()
        if printer is None:
            raise UnwritableError("it computes with sizes, which this version of torch cannot print")
        printed = printer().doprint(expr.xreplace(import_free))
        return re.sub(r"(?<=[\w)])(\*\*|\*|//|/)(?=[\w(])", r" \1 ", printed)

    def _symbol(self, symbol: Any, known: dict[str, tuple[str, int]]) -> Any:
        if str(symbol) not in known:
            raise UnwritableError("it needs a size of the model's input that its own inputs do not have")
        return type(symbol)(self._variable(str(symbol), known), integer=True, positive=True)

    def _known_sizes(self) -> dict[str, tuple[str, int]]:
        known: dict[str, tuple[str, int]] = {}
        arguments = [ref.key for ref in refs_in(self.frame.inputs)] + self.frame.taken
        for key in arguments:
            for axis, size in enumerate(self.recorder.tensors[key].shape):
                if isinstance(size, torch.SymInt):
                    known.setdefault(str(size.node.expr), (self.names[key], axis))
        return known

    def _variable(self, expr: str, known: dict[str, tuple[str, int]]) -> str:
        if expr not in self.sizes:
            tensor, axis = known[expr]
            self.sizes[expr] = self.fresh("batch" if axis == 0 else f"size_{axis}")
            self.sizes_from[self.sizes[expr]] = f"{tensor}.shape[{axis}]"
        return self.sizes[expr]

    def shape(self, ref: Ref) -> str:
        """Returns the shape of a tensor, for a comment."""
        return shape_text(self.recorder.tensors[ref.key])

    def fresh(self, wish: str) -> str:
        """Returns a variable that is not in use yet."""
        name = identifier(wish, self.taken)
        self.taken.add(name)
        return name

    # -------------------------------------------------------------------------------------------------------- inlining

    def _inline(self, statements: list[Statement]) -> list[Statement]:
        """Inlines values that are used once, by the next statement, if the line stays short."""
        kept: list[Statement] = []
        for position, statement in enumerate(statements):
            previous = kept[-1] if kept else None
            merged = None
            if previous is not None and previous.prefix.endswith(" = ") and previous.context == statement.context:
                merged = _merged(previous, statement, statements[position + 1 :])
            kept[-1:] = [previous, statement] if merged is None and previous else [merged or statement]
        return kept


def _merged(previous: Statement, statement: Statement, rest: list[Statement]) -> Statement | None:
    variable = previous.prefix.removesuffix(" = ")
    word = re.compile(rf"\b{re.escape(variable)}\b")
    line = one_line(statement.expr)
    if not variable.isidentifier() or '"' in line or len(word.findall(line)) != 1 or word.search(statement.prefix):
        return None
    if any(word.search(one_line(other.expr)) or word.search(other.prefix) for other in rest):
        return None
    inner = one_line(previous.expr)
    found = word.search(line)
    assert found is not None
    alone = found.group() == line
    atom = re.fullmatch(r"[\w.]+(\(.*\)|\[.*\])?", inner) and _balanced(inner)
    inside_brackets = line[found.end() : found.end() + 1] in (",", ")", "]") and line[found.start() - 1] in "(, ="
    if not (alone or atom or (inside_brackets and line[found.start() - 1] in "(")) or line[found.end() :][:1] == "=":
        return None
    if line[found.start() - 1 : found.start()] == "." or (not alone and "self" not in inner and len(inner) > 40):
        return None
    whole = line[: found.start()] + inner + line[found.end() :]
    if len(whole) > LONGEST_INLINED or " = " in whole:
        return None
    return Statement(statement.prefix, whole, statement.shape, statement.context)


def _balanced(inner: str) -> bool:
    """Returns whether the first bracket closes at the end: `f(x)`, not `f(x) + g(y)`."""
    depth = 0
    for position, character in enumerate(inner):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and character in ")]" and position < len(inner) - 1 and inner[position + 1] not in ".[":
            return False
    return True


def shape_text(tensor: Tensor) -> str:
    """Returns `(batch, 3)`."""
    sizes = []
    for axis, size in enumerate(tensor.shape):
        symbolic = isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None
        sizes.append(("batch" if axis == 0 else "n") if symbolic else str(int(size)))
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def live(frame: Frame) -> list[Step]:
    """Returns the steps whose results are used, or that have side effects."""
    needed = {ref.key for ref in refs_in(frame.outputs)} | {*frame.given}
    kept: list[Step] = []
    for step in reversed(frame.steps):
        made = {ref.key for ref in refs_in(step.outputs)} | {*(step.frame.given if step.frame else ())}
        if made & needed or _mutates(step):
            kept.append(step)
            needed |= {ref.key for ref in refs_in((step.args, step.kwargs))}
            needed |= {*(step.frame.taken if step.frame else ())}
    return kept[::-1]


def _mutates(step: Step) -> bool:
    if step.frame is not None:
        return any(map(_mutates, step.frame.steps))
    name = getattr(step.target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name == "__setitem__" or (name.startswith("__i") and name.strip("_")[1:] in OPERATORS)


def _is_alias(step: Step) -> bool:
    return getattr(step.target, "__name__", "") in ("requires_grad_",)


def _paths(nest: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Ref]]:
    if isinstance(nest, Ref):
        return [(path, nest)]
    items = nest.items() if isinstance(nest, dict) else enumerate(nest) if tree.is_nested(nest) else ()
    return [found for key, item in items for found in _paths(item, (*path, key))]


def _key(key: Any) -> str:
    return text(key) if isinstance(key, str) else repr(int(key))


def _stem(body: Body, value: Any) -> str:
    name = one_line(body.render(value)).split(".")[-1]
    return re.sub(r"_\d+$", "", name) if name.isidentifier() else "part"


def _wish(name: str) -> str:
    return name.strip("_") or "value"


def _home(function: Any, name: str) -> str:
    if not name.isidentifier():
        raise UnwritableError(f"it calls {function!r:.60}")
    resolved = torch.overrides.resolve_name(function) or ""
    if resolved.startswith("torch.Tensor."):
        return "Tensor"
    for prefix, home in (
        ("torch.nn.functional", nn.functional),
        ("torch", torch),
        ("torch.linalg", torch.linalg),
        ("torch.fft", torch.fft),
        ("torch.special", torch.special),
    ):
        if getattr(home, name, None) is function:
            return "F" if prefix == "torch.nn.functional" else prefix
    if getattr(Tensor, name, None) is function:
        return "Tensor"
    raise UnwritableError(f"it calls {resolved or name}, which is not a public function of torch")


def _trimmed(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Removes keyword arguments that equal their default."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return args, {key: value for key, value in kwargs.items() if value is not None or key == "dim"}
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    kept = {}
    for key, value in kwargs.items():
        default = defaults.get(key, inspect.Parameter.empty)
        if not (value is default or (type(value) is type(default) and value == default)):
            kept[key] = value
    return args, kept
