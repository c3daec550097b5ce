"""The `value` of a weight whose layout in torch differs from Keras'.

Keras' own loops read `variable.value.grad`, write `variable.value` in place and treat it as the parameter. A transposed
view of the parameter does not support that: it is not a leaf, so its `grad` is None. `KerasValue` is a tensor in Keras'
layout that acts as a proxy of the parameter and holds no data of its own. Torch functions receive the current parameter
in Keras' layout, connected to its autograd graph; in-place changes are written to the parameter; `grad` is its gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import tree
from kstyle_torch._torch import version_of
from kstyle_torch.layer.layout import Layout
from kstyle_torch.layer.reparametrization import Reparametrization

# They would change shape or memory of the temporary view in a call, without an effect on the parameter.
OF_THE_TENSOR_ITSELF = frozenset(
    "set_ resize_ resize_as_ t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ as_strided_ detach_".split()
)
# They return views in Keras, whose variables are contiguous. A transposed parameter has no such view.
VIEWS_OF_CONTIGUOUS = frozenset("contiguous flatten ravel reshape reshape_as view view_as".split())


class Source:
    """A tensor in torch's layout that `KerasValue` shows in Keras'.

    Args:
        tensor: The parameter, gradient or state.
        layout: Conversion between the layouts.
    """

    def __init__(self, tensor: Tensor, layout: Layout):
        self.tensor, self.layout = tensor, layout
        self.copies = layout.copies

    @property
    def leaf(self) -> Tensor | None:
        """The tensor that gradients are accumulated in; None if there is none."""
        return self.tensor

    def read(self) -> Tensor:
        """Returns the tensor in Keras' layout, differentiably; a view if the layout allows one."""
        if not self.copies:
            return self.layout.to_keras(self.tensor)
        with torch.inference_mode(False):  # inference tensors have no version counter
            return self.layout.to_keras(self.tensor)

    def write(self, value: Tensor) -> None:
        """Sets the tensor to a value in Keras' layout."""
        self.tensor.copy_(self.layout.to_torch(value))


class ContiguousSource(Source):
    """A tensor in torch's layout that `KerasValue` shows as a contiguous copy; changes are written back."""

    def __init__(self, tensor: Tensor, layout: Layout):
        super().__init__(tensor, layout)
        self.copies = True

    def read(self) -> Tensor:
        with torch.inference_mode(False):
            return self.layout.to_keras(self.tensor).contiguous()


class ComputedSource(Source):
    """A weight that torch computes from other parameters; writing it sets those.

    Args:
        made: The reparametrization.
        layout: Conversion between the layouts.
        path: For messages.
    """

    def __init__(self, made: Reparametrization, layout: Layout, path: str):
        self.made, self.layout, self.path = made, layout, path
        self.copies = True

    @property
    def leaf(self) -> Tensor | None:
        return None

    def read(self) -> Tensor:
        with torch.inference_mode(False):
            return self.layout.to_keras(self.made.value()).contiguous()

    def write(self, value: Tensor) -> None:
        self.made.assign(self.layout.to_torch(value.detach()), self.path)


class KerasValue(Tensor):
    """A weight, gradient or state in Keras' layout, written through to the tensor that holds it in torch's.

    Make it with `keras_value`.
    """

    _source: Source
    _steps: tuple[Callable[[Tensor], Tensor], ...]
    _place: Any = None  # address, dtype and device of the parameter at the last refresh

    @property
    def keras_layout(self) -> Layout:
        """The conversion between the layouts of the weight."""
        return self._source.layout

    @property
    def parameter(self) -> Tensor:
        """The parameter behind it, in torch's layout."""
        return self._need_leaf("has no parameter of its own")

    def _leaf(self) -> Tensor | None:
        return None if self._steps else self._source.leaf

    def _need_leaf(self, problem: str) -> Tensor:
        leaf = self._leaf()
        if leaf is None:
            raise RuntimeError(
                f"This tensor of shape {tuple(self.shape)} {problem}: it is computed from other tensors. Take "
                "`variable.parameter` of the model's trainable_weights."
            )
        return leaf

    def _read(self) -> tuple[Tensor, Tensor]:
        """Returns the source in Keras' layout for one call, and the part of it that this tensor represents."""
        root = self._source.read()
        with torch.inference_mode(False):
            return root, functools.reduce(lambda part, step: step(part), self._steps, root)

    def refresh(self) -> None:
        """Updates the data seen by functions that bypass `__torch_function__`, such as `torch.as_tensor`."""
        tensor = self._source.tensor
        if not _is_ordinary(tensor):
            return
        place = tensor.data_ptr(), tensor.dtype, tensor.device
        if self._place != place or self._source.copies:
            self._place = place
            setter: Any = Tensor.data
            # Tensor's own setter, not the property of this class
            Tensor.__torch_function__(setter.__set__, (Tensor,), (self, self._source.read().detach()))

    def _is_changed(self, root: Tensor, part: Tensor, before: tuple[Any, Any]) -> bool:
        """Returns whether a call changed the temporary tensors; `before` has their versions before the call."""
        if _versions(self, root, part) == before:
            return False
        return root.is_meta or not torch.equal(root, self._source.read())

    def as_contiguous(self) -> KerasValue:
        """Returns a contiguous proxy of the same tensor; itself where it is contiguous, or a copy."""
        if self._source.copies or self.plain().is_contiguous():
            return self
        return keras_value(ContiguousSource(self._source.tensor, self._source.layout))

    def plain(self) -> Tensor:
        """Returns the value as an ordinary tensor, connected to the autograd graph."""
        return self._read()[1]

    @classmethod
    def __torch_function__(cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.autograd.grad:
            return _gradients(*args, **kwargs)
        if function is torch.autograd.backward:
            return _backward(*args, **kwargs)
        if (name := getattr(function, "__name__", "")) in OF_THE_TENSOR_ITSELF:
            raise RuntimeError(_cannot_change(name))
        if name in VIEWS_OF_CONTIGUOUS and isinstance(args[0], KerasValue):
            args = (args[0].as_contiguous(), *args[1:])
        met: dict[int, tuple[KerasValue, Tensor, Tensor, tuple[Any, Any]]] = {}

        def live(leaf: Any) -> Any:
            if not isinstance(leaf, KerasValue):
                return leaf
            if id(leaf) not in met:
                root, part = leaf._read()
                met[id(leaf)] = leaf, root, part, _versions(leaf, root, part)
            return met[id(leaf)][2]

        result = function(*tree.map_structure(live, args), **tree.map_structure(live, kwargs))
        for value, root, part, before in met.values():
            if result is part:
                result = value  # of an in-place function
            if value._source.copies:
                if _is_in_place(function) or value._is_changed(root, part, before):
                    # detached values are written without gradients; torch refuses writes to the weight outside no_grad()
                    with torch.set_grad_enabled(torch.is_grad_enabled() and part.requires_grad):
                        value._source.write(root)
                else:
                    result = _with_aliases(
                        result, root, value, functools.partial(_again, function, args, kwargs, value)
                    )
        return result

    @property
    def grad(self) -> Any:
        """The gradient of the parameter, in Keras' layout; in-place changes write to the parameter's gradient."""
        leaf = self._leaf()
        return None if leaf is None or leaf.grad is None else in_keras_layout(leaf.grad, self._source.layout)

    @grad.setter
    def grad(self, value: Any) -> None:
        leaf = self._need_leaf("cannot have a gradient")
        if value is not None and value.shape != self.shape:
            raise ValueError(f"The gradient of a weight of shape {tuple(self.shape)} got shape {tuple(value.shape)}.")
        leaf.grad = None if value is None else self._source.layout.to_torch(value)

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    @property
    def data(self) -> Tensor:
        """The value, detached from the autograd graph."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self._need_leaf("cannot get other data").data = self._source.layout.to_torch(value)

    @property
    def is_leaf(self) -> bool:  # type: ignore[override]
        """True if it represents a whole parameter, or requires no gradient."""
        return self._leaf() is not None or not self.requires_grad

    @property
    def requires_grad(self) -> bool:
        """True if the parameter requires a gradient."""
        return self.plain().requires_grad if (leaf := self._leaf()) is None else leaf.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._need_leaf("cannot be frozen").requires_grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        self.requires_grad = requires_grad
        return self

    def retain_grad(self) -> None:
        self._need_leaf("keeps no gradient")

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Any:
        layout = self._source.layout

        def in_layout(gradient: Tensor) -> Tensor | None:
            changed = hook(layout.to_keras(gradient))
            return None if changed is None else layout.to_torch(changed)

        return self._need_leaf("cannot have hooks").register_hook(in_layout)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Any:
        leaf = self._need_leaf("cannot have hooks")
        return leaf.register_post_accumulate_grad_hook(lambda _: hook(self))

    def set_(self, *args: Any, **kwargs: Any) -> Any:
        """Raises a RuntimeError; torch does not call `__torch_function__` for this method."""
        raise RuntimeError(_cannot_change("set_"))

    def _is_view(self) -> bool:
        """Raises a RuntimeError: only torch.compile and torch.export call this, to make the tensor an input of a graph.

        Gradients would not reach the parameter.
        """
        raise RuntimeError(
            "A weight in Keras' layout cannot be an input of a compiled function. Pass `variable.parameter`, or take "
            "`variable.value` inside the function."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = nn.Parameter(self.plain().detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain().detach().clone().requires_grad_(self.requires_grad).__reduce_ex__(protocol)


def keras_value(source: Source, *steps: Callable[[Tensor], Tensor]) -> KerasValue:
    """Returns a proxy tensor of `source`, or of the part of it that the functions in `steps` select."""
    root = source.read().detach()
    for step in steps:
        root = step(root)
    if not _is_ordinary(root):  # a DTensor, say; functions that bypass `__torch_function__` then see no data
        root = torch.empty(root.shape, dtype=root.dtype, device="meta")
    made: KerasValue = root.detach().as_subclass(KerasValue)
    made._source, made._steps = source, steps
    return made


def _is_ordinary(tensor: Tensor) -> bool:
    """Returns whether a tensor's class does not override dispatch, as DTensor does."""
    return type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def in_keras_layout(tensor: Tensor, layout: Layout) -> Tensor:
    """Returns a gradient or state in Keras' layout; in-place changes of the result change `tensor`."""
    return keras_value(Source(tensor, layout)) if layout.copies else layout.to_keras(tensor)


def in_torch_layout(given: Any, layout: Layout) -> Tensor:
    """Converts a tensor from Keras' to torch's layout."""
    return layout.to_torch(given.plain() if isinstance(given, KerasValue) else given)


def _cannot_change(name: str) -> str:
    return (
        f"{name}() cannot change a weight in Keras' layout; call it on `variable.parameter`, or set the weight with "
        "`variable.assign(...)`."
    )


def _versions(value: KerasValue, root: Tensor, part: Tensor) -> tuple[Any, Any]:
    return (version_of(root), version_of(part)) if value._source.copies else (0, 0)


def _is_in_place(function: Callable[..., Any]) -> bool:
    """Returns whether a function is in place by its name: fused optimizer kernels do not increment versions."""
    name = getattr(function, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def _again(function: Callable[..., Any], args: Any, kwargs: Any, value: KerasValue, part: Tensor) -> Any:
    """Repeats a call that returned a view of `value`, on the current tensor."""
    args, kwargs = tree.map_structure(lambda leaf: part if leaf is value else leaf, (args, kwargs))
    return function(*args, **kwargs)


def _with_aliases(result: Any, root: Tensor, value: KerasValue, step: Callable[[Tensor], Any]) -> Any:
    """Replaces views of the temporary `root` in a result by proxies, so that writes to them reach the source."""
    if isinstance(result, (tuple, list)) and any(isinstance(each, Tensor) for each in result):
        parts = [
            _with_aliases(each, root, value, functools.partial(_one_of, step, place))
            for place, each in enumerate(result)
        ]
        return parts if isinstance(result, list) else tuple(parts)
    if type(result) is not Tensor or root.is_meta or not root.numel():
        return result
    if result.untyped_storage().data_ptr() != root.untyped_storage().data_ptr():
        return result
    return keras_value(value._source, *value._steps, step)


def _one_of(step: Callable[[Tensor], Any], place: int, part: Tensor) -> Tensor:
    chosen: Tensor = step(part)[place]
    return chosen


def _gradients(
    outputs: Any, inputs: Any, grad_outputs: Any = None, is_grads_batched: bool = False, **options: Any
) -> Any:
    """Calls `torch.autograd.grad`, and returns the gradients of weights in Keras' layout.

    Raises: ValueError: for batched gradients of weights. RuntimeError: for a weight that torch computes from others.
    """
    if is_grads_batched and any(isinstance(each, KerasValue) for each in inputs):
        raise ValueError("Batched gradients of weights in Keras' layout are not supported; pass `variable.parameter`.")
    outputs, grad_outputs = tree.map_structure(_plain, (outputs, grad_outputs))
    gradients = torch.autograd.grad(
        outputs, _leaves(inputs), grad_outputs, is_grads_batched=is_grads_batched, **options
    )
    return tuple(
        each._source.layout.to_keras(gradient) if isinstance(each, KerasValue) and gradient is not None else gradient
        for each, gradient in zip(inputs, gradients, strict=True)
    )


def _backward(tensors: Any, grad_tensors: Any = None, inputs: Any = None, **options: Any) -> None:
    """Calls `torch.autograd.backward`; gradients of weights in `inputs` are accumulated in their parameters."""
    tensors, grad_tensors = tree.map_structure(_plain, (tensors, grad_tensors))
    torch.autograd.backward(tensors, grad_tensors, inputs=None if inputs is None else _leaves(inputs), **options)


def _plain(leaf: Any) -> Any:
    return leaf.plain() if isinstance(leaf, KerasValue) else leaf


def _leaves(inputs: Any) -> list[Any]:
    return [each._need_leaf("has no gradient") if isinstance(each, KerasValue) else each for each in inputs]
