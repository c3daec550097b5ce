"""Loss scaling, which keeps small float16 gradients from underflowing to zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from kstyle_torch._torch import foreach_div, foreach_norm
from kstyle_torch.optimizers.base import Optimizer, registry
from kstyle_torch.serialization import reject_unknown

OF_THE_INNER = {  # in older configs, where they are disabled
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


@registry.register()
class LossScaleOptimizer(Optimizer):
    """Optimizer that scales the loss, divides the gradients by the scale, and skips steps with gradients that are not finite.

    A skipped step halves the scale; `dynamic_growth_steps` finite steps in a row double it. `compile` wraps the optimizer of
    a `mixed_float16` model in it. On the CPU the host skips the step. On an accelerator, where the host would have to wait,
    the device reverts the step, and the step count is corrected when it is read and at each epoch. Adam and AdamW take
    account of reverted steps on the device; other optimizers and schedules count them until the correction.

    Args:
        inner_optimizer: Optimizer that takes the steps.
        initial_scale: Initial scale.
        dynamic_growth_steps: Number of finite steps in a row after which the scale is doubled.
        name: Name of the optimizer.
    Raises: TypeError: if `inner_optimizer` is not an optimizer. ValueError: if it scales itself, or for arguments that belong
        to it.
    Source: Micikevicius et al. 2017.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = LossScaleOptimizer(SGD(0.5), initial_scale=4.0)
        >>> optimizer.build([weight])
        >>> optimizer.scale_loss(weight.sum()).backward()
        >>> optimizer.apply([weight.grad])
        >>> weight.tolist()
        [0.5, 0.5]
    """

    def __init__(
        self,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ):
        if not isinstance(inner_optimizer, Optimizer) or isinstance(inner_optimizer, LossScaleOptimizer):
            raise TypeError(f"LossScaleOptimizer needs another optimizer inside; got {inner_optimizer!r}.")
        if not kwargs.pop("dynamic", True):
            raise ValueError("LossScaleOptimizer is always dynamic; for a fixed scale set loss_scale_factor inside.")
        for key, default in OF_THE_INNER.items():
            if kwargs.pop(key, default) != default:
                raise ValueError(f"LossScaleOptimizer takes no {key}; set it on the inner optimizer.")
        reject_unknown(self, kwargs)
        super().__init__(0.0, name=name)
        for key in OF_THE_INNER:
            self._arguments.pop(key, None)
        self.inner_optimizer = inner_optimizer
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        inner_optimizer.loss_scale_factor = None  # otherwise gradients would be divided twice
        self._skipped: Tensor | None = None  # steps that the device reverted since the last correction

    def build(self, var_list: Iterable[Any]) -> None:
        """Builds the inner optimizer."""
        self.track(var_list)

    def track(self, variables: Iterable[Any]) -> None:
        self._given = variables = list(variables)
        self._settle()
        self.inner_optimizer.track(variables)
        device = self.inner_optimizer._current().device or torch.device("cpu")
        if not self.built:
            self.step_counter: Any = self.add_variable((), dtype="int32", name="step_counter")
            self.dynamic_scale: Any = self.add_variable((), "ones", "float32", name="dynamic_scale")
            self.dynamic_scale.assign(self.initial_scale)
        for variable in (self.step_counter, self.dynamic_scale):
            if variable.value.device != device:
                variable.assign(variable.value.to(device))
        self.built = True

    def _current(self) -> Any:
        return self.inner_optimizer._current()

    @property
    def _trainable_variables(self) -> list[Any]:
        return self.inner_optimizer._trainable_variables

    def check_finite(self, grads: Sequence[Any]) -> Tensor:
        """Returns whether all gradients are finite, as a tensor; None among them counts as finite."""
        norms = foreach_norm([gradient for gradient in grads if gradient is not None], float("inf"))
        return torch.stack(norms).isfinite().all()

    @property
    def variables(self) -> list[Any]:
        """Its own variables, followed by those of the inner optimizer."""
        self._settle()
        return [*super().variables, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    @property
    def iterations(self) -> Any:
        """Number of steps, without skipped ones."""
        self._settle()
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Returns the loss times the scale."""
        return loss * (self.dynamic_scale.value if self.built else self.initial_scale)

    @property
    def scales_loss(self) -> bool:
        """True: it always scales the loss."""
        return True

    def _step(self, gradients: Any) -> None:
        given = [gradient for gradient in gradients if gradient is not None]
        if given:
            finite = self.check_finite(given)
            scale = self.dynamic_scale.value
            divided = iter(foreach_div(given, scale))
            gradients = [None if gradient is None else next(divided) for gradient in gradients]
            if finite.device.type == "cpu" or not self.inner_optimizer.reversible:
                self._step_by_host(bool(finite), scale, gradients)  # the host waits here, unless on the CPU
            else:
                self._step_by_device(finite, scale, gradients)
        else:
            self.inner_optimizer.step(gradients)

    def _step_by_host(self, finite: bool, scale: Tensor, gradients: Any) -> None:
        good = self.step_counter.value.item() + 1 if finite else 0
        if finite:
            self.inner_optimizer.step(gradients)
        grown = finite and good == self.dynamic_growth_steps
        self.step_counter.value.fill_(0 if grown else good)
        if grown or not finite:
            scale.mul_(2.0 if grown else 0.5)

    def _step_by_device(self, finite: Tensor, scale: Tensor, gradients: Any) -> None:
        """Takes the step with zeros in place of gradients that are not finite, and reverts it in that case."""
        inner = self.inner_optimizer
        changing = inner.changing()
        before = [tensor.clone() for tensor in changing]
        inner.note_taken_back(self._skipped)
        inner.step([None if g is None else torch.where(finite, g, 0.0) for g in gradients])
        for tensor, old in zip(changing, before, strict=True):
            torch.where(finite, tensor, old, out=tensor)
        skipped = (~finite).to(torch.int32)
        self._skipped = skipped if self._skipped is None else self._skipped + skipped
        good = torch.where(finite, self.step_counter.value + 1, 0)
        grown = good == self.dynamic_growth_steps
        self.step_counter.assign(torch.where(grown, 0, good))
        self.dynamic_scale.assign(scale * torch.where(finite, torch.where(grown, 2.0, 1.0), 0.5))

    def _settle(self) -> None:
        """Subtracts the steps that the device reverted from the host's count."""
        if self._skipped is not None:
            skipped, self._skipped = int(self._skipped), None  # host waits for the device here
            self.inner_optimizer.back(skipped)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Does what the inner optimizer does."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Sequence[str] | None = None) -> None:
        """Does what the inner optimizer does."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        del config["learning_rate"]
        return config

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return super().__getstate__()
