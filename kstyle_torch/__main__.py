"""The command line of `python -m kstyle_torch`.

`run program.py` runs a program written for Keras, `port program.py` rewrites its imports, `convert a.keras b.safetensors`
and `summary m.keras` read models, and `info` prints versions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from kstyle_torch import __version__, config
from kstyle_torch.compat import alias, port
from kstyle_torch.models import Model, load_model
from kstyle_torch.saving.atomic import write_bytes

EXTRAS = {
    "plot": ("matplotlib", "pydot"),
    "tensorboard": ("tensorboard",),
    "onnx": ("onnx", "onnxscript"),
    "hub": ("huggingface_hub",),
    "images": ("PIL",),
}
REQUIRED = ("torch", "numpy", "h5py", "safetensors", "scikit-learn", "torchinfo", "tqdm")
WHOLE = (".keras", ".h5")
WEIGHTS = (".weights.h5", ".safetensors", ".pt", ".pth")
EXPORTED = (".pt2", ".onnx", ".py")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; errors of a program that `run` runs are the program's own.

    Args:
        arguments: Those of the command line if None.
    Returns: What the process exits with: 0, or 1 after an error.
    """
    given = _parser().parse_args(arguments)
    if given.run is _run:
        return _run(given)
    try:
        given.run(given)
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kstyle_torch", description="The Keras API as real PyTorch.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(run=lambda given: parser.print_help())
    commands = parser.add_subparsers(metavar="command")

    run = commands.add_parser("run", help="run a program written for Keras or tf.keras")
    run.add_argument("-m", dest="is_module", action="store_true", help="run a module, as python -m does")
    run.add_argument("program", help="a file, or with -m the name of a module")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own")
    run.set_defaults(run=_run)

    port_parser = commands.add_parser(
        "port", help="rewrite a program's imports of Keras, and list its calls of TensorFlow"
    )
    port_parser.add_argument("source", type=Path, help="a .py or .ipynb file")
    port_parser.add_argument("target", type=Path, nargs="?", help="where to write it (default: NAME_kstyle_torch.py)")
    port_parser.add_argument("--in-place", action="store_true", help="write it to the source itself")
    port_parser.add_argument("--force", action="store_true", help="replace the target if it is there")
    port_parser.set_defaults(run=_port)

    convert = commands.add_parser("convert", help="write a model's file in another format")
    convert.add_argument(
        "source", type=Path, help="a .keras or .h5 file with a whole model, or a save_pretrained folder"
    )
    convert.add_argument("target", type=Path, help=f"ends in {', '.join((*WHOLE, *WEIGHTS, *EXPORTED))}")
    convert.add_argument("--force", action="store_true", help="replace the target if it is there")
    convert.set_defaults(run=_convert)

    summary = commands.add_parser("summary", help="print a model's layers")
    summary.add_argument("source", type=Path, help="as for convert")
    for command in (convert, summary):
        command.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="import a module that registers classes of the model, as @register_keras_serializable() does",
        )
    summary.add_argument("--expand-nested", action="store_true", help="list the layers of nested models")
    summary.add_argument("--show-trainable", action="store_true", help="say which layers are trained")
    summary.add_argument("--line-length", type=int, help="width of the table")
    summary.set_defaults(run=_summary)

    info = commands.add_parser("info", help="print versions, devices and extras")
    info.set_defaults(run=_info)
    return parser


def _run(given: argparse.Namespace) -> int:
    """Runs a program as Python would, with `keras` and `tensorflow.keras` meaning this package."""
    if not given.is_module and not os.path.exists(given.program):
        print(f"error: There is no program {given.program!r}.", file=sys.stderr)
        return 1
    alias.install()
    sys.argv = [given.program, *given.arguments]
    if given.is_module:
        runpy.run_module(given.program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(given.program))
        runpy.run_path(given.program, run_name="__main__")
    return 0


def _port(given: argparse.Namespace) -> None:
    source: Path = given.source
    target = source if given.in_place else given.target or source.with_stem(f"{source.stem}_{alias.PACKAGE}")
    if given.in_place and given.target is not None:
        raise ValueError("port takes a target or --in-place, not both.")
    if target.exists() and not given.in_place and not given.force:
        raise FileExistsError(f"{str(target)!r} exists already; --force replaces it.")
    ported = port.port_file(source)
    write_bytes(target, ported.content)
    print(f"{source} -> {target}: {ported.changes} import(s) and name(s) changed")
    for finding in ported.left:
        print(f"{source}:{finding}")


def _convert(given: argparse.Namespace) -> None:
    write = _writer(given.target)
    if given.target.exists() and not given.force:
        raise FileExistsError(f"{str(given.target)!r} exists already; --force replaces it.")
    if not given.target.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(given.target.parent)!r} does not exist.")
    model = _load(given.source, given.modules)
    write(model, given.target)
    print(f"{given.source} -> {given.target} ({given.target.stat().st_size:,} bytes)")


def _writer(target: Path) -> Callable[[Any, Path], None]:
    """Returns the writer for a file name."""
    if target.name.endswith(WEIGHTS):
        return lambda model, path: model.save_weights(path)
    if target.suffix in WHOLE:
        return lambda model, path: model.save(path)
    if target.suffix in EXPORTED:
        return lambda model, path: model.export(path)
    raise ValueError(f"{str(target)!r}: the target must end in {', '.join((*WHOLE, *WEIGHTS, *EXPORTED))}.")


def _load(source: Path, modules: Sequence[str]) -> Any:
    """Returns the model in a file or folder, after importing the modules that register its classes."""
    if (source / "model.safetensors").is_file():
        return Model.from_pretrained(source)
    if source.name.endswith(WEIGHTS):
        raise ValueError(
            f"{str(source)!r} holds only weights; the source must be a whole model, such as a .keras file."
        )
    sys.path.insert(0, os.getcwd())  # as for `python -m`
    for module in modules:
        importlib.import_module(module)
    try:
        return load_model(source)
    except ValueError as error:
        if "custom_objects=" not in str(error):
            raise
        raise ValueError(f"{error} Here, --import MODULE imports the module that does.") from error


def _summary(given: argparse.Namespace) -> None:
    model = _load(given.source, given.modules)
    model.summary(line_length=given.line_length, expand_nested=given.expand_nested, show_trainable=given.show_trainable)


def _info(given: argparse.Namespace) -> None:  # noqa: ARG001
    print(f"kstyle_torch {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in REQUIRED:
        print(f"  {package:<15}{_version(package)}")
    print(f"device: {config.device()}, {torch.get_num_threads()} thread(s)")
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        state = "installed" if not missing else f"not installed: pip install 'kstyle-torch[{extra}]'"
        print(f"extra {extra:<13}{state}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
