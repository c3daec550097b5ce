"""Graphs as plain code: shared layers, several inputs and outputs, masks, and nothing of a name in the code."""

import copy
import pickle
import re
from typing import Any, NamedTuple

import keras
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers, tree
from kstyle_torch.layers import Add, Concatenate, Dense, Embedding, Input, Layer
from kstyle_torch.symbolic.emit import Emitter
from kstyle_torch.symbolic.graph import trace
from kstyle_torch.symbolic.tensor import record
from tests.oracle import GraphModule, MaskReader, assert_close, integers, uniform


def test_shared_layer_is_one_module():
    a, b, dense = Input((3,)), Input((3,)), Dense(2)
    graph = GraphModule([a, b], Add()([dense(a), dense(b)]))
    x, y = uniform(4, 3), uniform(4, 3, seed=1)
    assert_close(graph([x, y]), dense(x) + dense(y))
    assert sum(1 for module in graph.children() if module is dense) == 1


def test_nested_inputs_and_outputs():
    inputs = {"a": Input((3,)), "b": [Input((2,)), Input((1,))]}
    outputs = [torch.cat([inputs["a"], inputs["b"][0]], dim=-1), {"c": inputs["b"][1] * 2}]
    graph = GraphModule(inputs, outputs)
    a, b, c = uniform(4, 3), uniform(4, 2), uniform(4, 1)
    first, second = graph({"a": a, "b": [b, c]})
    assert_close(first, torch.cat([a, b], dim=-1))
    assert_close(second["c"], c * 2)


def test_an_input_that_is_an_output_too():
    """Its memory is not freed after its last call; that of what nothing needs any more is."""
    x, y = Input((3,)), Input((3,))
    hidden = x * 2
    graph = GraphModule([x, y], [x, {"again": x, "sum": hidden + y + x}])
    value, other = uniform(4, 3), uniform(4, 3, seed=1)
    first, second = graph([value, other])
    assert first is value and second["again"] is value
    assert_close(second["sum"], value * 3 + other)
    assert re.findall(r"del (.*)", graph.code) == ["mul, x_1", "add"]


def test_cut_at_any_tensor():
    x = Input((3,))
    hidden = Dense(4)(x)
    outputs = Dense(2)(hidden)
    assert len(trace(x, hidden, [x.source]).calls) == 1
    assert len(trace(hidden, outputs, [x.source]).calls) == 1


def test_missing_input_is_named():
    a, b = Input((3,), name="left"), Input((3,), name="right")
    with pytest.raises(ValueError, match="need the input 'right'.*not among the inputs.*'left'"):
        trace(a, a + b, [a.source])


def test_what_is_no_symbolic_tensor_is_refused():
    x = Input((3,))
    with pytest.raises(ValueError, match="outputs of a Model must be symbolic.*got Tensor"):
        trace(x, uniform(3), [x.source])


def test_deep_graph_copies_and_pickles():
    x = Input((2,))
    y = x
    for _ in range(1500):
        y = y + 1
    graph = trace(x, y, [x.source])
    assert len(pickle.loads(pickle.dumps(graph)).calls) == len(copy.deepcopy(graph).calls) == 1500
    assert_close(GraphModule(x, y)(torch.zeros(1, 2)), torch.full((1, 2), 1500.0))


def test_graph_can_be_made_symbolic_again():
    x = Input((3,))
    y = Dense(2)(x) * 2
    again_x, again_y = trace(x, y, [x.source]).to_symbolic()
    assert again_y.shape == (None, 2) and again_x.name == x.name
    value = uniform(4, 3)
    assert_close(GraphModule(again_x, again_y)(value), GraphModule(x, y)(value))


def test_compiles_to_one_graph():
    a, b = Input((3,)), Input((3,))
    graph = GraphModule([a, b], torch.relu(Dense(4)(Concatenate()([a, b]))) * 2)
    x = [uniform(4, 3), uniform(4, 3, seed=1)]
    torch.compiler.reset()
    assert_close(torch.compile(graph, fullgraph=True, backend="eager")(x), graph(x))


HOSTILE = [
    *('");__import__("os").system("false");("', "a b", "x'y", "ä", "1st", ""),
    *(
        "import",
        "lambda",
        "None",
        "self",
        "inputs",
        "modules",
        "_modules",
        "forward",
        "call",
        "adapt",
        "key",
        "x",
        "torch",
    ),
    *("Tensor", "unpack", "__init__", "__builtins__", "__debug__", "print", "plain_name"),
]


class Named(nn.Module):
    """A model with a layer under a key of the user's choice."""

    def __init__(self, key):
        super().__init__()
        x, self.dense = Input((3,)), [Dense(2)]
        graph = trace(x, self.dense[0](x) * 2, [x.source])
        keys = {id(module): f"other {number}" for number, module in enumerate(graph.modules)}
        keys[id(self.dense[0])] = key
        self._modules.update((keys[id(module)], module) for module in graph.modules)
        self.run, self.code = Emitter(graph, keys, adapt=None).emit(lambda _, inputs: [inputs], [""])


@pytest.mark.parametrize("key", HOSTILE)
def test_keys_do_not_change_the_code(key):
    model, value = Named(key), uniform(4, 3)
    assert model.code == Named("plain_name").code
    assert_close(model.run(model, value), model.dense[0](value) * 2)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name])
def test_names_of_layers_do_not_change_the_code(name):
    def model(name):
        x = Input((3,), name=name)
        return ks.Model(x, Dense(2, name=f"{name}_2")(Dense(2, name=name + "_1")(x)) * 2)

    named = model(name)
    assert named.code == model("plain_name").code
    assert named(uniform(4, 3)).shape == (4, 2)


def test_a_function_that_is_called_like_an_operator_is_not_one():
    def less(x, y):
        return x - y

    less.__name__ = "__add__"
    x = Input((3,))
    value = uniform(4, 3)
    assert_close(GraphModule(x, record(less, (x, 2.0), {}))(value), value - 2)


def test_constants_of_odd_types():
    x = Input((3,))
    y = torch.where(x > float("-inf"), x, float("nan")) + torch.tensor([1.0, 2.0, 3.0])
    value = uniform(4, 3)
    assert_close(GraphModule(x, y.sum(dim=(1,)))(value), (value + torch.tensor([1.0, 2.0, 3.0])).sum(1))


def test_named_tuples_come_out_as_they_are():
    class Pair(NamedTuple):
        first: Any
        second: Any

    x = Input((3,))
    value = uniform(4, 3)
    top = GraphModule(x, torch.topk(x, 2))(value)
    assert_close(top.values, torch.topk(value, 2).values)
    assert torch.equal(top.indices, torch.topk(value, 2).indices)
    pair = GraphModule(x, Pair(x + 1, x * 2))(value)
    assert_close(pair.first, value + 1)
    assert_close(pair.second, value * 2)


# ------------------------------------------------------------------------------------------------------------------ masks


def test_mask_reaches_the_layer_that_takes_it():
    x = Input((5,), dtype="int64")
    embedding, dense = Embedding(6, 3, mask_zero=True), Dense(4)
    graph = GraphModule(x, MaskReader()(dense(embedding(x))))
    ids = integers(4, 5, high=6)
    expected = (dense(embedding(ids)) * (ids != 0).unsqueeze(-1)).sum(1)
    assert_close(graph(ids), expected)


def test_mask_of_the_output_is_on_it():
    x = Input((5,), dtype="int64")
    graph = GraphModule(x, Dense(4)(Embedding(6, 3, mask_zero=True)(x)))
    ids = integers(4, 5, high=6)
    assert torch.equal(graph(ids)._keras_mask, ids != 0)


def test_no_mask_without_mask_zero():
    x = Input((5,), dtype="int64")
    y = Dense(4)(Embedding(6, 3)(x))
    assert y.mask is None
    assert not hasattr(GraphModule(x, y)(integers(4, 5, high=6)), "_keras_mask")


def test_layer_that_does_not_support_masks_ends_them():
    class Plain(Layer):
        def call(self, x):
            return x

    x = Input((5,), dtype="int64")
    with pytest.warns(UserWarning, match="does not hand it on"):
        assert Plain()(Embedding(6, 3, mask_zero=True)(x)).mask is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Add", {}), ("Concatenate", {}), ("Concatenate", {"axis": 1})],
    ids=["add", "last", "steps"],
)
def test_merged_masks_are_those_of_keras(name, arguments):
    merge, theirs = getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)
    a, b = Input((5,), dtype="int64"), Input((5,), dtype="int64")
    embed = Embedding(6, 3, mask_zero=True)
    graph = GraphModule([a, b], merge([embed(a), embed(b)]))
    x, y = integers(4, 5, high=3), integers(4, 5, high=3, seed=1)
    expected = theirs.compute_mask([embed(x), embed(y)], [x != 0, y != 0])
    assert torch.equal(graph([x, y])._keras_mask, expected)


def test_tree_of_masks_is_flat():
    assert tree.flatten([1, {"a": (2, None)}]) == [1, 2, None]
