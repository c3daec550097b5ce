"""`from_torch`: modules of plain torch that compile, fit, predict and keep their own keys."""

import copy
import pickle

import pytest
import torch
from torch import nn

from kstyle_torch import Input, Model, Sequential, from_torch, layers
from tests.oracle import assert_close, uniform


class Net(nn.Module):
    """A module as people write them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 8), nn.BatchNorm1d(8)])
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(8, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("loss", torch.zeros(1))

    def forward(self, x):
        """(batch, 3) -> (batch, 1)."""
        for layer in self.layers:
            x = layer(x)
        return self.out(self.drop(torch.relu(x))) * self.scale + self.loss


class TwoInputs(nn.Module):
    """A module of two arguments."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 1), nn.Linear(2, 1)

    def forward(self, a, b):
        """(batch, 3), (batch, 2) -> (batch, 1)."""
        return self.left(a) + self.right(b)


DATA = (uniform(64, 3), uniform(64, 3).sum(1, keepdim=True))


def test_the_keys_and_the_weights_are_the_modules_own():
    net = Net()
    model = from_torch(net)
    assert [*model.state_dict()] == [*net.state_dict()]
    assert [*map(id, model.parameters())] == [*map(id, net.parameters())]
    again = Net()
    again.load_state_dict(model.state_dict())
    model.load_state_dict({key: value + 1 for key, value in model.state_dict().items()})
    assert_close(net.scale, again.scale + 1)


@pytest.mark.parametrize("optimizer", ["adam", torch.optim.Adam])
def test_fit_trains_the_module_itself(optimizer):
    torch.manual_seed(0)
    net = Net()
    model = from_torch(net)
    model.compile(optimizer, nn.MSELoss(), metrics=["mae"])
    history = model.fit(*DATA, epochs=20, batch_size=16, verbose=0)
    assert history["loss"][-1] < 0.85 * history["loss"][0]
    assert int(net.layers[1].num_batches_tracked) == 80
    assert not net.training
    assert_close(model.predict(DATA[0], verbose=0), net(DATA[0]))


def test_the_module_is_in_training_mode_while_it_is_trained():
    seen = []

    class Watching(nn.Linear):
        def forward(self, x):
            seen.append(self.training)
            return super().forward(x)

    net = Watching(3, 1)
    model = from_torch(net)
    model.compile("sgd", "mse")
    model.fit(*DATA, batch_size=64, verbose=0)
    model.predict(DATA[0], verbose=0)
    assert True in seen and seen[-1] is False
    model.train()
    assert net.training
    model.eval()
    assert not net.training


@pytest.mark.parametrize(
    "form", [list, tuple, lambda pair: dict(zip("ab", pair, strict=True))], ids=["list", "tuple", "dict"]
)
def test_several_inputs(form):
    net = TwoInputs()
    model = from_torch(net)
    model.compile("sgd", "mse")
    x = form([uniform(8, 3), uniform(8, 2)])
    model.fit(x, uniform(8, 1), verbose=0)
    assert_close(model.predict(x, verbose=0), net(uniform(8, 3), uniform(8, 2)))


def test_copies_and_pickles_stay_one_thing():
    for model in (copy.deepcopy(from_torch(Net())), pickle.loads(pickle.dumps(from_torch(Net())))):
        model.compile("sgd", "mse")
        before = model.wrapped.out.weight.clone()
        model.fit(*DATA, verbose=0)
        assert not torch.equal(before, model.wrapped.out.weight)
        assert [*map(id, model.parameters())] == [*map(id, model.wrapped.parameters())]


def test_weights_files_and_moves(tmp_path):
    model, other = from_torch(Net()), from_torch(Net())
    model.save_weights(tmp_path / "w.safetensors")
    other.load_weights(tmp_path / "w.safetensors")
    assert_close(other(DATA[0]), model(DATA[0]))
    model.to(torch.float64)
    assert model.wrapped.out.weight.dtype == torch.float64
    assert model(DATA[0].double()).dtype == torch.float64


def test_it_is_a_layer_too():
    net = Net()
    inputs = Input((3,))
    model = Model(inputs, layers.Dense(2)(from_torch(net, name="net")(inputs)))
    assert {f"net.{key}" for key in net.state_dict()} <= {*model.state_dict()}
    model.compile("sgd", "mse")
    model.fit(DATA[0], uniform(64, 2), verbose=0)
    Sequential([Input((3,)), from_torch(Net())]).summary(print_fn=lambda text: None)


def test_frozen_modules_are_left_alone():
    net = Net()
    model = from_torch(net)
    model.trainable = False
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert model.trainable_weights == []


def test_it_can_be_exported_with_an_example(tmp_path):
    model = from_torch(Net())
    model.export(tmp_path / "m.pt2", input_signature=DATA[0])
    program = torch.export.load(tmp_path / "m.pt2").module()
    assert_close(program(DATA[0][:5]).detach(), model(DATA[0][:5]).detach())


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(TypeError, match="wraps an nn.Module; got int"):
        from_torch(3)
    with pytest.raises(TypeError, match="already a Model"):
        from_torch(Sequential([layers.Dense(1)]))
    with pytest.raises(TypeError, match="Linear cannot be part of a config: its arguments are unknown"):
        from_torch(nn.Linear(3, 1)).save(tmp_path / "m.keras")
    assert [*tmp_path.iterdir()] == []
