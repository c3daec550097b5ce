"""The shape of the package: imports point down, at the top of the file; files stay small; what is public is explained."""

import ast
import functools
import importlib
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

import kstyle_torch
from kstyle_torch._torch import NAMES

ROOT = Path(kstyle_torch.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 600

# From the ground up: a package imports from those listed before it, and from itself.
PACKAGES = (
    "_nests _torch errors compat namespaces arrays dtype_policies tracebacks config messages registry tree draws splitmix64 "
    "ownership budget serialization legacy initializers activations regularizers constraints scopes variables mode "
    "dense_product codegen symbolic ops random data layer layers losses metrics optimizers mixed_precision saving "
    "callbacks distribution graph_passes training utils preprocessing export models backend distillation visualization "
    "wrappers datasets applications compat.internals __main__"
).split()

# What may be imported inside a function, since importing it takes long or it may not be there.
LATE_IMPORTS = {
    *(
        "IPython",
        "PIL",
        "h5py",
        "huggingface_hub",
        "matplotlib",
        "ml_dtypes",
        "pandas",
        "pydot",
        "safetensors",
        "scipy",
        "sklearn",
        "tensorboard",
        "torchinfo",
    )
}
LATE_TORCH_IMPORTS = {
    *("torch.distributed", "torch.export", "torch.fx.experimental.proxy_tensor"),
    *("torch.fx.experimental.symbolic_shapes", "torch.utils.tensorboard"),
}
# Packages of ours that wait themselves, and what they may import at the top.
LATE_PACKAGES = {"wrappers": {"scipy", "sklearn"}}
# Of the package itself: what few programs need, and what it alone imports.
LATE_OWN_IMPORTS = {
    *("kstyle_torch.export.formats", "kstyle_torch.utils.summary", "kstyle_torch.utils.summary_html"),
    *("kstyle_torch.saving.hub", "kstyle_torch.saving.legacy_h5", "kstyle_torch.saving.shards"),
    *("kstyle_torch.training.compiled.engine", "kstyle_torch.training.compiled.epoch_graph"),
    "kstyle_torch.training.compiled.forward_graph",
}


def dotted(path):
    """`kstyle_torch.layer.base` for its file; for an `__init__.py` the package."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


@functools.cache
def package_of(module):
    """The entry of PACKAGES that a module belongs to: the longest path of it that is one, else its first part."""
    parts = module.split(".")[1:]
    paths = [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    return next((path for path in paths if path in PACKAGES), paths[-1]) if parts else None


@functools.cache
def syntax(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(node, module):
    """The modules that an import statement names; `from package import module` counts as the module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])])
    submodules = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES]
    return submodules if len(submodules) == len(node.names) else [base, *submodules]


def imports_of(module):
    nodes = ast.walk(syntax(MODULES[module]))
    return [name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for name in imported(node, module)]


def own_imports_of(module):
    return [name for name in imports_of(module) if name.split(".")[0] == "kstyle_torch"]


def upward_imports(module):
    """What a module imports that does not exist, has no place in PACKAGES, or is above it."""
    package = package_of(module)
    if package is None:
        return  # kstyle_torch/__init__.py is on top of everything
    if package not in PACKAGES:
        yield f"{package} has no place in PACKAGES yet"
        return
    for name in own_imports_of(module):
        other = package_of(name)
        if name not in MODULES:
            yield f"{module}: {name} does not exist"
        elif other is None and package != "__main__":  # __main__ is on top of the package, too
            yield f"{module} imports the whole package"
        elif other is not None and (other not in PACKAGES or PACKAGES.index(other) > PACKAGES.index(package)):
            yield f"{module} imports {name}, which is above it"


def test_imports_point_down():
    assert [problem for module in MODULES for problem in upward_imports(module)] == []


@functools.cache
def imports_for_types(module):
    """The import statements that only type checkers run."""
    blocks = [node for node in ast.walk(syntax(MODULES[module])) if isinstance(node, ast.If)]
    only_types = [block for block in blocks if ast.unparse(block.test) == "TYPE_CHECKING"]
    return {id(node) for block in only_types for statement in block.body for node in ast.walk(statement)}


def test_imports_have_no_cycle():
    """Two classes may name each other as types: what is under `TYPE_CHECKING` is not imported."""
    graph = {
        module: {
            name
            for node in ast.walk(syntax(MODULES[module]))
            if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in imports_for_types(module)
            for name in imported(node, module)
            if name in MODULES
        }
        for module in MODULES
    }
    assert len([*TopologicalSorter(graph).static_order()]) == len(MODULES)  # raises CycleError, with the cycle


def is_late(name):
    return name.split(".")[0] in LATE_IMPORTS or name in LATE_TORCH_IMPORTS | LATE_OWN_IMPORTS


def imports_within_functions(module):
    top = {id(node) for node in _top_level(syntax(MODULES[module]).body)}
    for node in ast.walk(syntax(MODULES[module])):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in top:
            yield from ((node.lineno, name) for name in imported(node, module))


def test_imports_are_at_the_top():
    within = [(module, *found) for module in MODULES for found in imports_within_functions(module)]
    assert [found for found in within if not is_late(found[-1])] == []
    assert within, "none at all: are they found?"


def _top_level(statements):
    for node in statements:
        if isinstance(node, (ast.If, ast.Try)):
            yield from _top_level([*node.body, *node.orelse, *getattr(node, "finalbody", ())])
            yield from (inner for handler in getattr(node, "handlers", ()) for inner in _top_level(handler.body))
        yield node


def imports_at_the_top(module):
    top = _top_level(syntax(MODULES[module]).body)
    return [name for node in top if isinstance(node, (ast.Import, ast.ImportFrom)) for name in imported(node, module)]


def test_heavy_packages_wait_until_they_are_used():
    heavy = [(m, name) for m in MODULES for name in imports_at_the_top(m) if is_late(name)]
    heavy = [(m, name) for m, name in heavy if name.split(".")[0] not in LATE_PACKAGES.get(package_of(m), ())]
    assert [found for found in heavy if found[1] not in LATE_OWN_IMPORTS] == []  # of ours, test_import.py looks at them


TESTS = ROOT.parent / "tests"
FULL_ONLY = {"training/test_freed_memory.py"}  # it looks at the memory of a process of its own


def quick_tests(path):
    """The tests of a file that are not marked full as a whole; a parametrised one may leave some of its cases out."""
    tests = [node for node in syntax(path).body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [node.name for node in tests if "full" not in [getattr(mark, "attr", "") for mark in node.decorator_list]]


def named_in(path):
    """The modules that a test file imports, or whose classes and functions it takes from the package."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            taken = [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ks":
            taken = [("kstyle_torch", node.attr)]
        else:
            continue
        for module, name in taken:
            yield from (module, f"{module}.{name}")
            yield getattr(getattr(importlib.import_module(module), name, None), "__module__", None)


def in_place_of(path):
    """The modules and packages that a test file stands for by its place in the tree of tests."""
    parts = path.relative_to(TESTS).with_suffix("").parts
    parts = [*parts[:-1], parts[-1].removeprefix("test_")]
    return {".".join(["kstyle_torch", *parts[:depth]]) for depth in range(1, len(parts) + 1)}


def test_every_module_has_a_quick_test():
    """`scripts/test.py --quick` leaves no test file out, and no module: each is named in one, or stands in its place."""
    tests = [*TESTS.rglob("test_*.py")]
    quick = [path for path in tests if quick_tests(path)]
    assert {path.relative_to(TESTS).as_posix() for path in tests if path not in quick} == FULL_ONLY
    covered = {name for path in quick for name in (*named_in(path), *in_place_of(path))}
    packages = {module: [module.rsplit(".", depth)[0] for depth in range(module.count("."))] for module in MODULES}
    assert [module for module, around in packages.items() if package_of(module) and not covered & {*around}] == []


def test_keras_is_never_imported():
    others = {"keras", "tensorflow", "jax"}
    assert [(module, name) for module in MODULES for name in imports_of(module) if name.split(".")[0] in others] == []


def test_no_clock_decides_how_steps_are_run():
    assert [module for module in MODULES if package_of(module) == "training" and "time" in imports_of(module)] == []


def callers_of(function):
    """The packages in which a builtin function is called."""
    calls = [(m, node) for m in MODULES for node in ast.walk(syntax(MODULES[m])) if isinstance(node, ast.Call)]
    return {
        package_of(module) for module, node in calls if isinstance(node.func, ast.Name) and node.func.id == function
    }


def test_code_is_generated_in_one_place():
    assert callers_of("exec") == {"codegen", "export"}  # export runs what it has written for people, to check it
    assert callers_of("eval") == set()


def is_private(name):
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


# Of tensors, storages, operators and loaders; those that torch's modules have in common with ours may be used anywhere.
PRIVATE_ATTRIBUTES = set("_schema _overloadname _shutdown_workers _get_file_writer".split())
PRIVATE_ATTRIBUTES |= {*(part for path in NAMES for part in path.split(".") if is_private(part))}
PRIVATE_ATTRIBUTES |= {*filter(is_private, dir(torch.Tensor))}
PRIVATE_ATTRIBUTES -= {"_backward_hooks", "_indices"}  # of modules, and of a layer of ours
PRIVATE_PATH = re.compile(r"\btorch(\.\w+)*\._[a-zA-Z]")


def torch_aliases(tree):
    """Returns torch's modules and objects by the names under which a file imports them."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.asname or each.name.split(".")[0]: each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Name, ast.Attribute)):
            head, *rest = ast.unparse(node.value).split(".")
            if head in found:
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                found |= {name: ".".join([found[head], *rest]) for name in names}
    return {alias: name for alias, name in found.items() if name.split(".")[0] == "torch"}


def private_names_of_torch(tree):
    """Yields the line and text of each use of a private name of torch: imports, attributes and strings."""
    aliases = torch_aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            home = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [home + each.name for each in node.names]
            yield from ((node.lineno, name) for name in names if name.startswith("torch.") and is_private(name))
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if node.attr in PRIVATE_ATTRIBUTES or (text.split(".")[0] in aliases and is_private(node.attr)):
                yield node.lineno, text
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            text, name = ast.unparse(node.args[0]), node.args[1]
            if text.split(".")[0] in aliases and isinstance(name, ast.Constant) and is_private(name.value):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in PRIVATE_ATTRIBUTES or PRIVATE_PATH.search(node.value):
                yield node.lineno, node.value


def test_private_names_of_torch_are_in_one_place():
    trees = {module: syntax(path) for module, path in MODULES.items() if package_of(module) != "_torch"}
    assert [(module, *found) for module, tree in trees.items() for found in private_names_of_torch(tree)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import torch._dynamo as compiler",
        "from torch._dynamo import exc",
        "from torch.nn.modules.module import _global_forward_hooks",
        "import torch; torch._foreach_mul([], 1)",
        "import torch; torch.compiler._is_compiling_flag",
        "import torch.nn.functional as F; F._verify_batch_size",
        "from torch import nn; nn.modules.batchnorm._NormBase",
        "getattr(torch, '_foreach_mul_')",
        "import torch; getattr(torch, '_VF')",
        "import torch; functional = torch.nn; functional._reduction",
        "from torch import _C",
        "import torch._C as c",
        "tensor._values()",
        "importlib.import_module('torch.utils._pytree')",
        "weight._version",
    ],
)
def test_private_names_of_torch_are_found(text):
    assert [*private_names_of_torch(ast.parse(text))]


def test_private_names_of_torch_stand_once():
    paths = [path for path in FILES if package_of(dotted(path)) == "_torch"]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    assert {path for path in NAMES if len(re.findall(rf'\(\s*"{path}"', text)) != 1} == set()


def test_files_are_small():
    packages = ("kstyle_torch", "tests", "examples", "benchmarks", "scripts")
    files = [path for package in packages for path in (ROOT.parent / package).rglob("*.py")]
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


PAST_ATTRIBUTES = re.compile(r"__dict__(\[[\"']|\.(update|get|pop|setdefault)\()")
MAX_PAST_ATTRIBUTES = 10


def past_attributes(text):
    """The lines that reach past attributes into `__dict__` by name."""
    return [line for line in text.splitlines() if PAST_ATTRIBUTES.search(line)]


def test_few_lines_reach_past_attributes_and_each_says_why():
    found = {path: past_attributes(path.read_text(encoding="utf-8")) for path in FILES}
    lines = [(str(path.relative_to(ROOT)), line.strip()) for path, lines in found.items() for line in lines]
    assert len(lines) <= MAX_PAST_ATTRIBUTES, lines
    assert [line for line in lines if "  # " not in line[1]] == []
    assert len(past_attributes("self.__dict__['a'] = 1\nx.__dict__.get(name)\nx.__dict__.items()")) == 2


def test_modules_say_what_they_are():
    filled = [module for module, path in MODULES.items() if path.read_text(encoding="utf-8").strip()]
    assert [module for module in filled if not ast.get_docstring(syntax(MODULES[module]))] == []


def public_namespaces():
    modules = [importlib.import_module(module) for module in MODULES]
    return [module for module in modules if hasattr(module, "__all__")]


def public_objects():
    """Every class and function of ours that a public namespace exports, once."""
    found = {}
    for namespace in public_namespaces():
        for name in namespace.__all__:
            value = getattr(namespace, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("kstyle_torch"):
                found[value] = f"{namespace.__name__}.{name}"
    return found


def test_what_is_exported_exists_once():
    for namespace in public_namespaces():
        assert len({*namespace.__all__}) == len(namespace.__all__), namespace.__name__
        assert [name for name in namespace.__all__ if not hasattr(namespace, name)] == [], namespace.__name__


def own_docstring(value):
    return vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__


def test_what_is_public_has_a_docstring():
    assert [name for value, name in public_objects().items() if not own_docstring(value)] == []


def test_layers_and_optimizers_show_an_example():
    bases = (kstyle_torch.Layer, kstyle_torch.Optimizer)
    shown = {
        name: any(">>>" in (own_docstring(base) or "") for base in value.__mro__[:2])
        for value, name in public_objects().items()
        if inspect.isclass(value) and issubclass(value, bases)
    }
    assert len(shown) > 150
    assert [name for name, has_example in shown.items() if not has_example] == []


NOT_NOUNS = set("What How Where Who That Which Whether When Why If Of In".split())
NOT_VERBS = NOT_NOUNS | set("This Always As Is Its Yes Has Those Rows Names Values Numbers Keras Tensors Bytes".split())
NOT_VERBS |= {"Attributes"}
# "Copies of a model" opens with a noun, "Copies a model" with a verb.
NOUN_THEN = set("of for from in that and with by to at between".split())


@functools.cache
def verbs():
    """The words with which docstrings of functions open."""
    nodes = [node for path in MODULES.values() for node in ast.walk(syntax(path)) if isinstance(node, ast.FunctionDef)]
    texts = [ast.get_docstring(node) for node in nodes]
    words = {text.split()[0] for text in texts if text}
    return {word for word in words if re.fullmatch("[A-Z][a-z]+s", word) and word not in NOT_VERBS}


def opens_with_verb(text):
    """Returns whether a verb that functions open with comes first, and not a plural that is spelled like it."""
    return len(text) > 1 and text[0] in verbs() and text[1].strip(",.:;") not in NOUN_THEN


def bad_openings(tree):
    """The docstrings that do not open with a verb in the third person (functions) or with a noun (classes, modules)."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if not isinstance(node, (*functions, ast.ClassDef, ast.Module)):
            continue
        text = (ast.get_docstring(node) or "").split()
        word = text[0].strip(",.:;`'\"") if text else ""
        wraps = any("property" in ast.unparse(each) for each in getattr(node, "decorator_list", ()))
        if isinstance(node, functions) and not wraps:
            is_bad = not re.fullmatch("[A-Z][a-z]+s", word) or word in NOT_VERBS
        else:
            is_bad = word in NOT_NOUNS or (not wraps and opens_with_verb(text))
        if text and is_bad:
            yield getattr(node, "lineno", 1), " ".join(text[:6])


def test_docstrings_open_with_a_verb_or_a_noun():
    trees = {module: syntax(path) for module, path in MODULES.items()}
    assert [(module, *found) for module, tree in trees.items() for found in bad_openings(tree)] == []


@pytest.mark.parametrize(
    ("text", "is_bad"),
    [
        *((f"class A:\n    '{word} it is.'", True) for word in "What How Where Who That Which Returns".split()),
        *((f"def f():\n    '{word} it is.'", True) for word in "What How Where Who That Which The Numbers".split()),
        ("'Where it is.'", True),
        ("async def f():\n    'The number.'", True),
        ("def f():\n    'Return the number.'", True),
        ("def f():\n    'Returns the number.'", False),
        ("class A:\n    'Returns the number.'", True),
        ("class A:\n    'Copies of a model.'", False),
        ("class A:\n    'Copies a model.'", True),
        ("class A:\n    @property\n    def size(self):\n        'The size.'", False),
    ],
)
def test_bad_openings_are_found(text, is_bad):
    assert bool([*bad_openings(ast.parse(text))]) is is_bad


def test_public_methods_have_a_docstring_or_inherit_one():
    found = [
        f"{name}.{attribute}"
        for cls, name in public_objects().items()
        if inspect.isclass(cls)
        for attribute, value in vars(cls).items()
        if not attribute.startswith("_") and inspect.isfunction(value) and not inspect.getdoc(getattr(cls, attribute))
    ]
    assert found == []
