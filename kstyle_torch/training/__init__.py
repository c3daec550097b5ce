"""Training: the loops of `fit`, `evaluate` and `predict`, and the engines that run their steps.

The loops are in `fit.py` and `predict.py`. A training step is, in the order in which the engines are tried:

* **Compiled epoch** (`compiled/epoch_graph.py`, `scanned_steps.py`): all whole batches in one call of one graph. Runs with
  `jit_compile=True, steps_per_execution="epoch"`, data in memory, on the CPU. Proven by `compiled/verify.py`.
* **Compiled step** (`compiled/step_graph.py`): forward, loss, backward and optimizer as one graph; or, for optimizers that no
  graph can hold, forward and backward (`compiled/engine.py`). Runs with `jit_compile=True`, for shapes that come often.
  Proven by `compiled/verify.py`: a step under the same random key, compared with the eager one within rounding noise.
* **Recorded step** (`recorded/`): the torch calls of one eager step as straight-line Python, without modules and autograd.
  Runs by default (`jit_compile="auto"`) on the CPU where enough steps lie ahead, and with `jit_compile="record"`. Proven by
  a second step, run both ways, which must be equal in every bit; with code of the user's in it, once in every epoch.
* **Eager step** (`step.py`): the reference for all others. Runs with `run_eagerly=True` or `jit_compile=False`, and wherever
  one of the others does not hold.

`evaluate` and `predict` run the forward pass compiled (`compiled/forward_graph.py`), without the calls of modules
(`graph_passes/`), or as it is.

`engines/choose_engine.py` is the only place that knows every tier, and `engines/invalidation.py` the only one that says whether
what was recorded or compiled still holds. Which engine runs depends on the program alone, never on a clock.

What else is here: `objective.py`, what `compile()` made (losses, metrics, optimizer); `output_spec.py`, how they are handed to
outputs; `epoch_metrics.py`, losses and metrics of an epoch, updated in bulk; `fit_state.py`, what training remembers about a
model; `run.py`, one call of `fit` or its like, which belongs to a thread; `validation/`, checks of arguments, of the first
batch, and of batches that come later; `protocols.py`, the types.
"""
