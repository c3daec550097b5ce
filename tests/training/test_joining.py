"""Parameters that join a model in training, leave it, or are replaced: whose optimizer state they get."""

import copy
import functools
import gc

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

import kstyle_torch as ks
from tests.choice import parameters
from tests.training.test_trained import adapt, data, sequential


def test_parameters_that_join_get_fresh_state_and_those_that_leave_keep_theirs():
    model = sequential()
    x, y = data(sequential)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    optimizer, linear = model.optimizer, model.layers[0].linear
    slots = optimizer.state["momentum"]
    old = slots[0].clone()
    assert len(slots) == 4 and old.any()
    model.layers[0].linear = nn.Linear(6, 6)
    optimizer.track(model.trainable_weights)
    assert not slots[0].any() and not slots[1].any() and slots[2].any() and slots[3].any()
    model.train_on_batch(x, y)
    assert len(slots) == 4 and slots[0].any()
    model.layers[0].linear = linear
    optimizer.track(model.trainable_weights)
    assert torch.equal(slots[0], old)
    model.train_on_batch(x, y)
    assert len(slots) == 4 and not torch.equal(slots[0], old)
    assert int(optimizer.iterations) == 4


def test_an_adapter_put_in_between_epochs():
    model = sequential()
    x, y = data(sequential)
    model.compile("adam", "mse")
    adapters = []

    def put(epoch, logs):
        if epoch == 1:
            adapt(model)
            adapters.extend(parameter for key, parameter in model.named_parameters() if key.endswith(".b"))

    model.fit(x, y, epochs=3, verbose=0, callbacks=[ks.callbacks.LambdaCallback(on_epoch_end=put)])
    assert len(adapters) == 2 and all(parameter.any() for parameter in adapters)


class Scaled(nn.Module):
    def forward(self, weight):
        return weight * 2

    def right_inverse(self, weight):
        return weight / 2


def parametrized(tool):
    return tool, remove_parametrizations


THERE_AND_BACK = {
    "weight_norm": parametrized(parametrizations.weight_norm),
    "spectral_norm": parametrized(parametrizations.spectral_norm),
    "orthogonal": parametrized(parametrizations.orthogonal),
    "parametrization": parametrized(lambda module, name: register_parametrization(module, name, Scaled())),
    "bias": parametrized(lambda module, name: register_parametrization(module, "bias", Scaled())),
    "prune": (lambda module, name: prune.l1_unstructured(module, name, 0.5), prune.remove),
}


@pytest.mark.parametrize(
    ("before", "go_on"),
    [(1, lambda model: model), (0, lambda model: model), (0, copy.deepcopy)],
    ids=["trained before", "from the start", "copy"],
)
@pytest.mark.parametrize("optimizer", ["adam", torch.optim.Adam], ids=["own", "torch"])
@pytest.mark.parametrize("tool", THERE_AND_BACK)
def test_parametrized_and_back_between_fits(tool, optimizer, before, go_on):
    (use, remove), name = THERE_AND_BACK[tool], "bias" if tool == "bias" else "weight"
    model = sequential()
    x, y = data(sequential)
    model.compile(optimizer, "mse")
    model.fit(x, y, epochs=before, verbose=0)
    use(model.layers[0].linear, name)
    model.fit(x, y, verbose=0)
    model.summary(print_fn=lambda text: None)
    remove(model.layers[0].linear, name)
    assert {view.name for view in model.trainable_variables} == {"kernel", "bias"}
    model = go_on(model)
    old = model.get_weights()
    model.fit(x, y, verbose=0)
    assert all((a != b).any() for a, b in zip(old, model.get_weights(), strict=True))
    assert int(model.optimizer.iterations) == 2 + before


def test_a_weight_left_out_of_the_decay_stays_out_when_pruning_ends():
    model = sequential()
    linear = model.layers[0].linear
    prune.l1_unstructured(linear, "weight", 0.5)
    optimizer = ks.optimizers.SGD(0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([view for view in model.trainable_weights if view.name == "kernel_weight_orig"])
    model.compile(optimizer, "mse")
    model.fit(*data(sequential), verbose=0)
    prune.remove(linear, "weight")
    optimizer.learning_rate = 0.1
    optimizer.track(model.trainable_weights)
    assert [optimizer.decays(view) for view in model.trainable_weights] == [False, True, True, True]


# -------------------------------------------------------------------------------------------------- other parameters


def replaced(model):
    model.layers[0].linear.weight = nn.Parameter(torch.full((6, 6), 0.1))


OPTIMIZERS = {
    "own": ks.optimizers.SGD,
    "torch": lambda rate, momentum: functools.partial(torch.optim.SGD, lr=rate, momentum=momentum),
}
JOINING = [("own", None), ("torch", None), ("own", False), ("torch", False), ("own", True)]


@pytest.mark.parametrize(
    ("name", "tier"), parameters(JOINING, lambda row: None, lambda row: f"{row[0]}-jit_compile={row[1]}")
)
def test_a_replaced_parameter_begins_afresh_as_by_hand(name, tier):
    """In place of one that was trained; the others go on, and so does the old one when it is put back."""
    x, y = data(sequential, 32)
    model, by_hand = sequential(), sequential()
    by_hand.load_state_dict(model.state_dict())
    model.compile(OPTIMIZERS[name](0.02, momentum=0.9), "mse", jit_compile=tier)
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.02, momentum=0.9)
    both = {model: model.layers[0].linear.weight, by_hand: by_hand.layers[0].linear.weight}
    for change in (None, lambda old: nn.Parameter(torch.full((6, 6), 0.1)), lambda old: old):
        for each, old in both.items() if change else ():
            each.layers[0].linear.weight = change(old)
        optimizer.param_groups[0]["params"][0] = by_hand.layers[0].linear.weight
        model.fit(x, y, batch_size=8, epochs=10, shuffle=False, verbose=0)
        for _ in range(10):
            for rows in range(0, 32, 8):
                optimizer.zero_grad()
                (by_hand(x[rows : rows + 8]) - y[rows : rows + 8]).square().mean().backward()
                optimizer.step()
        for mine, wanted in zip(model.parameters(), by_hand.parameters(), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)
    if name == "torch":
        assert [*map(id, model.optimizer.optimizer.param_groups[0]["params"])] == [*map(id, model.parameters())]


@pytest.mark.parametrize("go_on", [lambda model: model, copy.deepcopy], ids=["same", "copy"])
def test_the_state_of_a_replaced_parameter_is_kept_no_longer_than_the_parameter(go_on):
    model = sequential()
    model.compile("adam", "mse")
    for _ in range(3):
        model = go_on(model)
        model.fit(*data(sequential), verbose=0)
        replaced(model)
    model.fit(*data(sequential), verbose=0)
    gc.collect()
    model.optimizer._state_of(model.layers[0].kernel, model.layers[0].linear.weight)
    assert len(model.optimizer._left) == 0 and len(model.optimizer.variables) == 2 + 2 * 4


@pytest.mark.parametrize(
    "optimizer", ["adam", "rmsprop", ks.optimizers.RMSprop(use_ema=True)], ids=["adam", "rmsprop", "ema"]
)
def test_a_weight_that_moves_takes_its_state_along(optimizer):
    model = sequential()
    model.compile(optimizer, "mse")
    model.fit(*data(sequential), verbose=0)
    optimizer, linear = model.optimizer, model.layers[0].linear
    slot = next(iter(optimizer.state.values()))
    old, weight = slot[0].clone(), linear.weight
    replaced(model)
    model.layers[1].linear.register_parameter("other", weight)
    optimizer.track(model.trainable_weights)
    state = {id(parameter): slot[place] for place, parameter in enumerate(optimizer._parameters)}
    assert torch.equal(state[id(weight)], old) and old.any() and len(slot) == 5
    assert not torch.equal(state[id(linear.weight)], old)


class Counting(torch.optim.SGD):
    """Makes its state when it is made, as optimizers of other packages do."""

    def __init__(self, parameters, rate=0.1):
        super().__init__(parameters, rate)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["count"] = 0

    def step(self):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["count"] += 1
        super().step()


def test_a_torch_optimizer_that_makes_its_state_at_once():
    model = sequential()
    model.compile(Counting, "mse")
    model.fit(*data(sequential), verbose=0)
    replaced(model)
    model.fit(*data(sequential), verbose=0)
    state = model.optimizer.optimizer.state
    assert [state[parameter]["count"] for parameter in model.parameters()] == [1, 2, 2, 2]


@pytest.mark.parametrize("name", ["own", "torch"])
def test_reassigned_weights_go_on_with_their_state(name):
    """As `load_state_dict` without `assign` does, which changes the same parameters in place."""
    x, y = data(sequential)
    models = [sequential(), sequential()]
    models[1].load_state_dict(models[0].state_dict())
    for model, assign in zip(models, (False, True), strict=True):
        model.compile(OPTIMIZERS[name](0.1, momentum=0.9), "mse")
        for _ in range(3):
            model.fit(x, y, verbose=0)
            model.load_state_dict({key: each.clone() for key, each in model.state_dict().items()}, assign=assign)
    for mine, wanted in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(mine, wanted)


def test_a_running_mean_of_a_parameter_that_joins_begins_with_its_value():
    model = sequential()
    model.compile(ks.optimizers.SGD(0.0, use_ema=True), "mse")
    model.fit(*data(sequential), verbose=0)
    replaced(model)
    model.fit(*data(sequential), verbose=0)
    torch.testing.assert_close(model.layers[0].linear.weight.detach(), torch.full((6, 6), 0.1))


def test_a_torch_optimizer_gets_the_new_parameters_too():
    model = sequential()
    x, y = data(sequential)
    model.compile(torch.optim.SGD, "mse")
    model.fit(x, y, verbose=0)
    adapt(model)
    model.fit(x, y, verbose=0)
    assert all(parameter.any() for key, parameter in model.named_parameters() if key.endswith(".b"))


@pytest.mark.parametrize(
    ("change", "held"),
    [(lambda model: parametrizations.weight_norm(model.layers[0].linear), "3 of the 5"), (replaced, "3 of the 4")],
    ids=["weight_norm", "replaced"],
)
def test_a_given_torch_optimizer_warns_of_parameters_that_it_lacks(change, held):
    model = sequential()
    x, y = data(sequential)
    model.compile(torch.optim.SGD(model.parameters(), 0.1), "mse")
    model.fit(x, y, verbose=0)
    change(model)
    with pytest.warns(UserWarning, match=f"SGD holds {held} weights that require a gradient") as caught:
        model.fit(x, y, epochs=2, verbose=0)
    assert len(caught) == 1


def test_a_torch_optimizer_keeps_the_state_of_frozen_weights_aside():
    model = sequential()
    x, y = data(sequential)
    model.compile(torch.optim.Adam, "mse")
    model.fit(x, y, verbose=0)
    weight, optimizer = model.layers[0].linear.weight, model.optimizer.optimizer
    old = optimizer.state[weight]["exp_avg"].clone()
    model.layers[0].trainable = False
    model.fit(x, y, verbose=0)
    assert len(optimizer.state_dict()["state"]) == 2 == len(optimizer.param_groups[0]["params"])
    model = copy.deepcopy(model)
    model.layers[0].trainable = True
    model.optimizer.track(model.trainable_weights)
    assert torch.equal(model.optimizer.optimizer.state[model.layers[0].linear.weight]["exp_avg"], old)
