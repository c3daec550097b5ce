"""What can be done to a symbolic tensor, and what is refused with advice."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kstyle_torch as ks
from kstyle_torch.layers import Dense, Embedding, Input
from kstyle_torch.symbolic.tensor import SymbolicTensor
from tests.oracle import GraphModule, assert_close, uniform

FUNCTIONS = {
    "add": lambda x: x + 1,
    "radd": lambda x: 1 + x,
    "sub": lambda x: x - x.mean(dim=1, keepdim=True),
    "rsub": lambda x: 1 - x,
    "mul": lambda x: 2.5 * x * x,
    "div": lambda x: x / 2,
    "rdiv": lambda x: 1 / (x + 3),
    "floordiv": lambda x: x // 0.3,
    "mod": lambda x: x % 0.3,
    "pow": lambda x: x**2,
    "rpow": lambda x: 2**x,
    "matmul": lambda x: x @ torch.ones(4, 2),
    "rmatmul": lambda x: torch.ones(2, 3) @ x[:, :3, None],
    "neg": lambda x: -x,
    "abs": lambda x: abs(x),
    "compare": lambda x: (x > 0) & (x < 0.5) | (x >= 0.9) ^ (x <= -0.9),
    "invert": lambda x: ~(x > 0),
    "eq": lambda x: x == x.abs(),
    "ne": lambda x: x != x.abs(),
    "iadd": lambda x: inplace_operators(x),
    "index": lambda x: x[:, 0],
    "index-ellipsis": lambda x: x[..., 1:3],
    "index-none": lambda x: x[:, None],
    "index-tensor": lambda x: x[:, torch.tensor([0, 2])],
    "index-mask": lambda x: x[:, [True, False, True, False]],
    "torch-relu": lambda x: torch.relu(x),
    "functional": lambda x: F.softmax(F.gelu(x), dim=-1),
    "cat": lambda x: torch.cat([x, x * 2], dim=-1),
    "stack": lambda x: torch.stack([x, x], dim=1),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "clamp": lambda x: torch.clamp(x, min=0.1, max=0.5),
    "einsum": lambda x: torch.einsum("bi,ij->bj", x, torch.ones(4, 3)),
    "split": lambda x: torch.split(x, 2, dim=1)[1],
    "chunk": lambda x: x.chunk(2, dim=1)[0] + x.chunk(2, dim=1)[1],
    "unbind": lambda x: torch.unbind(x, dim=1)[3],
    "max": lambda x: torch.max(x, dim=1).values,
    "max-indices": lambda x: x.max(dim=1)[1],
    "topk": lambda x: torch.topk(x, 2)[0],
    "sum": lambda x: x.sum(-1),
    "methods": lambda x: x.unsqueeze(1).transpose(1, 2).squeeze(-1).float().exp(),
    "reshape": lambda x: x.reshape(-1, 2, 2),
    "view": lambda x: x.view(-1, 2, 2).mT,
    "flatten": lambda x: torch.flatten(x.reshape(-1, 2, 2), 1),
    "permute": lambda x: x.reshape(-1, 2, 2).permute(0, 2, 1),
    "dtype": lambda x: x.double().to(x.dtype),
    "to": lambda x: x.to(torch.float64),
    "type-as": lambda x: x.long().type_as(x),
    "numpy-scalar": lambda x: np.float32(2) * x + np.float64(1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "layer-norm": lambda x: F.layer_norm(x, (4,)),
    "size": lambda x: x.reshape(-1, x.size(1) // 2, 2) if x.dim() == x.ndim == 2 else None,
    "bare-module": lambda x: nn.ReLU()(x) if isinstance(x, torch.Tensor) else torch.relu(x),
}


def inplace_operators(x):
    x += 1
    x *= 2
    return x


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_same_values_as_on_tensors(function):
    inputs = Input((4,))
    outputs = function(inputs)
    x = uniform(5, 4)
    expected = function(x.clone())
    assert isinstance(outputs, SymbolicTensor)
    assert outputs.shape == (None, *expected.shape[1:])
    assert outputs.dtype == expected.dtype
    assert_close(GraphModule(inputs, outputs)(x), expected)


def test_attributes():
    x = Input((3, 4), name="features")
    assert x.shape == (None, 3, 4) and x.shape[0] is None and x.size(0) is None and x.size() == (None, 3, 4)
    assert x.ndim == x.dim() == 3
    assert x.dtype == "float32" and x.dtype == torch.float32 and x.torch_dtype is torch.float32
    assert "features" in repr(x) and "(None, 3, 4)" in repr(x)
    assert len({x, x, Input((3,))}) == 2


def refuse_list():
    def iterate(x):
        for _ in x:
            pass

    def assign(x):
        x[0] = 1.0

    return {
        "if": (lambda x: 1 if x > 0 else 2, "torch.where"),
        "not": (lambda x: not x, "torch.where"),
        "and": (lambda x: (x > 0) and (x < 1), "torch.where"),
        "iterate": (iterate, "torch.unbind"),
        "list": (list, "torch.unbind"),
        "unpack": (lambda x: (lambda *parts: None)(*x), "torch.unbind"),
        "contains": (lambda x: 1.0 in x, None),
        "len": (len, ".shape"),
        "asarray": (np.asarray, "torch function"),
        "np-log": (np.log, "torch function"),
        "np-array-plus": (lambda x: np.concatenate([x, x]), "torch function"),
        "set-item": (assign, "torch.where"),
        "add_": (lambda x: x.add_(1), r"x = x.add\("),
        "relu_": (lambda x: x.relu_(), r"x = x.relu\("),
        "torch-relu_": (torch.relu_, "in place"),
        "float": (float, None),
        "int": (int, None),
        "sum-of-eq": (lambda x: bool((x == x) * x), "torch.where"),
        "eq-number": (lambda x: bool(x == 1), "torch.where"),
        "torch-numel": (torch.numel, "no values"),
    }


@pytest.mark.parametrize(("action", "advice"), refuse_list().values(), ids=refuse_list())
def test_what_needs_values_is_refused(action, advice):
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=advice):
        action(Input((4,)))


@pytest.mark.parametrize("name", ["numpy", "tolist", "item", "data_ptr", "numel", "stride"])
def test_there_are_no_values_to_read(name, keras):
    for library in (keras, ks):
        for x in (library.KerasTensor((2, 3)), library.Input((3,))):
            with pytest.raises(AttributeError, match=name):
                getattr(x, name)()


LISTS = {
    "in": lambda a, b, c: [a in [b], a in [c], a in [c, b, a], a not in (b, a), None in [a]],
    "index": lambda a, b, c: [b, c, a].index(a),
    "count": lambda a, b, c: [a, b, a, c].count(a),
    "remove": lambda a, b, c: [each.shape for each in removed([b, c, a], c)],
    "equal lists": lambda a, b, c: [[a, b] == [a, b], [a, b] == [b, a], [a] == [c], [a] != [b]],
    "truth": lambda a, b, c: [bool(a == a), bool(a == b), bool(a == c), {a: 1, b: 2}[b]],
}


def removed(things, thing):
    things.remove(thing)
    return things


@pytest.mark.parametrize("name", LISTS)
def test_lists_tell_symbolic_tensors_apart(name, keras):
    """Those of one shape, and of shapes that cannot be compared."""
    theirs, ours = (
        LISTS[name](library.Input((4,)), library.Input((4,)), library.Input((5,))) for library in (keras, ks)
    )
    assert ours == theirs


def test_the_truth_of_unlike_is_its_own():
    a, b = Input((4,)), Input((4,))
    assert (a != b) and bool(a != a) is False and (a != Input((5,))) and (a != b).shape == (None, 4)


@pytest.mark.parametrize(
    "name", "if not and iterate list unpack len asarray np-log np-array-plus set-item float int".split()
)
def test_exceptions_are_of_keras_types(name, keras):
    action, _ = refuse_list()[name]
    errors = []
    for library in (keras, ks):
        with pytest.raises((TypeError, ValueError, NotImplementedError)) as caught:
            action(library.Input((4,)))
        errors.append(caught.type)
    assert issubclass(errors[1], errors[0])


OTHERS = {
    "array": np.array([1, 2, 3, 4], "float32"),
    "integers": np.array([1, 2, 3, 4], "int32"),
    "number of NumPy": np.float32(2),
    "variable": "variable",
    "number": 2,
}
BINARY = {
    "-": (lambda x, other: x - other, lambda x, other: other - x),
    "*": (lambda x, other: x * other, lambda x, other: other * x),
    "%": (lambda x, other: x % other, lambda x, other: other % x),
    "//": (lambda x, other: x // other, lambda x, other: other // x),
    "<": (lambda x, other: x < other, lambda x, other: other < x),
    "&": (lambda x, other: x & other, lambda x, other: other & x),
    "^": (lambda x, other: x ^ other, lambda x, other: other ^ x),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("name", BINARY)
def test_operators_with_arrays_and_variables(name, other, keras):
    """In both orders but for arrays and variables on the left side, which Keras refuses."""
    results = []
    x = np.array([[3, 1, 5, 2], [0, 2, 1, 7]], "float32")
    for library in (keras, ks):
        value = library.Variable([1.0, 2.0, 3.0, 4.0], trainable=False) if isinstance(other, str) else other
        orders = BINARY[name][: 1 if isinstance(other, (np.ndarray, np.generic, str)) else 2]
        rows = []
        for order in orders:
            inputs = library.Input((4,))
            rows.append(library.Model(inputs, order(inputs, value)).predict(x, verbose=0))
        results.append(rows)
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("trainable", [True, False])
def test_variables_are_read_when_the_graph_runs(trainable, keras):
    results = []
    for library in (keras, ks):
        variable, inputs = library.Variable([1.0, 2.0], trainable=trainable), library.Input((2,))
        model = library.Model(inputs, inputs * variable)
        variable.assign([5.0, 7.0])
        results.append(model.predict(np.ones((1, 2), "float32"), verbose=0))
    np.testing.assert_array_equal(*results)
    inputs = Input((2,))
    model = ks.Model(inputs, variable - inputs)
    variable.assign([6.0, 9.0])
    assert model.predict(np.ones((1, 2)), verbose=0).tolist() == [[5.0, 8.0]]


def test_arrays_on_the_left_side():
    inputs = Input((4,))
    outputs = np.array([1.0, 2.0, 3.0, 4.0], "float32") - inputs
    x = uniform(5, 4)
    assert_close(GraphModule(inputs, outputs)(x), torch.tensor([1.0, 2.0, 3.0, 4.0]) - x)


CONSTRUCTED = {
    "positions": lambda library: library.KerasTensor((2, None), "int32", True, False, True, "x"),
    "ragged": lambda library: library.KerasTensor((2, None), ragged=True, ragged_rank=1, name="x"),
    "defaults": lambda library: library.KerasTensor([2, 3]),
    "reshape": lambda library: library.KerasTensor((2, 3)).reshape((3, 2)),
    "reshape to None": lambda library: library.Input((20,)).reshape((None, 5, 4)),
    "squeeze": lambda library: library.KerasTensor((2, 1, 3)).squeeze(1),
    "squeeze all": lambda library: library.KerasTensor((2, 1, 3, 1)).squeeze(),
    "round": lambda library: round(library.KerasTensor((2, 3)), 1),
    "invert": lambda library: ~library.KerasTensor((2, 3), "bool"),
    "and": lambda library: library.KerasTensor((2, 3), "int32") & library.KerasTensor((2, 3), "int32"),
    "reshape by shape": lambda library: library.ops.reshape(
        library.Input((20,)), (library.ops.shape(library.Input((20,)))[0], 5, 4)
    ),
    "subclass": lambda library: type("Special", (library.KerasTensor,), {})((2, 3)),
}


@pytest.mark.parametrize("make", CONSTRUCTED.values(), ids=CONSTRUCTED)
def test_members(make, keras):
    rows = []
    for library in (keras, ks):
        library.utils.clear_session()
        tensor = make(library)
        fields = [tensor.shape, tensor.ndim, tensor.dtype, tensor.sparse, tensor.ragged, tensor.ragged_rank]
        rows.append([*fields, tensor.row_splits_dtype, tensor.record_history, library.backend.is_keras_tensor(tensor)])
        with pytest.raises(AttributeError):
            tensor.shape = (1,)
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "arguments", [{"shape": None}, {"shape": (2.5,)}, {"shape": (-1,)}, {"sparse": True, "ragged": True}]
)
def test_wrong_arguments(arguments, keras):
    for library in (keras, ks):
        with pytest.raises(ValueError):
            library.KerasTensor(**{"shape": (2,), **arguments})
        with pytest.raises(TypeError):
            library.KerasTensor((2,), nonsense=1)


def test_a_batch_of_unknown_size_in_reshape():
    inputs = Input((20,))
    model = ks.Model(inputs, ks.ops.reshape(inputs, (ks.ops.shape(inputs)[0], 5, 4)))
    assert model.output_shape == (None, 5, 4)
    assert model(uniform(3, 20)).shape == (3, 5, 4)
    with pytest.raises(ValueError, match="only one size may be unknown"):
        ks.ops.reshape(Input((None, 4)), (None, None, 2, 2))


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        Input((4,)).nonsense  # noqa: B018


def test_a_parameter_of_nobody_is_refused():
    """It would be neither trained nor moved with the model."""
    with pytest.raises(ValueError, match="Parameter.*[Ll]ayer"):
        Input((4,)) * nn.Parameter(torch.ones(4))
    with pytest.raises(ValueError, match="Parameter.*[Ll]ayer"):
        F.linear(Input((4,)), nn.Linear(4, 2).weight)


def test_a_value_computed_from_weights_is_refused():
    places = Embedding(4, 3)(torch.arange(4))
    with pytest.raises(ValueError, match=r"shape \(4, 3\) that was computed from weights.*call\(\) of a Layer"):
        Input((4, 3)) + places
    assert (Input((4, 3)) + places.detach()).shape == (None, 4, 3)


def test_failing_call_names_what_was_called_and_the_shapes():
    with pytest.raises(ValueError, match=r"cat.*\(None, 4\), \(None, 3, 2\)"):
        torch.cat([Input((4,)), Input((3, 2))])
    layer = Dense(2, name="mine")
    layer(Input((4,)))
    with pytest.raises(ValueError, match=r"'mine' \(Dense\).*\(None, 5\)"):
        layer(Input((5,)))
