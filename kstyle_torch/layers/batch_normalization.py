"""BatchNormalization, with masks, renormalization and statistics shared by replicas."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import config, constraints, initializers, regularizers
from kstyle_torch.layer.base import Layer, layer_registry
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import check_sizes, known_size
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight

register = layer_registry.register
CLIPS = ("rmax", "rmin", "dmax")


@register()
class BatchNormalization(Layer):
    """Normalization of every feature to mean 0 and variance 1 over the batch, then scaled and shifted.

    In inference, and always while `trainable` is False, it uses the moving statistics instead of the batch's.

    Tools that look for torch's own classes pass it by: instead of `SyncBatchNorm.convert_sync_batchnorm` set `synchronized`,
    instead of `swa_utils.update_bn` run the data through the model in training mode.

    Call arguments:
        inputs: Any shape.
        mask: The inputs' shape without its last axis; where it is False, an input does not count for the statistics.

    Args:
        axis: Axis of the features.
        momentum: Share of the moving statistics that is kept at each step.
        epsilon: Added to the variance.
        center: Whether to add a shift (beta).
        scale: Whether to multiply by a factor (gamma).
        beta_initializer: Of beta, shape (features,).
        gamma_initializer: Of gamma.
        moving_mean_initializer: Of the moving mean.
        moving_variance_initializer: Of the moving variance.
        beta_regularizer: Penalty on beta.
        gamma_regularizer: Penalty on gamma.
        beta_constraint: What beta is projected to after each step.
        gamma_constraint: What gamma is projected to after each step.
        renorm: Whether training corrects the batch's statistics towards moving ones, for small batches.
        renorm_clipping: Limits of the correction: a dict with any of `"rmin"`, `"rmax"`, `"dmax"`.
        renorm_momentum: Share of the statistics for the correction that is kept at each step.
        synchronized: Whether the replicas of `torch.distributed` share the batch's statistics; Keras on torch cannot.
    Output shape: that of the input.
    Raises: ValueError: if `axis` is not an int, a limit is unknown or impossible, or a mask has the wrong number of axes.
    Source: Ioffe & Szegedy 2015; Ioffe 2017 (renormalization).

    Example:
        >>> BatchNormalization()(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """

    supports_masking = True
    _resolves_mode = True
    gamma = Weight("weight")
    beta = Weight("bias")
    moving_mean = Weight("running_mean")
    moving_variance = Weight("running_var")
    moving_stddev = Weight("running_std")
    renorm_mean = Weight("running_renorm_mean")
    renorm_stddev = Weight("running_renorm_std")

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(axis, int):
            raise ValueError(f"{self.name}: axis must be an int; got {axis!r}.")
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale, self.synchronized = center, scale, synchronized
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.renorm, self.renorm_momentum = renorm, renorm_momentum
        self.renorm_clipping = _checked_clipping(renorm_clipping or {}, self) if renorm else {}

    def build(self, input_shape: Shape) -> None:
        size = known_size(input_shape, self.axis, self)
        empty = torch.empty(size, dtype=self._dtype, device=config.device())
        self.weight = nn.Parameter(empty.clone()) if self.scale else None
        self.bias = nn.Parameter(empty.clone()) if self.center else None
        self.register_buffer("running_mean", empty.clone())
        self.register_buffer("running_var", empty.clone())
        for key in ("running_std", "running_renorm_mean", "running_renorm_std"):
            self.register_buffer(key, empty.clone() if self.renorm else None)
        self.initialize(gamma=self.gamma_initializer, beta=self.beta_initializer)
        self.initialize(moving_mean=self.moving_mean_initializer, moving_variance=self.moving_variance_initializer)
        if self.renorm:
            self.initialize(renorm_mean=self.moving_mean_initializer)
            self.running_std.copy_(self.running_var.sqrt())
            self.running_renorm_std.copy_(self.running_std)

    def forward(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        x = inputs
        if mask is not None and mask.ndim != x.ndim - 1:
            raise ValueError(
                f"{self.name}: a mask must have one axis less than the input; got {tuple(mask.shape)} "
                f"for {tuple(x.shape)}."
            )
        if x.dtype in INTEGERS:
            x = x.to(self._dtype)
        features_second = x.ndim == 2 or self.axis == 1
        if x.ndim < 2 or x.shape[1 if features_second else self.axis] != self.running_mean.shape[0]:
            check_sizes(self, x.shape, self.axis)  # statistics of a single feature would broadcast to all
        y = x if features_second else x.movedim(self.axis, 1)
        if not (self._mode_of_call(training) and self.trainable):
            y = self._normalize(y)
        elif mask is None and not self.renorm and not self.synchronized:
            y = self._normalize_batch(y)
        else:
            kept = None if mask is None else mask.bool().unsqueeze(-1).expand_as(x)
            y = self._normalize_by(y, *self._moments(y, kept if kept is None else kept.movedim(self.axis, 1)))
        return y if features_second else y.movedim(1, self.axis)

    def _normalize(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.epsilon
        )

    def _normalize_batch(self, x: Tensor) -> Tensor:
        """Normalizes by the batch's statistics.

        Torch would track the unbiased variance and refuse a batch of one; Keras tracks the biased one, which is what the
        kernel saves.
        """
        y, mean, inverse_std = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.epsilon)
        with torch.no_grad():
            self._follow(mean, inverse_std.pow(-2) - self.epsilon)
        return y

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), 1 - self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), 1 - self.momentum)

    # -------------------------------------------------------------------------- statistics that torch's kernel has not

    def _moments(self, x: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns mean and biased variance of the features (axis 1) over unmasked values, of all replicas if synchronized."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        if kept is None:
            count, values = x.new_full((x.shape[1],), x.numel() // max(x.shape[1], 1)), x
        else:
            count, values = kept.sum(axes).to(x.dtype), x.where(kept, 0.0)
        count = self._over_replicas(count) + config.epsilon()  # the mean is 0 if everything is masked
        mean = self._over_replicas(values.sum(axes)) / count
        deviations = x - _along_features(mean, x)
        deviations = deviations if kept is None else deviations.where(kept, 0.0)
        return mean, self._over_replicas(deviations.square().sum(axes)) / count

    def _over_replicas(self, x: Tensor) -> Tensor:
        distributed = torch.distributed
        if self.synchronized and distributed.is_available() and distributed.is_initialized():
            return _SumOverReplicas.apply(x)
        return x

    def _normalize_by(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Normalizes by these statistics, and updates the moving ones with them."""
        factor: Any = self.weight
        shift: Any = self.bias
        if self.renorm:
            ratio, offset = self._correction(mean.detach(), variance.detach())
            offset = offset if factor is None else offset * factor
            factor = ratio if factor is None else ratio * factor
            shift = offset if shift is None else offset + shift
        with torch.no_grad():
            (self._follow_renorm if self.renorm else self._follow)(mean, variance)
        scale = (variance + self.epsilon).rsqrt()
        scale = scale if factor is None else scale * factor
        y = (x - _along_features(mean, x)) * _along_features(scale, x)
        return y if shift is None else y + _along_features(shift, x)

    def _correction(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Returns factor and offset from batch-normalized values to values normalized by the moving statistics."""
        tracked_std = self.running_renorm_std.clamp_min(math.sqrt(self.epsilon))
        ratio = (variance + self.epsilon).sqrt() / tracked_std
        offset = (mean - self.running_renorm_mean) / tracked_std
        dmax = self.renorm_clipping["dmax"]
        return ratio.clamp(self.renorm_clipping["rmin"], self.renorm_clipping["rmax"]), offset.clamp(-dmax, dmax)

    def _follow_renorm(self, mean: Tensor, variance: Tensor) -> None:
        std = (variance + self.epsilon).sqrt()
        self.running_renorm_mean.lerp_(mean, 1 - self.renorm_momentum)
        self.running_renorm_std.lerp_(std, 1 - self.renorm_momentum)
        self.running_mean.lerp_(mean, 1 - self.momentum)
        self.running_std.lerp_(std, 1 - self.momentum)
        self.running_var.copy_((self.running_std.square() - self.epsilon).clamp_min(0.0))


class _SumOverReplicas(torch.autograd.Function):
    """Sum of a tensor over all replicas; its gradient is summed likewise."""

    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:  # noqa: ARG004
        total = inputs.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


def _along_features(x: Tensor, like: Tensor) -> Tensor:
    """Reshapes (features,) to (1, features, 1, ...), which broadcasts with `like`."""
    return x.view(-1, *(1,) * (like.ndim - 2))


def _checked_clipping(clipping: dict[str, float], layer: Layer) -> dict[str, float]:
    """Returns the limits, with infinite ones for those that are missing."""
    if clipping.keys() - {*CLIPS}:
        raise ValueError(f"{layer.name}: renorm_clipping knows {', '.join(CLIPS)}; got {clipping}.")
    limits = {"rmin": 0.0, "rmax": math.inf, "dmax": math.inf, **{k: v for k, v in clipping.items() if v is not None}}
    if limits["rmax"] < limits["rmin"] or limits["dmax"] < 0:
        raise ValueError(f"{layer.name}: renorm_clipping needs rmin <= rmax and dmax >= 0; got {clipping}.")
    return limits
