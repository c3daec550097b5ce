"""Variables of the user's own: constructor, operators in both orders, members."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import array

INITIAL = {
    "int": 0,
    "float": 1.5,
    "bool": True,
    "list": [1.0, 2.0],
    "ints": [1, 2],
    "float64 array": np.ones(2),
    "float32 array": np.ones(2, "float32"),
    "int array": np.ones(2, "int8"),
    "tensor": torch.ones(2, dtype=torch.float16),
    "scalar of NumPy": np.float64(3),
}


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("value", INITIAL.values(), ids=INITIAL)
def test_the_initial_value(value, trainable, keras):
    """Keras refuses trainable integers; here they are tensors that need no gradient."""
    made = []
    whole = trainable and not torch.as_tensor(value).is_floating_point()
    for library in (ks, ks) if whole else (keras, ks):
        variable = library.Variable(value, trainable=trainable)
        names = [library.backend.standardize_dtype(each.dtype) for each in (variable, variable.value)]
        made.append((names, tuple(variable.shape), variable.ndim, variable.trainable, variable.numpy().tolist()))
    assert made[0] == made[1]


MEMBERS = (
    "aggregation synchronization overwrite_with_gradient regularizer constraint trainable autocast name path".split()
)


def members(library, **arguments):
    library.utils.clear_session()
    variables = [library.Variable("zeros", (2, 3), **arguments), library.Variable(1.0)]
    names = [name for name in MEMBERS if name != "autocast"]
    return [[getattr(variable, name) for name in names] for variable in variables]


ARGUMENTS = {
    "none": {},
    "all": {
        "trainable": False,
        "autocast": False,
        "aggregation": "mean",
        "synchronization": "on_read",
        "name": "scale",
    },
    "None": {"aggregation": None, "synchronization": None},
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_members(arguments, keras):
    assert members(ks, **arguments) == members(keras, **arguments)


WRONG = {
    "name": lambda library: library.Variable(1.0, name="a/b"),
    "name's type": lambda library: library.Variable(1.0, name=3),
    "aggregation": lambda library: library.Variable(1.0, aggregation="all"),
    "synchronization": lambda library: library.Variable(1.0, synchronization="never"),
    "initializer": lambda library: library.Variable("zeros"),
    "unknown size": lambda library: library.Variable("zeros", (None, 2)),
    "shape": lambda library: library.Variable([1.0, 2.0]).assign([1.0]),
    "regularizer": lambda library: setattr(library.Variable(1.0), "regularizer", 3),
    "constraint": lambda library: setattr(library.Variable(1.0), "constraint", 3),
    "overwrite": lambda library: setattr(library.Variable(1.0), "overwrite_with_gradient", 3),
    "float": lambda library: float(library.Variable([1.0])),
    "int": lambda library: int(library.Variable([1], trainable=False)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_mistakes(wrong, keras):
    errors = []
    for library in (keras, ks):
        with pytest.raises((ValueError, TypeError)) as caught:
            wrong(library)
        errors.append(caught.type)
    assert errors[0] is errors[1]


OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "@": lambda a, b: a @ b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
OTHERS = {
    "number": 2,
    "float": 1.5,
    "array": np.array([[1, 2], [4, 3]], "int32"),
    "tensor": torch.tensor([[1, 2], [4, 3]], dtype=torch.int32),
    "variable": "variable",
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_in_both_orders(operator, other, keras):
    if operator == "@" and not hasattr(other, "shape"):
        other = "variable"
    results = []
    for library in (keras, ks):
        a = library.Variable(np.array([[5, 2], [3, 1]], "int32"), trainable=False)
        b = library.Variable(np.array([[1, 2], [4, 3]], "int32"), trainable=False) if isinstance(other, str) else other
        calls = [(a, b)] if isinstance(other, np.ndarray) else [(a, b), (b, a)]
        results.append([array(OPERATORS[operator](*pair)) for pair in calls])
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert ours.dtype == theirs.dtype


UNARY = {
    "-": lambda v: -v,
    "+": lambda v: +v,
    "abs": abs,
    "round": round,
    "round to": lambda v: round(v, 1),
    "[]": lambda v: v[0],
    "numpy": np.asarray,
}


@pytest.mark.parametrize("operator", UNARY)
def test_unary_operators(operator, keras):
    values = np.array([-1.25, 2.5, 0.75], "float32")
    theirs, ours = (array(UNARY[operator](library.Variable(values, trainable=False))) for library in (keras, ks))
    np.testing.assert_array_equal(ours, theirs)


def test_inversion(keras):
    for value in ([True, False], [1, 2]):
        theirs, ours = (array(~library.Variable(value, trainable=False)) for library in (keras, ks))
        np.testing.assert_array_equal(ours, theirs)


def test_numbers_of_an_optimizer_compare_by_value(keras):
    for library in (keras, ks):
        optimizer = library.optimizers.SGD(0.5)
        assert optimizer.iterations == 0 and optimizer.learning_rate == 0.5 and optimizer.iterations != 1


def test_arrays_leave_their_operators_to_variables():
    """Keras gives an array here, which has no way back for gradients."""
    variable = ks.Variable([1.0, 2.0])
    (np.array([3.0, 4.0], "float32") * variable).sum().backward()
    assert variable.value.grad.tolist() == [3.0, 4.0]


def test_gradients_reach_a_trainable_variable(keras):
    for library in (keras, ks):
        variable = library.Variable(2.0)
        assert isinstance(variable.value, torch.nn.Parameter)
        (variable * 3.0).backward()
        assert float(variable.value.grad) == 3.0
        before = variable.value
        variable.assign(5.0)
        assert variable.value is before and before.item() == 5.0


def test_subclasses(keras):
    for library in (keras, ks):

        class Counter(library.Variable):
            def count(self):
                self.assign(self + 1)

        library.utils.clear_session()
        counter = Counter(0, trainable=False)
        counter.count()
        assert int(counter) == 1 and counter.name == "counter"


def test_names_of_scopes_are_in_paths(keras):
    paths = []
    for library in (keras, ks):
        caller = object()
        scope = library.name_scope
        with scope("outer", caller=caller), scope("outer", caller=caller), scope("inner"):
            rows = [library.Variable(0.0, name="a").path]
            with scope("own", override_parent="root/below"):
                rows.append(library.Variable(0.0, name="b").path)
        rows.append(library.Variable(0.0, name="c").path)
        with pytest.raises(ValueError):
            library.name_scope("a/b")
        paths.append(rows)
    assert paths[0] == paths[1]


@pytest.mark.parametrize("operator", ["&", "|", "^", "+", "=="])
def test_operators_of_weights(operator, keras):
    results = []
    for library in (keras, ks):
        layer = library.layers.Layer()
        weight = layer.add_weight(shape=(3,), initializer="ones", dtype="int32", trainable=False)
        weight.assign([5, 0, 1])
        others = [library.Variable([4, 2, 0], trainable=False), torch.tensor([4, 2, 0])]
        results.append([array(OPERATORS[operator](weight, other)) for other in others])
        results[-1].append(array(OPERATORS[operator](others[0], weight)))
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)
