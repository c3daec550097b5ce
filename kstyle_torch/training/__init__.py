"""Training: the loops of `fit`, `evaluate` and `predict`, and the engines that run their steps.

The loops are in `fit.py` and `predict.py`. A training step is, in the order in which the engines are tried:

* **Compiled epoch** (`compiled/epoch_graph.py`, `scanned_steps.py`): all whole batches in one call of one graph. Runs with
  `jit_compile=True, steps_per_execution="epoch"`, data in memory, on the CPU. Verified by `compiled/verify.py`.
* **Compiled step** (`compiled/step_graph.py`): forward, loss, backward and optimizer as one graph; or, for optimizers that
  cannot be part of a graph, forward and backward (`compiled/engine.py`). Runs with `jit_compile=True`, for frequent batch
  shapes. Verified by `compiled/verify.py`: a step under the same random key equals the eager one within rounding noise.
* **Recorded step** (`recorded/`): the torch calls of one eager step as straight-line Python, without modules and autograd.
  Runs by default (`jit_compile="auto"`) on the CPU if enough steps remain, and with `jit_compile="record"`. Verified by
  running the next step both ways: every bit must be equal. With user code in the recording, once in every epoch.
* **Eager step** (`step.py`): the reference for all others. Runs with `run_eagerly=True` or `jit_compile=False`, and as the
  fallback when another engine cannot run a step or has been invalidated.

`evaluate` and `predict` run a compiled forward pass (`compiled/forward_graph.py`), one without module calls
(`graph_passes/`), or the plain one.

`engines/choose_engine.py` is the only place that knows every tier, and `engines/invalidation.py` the only one that decides
whether a recording or graph is still valid. Which engine runs depends on the program alone, never on a clock.

The other files: `objective.py` holds the result of `compile()` (losses, metrics, optimizer); `output_spec.py` assigns them to
outputs; `epoch_metrics.py` updates losses and metrics in bulk, and `lazy_logs.py` reads them when a callback does;
`fit_state.py` is the state that training keeps about a model; `run.py` is one call of `fit`, `evaluate` or `predict` and
belongs to a thread; `validation/` checks arguments, the first batch and later batches; `protocols.py` has the types.
"""
