"""Operations of the user's own, and functions over graphs."""

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.symbolic import function, operation
from tests.oracle import array

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], "float32")


def scale(library):
    class Scale(library.Operation):
        def __init__(self, factor=2.0, name=None):
            super().__init__(name)
            self.factor = factor

        def call(self, x, shift=0.0):
            return library.ops.multiply(x, self.factor) + shift

        def compute_output_spec(self, x, shift=0.0):
            return library.KerasTensor(x.shape, x.dtype)

    return Scale


def pair(library):
    class Pair(library.Operation):
        """Without a spec of its own."""

        def call(self, x):
            return {"sum": library.ops.sum(x, axis=-1), "max": library.ops.max(x, axis=-1)}

    return Pair


def chain(library):
    inputs = library.Input((3,))
    hidden = library.layers.Dense(4, kernel_initializer="ones")(inputs)
    return inputs, hidden, library.ops.relu(hidden) - 1


PROGRAMS = {
    "call": lambda library: scale(library)(3.0)(library.ops.convert_to_tensor(X)),
    "keyword": lambda library: scale(library)()(library.ops.convert_to_tensor(X), shift=1.0),
    "in a model": lambda library: model_of(library, scale(library)(3.0)),
    "in a graph with a keyword": lambda library: model_of(library, lambda x: scale(library)()(x, shift=2.0)),
    "several outputs": lambda library: model_of(library, lambda x: list(pair(library)()(x).values())),
    "cloned": lambda library: library.models.clone_model(
        library.Sequential([library.Input((3,)), library.layers.Dense(2, kernel_initializer="ones")])
    ).predict(X, verbose=0),
    "names": lambda library: names_of(library),
    "shape": lambda library: [
        scale(library)()(library.Input((3,))).shape,
        pair(library)()(library.Input((3,)))["sum"].shape,
    ],
    "ends": lambda library: ends_of(library),
    "config": lambda library: sorted(scale(library)(3.0, name="s").get_config().items()),
    "function": lambda library: function_of(library, 0, 2),
    "function from inside": lambda library: function_of(library, 1, 2),
    "function on symbols": lambda library: symbols_of(library),
    "function of nests": lambda library: nests_of(library),
}


def model_of(library, call):
    inputs = library.Input((3,))
    return library.Model(inputs, call(inputs)).predict(X, verbose=0)


def names_of(library):
    library.utils.clear_session()
    cls = scale(library)
    return [cls().name, cls().name, cls(name="own").name, repr(cls(name="own"))]


def ends_of(library):
    made = scale(library)()
    inputs = library.Input((3,))
    outputs = made(inputs)
    return [made.input is inputs, made.output is outputs]


def function_of(library, first, last):
    tensors = chain(library)
    made = library.Function(tensors[first], tensors[last])
    x = X if first == 0 else np.concatenate([X, X[:, :1]], 1)
    shape = made.compute_output_shape((5, x.shape[1]))
    return [made(library.ops.convert_to_tensor(x)), shape, len(made.inputs), len(made.outputs)]


def symbols_of(library):
    tensors = chain(library)
    made = library.Function(tensors[1], tensors[2])
    other = library.Input((4,))
    return library.Model(other, made(other)).predict(np.ones((2, 4), "float32"), verbose=0)


def nests_of(library):
    a, b = library.KerasTensor((None, 3)), library.KerasTensor((None, 3))
    made = library.Function({"a": a, "b": b}, [a * b, {"difference": a - b}])
    x = library.ops.convert_to_tensor(X)
    product, rest = made({"a": x, "b": x + 1})
    return [product, rest["difference"]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    theirs, ours = (ks.tree.flatten(PROGRAMS[name](library)) for library in (keras, ks))
    assert len(theirs) == len(ours)
    for their, our in zip(theirs, ours, strict=True):
        if hasattr(their, "shape"):
            np.testing.assert_allclose(array(our), array(their), rtol=1e-6)
        else:
            assert our == their


def test_mistakes():
    for library in (keras, ks):
        with pytest.raises(ValueError):
            library.Operation(name="a/b")
        with pytest.raises(NotImplementedError):
            library.Operation()(library.ops.convert_to_tensor(X))
        with pytest.raises(ValueError):
            library.Function(library.Input((3,)), chain(library)[2])
    made = function.Function(*chain(ks)[::2])
    with pytest.raises(ValueError, match="takes 1 inputs; got 2"):
        made([torch.ones(1, 3), torch.ones(1, 3)])
    with pytest.raises(NotImplementedError, match="make a Model"):
        made.get_config()
    with pytest.raises(AttributeError, match="has no output"):
        operation.Operation().output  # noqa: B018


def test_versions_and_devices():
    assert ks.version() == ks.__version__
    with ks.device("meta"):
        layer = ks.layers.Dense(2)
        layer.build((None, 3))
    assert layer.kernel.device.type == "meta"
    with keras.device("cpu:0") as theirs, ks.device("cpu:0") as ours:
        assert ours == theirs and ks.Variable(1.0).device.type == "cpu"
    with ks.device("gpu:0") as made:
        assert made.index == 0 and made.type != "gpu"


@pytest.mark.parametrize("library", [keras, ks], ids=["keras", "ours"])
def test_a_function_takes_arrays(library):
    a, b = library.KerasTensor((None, 2)), library.KerasTensor((None, 2))
    made = library.Function([a, b], a * 2 + b)
    result = made([np.ones((3, 2), "float32"), np.full((3, 2), 5.0, "float32")])
    np.testing.assert_array_equal(library.ops.convert_to_numpy(result), np.full((3, 2), 7.0))
