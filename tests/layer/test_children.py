"""Layers inside layers: as attributes, in containers, bare torch modules; their mode and their names."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kstyle_torch.layers import Dense, Dropout, Layer
from tests.oracle import assert_close, uniform

copied = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)


def built(cls):
    layer = cls()
    layer(uniform(2, 3))
    return layer


class Block(Layer):
    """Children in every kind of container."""

    def __init__(self):
        super().__init__()
        self.list = [Dense(3)]
        self.table = {"a": Dense(3), "b": [Dense(3)]}
        self.pair = (Dense(3), nn.Linear(3, 3))
        self.list.append(Dense(3))

    def call(self, x):
        for layer in (*self.list, self.table["a"], *self.table["b"], *self.pair):
            x = layer(x)
        return x


def test_layers_in_containers_are_children():
    layer = built(Block)
    assert len(layer.weights) == 12 == len(list(layer.parameters()))
    keys = {"list_0", "list_1", "table_a", "table_b_0", "pair_0", "pair_1"}
    assert {key.split(".")[0] for key in layer.state_dict()} == keys
    assert all(layer.get_submodule(key) in layer.modules() for key in keys)
    layer.train()
    assert all(module.training for module in layer.modules())
    layer.list.append(Dense(3))
    layer(uniform(2, 3))
    assert len([module for module in layer.modules() if isinstance(module, Dense)]) == 6


class Filled(Layer):
    """Containers that are empty when they are assigned."""

    def __init__(self):
        super().__init__()
        self.list, self.table = [], {}
        self.last = Dense(3)
        for _ in range(2):
            self.list.append(Dense(3))
        self.table["a"] = Dense(3)

    def call(self, x):
        for layer in (*self.list, *self.table.values()):
            x = layer(x)
        return self.last(x)


def test_containers_may_be_filled_later():
    layer = built(Filled)
    assert [*dict(layer.named_children())] == ["last", "list_0", "list_1", "table_a"]
    assert len(layer.weights) == 8
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert_close(compiled(uniform(2, 3)), layer(uniform(2, 3)))
    exported = torch.export.export(layer, (uniform(2, 3),)).module()
    assert_close(exported(uniform(2, 3)), layer(uniform(2, 3)))


def test_containers_follow_every_change():
    layer = built(Filled)
    first = layer.list[0]
    layer.list.pop()
    layer.list += [Dense(3)]
    layer.list[0] = Dense(3)
    layer.table.clear()
    assert [*dict(layer.named_children())] == ["last", "list_0", "list_1"]
    assert first not in list(layer.modules())
    assert isinstance(layer.list, list) and len(layer.list) == 2


def test_plain_containers_stay_what_they_are():
    layer = Layer()
    layer.units = [64, 32]
    assert type(layer.units) is list


@copied
def test_containers_survive_copies(copied):
    layer = built(Block)
    twin = copied(layer)
    assert_close(twin(uniform(2, 3)), layer(uniform(2, 3)))
    twin.set_weights([0 * weight for weight in twin.get_weights()])
    assert layer(uniform(2, 3)).any()
    assert len(twin.weights) == 12 and twin.list[0] in list(twin.modules())
    twin.list.append(Dense(3))
    assert twin.list[-1] in list(twin.modules()) and len(list(layer.children())) == 6


def test_child_before_super_init():
    class Early(Layer):
        def __init__(self, **kwargs):
            self.dense = Dense(2)
            super().__init__(**kwargs)

        def call(self, x):
            return self.dense(x)

    assert len(built(Early).weights) == 2


def test_layer_without_super_init():
    class Bare(Layer):
        def __init__(self):
            self.dense = Dense(2)

        def call(self, x):
            return self.dense(x)

    with pytest.raises(RuntimeError, match=r"super\(\).__init__\(\) was not called"):
        built(Bare)


def test_child_takes_the_mode_of_its_parent():
    parent = Block()
    assert not any(module.training for module in parent.modules())
    parent.train()
    parent.late, parent.torch = Dropout(0.5), nn.Dropout(0.5).eval()
    parent.add_module("added", Dense(2))
    assert parent.late.training and parent.torch.training and parent.added.training
    quiet = Block()
    quiet.torch = nn.Sequential(nn.Dropout(0.5))
    assert not any(module.training for module in quiet.modules())


@pytest.mark.parametrize("name", ["type", "half", "float", "to", "train", "parameters", "children", "apply"])
def test_attribute_that_hides_a_method_of_torch_is_refused(name):
    class Shadow(Layer):
        def __init__(self):
            super().__init__()
            setattr(self, name, 3)

    with pytest.raises(AttributeError, match=f"Shadow.{name} is a method of torch.nn.Module.*self.{name}_"):
        Shadow()
