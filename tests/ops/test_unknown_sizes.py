"""Every operation on symbolic tensors of unknown sizes: the shapes that Keras infers, or better, and those of real data."""

from kstyle_torch import layers, ops
from kstyle_torch.symbolic.tensor import is_symbolic
from tests.choice import per_row
from tests.ops.cases import ROWS
from tests.symbolic.unknown_sizes import few_tries, missing, openings, untrue

ELSEWISE = {  # where Keras infers a shape that its own result need not have
    "corrcoef": "the number of samples instead of variables",
    "hsplit": "a batch that is long enough for all parts",
    "scatter_update": "nothing of how sizes of indices and updates belong together",
    "vstack": "one axis for vectors, which become rows",
    "where": "the condition's shape, but gives the places where it holds",
}
TAKEN_AS_LONG = {  # where the sizes inferred hold unless an unknown one is 1, or another special number
    "correlate": "two signals of one length",
    "cross": "vectors of 2, if they are not known to be of 3",
    "squeeze": "an unknown size is not 1",
}


def called(library, row, inputs):
    args, kwargs = row.with_tensors(inputs)
    return getattr(library.ops, row.name)(*args, **kwargs)


class Ours:
    """The library in the place of `keras`."""

    ops, Input = ops, layers.Input


@per_row([row for row in ROWS if row.tensors()])
def test_shapes_are_keras_or_better(row, keras, monkeypatch):
    tensors = row.tensors()
    real = called(Ours, row, tensors)
    if row.name == "nonzero":  # its rows, as one tensor
        real = tuple(real)
    for shapes in openings([tuple(tensor.shape) for tensor in tensors]):
        dtypes = [str(tensor.dtype).removeprefix("torch.") for tensor in tensors]
        try:
            inputs = [keras.Input(batch_shape=shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes)]
            theirs = called(keras, row, inputs)
        except Exception:  # Keras raises all kinds of errors
            continue
        inputs = [layers.Input(batch_shape=shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes)]
        with few_tries(monkeypatch):
            try:
                ours = called(Ours, row, inputs)
            except ValueError:
                assert row.name in ELSEWISE
                continue
        assert row.name in ELSEWISE or not missing(ours, theirs), (shapes, ours, theirs)
        assert row.name in TAKEN_AS_LONG or not untrue(ours, real), (shapes, ours, real)
        assert is_symbolic(ours) or isinstance(ours, (list, tuple))
