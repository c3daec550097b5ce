"""Comparison of inferred shapes with Keras' and with those of real data."""

from contextlib import contextmanager

from kstyle_torch import tree
from kstyle_torch.symbolic.infer import _Runs

MOST_TRIES = 70  # of one call: on the sizes that are tried, 15 ms


def openings(shapes):
    """The shapes with None for: the batch, all axes but the first, all axes, each axis, all axes of one tensor."""
    ranks = [len(shape) for shape in shapes]
    chosen = [[(0,)] * len(shapes), [range(1, rank) for rank in ranks], [range(rank) for rank in ranks]]
    chosen += [[(axis,)] * len(shapes) for axis in range(1, max(ranks))]
    chosen += [[range(rank) if one == other else () for other, rank in enumerate(ranks)] for one in range(len(shapes))]
    found = [tuple(map(with_unknown, shapes, axes)) for axes in chosen]
    return [opened for opened in dict.fromkeys(found) if any(None in shape for shape in opened)]


def with_unknown(shape, axes):
    """The shape with None at some axes."""
    return tuple(None if axis in axes else size for axis, size in enumerate(shape))


def shapes_of(outputs):
    """The shapes of the leaves that are tensors, or symbolic ones."""
    return [tuple(leaf.shape) for leaf in tree.flatten(outputs) if hasattr(leaf, "shape")]


def missing(ours, theirs):
    """Returns whether Keras knows a size that we do not, or another one."""
    pairs = zip(shapes_of(ours), shapes_of(theirs), strict=True)
    return any(size not in (None, known) for shape, other in pairs for known, size in zip(shape, other, strict=True))


def untrue(inferred, outputs):
    """Returns whether the shape or dtype of an output of real data is not what was inferred."""
    leaves = ([leaf for leaf in tree.flatten(nest) if hasattr(leaf, "shape")] for nest in (inferred, outputs))
    for symbol, tensor in zip(*leaves, strict=True):
        sizes = zip(symbol.shape, tensor.shape, strict=True) if symbol.ndim == tensor.ndim else [(-1, 0)]
        if symbol.dtype != tensor.dtype or any(size not in (None, real) for size, real in sizes):
            return True
    return False


@contextmanager
def few_tries(monkeypatch):
    """Fails if a call in the block is run at many sizes."""
    tries = {}
    run = _Runs.run

    def counted(self, probe):
        tries[id(self)] = tries.get(id(self), 0) + 1
        keep.append(self)
        return run(self, probe)

    keep = []
    with monkeypatch.context() as patch:
        patch.setattr(_Runs, "run", counted)
        yield
    assert max(tries.values(), default=0) <= MOST_TRIES, tries
