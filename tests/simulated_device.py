"""A simulated accelerator in pure Python, for tests of where tensors are and of who waits for the device.

`install()` registers the device `simulated` for the whole process (so: in a subprocess) through PyTorch's PrivateUse1
hook. A tensor on it keeps its numbers in host memory, but

- an operation that mixes it with a host tensor of one axis or more raises what CUDA raises;
- copies in either direction, and reads of single values, are counted in `COUNTS`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map

NAME = "simulated"
aten = torch.ops.aten
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)  # CUDA takes indices on the host


@dataclasses.dataclass
class Counts:
    """What happened: copies to and from the device, single values read, operations run."""

    h2d: int = 0
    d2h: int = 0  # the host waits for the device
    sync: int = 0  # and here
    ops: int = 0


COUNTS = Counts()


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Counts what happens inside the block; the numbers are there when it ends."""
    before, inside = dataclasses.replace(COUNTS), Counts()
    yield inside
    for field in dataclasses.fields(Counts):
        setattr(inside, field.name, getattr(COUNTS, field.name) - getattr(before, field.name))


class SimulatedTensor(Tensor):
    """A tensor on the device; `host` holds its numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> SimulatedTensor:
        self = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=f"{NAME}:0",
        )
        self.host = host
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})

    def tolist(self) -> Any:  # torch has it for no subclass
        COUNTS.sync += 1
        return self.host.tolist()

    def __repr__(self) -> str:
        return f"{self.host!r} on {NAME}"

    def __deepcopy__(self, memo: Any) -> Any:
        copied = SimulatedTensor(self.host.detach().clone())
        if isinstance(self, nn.Parameter):
            return nn.Parameter(copied, self.requires_grad)
        return copied.requires_grad_(self.requires_grad)


def _lstm_cell(x: Tensor, h: Tensor, c: Tensor, x_bias: Any = None, h_bias: Any = None) -> tuple[Tensor, ...]:
    gates = x + h + (0 if x_bias is None else x_bias) + (0 if h_bias is None else h_bias)
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c, gates


def _gru_cell(x: Tensor, h: Tensor, state: Tensor, x_bias: Any = None, h_bias: Any = None) -> tuple[Tensor, ...]:
    x, h = (x, h) if x_bias is None else (x + x_bias, h + h_bias)
    (rx, zx, nx), (rh, zh, nh) = x.chunk(3, -1), h.chunk(3, -1)
    z = (zx + zh).sigmoid()
    return (1 - z) * (nx + (rx + rh).sigmoid() * nh).tanh() + z * state, x


# what torch runs on accelerators only
GPU_KERNELS: dict[Any, Any] = {
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_gru_cell.default: _gru_cell,
}


def _run(op: Any, args: Any, kwargs: Any) -> Any:
    COUNTS.ops += 1
    if op is aten._to_copy.default:
        return _to_copy(*args, **kwargs)
    if op is aten.copy_.default:
        return _copy_(*args)
    COUNTS.sync += op is aten._local_scalar_dense.default
    on_host: list[Tensor] = []
    host_args, host_kwargs = tree_map(lambda value: _to_host(value, on_host), (args, kwargs))
    if any(tensor.dim() > 0 for tensor in on_host) and op not in INDEXING:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
            f"(in {op._schema.name})"
        )
    result = GPU_KERNELS.get(op, op)(*host_args, **host_kwargs)
    if op._schema.is_mutable and not op._schema.returns:
        return None
    written = _written(op, args, kwargs)
    if written is None:
        return tree_map(_wrap, result)
    if torch.Tag.inplace_view in op.tags:
        _follow_view(op, args, kwargs)
    return written


def _written(op: Any, args: Any, kwargs: Any) -> SimulatedTensor | None:
    """The argument that an operation writes to and gives back; None if there is not just one."""
    schema = op._schema
    places = [place for place, a in enumerate(schema.arguments) if a.alias_info and a.alias_info.is_write]
    if not schema.is_mutable or len(schema.returns) != 1 or not places:
        return None
    place = places[0]
    target = args[place] if place < len(args) else kwargs[schema.arguments[place].name]
    return target if isinstance(target, SimulatedTensor) else None


def _follow_view(op: Any, args: Any, kwargs: Any) -> None:
    """Gives the wrapper the sizes and strides that an in-place view (`transpose_`, `squeeze_`) gave its numbers."""
    with no_dispatch():
        before = torch._C._meta_in_tls_dispatch_include()
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            op(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


def _to_host(value: Any, on_host: list[Tensor]) -> Any:
    """What stands for an argument on the host; notes the tensors that are there already."""
    if isinstance(value, SimulatedTensor):
        return value.host
    if isinstance(value, Tensor):
        on_host.append(value)
    return torch.device("cpu") if isinstance(value, torch.device) and _is_simulated(value) else value


def _wrap(value: Any) -> Any:
    return SimulatedTensor(value) if isinstance(value, Tensor) and not isinstance(value, SimulatedTensor) else value


def _is_simulated(device: Any) -> bool:
    return torch.device(device).type in (NAME, "privateuseone")


def _to_copy(
    source: Tensor, *, device: Any = None, non_blocking: Any = None, pin_memory: Any = None, **options: Any
) -> Tensor:
    comes = isinstance(source, SimulatedTensor)
    goes = comes if device is None else _is_simulated(device)
    COUNTS.h2d += goes and not comes
    COUNTS.d2h += comes and not goes
    copied = aten._to_copy.default(_to_host(source, []), **options)
    return SimulatedTensor(copied) if goes else copied


def _copy_(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    COUNTS.h2d += isinstance(target, SimulatedTensor) and not isinstance(source, SimulatedTensor)
    COUNTS.d2h += isinstance(source, SimulatedTensor) and not isinstance(target, SimulatedTensor)
    _to_host(target, []).copy_(_to_host(source, []))
    return target


def _by_way_of_the_host(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` or `torch.as_tensor`, which torch 2.13 cannot run on such a device: numbers are copied to it."""

    @functools.wraps(make)
    def made(data: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        options["dtype"] = dtype
        if device is None or not _is_simulated(device) or isinstance(data, Tensor):
            return make(data, device=device, **options)
        return make(data, device="cpu", **options).to(device)

    return made


_libraries: list[torch.library.Library] = []


def install() -> torch.device:
    """Registers the device, once in a process: from now on it is torch's accelerator."""
    if not _libraries:
        backend_registration._setup_privateuseone_for_python_backend(NAME)
        _libraries.append(torch.library.Library("_", "IMPL"))
        _libraries[0].fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
        torch.tensor, torch.as_tensor = _by_way_of_the_host(torch.tensor), _by_way_of_the_host(torch.as_tensor)
    return torch.device(NAME)
