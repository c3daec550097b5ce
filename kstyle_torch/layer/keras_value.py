"""The `value` of a weight that torch keeps in another layout than Keras.

Keras' own loops read `variable.value.grad`, write `variable.value` in place and take it for the parameter. A transposed
view of the parameter does none of that: it is not a leaf, so its `grad` is None. `KerasValue` is a tensor in Keras'
layout that stands for the parameter: it holds no numbers of its own. Every torch function gets the parameter as it is
at that moment, in Keras' layout and with its gradient; what changes in place is the parameter; `grad` is that of the
parameter.
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

# They would change shape or memory of what is made for the one call, and never reach the parameter.
OF_THE_TENSOR_ITSELF = frozenset(
    "set_ resize_ resize_as_ t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ as_strided_ detach_".split()
)


class Source:
    """A tensor in torch's layout that `KerasValue` shows in Keras'.

    Args:
        tensor: The parameter, gradient or state.
        layout: Its layouts.
    """

    def __init__(self, tensor: Tensor, layout: Layout):
        self.tensor, self.layout = tensor, layout
        self.copies = layout.copies

    @property
    def leaf(self) -> Tensor | None:
        """The tensor that gradients are accumulated in; None if there is none."""
        return self.tensor

    def read(self) -> Tensor:
        """Returns it in Keras' layout, with the way back for gradients; a view of it where there is one."""
        if not self.copies:
            return self.layout.to_keras(self.tensor)
        with torch.inference_mode(False):  # tensors made in inference mode do not tell whether they were changed
            return self.layout.to_keras(self.tensor)

    def write(self, value: Tensor) -> None:
        """Sets it, given in Keras' layout."""
        self.tensor.copy_(self.layout.to_torch(value))


class ComputedSource(Source):
    """A weight that torch computes from other parameters; writing it sets those.

    Args:
        made: How it is computed.
        layout: Its layouts.
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
            return self.layout.to_keras(self.made.value())

    def write(self, value: Tensor) -> None:
        self.made.assign(self.layout.to_torch(value.detach()), self.path)


class KerasValue(Tensor):
    """A weight, gradient or state in Keras' layout, written through to the tensor that holds it in torch's.

    Make it with `keras_value`.
    """

    _source: Source
    _steps: tuple[Callable[[Tensor], Tensor], ...]
    _place: Any = None  # of the parameter's memory

    @property
    def keras_layout(self) -> Layout:
        """The layouts of the weight."""
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
        """Returns what stands for the source in one call, and the part of that which this tensor is."""
        root = self._source.read()
        with torch.inference_mode(False):
            return root, functools.reduce(lambda part, step: step(part), self._steps, root)

    def refresh(self) -> None:
        """Lets functions that look past `__torch_function__`, such as `torch.as_tensor`, find what the parameter holds."""
        tensor = self._source.tensor
        if not _is_ordinary(tensor):
            return
        place = tensor.data_ptr(), tensor.dtype, tensor.device
        if self._place != place or self._source.copies:
            self._place = place
            setter: Any = Tensor.data
            # as Tensor itself does it, not as the class below says
            Tensor.__torch_function__(setter.__set__, (Tensor,), (self, self._source.read().detach()))

    def _is_changed(self, root: Tensor, part: Tensor, before: tuple[Any, Any]) -> bool:
        """Returns whether a call changed what stood for the source; `before` are the versions in front of it."""
        if _versions(self, root, part) == before:
            return False
        return root.is_meta or not torch.equal(root, self._source.read())

    def plain(self) -> Tensor:
        """Returns it as an ordinary tensor with the way back for gradients."""
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
                result = value  # of a function that works in place
            if value._source.copies:
                if _is_in_place(function) or value._is_changed(root, part, before):
                    # of what is detached, no gradient is asked; on the weight itself torch refuses outside of no_grad()
                    with torch.set_grad_enabled(torch.is_grad_enabled() and part.requires_grad):
                        value._source.write(root)
                else:
                    result = _with_aliases(
                        result, root, value, functools.partial(_again, function, args, kwargs, value)
                    )
        return result

    @property
    def grad(self) -> Any:
        """The gradient of the parameter, in Keras' layout; changing it in place changes that."""
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
        """The numbers, without the way back for gradients."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self._need_leaf("cannot get other data").data = self._source.layout.to_torch(value)

    @property
    def is_leaf(self) -> bool:  # type: ignore[override]
        """Returns whether it stands for a parameter."""
        return self._leaf() is not None or not self.requires_grad

    @property
    def requires_grad(self) -> bool:
        """Returns whether the parameter requires a gradient."""
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
        """Refuses to take another memory; torch does not ask `__torch_function__` here."""
        raise RuntimeError(_cannot_change("set_"))

    def _is_view(self) -> bool:
        """Refuses to be made an input of a graph of torch.compile or torch.export, the only ones to ask.

        No gradient would come back.
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
    """Returns the tensor that stands for `source`, or for what `steps` take of it."""
    root = source.read().detach()
    for step in steps:
        root = step(root)
    if not _is_ordinary(root):  # sharded, say; functions that look past `__torch_function__` find nothing to read then
        root = torch.empty(root.shape, dtype=root.dtype, device="meta")
    made: KerasValue = root.detach().as_subclass(KerasValue)
    made._source, made._steps = source, steps
    return made


def _is_ordinary(tensor: Tensor) -> bool:
    """Returns whether a tensor is not of a class with calls of its own, such as a DTensor."""
    return type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def in_keras_layout(tensor: Tensor, layout: Layout) -> Tensor:
    """Returns a gradient or state in Keras' layout, such that changing it in place changes `tensor`."""
    return keras_value(Source(tensor, layout)) if layout.copies else layout.to_keras(tensor)


def in_torch_layout(given: Any, layout: Layout) -> Tensor:
    """Returns a tensor in Keras' layout in torch's."""
    return layout.to_torch(given.plain() if isinstance(given, KerasValue) else given)


def _cannot_change(name: str) -> str:
    return (
        f"{name}() cannot change a weight in Keras' layout; call it on `variable.parameter`, or set the weight with "
        "`variable.assign(...)`."
    )


def _versions(value: KerasValue, root: Tensor, part: Tensor) -> tuple[Any, Any]:
    return (version_of(root), version_of(part)) if value._source.copies else (0, 0)


def _is_in_place(function: Callable[..., Any]) -> bool:
    """Returns whether a function is named as one that works in place: the fused kernels of optimizers count no version."""
    name = getattr(function, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def _again(function: Callable[..., Any], args: Any, kwargs: Any, value: KerasValue, part: Tensor) -> Any:
    """Calls a function that gave a view of `value` once more, on what stands for it now."""
    args, kwargs = tree.map_structure(lambda leaf: part if leaf is value else leaf, (args, kwargs))
    return function(*args, **kwargs)


def _with_aliases(result: Any, root: Tensor, value: KerasValue, step: Callable[[Tensor], Any]) -> Any:
    """Returns a result with views of `root`, which lives for one call, as tensors that write through as well."""
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
    """Returns what `torch.autograd.grad` does, the gradients of weights in Keras' layout.

    Raises: ValueError: for batched gradients of them. RuntimeError: if torch computes one of them from others.
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
    """Does what `torch.autograd.backward` does; the gradients of weights in `inputs` are accumulated in their parameters."""
    tensors, grad_tensors = tree.map_structure(_plain, (tensors, grad_tensors))
    torch.autograd.backward(tensors, grad_tensors, inputs=None if inputs is None else _leaves(inputs), **options)


def _plain(leaf: Any) -> Any:
    return leaf.plain() if isinstance(leaf, KerasValue) else leaf


def _leaves(inputs: Any) -> list[Any]:
    return [each._need_leaf("has no gradient") if isinstance(each, KerasValue) else each for each in inputs]
