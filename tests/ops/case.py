"""A row of the table of operations: the name of a function and what it is called with."""

from dataclasses import dataclass, field
from typing import Any

import torch

from kstyle_torch import tree
from tests.oracle import integers, uniform


@dataclass
class Row:
    """One call.

    Args:
        name: Of the function, here and in `keras.ops`.
        args: Positional arguments.
        kwargs: Keyword arguments.
        gradient: Whether there is one, compared with Keras'; `"numeric"` where that cannot give it.
        traces: Whether the shape of the result follows from the shapes alone.
        batched: Whether the first axis of all tensors is the batch, whose size a graph does not know.
        oracle: Function that stands in for Keras' where that is known to be wrong; the reason is written beside it.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    gradient: bool | str = True
    traces: bool = True
    batched: bool = False
    oracle: Any = None

    def __post_init__(self):
        if self.oracle and self.gradient:
            self.gradient = "numeric"

    def __str__(self):
        shown = [_shown(value) for value in (*self.args, *self.kwargs.values())]
        return f"{self.name}-{'-'.join(shown)}"

    def tensors(self):
        """The tensors among the arguments."""
        return [leaf for leaf in tree.flatten((self.args, self.kwargs)) if isinstance(leaf, torch.Tensor)]

    def with_tensors(self, tensors):
        """The arguments with others in their place."""
        given = iter(tensors)
        return tree.map_structure(
            lambda leaf: next(given) if isinstance(leaf, torch.Tensor) else leaf, (self.args, self.kwargs)
        )


def _shown(value):
    if isinstance(value, torch.Tensor):
        return "x".join(map(str, value.shape)) + str(value.dtype).removeprefix("torch.")
    return str(value)[:20].replace(" ", "")


def row(name, *args, **options):
    """A row of positional arguments; `kwargs`, `gradient`, ... as in `Row`."""
    return Row(name, args, **options)


X = uniform(3, 4)
Y = uniform(3, 4, seed=1)
P = uniform(3, 4, low=0.1, high=0.9, seed=2)  # within the domain of every function
N = integers(3, 4).int()
M = integers(3, 4, seed=1).int() + 1
B = X > 0
V = uniform(6, seed=3)
W = uniform(4, seed=4)
I8, I64, U8 = N.to(torch.int8), N.long(), N.to(torch.uint8)
HALF = X.half()
COMPLEX = torch.complex(X, Y)
HOLES = torch.where(uniform(3, 4, seed=5) > 0.4, float("nan"), X)
EXTREMES = torch.tensor([1.5, float("nan"), float("inf"), float("-inf"), -0.0])
CUBE = uniform(2, 3, 4, seed=6)
