"""The compiled forward pass of `evaluate` and `predict`: one graph, in inference mode."""

from __future__ import annotations

import contextlib
import operator
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import tree
from kstyle_torch._torch import version_of
from kstyle_torch.layer.hooks import anybody_listens
from kstyle_torch.training import step as steps
from kstyle_torch.training.compiled.functional_step import CannotCompileError, traced
from kstyle_torch.training.compiled.torch_compile import (
    compiler,
    compiler_is_taken,
    graph_options,
    has_cuda_graphs,
    is_default,
    keep_in_place,
    one_graph,
)
from kstyle_torch.training.compiled.tracing_copy import replaced, tracing_copy
from kstyle_torch.training.compiled.verify import Attempt, Trial, last_digit, nudged, reason_of, verify_forward
from kstyle_torch.training.engines.batch_layout import layout_of
from kstyle_torch.training.engines.collectives import all_modules, exchanging_module
from kstyle_torch.training.engines.invalidation import Standing, watched
from kstyle_torch.training.engines.torch_functions import users_function
from kstyle_torch.training.fit_state import UNKNOWN, OfModel
from kstyle_torch.training.protocols import Trainable
from kstyle_torch.training.recorded.side_effects import MASK
from kstyle_torch.training.run import Run

FEW_KERNELS, FEW_NUMBERS = 8, 2**18  # below both, the call of compiled code on a CPU (60 us) costs more than it saves
MOVES = frozenset(
    "aten.alias aten.detach aten.t aten.permute aten.view aten.unsqueeze aten.squeeze aten.expand aten.slice".split()
)
SECOND, OFTEN = 2, 20  # batches of a layout before it is compiled for: of the first layout, and of others


@contextlib.contextmanager
def compiled_forward(run: Run) -> Iterator[None]:
    """Runs the model compiled in the block, if that is possible."""
    plain, model = run.forward, run.model
    forward = model._fit.forward_engine
    if forward is None:
        forward = model._fit.forward_engine = CompiledForward(model, model.jit_compile)
    if forward.begin(plain):
        run.forward = forward
    try:
        yield
    finally:
        run.forward = plain


class CompiledForward(OfModel):
    """Engine of compiled forward passes, one for each input layout that comes more than once.

    Args:
        model: Compiled in Keras' sense.
        how: `jit_compile`.
    """

    def __init__(self, model: Trainable, how: Any):
        super().__init__(model)
        self.how = how
        self.calls: dict[Any, Forward | None] = {}  # by layout; None if it cannot be compiled
        self.seen: dict[Any, int] = {}
        self.plain: Any = None
        self.standing = Standing(model, training=False)
        self.weights: list[Tensor] = []
        self.failed = False

    def begin(self, plain: Any) -> bool:
        """Prepares for an epoch. Returns: Whether the model may run compiled.

        Args:
            plain: The function that `steps.straight` chose; None for the model itself.
        """
        model = self.model
        self.plain, self.weights = plain, [*model.parameters(), *model.buffers()]
        with torch.enable_grad():  # `watched` counts disabled gradients as a mode, which is right for training only
            if watched() or anybody_listens(all_modules(model)) or exchanging_module(model) is not None:
                return False
        if users_function() is not None:
            return False
        if model._fit.weights_key is UNKNOWN:
            steps.note_losses(model)
        if not self.standing.holds():
            self.calls, self.seen = {}, {}
            self.standing.note()
        return True

    def __call__(self, model: Trainable, x: Any) -> Any:
        """Returns the output."""
        key = layout_of(x, None, None, [])
        if key is None or self.failed:
            return self._as_it_is(x)
        call = self.calls.get(key)
        if call is not None:
            attempt = Attempt()
            with attempt:
                return call(x, self.weights)
            result = self._as_it_is(x)  # errors in user code are raised again here
            if not compiler_is_taken():
                self._give_up(reason_of(attempt.error))
            return result
        self.seen[key] = seen = self.seen.get(key, 0) + 1
        if key not in self.calls and seen >= (OFTEN if self.calls else SECOND):
            with compiler() as free:
                if free:
                    self.calls[key] = self._compiled(x)
        return self._as_it_is(x)

    def _as_it_is(self, x: Any) -> Any:
        if self.plain is not None:
            return self.plain(self.model, x)
        return steps.called(self.model, x)

    def _compiled(self, x: Any) -> Forward | None:
        trial = Trial(self.model, ())  # inference writes no weights, and another thread may be training
        with trial:
            forward = Forward(self.model, x, self.weights)
        if trial.error is not None or forward.is_too_small(self.how):  # or it cannot be traced
            return None
        with trial:
            forward.compile(self.how)
            self._verify(forward, x)
        if trial.error is None:
            return forward
        self._give_up(trial.reason)
        return None

    def _give_up(self, reason: str) -> None:
        self.failed = True
        warnings.warn(f"jit_compile: {self.model.name} predicts without being compiled, because {reason}", stacklevel=6)

    def _verify(self, forward: Forward, x: Any) -> None:
        def pure(x: Any, size: float, seed: int) -> Any:
            weights = [nudged(weight, size, seed + place) for place, weight in enumerate(self.weights)]
            return forward.given(forward.graph(tree.flatten(x), weights))

        with torch.no_grad():
            verify_forward(lambda x: forward(x, self.weights), self._as_it_is, pure, x, last_digit(self.model))


class Forward:
    """The compiled forward pass for inputs of one layout.

    Args:
        model: In inference mode.
        example: Inputs of that layout.
        weights: Parameters and buffers of the model.
    Raises: CannotCompileError: if the outputs depend on anything else, or a call has side effects.
    """

    def __init__(self, model: Trainable, example: Any, weights: list[Tensor]):
        self.example, self.outputs = example, None
        self.masked: list[int] = []
        self.device = weights[0].device if weights else torch.device("cpu")

        copy = tracing_copy(model)

        def pure(leaves: list[Tensor], given: list[Tensor]) -> list[Tensor]:
            return self._pure(copy, leaves, weights, given)

        self.graph = traced(model, pure, tree.flatten(example), weights)

    def is_too_small(self, how: Any) -> bool:
        """Returns whether the model itself is faster on a CPU; a backend or mode that the user names is taken as it is."""
        if self.device.type != "cpu" or not is_default(how):
            return False
        kernels = [node for node in self.graph.graph.nodes if str(node.target).rpartition(".")[0] not in MOVES]
        kernels = [node for node in kernels if node.op == "call_function" and node.target is not operator.getitem]
        results = [leaf for node in kernels for leaf in tree.flatten(node.meta.get("val")) if isinstance(leaf, Tensor)]
        return len(kernels) < FEW_KERNELS and sum(result.numel() for result in results) < FEW_NUMBERS

    def compile(self, how: Any) -> None:
        """Compiles the graph; `how` is `jit_compile`."""
        graph, arguments = self.graph, graph_options(how, self.device.type)
        self.on_cuda_graphs = has_cuda_graphs(arguments, self.device.type)

        def forward(leaves: list[Tensor], given: list[Tensor]) -> Any:
            return graph(leaves, given)

        self.call = one_graph(forward, arguments)

    def _pure(self, model: Trainable, leaves: list[Tensor], weights: list[Tensor], given: list[Tensor]) -> list[Tensor]:
        given = [tensor.detach() for tensor in given]
        versions = [*map(version_of, given)]
        with replaced(model, [*zip(weights, given, strict=True)]):
            y_pred = model(tree.pack_sequence_as(self.example, leaves))
            now = [*model.parameters(), *model.buffers()]
        if [*map(id, now)] != [*map(id, given)] or versions != [*map(version_of, given)]:
            raise CannotCompileError("a layer changes its state")
        if steps.has_losses(model):
            raise CannotCompileError("a layer adds a loss")
        outputs = tree.flatten(y_pred)
        if not all(isinstance(output, Tensor) for output in outputs):
            raise CannotCompileError("an output is not a tensor")
        self.outputs = tree.map_structure(lambda leaf: None, y_pred)
        self.masked = [place for place, output in enumerate(outputs) if hasattr(output, MASK)]
        return [*outputs, *(getattr(outputs[place], MASK) for place in self.masked)]

    @torch.no_grad()
    def __call__(self, x: Any, weights: list[Tensor]) -> Any:
        """Returns the output."""
        leaves = [x] if isinstance(x, Tensor) else tree.flatten(x)
        if self.on_cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
            keep_in_place(weights)
        results = self.call(leaves, weights)
        if self.on_cuda_graphs:  # the next call reuses their memory
            results = [tensor.clone() for tensor in results]
        return self.given(results)

    def given(self, results: list[Tensor]) -> Any:
        """Returns the outputs in the nest of the model's output, with their masks."""
        number = len(results) - len(self.masked)
        for place, mask in zip(self.masked, results[number:]):
            setattr(results[place], MASK, mask)
        return results[0] if self.outputs is None else tree.pack_sequence_as(self.outputs, results[:number])
