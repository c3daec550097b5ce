"""What can be done to a symbolic tensor, and what is refused with advice."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

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
    }


@pytest.mark.parametrize(("action", "advice"), refuse_list().values(), ids=refuse_list())
def test_what_needs_values_is_refused(action, advice):
    with pytest.raises(TypeError, match=advice):
        action(Input((4,)))


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
