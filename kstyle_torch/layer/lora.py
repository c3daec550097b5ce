"""LoRA: a layer's matrix is frozen, and the product of two trained low-rank matrices is added to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.checks import positive_int
from kstyle_torch.layer.weight_holder import ListedWeight, sync_trainable
from kstyle_torch.layer.weights import Weight


class AdaptedWeight(Weight):
    """Row of the matrix that LoRA adapts: as an attribute of a layer with LoRA, the sum of matrix and update.

    `layer.weights` lists the frozen matrix and the two low-rank ones.
    """

    def __get__(self, layer: Any, owner: type) -> Any:
        found = super().__get__(layer, owner)
        return found if layer is None or not layer.lora_enabled else layer._merged_matrix()


class LoraLayer(Layer):
    """Base of the layers that support LoRA.

    Args:
        lora_rank: Rank of the update; no LoRA if None.
        lora_alpha: The update is scaled by `lora_alpha / lora_rank`; by 1 if None.
    Source: Hu et al. 2021.
    """

    lora_enabled = False
    _lora_target = "kernel"  # the weight that is adapted

    def __init__(self, *, lora_rank: int | None = None, lora_alpha: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.lora_rank: Any = positive_int(lora_rank, "lora_rank", self) if lora_rank else None
        self.lora_alpha: Any = self.lora_rank if lora_alpha is None else lora_alpha

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freezes the layer's matrix and trains two low-rank matrices instead, whose product is added to it.

        Args:
            rank: Rank of the update.
            lora_alpha: The update is scaled by `lora_alpha / rank`; by 1 if None.
            a_initializer: Initializer of the first matrix, shape (..., rank).
            b_initializer: Initializer of the second matrix, shape (rank, outputs).
        Raises: ValueError: if the layer is not built, already has LoRA, or has a constraint on its matrix.
        """
        if not self.built:
            raise ValueError(f"{self.name} is not built yet, so it cannot be adapted; call build() first.")
        if self.lora_enabled:
            raise ValueError(f"{self.name} is adapted already, with rank {self.lora_rank}.")
        self._add_lora(positive_int(rank, "rank", self), lora_alpha, a_initializer, b_initializer)
        sync_trainable(self, self._frozen_above)

    def _build_lora(self) -> None:
        """Adds the matrices at the end of `build`, if the constructor got a rank."""
        if self.lora_rank:
            self._add_lora(self.lora_rank, self.lora_alpha)

    def _add_lora(
        self, rank: int, alpha: float | None = None, a_initializer: Any = "he_uniform", b_initializer: Any = "zeros"
    ) -> None:
        target = self._lora_target
        if getattr(self, f"{target}_constraint") is not None:
            raise ValueError(f"{self.name}: LoRA changes the {target} unseen by {target}_constraint; remove it.")
        matrix = getattr(self, target)
        shape, penalty = matrix.shape, getattr(self, f"{target}_regularizer")
        # float32 in layers of any dtype, as in Keras: small updates would be lost in half precision
        self.add_weight((*shape[:-1], rank), a_initializer, "float32", regularizer=penalty, name=f"lora_{target}_a")
        self.add_weight((rank, shape[-1]), b_initializer, "float32", regularizer=penalty, name=f"lora_{target}_b")
        self._freeze(matrix._row.path)
        self.lora_enabled, self.lora_rank, self.lora_alpha = True, rank, rank if alpha is None else alpha
        self._arguments.update(lora_rank=rank, lora_alpha=self.lora_alpha)  # get_config() includes them

    def _freeze(self, path: str) -> None:
        """Freezes a parameter such that a later `layer.trainable = True` does not unfreeze it."""
        owner, _, key = path.rpartition(".")
        module: nn.Module = self.get_submodule(owner)
        module.get_parameter(key).requires_grad_(False)
        getattr(module, "_frozen_parameters", set()).discard(key)

    def _thin_matrices(self, dtype: Any) -> tuple[Tensor, Tensor]:
        """Returns the two matrices, the second one scaled."""
        a, b = getattr(self, f"lora_{self._lora_target}_a"), getattr(self, f"lora_{self._lora_target}_b")
        return a.to(dtype), b.to(dtype) * (self.lora_alpha / self.lora_rank)

    def _merged_matrix(self) -> Tensor:
        """Returns the sum of matrix and update in Keras' layout, differentiably, in the compute dtype."""
        matrix = self._target_view().read()
        a, b = self._thin_matrices(torch.promote_types(matrix.dtype, torch.float32))
        merged: Tensor = (matrix + a @ b).to(self._compute_dtype)
        return merged

    def _target_view(self) -> Any:
        """Returns the frozen matrix as `weights` lists it."""
        row: Weight = getattr(type(self), self._lora_target)
        return self._view(row)

    def _saved_views(self) -> list[ListedWeight]:
        """Leaves out the LoRA matrices: files hold the sum of matrix and update, as in Keras."""
        thin = f"lora_{self._lora_target}_"
        return [view for view in self._own_views() if not (self.lora_enabled and view.name.startswith(thin))]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.lora_enabled:
            place = [view.name for view in self._saved_views()].index(self._lora_target)
            matrix = self._target_view().read()
            a, b = self._thin_matrices(matrix.dtype)
            del store[str(place)]
            store[str(place)] = matrix + a @ b

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        if self.lora_enabled:
            b = getattr(self, f"lora_{self._lora_target}_b")
            b.assign(torch.zeros(b.shape))  # and the product is zero; Keras sets both to zero, which can never train
