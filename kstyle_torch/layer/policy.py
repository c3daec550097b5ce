"""Dtypes of layers: the policy, casts of inputs, and conversion of weights to another dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch import config, dtype_policies, tree
from kstyle_torch.dtype_policies import DTypeName, DTypePolicy, DTypePolicyMap, dtype_name
from kstyle_torch.initializers import as_dtype
from kstyle_torch.layer.call_pairs import drop_casts
from kstyle_torch.layer.casts import PreciseForward, dtype_of_weights
from kstyle_torch.layer.changes import changes
from kstyle_torch.layer.module_walk import set_unnoticed
from kstyle_torch.layer.recompute import RecomputingForward
from kstyle_torch.scopes import RematMode
from kstyle_torch.symbolic.tensor import is_symbolic


class HasPolicy(nn.Module):
    """A module with a dtype policy."""

    _autocast = True  # whether floating-point inputs are cast to the compute dtype
    _has_precision = True  # whether a mixed policy runs it under torch.autocast; if not, the layers inside do so
    _policy: DTypePolicy | None = None
    _remat_mode: RematMode | None = None  # of the RematScope that it was made in
    _policy_map: DTypePolicyMap | None = None  # from which it takes the policy of its path when it is built
    _dtype: torch.dtype
    _compute_dtype: torch.dtype
    _input_dtype: torch.dtype | None  # floating-point inputs are cast to it; None for no cast

    @property
    def dtype(self) -> DTypeName:
        """The dtype of the weights, by name."""
        return dtype_name(self._dtype)

    @property
    def variable_dtype(self) -> DTypeName:
        """The same as `dtype`."""
        return self.dtype

    @property
    def compute_dtype(self) -> DTypeName:
        """The dtype of float inputs and outputs, by name."""
        return self._own_policy.compute_dtype

    @property
    def _own_policy(self) -> DTypePolicy:
        return self._policy or DTypePolicy(self.dtype)

    @property
    def input_dtype(self) -> DTypeName:
        """The dtype that float inputs are cast to, by name."""
        return self.compute_dtype

    @property
    def dtype_policy(self) -> DTypePolicy:
        """The policy: the dtype of the weights, and the dtype of the computation."""
        return self._policy_map or self._own_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        self._set_policy(dtype_policies.get(value), chosen=True)

    @property
    def quantization_mode(self) -> str | None:
        """The policy's: None for a layer that is not quantized."""
        return self._own_policy.quantization_mode

    @property
    def autocast(self) -> bool:
        """True if floating-point inputs are cast to the compute dtype; integers and booleans never are."""
        return self._autocast

    @autocast.setter
    def autocast(self, value: bool) -> None:
        set_unnoticed(self, _autocast=bool(value))
        self._set_policy(self.dtype_policy, chosen=True)

    def _take_policy_of(self, path: str) -> None:
        """Takes the policy that a map has for a path, which is known once the layer is built."""
        policies = self._policy_map
        if policies is not None and (policy := policies[path]) != self._policy:
            self._set_policy(policy, chosen=True)
            set_unnoticed(self, _policy_map=policies)

    def _set_policy(self, policy: DTypePolicy, chosen: bool) -> None:
        policies = policy if isinstance(policy, DTypePolicyMap) else None
        policy = policy if policies is None else policies.default_policy
        compute = as_dtype(policy.compute_dtype)
        casts = self._autocast and (self._has_precision or not policy.is_mixed)
        set_unnoticed(
            self,
            _policy=policy,
            _policy_map=policies,
            _dtype=as_dtype(policy.variable_dtype),
            _compute_dtype=compute,
            _input_dtype=compute if casts else None,
        )
        drop_casts(self)
        changes.count += 1  # recordings contain the old dtype
        others = {policy.name, dtype_policies.dtype_policy().name} != {config.floatx()}
        if casts and (policy.is_mixed or (chosen and others) or policy.name != config.floatx()):
            self._compute_precisely()
        elif self._remat_mode is not None:
            set_unnoticed(self, forward=RecomputingForward(self, self._remat_mode, None))

    def _compute_precisely(self) -> None:
        """Casts inputs in `forward`, which all kinds of calls reach, rather than in `__call__`; costs one more call."""
        forward: Any = PreciseForward(self, self._compute_dtype, self._own_policy.is_mixed)
        if self._remat_mode is not None:
            forward = RecomputingForward(self, self._remat_mode, forward)
        set_unnoticed(self, forward=forward, _input_dtype=None)

    def _meet_dtypes(self, structure: Any) -> None:
        """Casts in `forward` if a graph passes inputs of another dtype, since graphs bypass `__call__`.

        The dtype may also be another one if the layer before only declares that of its outputs.
        """
        if self._input_dtype is None:
            return
        for leaf in filter(is_symbolic, tree.flatten(structure)):
            declared = leaf.node is not None and leaf.node.declared
            if declared or (leaf.torch_dtype.is_floating_point and leaf.torch_dtype != self._input_dtype):
                self._compute_precisely()
                return

    def _follow_dtype(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follows a conversion such as `double()`, also if the layer has no weights."""
        if self._dtype.is_floating_point:
            dtype = fn(torch.empty(0, dtype=self._dtype)).dtype
            if dtype != self._dtype and dtype.is_floating_point:
                self._set_policy(dtype_policies.get(dtype), chosen=False)

    def _follow_weights_of(self, module: nn.Module) -> None:
        """Takes on the dtype of a torch module's weights; disables casts if they have several dtypes, or there are none."""
        dtype = dtype_of_weights(module)
        set_unnoticed(self, _autocast=dtype is not None)
        self._set_policy(self._own_policy if dtype is None else dtype_policies.get(dtype), chosen=False)
