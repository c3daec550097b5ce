"""Generation of plain torch classes for the modules of a model, with the statements of their calls."""

from __future__ import annotations

import itertools
import keyword
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch.export.layout import Expr, call, lines, literal, one_line, text
from kstyle_torch.export.native import arguments_of
from kstyle_torch.export.record import Frame, Recorder, Ref, Step, refs_in
from kstyle_torch.export.render import Body, Statement, UnwritableError, identifier, live

LARGEST_CONSTANT = 1024  # number of elements that are written as literals
MOST_SPLICED = 4
Method = tuple[
    tuple[str, ...], tuple[Statement, ...], "tuple[Statement, ...] | None"
]  # parameters, inference, training


def link(recorder: Recorder) -> None:
    """Determines the tensors that each call needs and returns beside its arguments and results."""
    for frame in recorder.frames:
        for step in frame.steps:
            for ref in refs_in((step.args, step.kwargs)):
                _reach(recorder, ref.key, frame)
        for ref in refs_in(frame.outputs):
            _reach(recorder, ref.key, frame)


def splice(runs: tuple[Recorder, Recorder | None]) -> None:
    """Inlines calls of modules without weights, if they have few steps that are equal in both modes."""
    inference, training = runs
    if training is None:
        return
    partners: dict[int, list[Frame]] = {}
    for frame in training.frames:
        partners.setdefault(id(frame.module), []).append(frame)
    for frame in [*inference.frames]:
        calls = partners.get(id(frame.module), [])
        if len(calls) != sum(each.module is frame.module for each in inference.frames) or not calls:
            continue
        partner = calls[0]
        has_state = any(True for _ in (*frame.module.parameters(), *frame.module.buffers()))
        if (
            frame.parent is None
            or has_state
            or _holds_tensors(frame, inference)
            or len(live(frame)) > MOST_SPLICED
            or _outline(frame) != _outline(partner)
        ):
            continue
        _splice(inference, frame)
        _splice(training, calls.pop(0))


def _holds_tensors(frame: Frame, run: Recorder) -> bool:
    used = [run.tensors[ref.key] for step in frame.steps for ref in refs_in((step.args, step.kwargs))]
    return any(type(tensor).__name__ != "FakeTensor" for tensor in used)


def _outline(frame: Frame) -> list[str]:
    return [f"{getattr(step.target, '__name__', id(step.target))}{_plain_parts(step)}" for step in live(frame)]


def _plain_parts(step: Step) -> str:
    leaves = tree.flatten((step.args, step.kwargs))
    return str([leaf for leaf in leaves if not isinstance(leaf, Ref)])


def _splice(run: Recorder, frame: Frame) -> None:
    parent = frame.parent
    assert parent is not None
    position = next(i for i, step in enumerate(parent.steps) if step.frame is frame)
    parent.steps[position : position + 1] = frame.steps
    parent.owned |= frame.owned
    for key, maker in run.makers.items():
        if maker is frame:
            run.makers[key] = parent
    for step in frame.steps:
        if step.frame is not None:
            step.frame.parent = parent
    run.frames.remove(frame)


def _reach(recorder: Recorder, key: int, frame: Frame) -> None:
    maker = recorder.makers.get(key)
    if maker is None or key in frame.owned:
        return
    above = frame.chain()
    for inner in maker.chain():  # out of the calls that have ended
        if inner in above:
            break
        if key not in inner.given:
            inner.given.append(key)
        if inner.parent is not None:
            inner.parent.owned.add(key)
    for outer in above:  # and into those that need it
        if key in outer.owned:
            break
        outer.taken.append(key)
        outer.owned.add(key)


class ModesDifferError(UnwritableError):
    """Error for a module whose training mode cannot be written beside inference mode."""


@dataclass
class Written:
    """Written calls of one module.

    Args:
        methods: The distinct methods; the first is `forward`.
        cls: Name of its class.
    """

    module: nn.Module
    methods: list[Method] = field(default_factory=list)


class Classes:
    """Writer of the classes of a model.

    Args:
        model: The model.
        runs: Records of inference mode, and of training mode if possible.
    """

    def __init__(self, model: nn.Module, native: dict[int, Any], runs: tuple[Recorder, Recorder | None]):
        self.model, self.native, self.runs = model, native, runs
        self.paths: dict[int, list[str]] = {}  # tensor or module -> its places
        for path, module in model.named_modules(remove_duplicate=False):
            self.paths.setdefault(id(module), []).append(path)
            for key, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    self.paths.setdefault(id(tensor), []).append(f"{path}.{key}".lstrip("."))
        self.constants: dict[int, dict[str, Tensor]] = {}  # module -> tensors in it that are not weights
        self.written: dict[int, Written] = {}
        self.variant: dict[Frame, int] = {}
        splice(runs)
        for run in runs:
            if run is not None:
                link(run)
        self._write_frames()
        steps = [step for run in self.runs if run is not None for frame in run.frames for step in live(frame)]
        self.called = {id(step.target) for step in steps if isinstance(step.target, nn.Module)} | {*self.written}

    # -------------------------------------------------------------------------------------------------------- the calls

    def _write_frames(self) -> None:
        frames: list[dict[int, list[Frame]]] = [{}, {}]
        for run, found in zip(self.runs, frames, strict=True):
            for frame in [] if run is None else run.frames:
                found.setdefault(id(frame.module), []).append(frame)
        self.frames = (frames[0], frames[1])
        for key in [*frames[0], *frames[1]]:
            self._write_module(key)

    def _write_module(self, key: int) -> None:
        """Writes all calls of a module, after those of its children."""
        if key in self.written:
            return
        inference, training = (found.get(key, []) for found in self.frames)
        module = (inference or training)[0].module
        written = self.written[key] = Written(module)
        for frame in (*inference, *training):
            for step in live(frame):
                if step.frame is not None:
                    self._write_module(id(step.frame.module))
        try:
            bodies = [self._bodies(frames, run) for frames, run in zip((inference, training), self.runs, strict=True)]
        except UnwritableError as error:
            raise UnwritableError(f"{self.describe(module)}: {error}") from error
        pairs = self._pairs(*bodies)
        written.methods = [*dict.fromkeys(pair for pairs_of_mode in pairs for pair in pairs_of_mode)]
        for frames, pairs_of_mode in zip((inference, training), pairs, strict=True):
            for frame, pair in zip(frames, pairs_of_mode, strict=True):
                self.variant[frame] = written.methods.index(pair)

    def _bodies(self, frames: list[Frame], run: Recorder | None) -> list[Any]:
        return [Body(frame, run, self.attribute, self.method).write() for frame in frames] if run is not None else []

    def _pairs(self, inference: list[Any], training: list[Any]) -> tuple[list[Method], list[Method]]:
        """Pairs the inference and training methods of each call."""
        if self.runs[1] is None:
            return [(names, body, None) for names, body in inference], []
        if len({*inference}) <= 1 and len({*training}) <= 1:  # one mode only: written for both
            (names, body), (other_names, other) = (inference or training)[0], (training or inference)[0]
            if names == other_names:
                return [(names, body, other)] * len(inference), [(names, body, other)] * len(training)
        if [names for names, _ in inference] != [names for names, _ in training]:
            raise ModesDifferError("its calls differ between training and inference")
        both = [(names, body, other) for (names, body), (_, other) in zip(inference, training, strict=True)]
        return both, both

    def method(self, frame: Frame, step: Step) -> str:
        """Returns the expression for calling a module from another."""
        head = self._place(frame, id(step.target))
        if head is None:
            raise UnwritableError(f"it calls {self.describe(step.target)}, which is not part of it")
        index = 0 if step.frame is None else self.variant[step.frame]
        return head if index == 0 else f"{head}.forward_{index + 1}"

    def attribute(self, frame: Frame, key: int) -> str | None:
        """Returns the expression for a weight or another tensor of a module."""
        found = self._place(frame, key)
        if found is not None or key in self.paths:
            if found is None:
                raise UnwritableError(f"it uses the weight {self.paths[key][0]!r} of another layer")
            return found
        run = next(run for run in self.runs if run is not None and key in run.tensors)
        tensor = run.tensors[key]
        if type(tensor).__name__ == "FakeTensor":
            return None
        held = self.constants.setdefault(id(frame.module), {})
        for name, other in held.items():
            if other is tensor:
                return f"self.{name}"
        taken = {*held, *frame.module._modules, *frame.module._parameters, *frame.module._buffers, *dir(nn.Module)}
        wish = next((name for name, value in vars(frame.module).items() if value is tensor), "constant")
        name = identifier(wish, taken)
        held[name] = tensor
        return f"self.{name}"

    def _place(self, frame: Frame, key: int) -> str | None:
        """Returns the path of a module or weight relative to the module of a frame."""
        for home in self.paths.get(id(frame.module), ()):
            for path in self.paths.get(key, ()):
                if not home:
                    return _access(path.split("."))
                if path.startswith(f"{home}."):
                    return _access(path.removeprefix(f"{home}.").split("."))
        return None

    def describe(self, module: nn.Module) -> str:
        """Returns a description of a layer for messages."""
        name = getattr(module, "name", None)
        kind = type(module).__name__
        return (
            f"layer {name!r} ({kind})"
            if isinstance(name, str)
            else f"module {self.paths.get(id(module), ['?'])[0]!r} ({kind})"
        )

    # -------------------------------------------------------------------------------------------------------- the classes

    def source(self, header: str) -> str:
        """Returns the whole file."""
        return Writer(self).source(header)


def _access(keys: list[str]) -> str:
    """Returns `self.a.b`, or `self.get_submodule("...")` for keys that are not identifiers."""
    expr = "self"
    for key in keys:
        expr = f"{expr}.{key}" if _is_plain(key) else f"getattr({expr}, {text(key)})"
    return expr


def _is_plain(key: str) -> bool:
    """Returns whether `self.key` may be written."""
    return key.isidentifier() and key.isascii() and not keyword.iskeyword(key) and not key.startswith("__")


def class_name(wish: str, taken: set[str]) -> str:
    """Returns `Dense`, `Dense2`, ..."""
    base = identifier(wish[:1].upper() + wish[1:])
    names = itertools.chain([base], (f"{base}{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


@dataclass
class _Class:
    name: str
    module: nn.Module
    methods: list[Method]
    attributes: list[str]
    members: list[nn.Module] = field(default_factory=list)


class Writer:
    """Conversion of the code of each module to classes; modules with equal code share one."""

    def __init__(self, classes: Classes):
        self.classes, self.native = classes, classes.native
        self.by_module: dict[int, _Class] = {}
        self.all: list[_Class] = []
        self.hoisted: dict[int, str] = {}  # object at several places in the model -> variable of __init__
        self.taken = {"nn", "F", "torch", "Model"}
        self._group(classes.model)
        self._find_shared(classes.model)

    def _group(self, module: nn.Module) -> None:
        """Groups modules, children first."""
        root = module is self.classes.model
        if id(module) in self.native or id(module) in self.by_module or (self._is_gone(module) and not root):
            return
        for child in module.children():
            self._group(child)
        written = self.classes.written.get(id(module))
        methods = [] if written is None else written.methods
        attributes = [*self._attributes(module)]
        kinds = [f"{kind} {key}" for key, kind, _ in attributes]
        for known in self.all:
            if (
                not root
                and type(known.module) is type(module)
                and known.methods == methods
                and known.attributes == kinds
            ):
                known.members.append(module)
                self.by_module[id(module)] = known
                return
        wish = type(module).__name__
        name = "Model" if root else class_name(wish, self.taken)
        self.taken.add(name)
        made = _Class(name, module, methods, kinds, [module])
        self.all.append(made)
        self.by_module[id(module)] = made

    def _attributes(self, module: nn.Module) -> list[tuple[str, str, Any]]:
        """Returns key, kind and value of all parts of a module."""
        found: list[tuple[str, str, Any]] = []
        found += [(key, "parameter", value) for key, value in module._parameters.items()]
        for key, value in module._buffers.items():
            found.append((key, "buffer" if key not in module._non_persistent_buffers_set else "constant", value))
        found += [(key, "constant", value) for key, value in self.classes.constants.get(id(module), {}).items()]
        found += [(key, "module", child) for key, child in module._modules.items() if not self._is_gone(child)]
        return [entry for entry in found if entry[2] is not None]

    def _is_gone(self, module: nn.Module | None) -> bool:
        """Returns whether a module needs no class: it has no weights, and all its calls were inlined."""
        if module is None:
            return True
        inside = [*module.modules()]
        state = any(True for _ in (*module.parameters(), *module.buffers()))
        called = self.classes.called
        return not state and not any(id(each) in called or id(each) in self.classes.constants for each in inside)

    def _find_shared(self, model: nn.Module) -> None:
        counts: Counter[int] = Counter()
        values: dict[int, Any] = {}
        left = [model]
        while left:
            inside: list[nn.Module] = []
            for _, kind, value in self._attributes(left.pop()):
                if kind in ("module", "parameter") and value is not None:
                    counts[id(value)] += 1
                    values[id(value)] = value
                    if counts[id(value)] == 1 and kind == "module":
                        inside.append(value)
            left += reversed(inside)
        for key, count in counts.items():
            if count > 1:
                wish = "weight" if isinstance(values[key], nn.Parameter) else type(values[key]).__name__.lower()
                self.hoisted[key] = identifier(f"shared_{wish}", self.hoisted.values())
        self.values = values

    # ------------------------------------------------------------------------------------------------------------ text

    def source(self, header: str) -> str:
        bodies = [self._class(made) for made in self.all]
        body = "\n\n\n".join(bodies)
        imports = ["import torch"] if "torch." in body else []
        imports += ["import torch.nn.functional as F"] if re.search(r"\bF\.", body) else []
        imports += ["from torch import nn"]
        return f"{header}\n\n{chr(10).join(imports)}\n\n\n{body}\n"

    def _class(self, made: _Class) -> str:
        try:
            return self._class_text(made)
        except UnwritableError as error:
            raise UnwritableError(f"{self.classes.describe(made.module)}: {error}") from error

    def _class_text(self, made: _Class) -> str:
        root = made.module is self.classes.model
        out = [f"class {made.name}(nn.Module):"]
        if not made.attributes and not made.methods:
            return "\n".join([*out, "    pass"])
        init = self._init(made, root)
        out += init
        for number, method in enumerate(made.methods):
            out += [""] if init or number else []
            out += self._method("forward" if number == 0 else f"forward_{number + 1}", method)
        return "\n".join(out)

    def _init(self, made: _Class, root: bool) -> list[str]:
        arguments: list[str] = []
        body: list[str] = []
        for position, (key, kind, value) in enumerate(self._attributes(made.module)):
            exprs = [self._value(*self._attributes(member)[position][1:]) for member in made.members]
            varies = len({one_line(expr) for expr in exprs}) > 1 or self._is_shared(exprs[0])
            expr = exprs[0]
            if varies and not root:
                expr = identifier(key, arguments)
                arguments.append(expr)
            body += self._assignment(key, kind, value, expr)
        if root:
            body = [*(line for shared in self._shared_lines() for line in shared), *body]
        if not body:
            return []
        head = f"    def __init__(self{''.join(f', {name}' for name in arguments)}):"
        if len(head) > 88:
            head = "\n".join(["    def __init__(", f"        self, {', '.join(arguments)}", "    ):"])
            if any(len(line) > 88 for line in head.split("\n")):
                head = "\n".join(
                    ["    def __init__(", "        self,", *(f"        {name}," for name in arguments), "    ):"]
                )
        return [head, "        super().__init__()", *body]

    def _shared_lines(self) -> list[list[str]]:
        made: list[list[str]] = []
        done: set[int] = set()
        for key, name in self.hoisted.items():
            value = self.values[key]
            expr = self._parameter(value) if isinstance(value, nn.Parameter) else self._module(value)
            made.append(lines(f"{name} = ", expr, 8))
            done.add(key)
        return made

    def _is_shared(self, expr: Expr) -> bool:
        line = one_line(expr)
        return any(name in line for name in self.hoisted.values())

    def _value(self, kind: str, value: Any) -> Expr:
        """Returns the expression that creates a part of a module."""
        if value is None:
            return "None"
        if id(value) in self.hoisted:
            return self.hoisted[id(value)]
        if kind == "module":
            return self._module(value)
        return self._parameter(value) if kind == "parameter" else self._tensor(value, kind == "constant")

    def _module(self, module: nn.Module) -> Expr:
        if id(module) in self.native:
            args, kwargs = self.native[id(module)]
            options = {key: _plain(value) for key, value in kwargs.items()}
            made = call(f"nn.{type(module).__name__}", [_plain(arg) for arg in args], options)
            frozen = [not parameter.requires_grad for parameter in module.parameters()]
            return f"{one_line(made)}.requires_grad_(False)" if frozen and all(frozen) else made
        cls = self.by_module[id(module)]
        arguments: list[Expr] = []
        for position, (_, kind, value) in enumerate(self._attributes(module)):
            exprs = [self._value(*self._attributes(member)[position][1:]) for member in cls.members]
            if len({one_line(expr) for expr in exprs}) > 1 or self._is_shared(exprs[0]):
                arguments.append(self._value(kind, value))
        return call(cls.name, arguments)

    def _parameter(self, value: Tensor) -> Expr:
        options = {} if value.requires_grad else {"requires_grad": "False"}
        return call("nn.Parameter", [self._tensor(value, False)], options)

    def _tensor(self, value: Tensor, exact: bool) -> Expr:
        dtype = {} if value.dtype == torch.float32 else {"dtype": str(value.dtype)}
        shape = [str(size) for size in value.shape] or ["()"]
        if not exact:
            return call("torch.zeros", shape, dtype)
        flat = value.detach().cpu().reshape(-1)
        if flat.numel() and bool((flat == flat[0]).all()):
            size = literal("()", [str(n) for n in value.shape]) if value.shape else "()"
            return call("torch.full", [size, _plain(flat[0].item())], dtype or {"dtype": "torch.float32"})
        if flat.numel() > LARGEST_CONSTANT:
            raise UnwritableError(f"it holds a constant of {flat.numel()} numbers")
        return call("torch.tensor", [_nested(value.detach().cpu().tolist())], dtype)

    def _assignment(self, key: str, kind: str, value: Any, expr: Expr) -> list[str]:
        if kind in ("buffer", "constant"):
            options: dict[str, Expr] = {} if kind == "buffer" else {"persistent": "False"}
            return lines("", call("self.register_buffer", [text(key), expr], options), 8)
        if _is_plain(key) and not hasattr(nn.Module, key):
            return lines(f"self.{key} = ", expr, 8)
        register = "self.add_module" if kind == "module" else "self.register_parameter"
        return lines("", call(register, [text(key), expr]), 8)

    def _method(self, name: str, method: Method) -> list[str]:
        names, inference, training = method
        out = [f"    def {name}(self{''.join(f', {one}' for one in names)}):"]
        if training is None:
            out += [
                "        if self.training:",
                '            raise RuntimeError("only written for inference; call eval()")',
            ]
            return out + _block(inference, 8)
        common = 0
        while common < min(len(inference), len(training)) and inference[common] == training[common]:
            common += 1
        if inference == training:
            return out + _block(inference, 8)
        out += _block(inference[:common], 8)
        out += ["        if self.training:", *_block(training[common:], 12)]
        return out + _block(inference[common:], 8)


def _block(statements: tuple[Statement, ...], indent: int) -> list[str]:
    out: list[str] = []
    context = ""
    for statement in statements:
        inner = indent
        if statement.context:
            inner += 4
            if statement.context != context:
                head = f"with {statement.context}:"
                out.append(" " * indent + head)
        context = statement.context
        written = lines(statement.prefix, statement.expr, inner)
        comment = f"  # {statement.shape}" if statement.shape else ""
        if len(written) == 1 and len(written[0]) + len(comment) <= 88:
            written[0] += comment
        out += written
    return out


def _plain(value: Any) -> Expr:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return literal("()", [_plain(item) for item in value])
    if isinstance(value, float) and repr(value) in ("inf", "-inf", "nan"):
        return f'float("{value}")'
    if isinstance(value, float):
        return repr(value).replace("e+", "e")
    return str(value) if isinstance(value, torch.dtype) else repr(value)


def _nested(value: Any) -> Expr:
    return literal("[]", [_nested(item) for item in value]) if isinstance(value, list) else _plain(value)


def native_modules(model: nn.Module) -> dict[int, Any]:
    """Returns torch's own modules in a model, by id, with their constructors' arguments."""
    found = {id(module): arguments_of(module) for module in model.modules()}
    return {key: arguments for key, arguments in found.items() if arguments is not None}


__all__ = ["Classes", "Ref", "native_modules"]
