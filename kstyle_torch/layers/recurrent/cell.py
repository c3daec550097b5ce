"""Base of Keras' cells: weights, dropout masks, the loop over steps and the use of torch's fused kernels.

A cell has two parts: `project` maps the inputs to the gates, for all steps at once, and `advance` takes one step with its
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kstyle_torch import activations, config, constraints, initializers, regularizers, tree
from kstyle_torch._torch import is_exporting
from kstyle_torch.dense_product import dense_product
from kstyle_torch.draws import generator, skip_default_seed
from kstyle_torch.layer.base import Layer
from kstyle_torch.layer.call_pairs import has_other_call
from kstyle_torch.layer.casts import INTEGERS
from kstyle_torch.layer.checks import known_size, misfit, positive_int
from kstyle_torch.layer.layout import permuted
from kstyle_torch.layer.module_walk import OwnDict, first_parameter, set_unnoticed
from kstyle_torch.layer.reparametrization import refresh
from kstyle_torch.layer.seed_states import DrawsFromTorch
from kstyle_torch.layer.shapes import Shape
from kstyle_torch.layer.weights import Weight
from kstyle_torch.layers.recurrent.sequence import last_valid, loop, writes_one_step

RESOLVERS: dict[str, Callable[[Any], Any]] = {
    "activation": activations.get,
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
}


def given(names: dict[str, Any]) -> dict[str, Any]:
    """Returns a constructor's arguments by name, from its `locals()`."""
    return {key: value for key, value in names.items() if key not in ("self", "__class__", "kwargs")} | names["kwargs"]


def runs_as_steps(call: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a cell's `call` that is equivalent to its `run`; a subclass may override only one of them."""
    call.runs_as_steps = True  # type: ignore[attr-defined]
    return call


class Cell(DrawsFromTorch, Layer):
    """Base of Keras' cells: takes one step, `cell(inputs, states)`, and returns the output and the new states.

    Args:
        units: Size of the output and of each state.
        activation: Of the new values: name, function or None (identity).
        recurrent_activation: Of the gates, likewise.
        use_bias: Whether there is a bias.
        kernel_initializer: Of the matrix for the inputs, Keras' shape (features, gates * units).
        recurrent_initializer: Of the matrix for the state, Keras' shape (units, gates * units).
        bias_initializer: Of the bias.
        kernel_regularizer: Penalty on the matrix for the inputs.
        recurrent_regularizer: Penalty on the matrix for the state.
        bias_regularizer: Penalty on the bias.
        kernel_constraint: What the matrix for the inputs is projected to after each step.
        recurrent_constraint: What the matrix for the state is projected to after each step.
        bias_constraint: What the bias is projected to after each step.
        dropout: Share of the inputs that is dropped in training, with the same mask at each step of a sequence.
        recurrent_dropout: Which part of the state is dropped in training, likewise.
        seed: Int for reproducible dropout.
        implementation: 1 uses a dropout mask for each gate, 2 one for all; always 1 with recurrent dropout.
    """

    num_gates: ClassVar[int]
    num_states: ClassVar[int] = 1
    gate_axis: int = -1
    state_shape: tuple[int, ...]  # of one sample
    implementation: int = 2
    _masks: dict[str, list[Tensor]]
    _seeded_first = False  # whether Keras creates the seed generator of the dropout before the initializers

    def _store(self, names: dict[str, Any]) -> None:
        """Stores the constructor's `locals()` as attributes, with names resolved to functions and rates checked."""
        arguments = given({**names, "kwargs": {}})
        if self._seeded_first:
            skip_default_seed(arguments["seed"])
        for name, value in arguments.items():
            resolve = RESOLVERS.get(name.rpartition("_")[2])
            setattr(self, name, value if resolve is None else resolve(value))
        for name in ("dropout", "recurrent_dropout"):
            rate: float = arguments[name]
            if not isinstance(rate, Real) or not 0 <= rate <= 1:
                raise ValueError(f"{self.name}: {name} must be a number from 0 to 1; got {rate!r}.")
        if self.recurrent_dropout:
            self.implementation = 1
        self._generator = None if self.seed is None else generator(self.seed)
        if not self._seeded_first:
            skip_default_seed(self.seed)
        set_unnoticed(self, _masks=OwnDict())

    @property
    def recurrent_kernel_regularizer(self) -> Any:
        """The attribute that the weight table reads."""
        return self.recurrent_regularizer

    @property
    def recurrent_kernel_constraint(self) -> Any:
        """The attribute that the weight table reads."""
        return self.recurrent_constraint

    # ------------------------------------------------------------------------------------------ what a class defines

    def project(self, x: Tensor, training: bool) -> Tensor:
        """Returns the contribution of the inputs (batch, time, ...) to the gates."""
        raise NotImplementedError

    def advance(self, gates: Tensor, states: Sequence[Tensor], training: bool) -> list[Tensor]:
        """Returns the new states, the output being the first of them."""
        raise NotImplementedError

    def _input_matrix(self) -> Tensor:
        """Returns the weights for the inputs, in torch's layout: (gates * units, features, ...)."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- running it

    @runs_as_steps
    def forward(self, inputs: Tensor, states: Any, training: bool | None = False) -> tuple[Tensor, Any]:
        return self._take_step(inputs, states, bool(training))

    def _take_step(self, inputs: Tensor, states: Any, training: bool) -> tuple[Tensor, Any]:
        if inputs.dtype in INTEGERS:
            inputs = inputs.to(self._dtype)
        self._check_features(inputs)
        gates = self.project(inputs.unsqueeze(1), training).squeeze(1)
        given = states if tree.is_nested(states) else [states]
        given = [state.to(self._dtype) if state.dtype in INTEGERS else state for state in given]
        new = self.advance(gates, given, training)
        return new[0], new if tree.is_nested(states) else new[0]

    def run(
        self, x: Tensor, states: Any, inside: Tensor | None, every_step: bool, final_states: bool, training: bool
    ) -> tuple[Tensor, Any]:
        """Runs over a whole sequence, aligned where `inside` says which steps are valid.

        Returns: The outputs of every step, or that of the last valid one; and the states after it, which may be
            wrong unless `final_states` asks for them.
        """
        if self._forward_pre_hooks:
            refresh(self)  # parametrizations are hooks of the cell, which is not called
        if x.dtype in INTEGERS:
            x = x.to(self._dtype)
        self._check_features(x)
        args = (x, states, inside, every_step, final_states, training)
        precise = self.__dict__.get("forward")  # that of the instance, which casts according to the policy
        return self._run(*args) if precise is None else precise.around(self._run, args, {})

    def _check_features(self, x: Tensor) -> None:
        """Checks the number of features, since torch's kernel would read beyond the end of the matrix for the inputs.

        Raises: ValueError: if there are not.
        """
        axis, features = self.gate_axis, self._input_matrix().shape[1]
        if x.shape[axis] != features:
            raise misfit(self, f"size {features} along axis {axis}", x.shape)

    def _run(
        self, x: Tensor, states: Any, inside: Tensor | None, every_step: bool, final_states: bool, training: bool
    ) -> tuple[Tensor, Any]:
        def step(gates: Tensor, states: Any) -> tuple[Tensor, Any]:
            new = self.advance(gates, states, training)
            return new[0], new

        return loop(step, self.project(x, training), states, inside, every_step, training)

    def get_initial_state(self, batch_size: int | None = None) -> list[Tensor]:
        """Returns zeros for each state."""
        weight = first_parameter(self)
        device, dtype = (config.device(), self._dtype) if weight is None else (weight.device, weight.dtype)
        shape = (batch_size or 0, *self.state_shape)
        return [torch.zeros(shape, dtype=dtype, device=device) for _ in range(self.num_states)]

    # -------------------------------------------------------------------------------------------------------- dropout

    def dropout_masks(self, which: str, like: Tensor, training: bool) -> list[Tensor]:
        """Returns the masks of `dropout` or `recurrent_dropout`, one or one a gate, none outside training.

        They stay the same until they are reset, which the layer around the cell does for every sequence.
        """
        rate = getattr(self, which)
        if not training or not rate:
            return []
        getter = f"get_{which}_mask"
        if getattr(type(self), getter) is not getattr(Cell, getter):  # a subclass draws its own masks
            masks = getattr(self, getter)(like)
            return [] if masks is None else [*masks] if isinstance(masks, (list, tuple)) else [masks]
        return self._own_masks(which, like, rate)

    def _own_masks(self, which: str, like: Tensor, rate: float) -> list[Tensor]:
        if which not in self._masks or self._masks[which][0].shape != like.shape:
            count = self.num_gates if self.implementation == 1 else 1
            self._masks[which] = [self._draw(like, rate) for _ in range(count)]
        return self._masks[which]

    def _draw(self, like: Tensor, rate: float) -> Tensor:
        """Returns a mask of 0 and `1 / (1 - rate)`, drawn on the CPU if there is a seed, so that all devices agree."""
        if self._generator is None:
            return F.dropout(torch.ones_like(like), rate)
        kept = torch.rand(like.shape, generator=self._generator) >= rate
        return kept.to(like) / (1 - rate if rate < 1 else 1)

    def get_dropout_mask(self, step_input: Tensor) -> Any:
        """Returns the dropout mask of the inputs in training, drawn on first use; None without `dropout`.

        It is a list with a mask for each gate if gates have separate masks.
        """
        return self._mask_or_masks("dropout", step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        """Returns the dropout mask of the state in training, likewise; None without `recurrent_dropout`."""
        return self._mask_or_masks("recurrent_dropout", step_input)

    def _mask_or_masks(self, which: str, like: Tensor) -> Any:
        rate = getattr(self, which)
        masks = self._own_masks(which, like, rate) if rate else []
        return None if not masks else masks if len(masks) > 1 else masks[0]

    def reset_dropout_mask(self) -> None:
        """Makes the next step draw a new dropout mask of the inputs."""
        self._masks.pop("dropout", None)

    def reset_recurrent_dropout_mask(self) -> None:
        """Makes the next step draw a new dropout mask of the state."""
        self._masks.pop("recurrent_dropout", None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_masks": OwnDict()}

    def map_gates(
        self,
        function: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        masks: Sequence[Tensor],
    ) -> Tensor:
        """Returns `function(x, weight, bias)`, with a mask on `x` for each gate if there are several."""
        if len(masks) < 2:
            return function(x * masks[0] if masks else x, weight, bias)
        biases = [None] * len(masks) if bias is None else bias.chunk(len(masks))
        parts = zip(masks, weight.chunk(len(masks)), biases, strict=True)
        return torch.cat([function(x * mask, w, b) for mask, w, b in parts], dim=self.gate_axis)


class FusedCell(Cell):
    """Base of the cells with a fused kernel in torch. The weights have torch's names and order of gates."""

    units: int

    kernel = Weight("weight_ih_l0", permuted(1, 0))
    recurrent_kernel = Weight("weight_hh_l0", permuted(1, 0))

    def _store(self, names: dict[str, Any]) -> None:
        super()._store(names)
        self.units = positive_int(self.units, "units", self)
        self.state_shape = (self.units,)
        self.output_size = self.units
        self.state_size: Any = self.units if self.num_states == 1 else [self.units] * self.num_states
        self.use_kernel = True  # False with use_cudnn=False of the layer

    def build(self, input_shape: Shape) -> None:
        features, size = known_size(input_shape, -1, self), self.num_gates * self.units
        options: Any = {"dtype": self._dtype, "device": config.device()}
        self.weight_ih_l0 = nn.Parameter(torch.empty(size, features, **options))
        self.weight_hh_l0 = nn.Parameter(torch.empty(size, self.units, **options))
        self._make_bias(size, options)
        self.initialize(kernel=self.kernel_initializer, recurrent_kernel=self.recurrent_initializer)
        self.initialize(bias=self._initial_bias)
        self._compact()

    def _make_bias(self, size: int, options: dict[str, Any]) -> None:
        """Creates the biases. One is trained, as in Keras; the second one of the kernels stays zero."""
        self.bias_ih_l0 = nn.Parameter(torch.empty(size, **options)) if self.use_bias else None
        self.register_buffer("bias_hh_l0", torch.zeros(size, **options) if self.use_bias else None, persistent=False)

    def _initial_bias(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        return self.bias_initializer(shape, dtype=dtype)

    def _biases(self) -> tuple[Tensor | None, Tensor | None]:
        """Returns the biases of the inputs and of the state."""
        return self.bias_ih_l0, self.bias_hh_l0

    def _input_matrix(self) -> Tensor:
        return self.weight_ih_l0

    def project(self, x: Tensor, training: bool) -> Tensor:
        masks = [mask.unsqueeze(1) for mask in self.dropout_masks("dropout", x[:, 0], training)]
        return self.map_gates(dense_product, x, self.weight_ih_l0, self._biases()[0], masks)

    def recur(self, h: Tensor, training: bool) -> Tensor:
        """Returns the contribution of the state to the gates."""
        masks = self.dropout_masks("recurrent_dropout", h, training)
        return self.map_gates(F.linear, h, self.weight_hh_l0, self._biases()[1], masks)

    # ----------------------------------------------------------------------------------------------- the fused kernel

    @property
    def has_kernel(self) -> bool:
        """True if torch's kernel computes the same as this cell, at least in inference mode."""
        raise NotImplementedError

    def run_kernel(self, x: Tensor, states: Any, weights: list[Tensor], options: tuple[Any, ...]) -> tuple[Tensor, Any]:
        """Runs torch's kernel. Returns: Outputs at each step, and final states, each (directions, batch, units)."""
        raise NotImplementedError

    def _run(
        self, x: Tensor, states: Any, inside: Tensor | None, every_step: bool, final_states: bool, training: bool
    ) -> tuple[Tensor, Any]:
        drops_per_gate = training and self.implementation == 1 and (self.dropout or self.recurrent_dropout)
        if not self.use_kernel or not self.has_kernel or drops_per_gate or writes_one_step(x):
            return super()._run(x, states, inside, every_step, final_states, training)
        for state in states:
            if state.shape != (x.shape[0], self.units):  # torch's kernel reads beyond the memory of smaller states
                raise ValueError(
                    f"{self.name}: expected states of shape (batch, units), {(x.shape[0], self.units)}; "
                    f"got {tuple(state.shape)}."
                )
        for mask in self.dropout_masks("dropout", x[:, 0], training):
            x = x * mask.unsqueeze(1)
        weights = self.weights_for_kernel()
        if inside is not None and final_states:
            x, weights = self._hold_states(x, weights, inside)
        states = [state.unsqueeze(0) for state in states]
        outputs, new_states = self.run_kernel(x, states, weights, kernel_options(len(weights) > 2))
        new_states = [state[0] for state in new_states]
        if inside is None:
            return (outputs if every_step else outputs[:, -1]), new_states
        new_states[0] = last_valid(outputs, inside, otherwise=states[0][0])
        return (outputs if every_step else last_valid(outputs, inside)), new_states

    def weights_for_kernel(self) -> list[Tensor]:
        """Returns the weights in torch's order: matrices for the inputs and the state, followed by biases, if any."""
        biases = [bias for bias in self._biases() if bias is not None]
        return [self.weight_ih_l0, self.weight_hh_l0, *biases]

    def is_plain(self, x: Tensor, training: bool) -> bool:
        """Returns whether the kernel computes everything for `x`, (batch, time, features), from a state of zeros."""
        drops = training and (self.dropout or self.recurrent_dropout)
        if drops or not self.use_kernel or not self.has_kernel or "forward" in self.__dict__:
            return False
        if has_other_call(self):
            return False
        weight = self._parameters.get("weight_ih_l0")
        if self._forward_pre_hooks or "weight_hh_l0" not in self._parameters:  # a parametrized weight
            return False
        if weight is None or x.ndim != 3 or x.shape[2] != weight.shape[1]:  # the kernel does not check it
            return False
        return x.dtype is weight.dtype and not is_exporting()

    def run_plainly(self, x: Tensor, backward: FusedCell | None = None) -> Tensor:
        """Returns the outputs at each step, if `is_plain`.

        Args:
            backward: Another cell of the same class and size, to run from the last step to the first.
        Returns: (batch, time, units), or (batch, time, 2 * units) with the outputs of `backward` behind.
        """
        weights = self.weights_for_kernel()
        options = kernel_options(len(weights) > 2, backward is not None)
        if backward is not None:
            weights += backward.weights_for_kernel()
        zeros = x.new_zeros((1 if backward is None else 2, x.shape[0], self.units))
        return self.run_kernel(x, [zeros] * self.num_states, weights, options)[0]

    def _hold_states(self, x: Tensor, weights: list[Tensor], inside: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns inputs and weights with which the kernel keeps states that are not outputs after the valid steps."""
        return x, weights

    def _compact(self) -> None:
        """Moves the weights on a GPU into one block of memory, which cuDNN uses without a copy at each call."""
        if not self._is_on_gpu():
            return
        tensors = [*self._parameters.values(), *self._buffers.values()]
        weights = [tensor for tensor in tensors if tensor is not None]
        with torch.no_grad():
            for weight, piece in zip(weights, in_one_piece(weights), strict=True):
                weight.data = piece

    def _is_on_gpu(self) -> bool:
        """Returns whether the weights are plain tensors on a GPU (sharded tensors are not)."""
        weight = self._parameters.get("weight_ih_l0")
        return type(weight) is nn.Parameter and weight.is_cuda

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        self._reset_second_bias()
        self._compact()
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._reset_second_bias()

    def _reset_second_bias(self) -> None:
        """Resets the bias that stays zero, since `to_empty()` leaves it uninitialized, and files do not hold it."""
        bias, zeros = self._parameters.get("bias_ih_l0"), self._buffers.get("bias_hh_l0")
        if bias is not None and zeros is not None:
            if zeros.device != bias.device:  # after load_state_dict(assign=True)
                self._buffers["bias_hh_l0"] = zeros = torch.empty_like(bias, requires_grad=False)
            zeros.zero_()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compact()


def kernel_options(has_biases: bool, both_ways: bool = False) -> tuple[Any, ...]:
    """Returns the last arguments of torch's kernels: one layer, no dropout between layers, the batch first."""
    # the fourth is `train`: cuDNN's backward pass requires it, and models in eval mode have gradients too
    return has_biases, 1, 0.0, torch.is_grad_enabled(), both_ways, True


def in_one_piece(weights: Sequence[Tensor]) -> list[Tensor]:
    """Returns copies of the tensors in contiguous memory, in cuDNN's order: matrices, then biases."""
    pieces = torch.cat([weight.reshape(-1) for weight in weights]).split([weight.numel() for weight in weights])
    return [piece.view(weight.shape) for piece, weight in zip(pieces, weights, strict=True)]
