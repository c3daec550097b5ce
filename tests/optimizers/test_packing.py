"""Small variables packed into one tensor: the numbers, and all that reads or changes state, are as without."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import kstyle_torch as ks
from kstyle_torch import layers, optimizers
from kstyle_torch.optimizers import parameter_group as part_module
from kstyle_torch.optimizers.packing import Packing
from tests.oracle import assert_close, assert_same_bits, uniform

SHAPES = [(4, 3), (3,), (100, 100), (5, 4, 3, 2), ()]  # the third is large
MAKERS = {
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "rmsprop-both": lambda: optimizers.RMSprop(0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "nadam": lambda: optimizers.Nadam(0.01, clipnorm=0.5),
    "adamax": lambda: optimizers.Adamax(0.01, global_clipnorm=0.5),
    "adadelta": lambda: optimizers.Adadelta(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
    "ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
    "schedule-free": lambda: optimizers.ScheduleFreeAdamW(0.01, weight_decay=0.1),
    "accumulation": lambda: optimizers.RMSprop(0.01, gradient_accumulation_steps=2, clipnorm=0.5),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def weights():
    """Of several sizes; one lies as an image's kernels do."""
    made = [uniform(*shape, seed=seed) for seed, shape in enumerate(SHAPES)]
    made[3] = made[3].to(memory_format=torch.channels_last)
    return [nn.Parameter(tensor) for tensor in made]


def gradients(step):
    return [uniform(*shape, seed=100 + 10 * step + place) for place, shape in enumerate(SHAPES)]


def unpacked(make):
    """The same optimizer, its variables by themselves."""
    optimizer = make()
    name, fields = f"Unpacked{type(optimizer).__name__}", {"packs": None, "__module__": __name__}
    optimizer.__class__ = globals().setdefault(name, type(name, (type(optimizer),), fields))  # pickle finds it there
    return optimizer


def assert_same(one, other, parameters, others):
    for a, b in zip(parameters, others, strict=True):
        assert_close(a, b, rtol=1e-6, atol=1e-7)
    for a, b in zip(one.variables, other.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7, err_msg=a.path)


def run(optimizer, parameters, steps, change=lambda step, given: given):
    for step in steps:
        optimizer.track(parameters)
        optimizer.step(change(step, gradients(step)))


LAYOUTS = [
    uniform(3, 4).t(), uniform(2, 1, 3, 3).to(memory_format=torch.channels_last), torch.arange(5), uniform(20, 10),
    uniform(1, 3, 1), uniform(2, 3, 4).permute(2, 0, 1), torch.tensor(3.0), torch.empty(0, 2), torch.arange(3),
]  # fmt: skip


@pytest.mark.parametrize(("small", "packs"), [(0, 0), (50, 2), (1000, 2)])
def test_unpacking_undoes_packing(small, packs):
    tensors = [tensor.clone() for tensor in LAYOUTS]
    packing = Packing.of_small(tensors, small)
    pieces = packing.packed(tensors)
    assert len(pieces) == packing.size == packs + sum(tensor.numel() >= small for tensor in LAYOUTS)
    found = packing.unpacked(pieces)
    for tensor, other in zip(LAYOUTS, found, strict=True):
        assert torch.equal(tensor, other) and tensor.dtype == other.dtype
        assert tensor.stride() == other.stride() or tensor.numel() == 0
    for piece in pieces:
        piece.add_(1)
    assert found[6] == 4.0 and found[2][0] == 1, "they are views"


def test_flags_are_one_for_each_piece():
    packing = Packing.of_small(LAYOUTS, 50)
    each = [True, False, True, False, False, False, False, False, True]
    mixed, *others = packing.flags(each)
    assert others == [True, False]
    expected = [tensor * 0 + flag for tensor, flag in zip(LAYOUTS, each, strict=True)]
    assert torch.equal(mixed, packing.packed(expected)[0])


@every_maker
def test_numbers_are_those_without_packing(make):
    one, other, parameters, others = make(), unpacked(make), weights(), weights()
    run(one, parameters, range(7))
    run(other, others, range(7))
    assert one._current().pack is not None and other._current().pack is None
    assert_same(one, other, parameters, others)


@every_maker
def test_gradients_missing_at_some_steps(make):
    def change(step, given):
        return [None if (place + step) % 3 == 0 else gradient for place, gradient in enumerate(given)]

    one, other, parameters, others = make(), unpacked(make), weights(), weights()
    for optimizer, held in ((one, parameters), (other, others)):
        run(optimizer, held, range(2))
        run(optimizer, held, range(2, 9), change)
    assert_same(one, other, parameters, others)


@every_maker
def test_other_variables_at_some_epochs(make):
    """A part is frozen, thawed, and joined by variables that were not there before."""
    one, other, parameters, others = make(), unpacked(make), weights(), weights()
    for optimizer, held in ((one, parameters), (other, others)):
        for step, chosen in enumerate([[0, 1, 2], [1, 2], [0, 1, 2], [4, 3, 2, 1, 0], [3, 4], [0, 1, 2]]):
            optimizer.track([held[place] for place in chosen])
            optimizer.step([gradients(step)[place] for place in chosen])
    assert_same(one, other, parameters, others)


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


def through_a_file(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_a_file])
def test_copies_go_on_by_themselves(copied):
    one, parameters = optimizers.RMSprop(0.01, momentum=0.9), weights()
    run(one, parameters, range(3))
    twin, twins = copied((one, parameters))
    for optimizer, held in ((one, parameters), (twin, twins)):
        run(optimizer, held, range(3, 6))
    assert_same(one, twin, parameters, twins)
    assert one.state["velocity"][0].data_ptr() != twin.state["velocity"][0].data_ptr()


def test_a_pickle_holds_each_number_once():
    optimizer, parameters = optimizers.RMSprop(), [nn.Parameter(torch.ones(1000)) for _ in range(20)]
    optimizer.build(parameters)
    alone = len(pickle.dumps(parameters))
    assert len(pickle.dumps((optimizer, parameters))) < 3 * alone


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "make", [lambda: optimizers.RMSprop(0.01), lambda: optimizers.Adam(0.01)], ids=["rmsprop", "adam"]
)
def test_state_takes_the_dtype_of_its_variable(make, dtype):
    module, optimizer = nn.Linear(4, 3), make()
    held = [module.weight, module.bias]
    for _ in range(3):
        optimizer.track(held)
        optimizer.step([torch.ones_like(parameter) for parameter in held])
        module.to(dtype)
    optimizer.track(held)
    assert {tensor.dtype for tensors in optimizer.state.values() for tensor in tensors} == {dtype}
    before = optimizer.state["velocity"][0].float()
    optimizer.step([torch.ones_like(parameter) for parameter in held])
    assert (optimizer.state["velocity"][0].float() > before).all()


@pytest.mark.parametrize(
    "make", [lambda: optimizers.RMSprop(0.01), lambda: optimizers.Adam(0.01)], ids=["rmsprop", "adam"]
)
def test_state_lies_as_its_variable_does(make):
    """A kernel is moved to channels_last between two steps."""
    straight, moved = (nn.Conv2d(3, 4, 2) for _ in range(2))
    moved.load_state_dict(straight.state_dict())
    results = []
    for module in (straight, moved):
        optimizer = make()
        for step in range(4):
            optimizer.track([*module.parameters()])
            optimizer.step([uniform(4, 3, 2, 2, seed=step), uniform(4, seed=step)])
            if module is moved:
                module.to(memory_format=torch.channels_last)
        results.append(optimizer)
    assert_same(*results, [*straight.parameters()], [*moved.parameters()])


def test_values_may_be_set():
    one, other, parameters, others = (make() for make in (*[lambda: optimizers.RMSprop(0.01)] * 2, weights, weights))
    run(one, parameters, range(3))
    run(other, others, range(1))
    other.set_weights([variable.numpy() for variable in one.variables])
    for held, given in zip(others, parameters, strict=True):
        held.data.copy_(given.data)
    for optimizer, held in ((one, parameters), (other, others)):
        run(optimizer, held, range(3, 5))
    assert_same(one, other, parameters, others)
    store = {}
    one.save_own_variables(store)
    third = optimizers.RMSprop(0.01)
    third.build(weights())
    third.load_own_variables(store)
    assert_same_bits(one.variables, third.variables)


def test_variables_left_out_of_the_weight_decay():
    one, other, parameters, others = (
        make() for make in (*[lambda: optimizers.Nadam(0.01, weight_decay=0.5)] * 2, weights, weights)
    )
    other.packs = None
    for optimizer, held in ((one, parameters), (other, others)):
        optimizer.exclude_from_weight_decay(var_list=[held[1], held[2]])
        run(optimizer, held, range(4))
    assert_same(one, other, parameters, others)


def model_of():
    ks.utils.set_random_seed(0)
    return ks.Sequential([ks.Input((5,)), layers.Dense(6, "tanh"), layers.Dense(4, "tanh"), layers.Dense(1)])


def fitted(make, between=lambda model: model):
    """A model after two fits, with something done in between."""
    model, x = model_of(), uniform(40, 5).numpy()
    model.compile(make(), "mse")
    for _ in range(2):
        model.fit(x, x.sum(axis=1, keepdims=True), batch_size=8, epochs=2, shuffle=False, verbose=0)
        model = between(model)
    return model


def reassigned(model):
    model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
    return model


def frozen(model):
    model.layers[0].trainable = not model.layers[0].trainable
    return model


def saved(model, path):
    model.save(path)
    return ks.saving.load_model(path)


@pytest.mark.parametrize("between", [copy.deepcopy, through_pickle, reassigned, frozen])
@pytest.mark.parametrize("name", ["RMSprop", "Adam"])
def test_models_go_on(name, between):
    packed = fitted(getattr(optimizers, name), between)
    plain = fitted(lambda: unpacked(getattr(optimizers, name)), between)
    assert_same(packed.optimizer, plain.optimizer, [*packed.parameters()], [*plain.parameters()])


def test_a_saved_model_goes_on(tmp_path):
    straight = fitted(lambda: optimizers.RMSprop(0.01))
    again = fitted(lambda: optimizers.RMSprop(0.01), lambda model: saved(model, tmp_path / "model.keras"))
    assert_same(straight.optimizer, again.optimizer, [*straight.parameters()], [*again.parameters()])


def test_an_update_of_a_subclass_sees_the_weights():
    class Doubling(optimizers.RMSprop):
        def update(self, parameters, gradients, state, learning_rate):
            torch._foreach_mul_(parameters, 2.0)

    held = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    Doubling().apply([torch.ones(2), torch.ones(3)], held)
    assert held[0].tolist() == [2.0, 2.0]


def test_what_is_packed(monkeypatch):
    monkeypatch.setattr(part_module, "SMALL", 20)
    optimizer, held = optimizers.RMSprop(), weights()
    optimizer.track(held[:3])
    assert optimizer._current().pack.small == [0, 1]
    optimizer.track(held)
    assert optimizer._current().pack.small == [0, 1, 4], "all together"
    optimizer.track(held[:2])
    assert optimizer._current().pack is None, "what is packed with others stays there"
    optimizer.track(held)
    assert optimizer._current().pack.small == [0, 1, 4]


def test_a_parameter_in_the_place_of_another_is_packed_again():
    model = fitted(lambda: optimizers.RMSprop(0.01), reassigned)
    model.optimizer.track(model.trainable_weights)
    assert len(model.optimizer._current().pack.small) == 6


def test_state_that_went_to_another_dtype_and_back():
    """With another part of the variables in between, so that what is known of all of them is out of date."""
    module, optimizer = nn.Linear(4, 3), optimizers.RMSprop(0.01)
    module.more = nn.Parameter(torch.ones(2))
    for dtype, number in ((torch.float32, 3), (torch.float64, 1), (torch.float32, 3)):
        module.to(dtype)
        held = [module.more, module.weight, module.bias][:number]
        optimizer.track(held)
        optimizer.step([torch.ones_like(parameter) for parameter in held])
    assert_close(optimizer.state["velocity"][0], torch.full((2,), 0.271))
    assert_close(optimizer.state["velocity"][2], torch.full((3,), 0.19))


def test_a_weight_with_holes_in_its_memory():
    held = [nn.Parameter(torch.ones(4, 4)[:, :2]), nn.Parameter(torch.ones(3))]
    optimizers.RMSprop(0.1, rho=0.0).apply([torch.full((4, 2), 2.0), torch.full((3,), 3.0)], held)
    assert_close(held[0], torch.full((4, 2), 0.9))
    assert_close(held[1], torch.full((3,), 0.9))


def test_numbers_keep_their_digits_beside_a_smaller_dtype():
    held = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, dtype=torch.float64))]
    optimizer = optimizers.RMSprop(rho=0.9)
    for _ in range(2):
        optimizer.apply([torch.ones_like(weight) for weight in held], held)
    assert_close(optimizer.state["velocity"][1], torch.full((3,), 0.19, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_constraint_set_between_two_epochs():
    layer = layers.Dense(2)
    layer.build((None, 3))
    optimizer, views = optimizers.RMSprop(0.1), layer.trainable_variables
    for _ in range(2):
        optimizer.track(views)
        optimizer.step([torch.ones(2, 3), torch.ones(2)])
        layer.kernel_constraint = ks.constraints.NonNeg()
    assert (layer.kernel.read() >= 0).all()


@pytest.mark.parametrize("name", ["RMSprop", "Nadam", "Lamb", "Muon", "AdamW"])
def test_tensors_that_only_look_like_one(name):
    """As a DTensor does: here two in one."""
    plain = [[nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))] for _ in range(2)]
    double = [
        nn.Parameter(TwoTensor(*(weight.detach().clone() for weight in pair))) for pair in zip(*plain, strict=True)
    ]
    gradients = [[uniform(*weight.shape, seed=seed) for weight in plain[0]] for seed in range(2)]
    for weights, given in zip(
        [*plain, double], [*gradients, [TwoTensor(*pair) for pair in zip(*gradients, strict=True)]], strict=True
    ):
        optimizer = getattr(optimizers, name)(0.1)
        for _ in range(2):
            optimizer.apply(given, weights)
    for index, weight in enumerate(double):
        assert_close(weight.a, plain[0][index])
        assert_close(weight.b, plain[1][index])
