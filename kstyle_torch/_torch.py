"""Every private name of torch that the package uses, each once and with a public fallback.

torch may change or drop its private names in any release. Code elsewhere imports them from here; a test finds what does
not. `NAMES` holds what each is and its fallback, and tests compare the two. A fallback is public code that gives the same
numbers. Where torch has no such code, the fast path is off: steps are not recorded or compiled, optimizers use no fused
kernel, and where the user has asked for it, a warning says so.

The environment variable `KSTYLE_TORCH_PUBLIC_ONLY`, read once when the package is imported, hides names: `1` all of
them, `torch._foreach_add_,torch._C._nn` two of them. It is meant for tests, and to find out whether a private name is at
fault after an upgrade of torch.

Attributes of modules such as `_parameters` and `_buffers`, which subclasses outside torch use widely, are left where
they are.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VARIABLE = "KSTYLE_TORCH_PUBLIC_ONLY"
_given = {part.strip() for part in os.environ.get(VARIABLE, "").split(",")} - {"", "0"}


class Private:
    """A private name of torch.

    Args:
        find: Returns torch's object; raises AttributeError or ImportError where there is none.
        fallback: See `private`.
        get: Returns what the package uses.
        needed_for: See `private`.
    """

    def __init__(self, find: Callable[[], Any], fallback: Any, get: Callable[[], Any], needed_for: str | None):
        self.find, self.fallback, self.get, self.needed_for = find, fallback, get, needed_for


NAMES: dict[str, Private] = {}  # by dotted path; filled while the package is imported


def private(path: str, fallback: Any, needed_for: str | None = None) -> Any:
    """Returns torch's object of a private name, or the fallback.

    Args:
        path: Such as `"torch._C._nn"`; its module is one that `import torch` brings.
        fallback: Public code that gives the same, or what switches a fast path off.
        needed_for: Name of that fast path, for `why_missing`.
    """

    def find() -> Any:
        found: Any = torch
        for part in path.split(".")[1:]:
            found = getattr(found, part)
        return found

    got = _got(path, find, fallback)
    NAMES[path] = Private(find, fallback, lambda: got, needed_for)
    return got


def late(path: str, fallback: Any, needed_for: str | None = None) -> Callable[[], Any]:
    """Returns a function that does what `private` does at each call, for modules that take long to import."""
    home, _, name = path.rpartition(".")

    def find() -> Any:
        return getattr(importlib.import_module(home), name)

    def get() -> Any:
        return _got(path, find, fallback)

    get.__doc__ = f"Returns `{path}`, or its fallback."
    NAMES[path] = Private(find, fallback, get, needed_for)
    return get


def _got(path: str, find: Callable[[], Any], fallback: Any) -> Any:
    if is_hidden(path):
        return fallback
    try:
        return find()
    except (AttributeError, ImportError):
        return fallback


def is_hidden(path: str) -> bool:
    """Returns whether the environment asks for the fallback of a name."""
    return "1" in _given or path in _given


@functools.cache
def why_missing(*needed_for: str) -> str | None:
    """Returns why something that needs private names is not available; None if all are there. Late ones are imported."""
    needed = {path: name for path, name in NAMES.items() if name.needed_for in needed_for}
    missing = [path for path, name in needed.items() if name.get() is name.fallback]
    if not missing:
        return None
    hidden = [path for path in missing if is_hidden(path)]
    if hidden:
        return f"{VARIABLE} hides {', '.join(hidden)}, which it needs"
    return f"it needs {', '.join(missing)}, which torch {torch.__version__} does not have; please report this"


def check_given() -> None:
    """Checks that the environment variable holds names that there are.

    Raises: ValueError: if it does not.
    """
    unknown = sorted(_given - {"1"} - NAMES.keys())
    if unknown:
        raise ValueError(
            f"{VARIABLE} must be 1, or names in kstyle_torch._torch.NAMES with commas between them; got {unknown}."
        )


# ---------------------------------------------------------------------------------------------------- lists of tensors

# The fallback of a foreach function is a loop over the tensors, which is also what torch does on a CPU; it costs a call in
# Python for each tensor. The one-kernel optimizers have none: optimizers take their foreach path.


def _each(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Returns a function of lists that calls `function` for each tensor; what is not a list goes to every call."""

    def foreach(tensors: Any, *args: Any, **kwargs: Any) -> list[Any]:
        columns = [arg if isinstance(arg, (list, tuple)) else [arg] * len(tensors) for arg in args]
        if any(len(column) != len(tensors) for column in columns):
            raise RuntimeError(f"Lists of tensors must have one length; got {[len(tensors), *map(len, columns)]}.")
        return [function(*row, **kwargs) for row in zip(tensors, *columns)]

    return foreach


def _addcmul_(tensor: Tensor, one: Tensor, other: Tensor, value: Any = 1) -> Tensor:
    return tensor.addcmul_(one, other, value=value)


def _addcdiv_(tensor: Tensor, one: Tensor, other: Tensor, value: Any = 1) -> Tensor:
    return tensor.addcdiv_(one, other, value=value)


def _maximum_(tensor: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(tensor, other, out=tensor)


foreach_abs = private("torch._foreach_abs", _each(torch.abs))
foreach_add = private("torch._foreach_add", _each(torch.add))
foreach_add_ = private("torch._foreach_add_", _each(Tensor.add_))
foreach_addcdiv_ = private("torch._foreach_addcdiv_", _each(_addcdiv_))
foreach_addcmul_ = private("torch._foreach_addcmul_", _each(_addcmul_))
foreach_clamp_max = private("torch._foreach_clamp_max", _each(torch.clamp_max))
foreach_clamp_max_ = private("torch._foreach_clamp_max_", _each(torch.clamp_max_))
foreach_clamp_min = private("torch._foreach_clamp_min", _each(torch.clamp_min))
foreach_clamp_min_ = private("torch._foreach_clamp_min_", _each(torch.clamp_min_))
foreach_copy_ = private("torch._foreach_copy_", _each(Tensor.copy_))
foreach_div = private("torch._foreach_div", _each(torch.div))
foreach_div_ = private("torch._foreach_div_", _each(Tensor.div_))
foreach_lerp_ = private("torch._foreach_lerp_", _each(Tensor.lerp_))
foreach_maximum_ = private("torch._foreach_maximum_", _each(_maximum_))
foreach_mul = private("torch._foreach_mul", _each(torch.mul))
foreach_mul_ = private("torch._foreach_mul_", _each(Tensor.mul_))
foreach_norm = private("torch._foreach_norm", _each(torch.linalg.vector_norm))
foreach_pow = private("torch._foreach_pow", _each(torch.pow))
foreach_sign_ = private("torch._foreach_sign_", _each(Tensor.sign_))
foreach_sqrt = private("torch._foreach_sqrt", _each(torch.sqrt))
foreach_sqrt_ = private("torch._foreach_sqrt_", _each(torch.sqrt_))
foreach_sub_ = private("torch._foreach_sub_", _each(Tensor.sub_))
foreach_zero_ = private("torch._foreach_zero_", _each(torch.zero_))


def _absent(*args: Any, **kwargs: Any) -> None:
    raise NotImplementedError("This torch has no one-kernel optimizers; has_fused_adam() and has_fused_sgd() tell.")


fused_adamw_ = private("torch._fused_adamw_", _absent)
fused_sgd_ = private("torch._fused_sgd_", _absent)

# ------------------------------------------------------------------------------------------------------------- kernels

REDUCTIONS = ("none", "mean", "sum")  # as kernels count them


def _binary_cross_entropy(p: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1) -> Tensor:
    return F.binary_cross_entropy(p, target, weight, reduction=REDUCTIONS[reduction])


binary_cross_entropy = private("torch._C._nn.binary_cross_entropy", _binary_cross_entropy)

# ------------------------------------------------------------------------------------------------------ random numbers


@contextlib.contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Lets functions that take no generator draw from one: torch's own has its state meanwhile."""
    if generator is None:
        yield
        return
    device = generator.device
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        module: Any = torch.random if device.type == "cpu" else torch.get_device_module(device)
        where = (device,) * len(devices)
        module.set_rng_state(generator.get_state(), *where)
        try:
            yield
        finally:
            generator.set_state(module.get_rng_state(*where))


def _standard_gamma(alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    with _drawing_from(generator):
        return torch.distributions.Gamma(alpha, torch.ones_like(alpha), validate_args=False).sample()


def _sample_dirichlet(alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    with _drawing_from(generator):
        return torch.distributions.Dirichlet(alpha, validate_args=False).sample()


standard_gamma = private("torch._standard_gamma", _standard_gamma)
sample_dirichlet = private("torch._sample_dirichlet", _sample_dirichlet)

# ------------------------------------------------------------------------------------------------------------- autograd


def _run_backward(
    tensors: tuple[Tensor, ...],
    gradients: tuple[Tensor, ...],
    keep_graph: bool,
    create_graph: bool,
    inputs: tuple[Tensor, ...],
    allow_unreachable: bool,
    accumulate_grad: bool,
) -> Any:
    if accumulate_grad:
        return torch.autograd.backward(tensors, gradients, retain_graph=keep_graph, create_graph=create_graph)
    return torch.autograd.grad(
        tensors, inputs, gradients, retain_graph=keep_graph, create_graph=create_graph, allow_unused=allow_unreachable
    )


run_backward = private("torch.autograd.graph._engine_run_backward", _run_backward)


def _set_grad_enabled(mode: bool) -> None:
    torch.set_grad_enabled(mode)


set_grad_enabled = private("torch._C._set_grad_enabled", _set_grad_enabled)
BelowAutograd: Any = private("torch._C._AutoDispatchBelowAutograd", torch.no_grad)

# -------------------------------------------------------------------------------------------------------------- modules

_batch_norms = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d),
)
_instance_norms = (
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LazyInstanceNorm1d, nn.LazyInstanceNorm2d, nn.LazyInstanceNorm3d),
)
BATCH_NORM: Any = private("torch.nn.modules.batchnorm._BatchNorm", _batch_norms)  # for isinstance
BATCH_OR_INSTANCE_NORM: Any = private("torch.nn.modules.batchnorm._NormBase", (*_batch_norms, *_instance_norms))

# ---------------------------------------------------------------------------------------------- operators in their call


class _Nowhere:
    """No bindings: recorded steps call the operators themselves, which read their arguments more slowly."""


TENSOR_FUNCTIONS: Any = private("torch._C._VariableFunctions", _Nowhere)
TENSOR_METHODS: Any = private("torch._C.TensorBase", _Nowhere)
NN_FUNCTIONS: Any = private("torch._C._nn", _Nowhere)

# oneDNN's `x @ weight.T + bias`; it has no public name, and no gradient. None: torch's own product is taken.
onednn_linear: Any = private("torch.ops.mkldnn._linear_pointwise", None)


def schema_of(operator: Any) -> Any:
    """Returns the schema of an operator: its name and arguments."""
    return operator._schema


def plain_operator(operator: Any) -> Callable[..., Any]:
    """Returns an operator without the method in Python around it."""
    return getattr(operator, "_op", operator)


# ------------------------------------------------------------------------------------------------- settings of backends

KERNEL_SETTINGS: tuple[Callable[[], bool], ...] = (  # without the call in Python of the public functions
    private("torch._C._get_mkldnn_enabled", lambda: torch.backends.mkldnn.enabled),
    private("torch._C._get_cudnn_enabled", lambda: torch.backends.cudnn.enabled),
    private("torch._C._get_flash_sdp_enabled", torch.backends.cuda.flash_sdp_enabled),
    private("torch._C._get_mem_efficient_sdp_enabled", torch.backends.cuda.mem_efficient_sdp_enabled),
    private("torch._C._get_math_sdp_enabled", torch.backends.cuda.math_sdp_enabled),
)

# ------------------------------------------------------------------------------------------------------ modes and hooks


# A fallback that cannot tell assumes that something observes the calls: then the plain path runs.


def _assume_one() -> int:
    return 1


num_dispatch_modes: Callable[[], int] = private("torch._C._len_torch_dispatch_stack", _assume_one, "recording")
has_global_hook: Callable[[], Any] = private("torch.nn.modules.module._has_any_global_hook", _assume_one, "recording")
dispatch_modes: Callable[[], list[Any]] = private(
    "torch.utils._python_dispatch._get_current_dispatch_mode_stack", lambda: [None]
)
functional_transform: Callable[[], Any] = private("torch._C._functorch.peek_interpreter_stack", _assume_one)


def _assume_a_pair(ignore_is_tracing: bool) -> Any:  # noqa: ARG001
    return ()


# the hooks of `torch.autograd.graph.saved_tensors_hooks` that are in force; None if there are none
saved_tensors_hooks: Callable[[bool], Any] = private(
    "torch._C._autograd._top_saved_tensors_default_hooks", _assume_a_pair, "recording"
)


class _NoDispatchMode:
    """Placeholder for torch's dispatch mode, which code that needs it asks for first."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError("This torch has no TorchDispatchMode; why_missing() tells.")


TorchDispatchMode: Any = private("torch.utils._python_dispatch.TorchDispatchMode", _NoDispatchMode, "recording")


class LightDispatchMode(TorchDispatchMode):
    """Dispatch mode for calls none of which is compiled: entering it does not import the compiler, which takes 1.2 s."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def _fake_mode_by_example() -> Any:
    made = torch.empty(0)
    return made if type(made).__name__ == "FakeTensor" else None


_mode_of = private("torch._C._get_dispatch_mode", None)
_fake = private("torch._C._TorchDispatchModeKey", None)
# returns something that is not None while torch makes fake tensors, without making one
fake_mode: Callable[[], Any] = (
    _fake_mode_by_example if _mode_of is None or _fake is None else functools.partial(_mode_of, _fake.FAKE)
)

# ------------------------------------------------------------------------------------------------------------- tensors


def _new_version(tensor: Tensor) -> Any:  # noqa: ARG001
    return object()  # differs from every other


def _assume_so(tensor: Tensor) -> bool:  # noqa: ARG001
    return True


version_of: Callable[[Tensor], Any] = private("torch.Tensor._version.__get__", _new_version, "recording")
is_view: Callable[[Tensor], bool] = private("torch.Tensor._is_view", _assume_so)


# address of the generator that a Python object stands for; several objects may stand for one generator, and the fallback
# takes them for different ones
generator_address: Callable[[torch.Generator], int] = private("torch.Generator._cdata.__get__", id)
# a number of a storage, also of one without data; torch keeps one object for each
storage_address: Callable[[Any], int] = private("torch.UntypedStorage._cdata.__get__", id)
# how many hold a storage, by its address; without it, memory is not used again
holders_of: Callable[[int], int] | None = private("torch._C._storage_Use_Count", None)


gradient_hooks: Callable[[Tensor], Any] = private("torch.Tensor._backward_hooks.__get__", _assume_so, "recording")
after_hooks: Callable[[Tensor], Any] = private(
    "torch.Tensor._post_accumulate_grad_hooks.__get__", _assume_so, "recording"
)


def stop_workers(batches: Any) -> None:
    """Ends the processes of a DataLoader's iterator, which the garbage collector would do later."""
    stop = getattr(batches, "_shutdown_workers", None)
    if stop is not None:
        stop()


COPY_CHECK = "_has_compatible_shallow_copy_type"  # name of a function that modules call while they are moved

# ----------------------------------------------------------------------------------------------- compiler and exporter

# They take seconds to import, so each is a function that returns the object.

# Torch's wrappers for compilation and export, by the start of their modules' names: they take a module for a moment.
WRAPPERS = ("torch._", "torch.export", "torch.fx", "torch.jit", "torch.onnx", "torch.ao")
DYNAMO = "torch._dynamo"
COMPILER = (DYNAMO, "torch._inductor")  # what raises before any compiled code has run
ONNX_LOGGER = "torch.onnx._internal.exporter"

# Within it, torch.compiler.is_compiling() is true. Without it nothing is compiled, and layers draw as they do otherwise.
_session: Callable[[], Any] = private("torch.compiler._compile_session_context", contextlib.nullcontext, "compiling")


class _Here(threading.local):
    compiling = False


_here = _Here()


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Makes layers of this thread do what they do in compiled code."""
    before, _here.compiling = _here.compiling, True
    try:
        with _session():
            yield
    finally:
        _here.compiling = before


def is_compiling() -> bool:
    """Returns whether this thread traces or compiles; torch's own flag is one for all threads."""
    return torch.compiler.is_compiling() and _is_here()


def is_exporting() -> bool:
    """Returns whether this thread traces for torch.export; torch's own flag is one for all threads."""
    return torch.compiler.is_exporting() and _is_here()


def _is_here() -> bool:
    """Returns whether what torch's flags say may hold for this thread: all tracing is done in dispatch modes."""
    return torch.compiler.is_dynamo_compiling() or _here.compiling or num_dispatch_modes() > 0


def _leave(tensor: Any, guard: bool = False) -> None:
    """Does nothing: CUDA graphs then copy the tensor, which is slower."""


load_static_address_marker = late("torch._dynamo.mark_static_address", _leave)
load_inductor_patch = late("torch._inductor.config.patch", None, "compiling")
load_while_loop = late("torch._higher_order_ops.while_loop.while_loop", None, "compiled epochs")
load_scan = late("torch._higher_order_ops.scan.scan", None)
load_python_dispatcher = late("torch._dispatch.python.enable_python_dispatcher", None, "tracing")
load_fake_tensor_mode = late("torch._subclasses.fake_tensor.FakeTensorMode", None, "tracing")
load_python_printer = late("torch.utils._sympy.printers.PythonPrinter", None)

# --------------------------------------------------------------------------------------------------------------- nests

pytree: Any = private("torch.utils._pytree", None)
if pytree is None:
    from kstyle_torch import _nests as pytree  # is not imported where it is not needed

check_given()
