"""What an optimizer does besides its numbers: identifiers, old spellings, state, copies, constraints."""

import copy
import functools
import pickle

import pytest
import torch
from torch import nn

from kstyle_torch import constraints, layers, optimizers
from tests.oracle import assert_close, uniform

ALL = ["SGD", "Adam", "AdamW", "RMSprop"]
STATEFUL = [
    functools.partial(optimizers.SGD, learning_rate=0.1, momentum=0.9),
    functools.partial(optimizers.Adam, learning_rate=0.1),
    functools.partial(optimizers.Adam, learning_rate=0.1, amsgrad=True),
    functools.partial(optimizers.RMSprop, learning_rate=0.1, momentum=0.5, centered=True),
]
stateful = pytest.mark.parametrize("make", STATEFUL, ids=["sgd", "adam", "amsgrad", "rmsprop"])


def parameters(*sizes, seed=0):
    return [nn.Parameter(uniform(size, seed=seed + i)) for i, size in enumerate(sizes or (3, 4))]


def step(optimizer, weights, number):
    optimizer.apply([uniform(*w.shape, seed=50 + 10 * number + i) for i, w in enumerate(weights)], weights)


# -------------------------------------------------------------------------------------------------------- identifiers


@pytest.mark.parametrize("name", [*ALL, *(name.lower() for name in ALL)])
def test_names_of_keras(name):
    assert type(optimizers.get(name)).__name__.lower() == name.lower()


@pytest.mark.parametrize("name", ALL)
def test_class_and_object(name):
    cls = getattr(optimizers, name)
    optimizer = cls()
    assert type(optimizers.get(cls)) is cls
    assert optimizers.get(optimizer) is optimizer
    assert type(optimizers.get(optimizers.serialize(optimizer))) is cls


def test_unknown_name_suggests():
    with pytest.raises(ValueError, match="Unknown optimizer 'adm'. Did you mean 'adam'"):
        optimizers.get("adm")


@pytest.mark.parametrize("wrong", [3, len], ids=["number", "function"])
def test_what_is_no_optimizer(wrong):
    with pytest.raises(ValueError, match="[Ee]xpected an optimizer"):
        optimizers.get(wrong)


# ------------------------------------------------------------------------------------------------------ old spellings


@pytest.mark.parametrize("name", ALL)
def test_lr_warns_and_works(name):
    with pytest.warns(UserWarning, match="write .*learning_rate"):
        optimizer = getattr(optimizers, name)(lr=0.25)
    assert float(optimizer.learning_rate) == 0.25
    assert "lr" not in optimizer.get_config() and optimizer.get_config()["learning_rate"] == 0.25


@pytest.mark.parametrize("name", ALL)
def test_decay_warns_and_is_ignored(name):
    with pytest.warns(UserWarning, match="decay is ignored"):
        optimizer = getattr(optimizers, name)(0.25, decay=1e-6)
    assert "decay" not in optimizer.get_config()


@pytest.mark.filterwarnings("ignore:Adam\\(lr=")
def test_epsilon_may_be_none():
    """As programs for Keras 2 spell its default out."""
    optimizer = optimizers.Adam(lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=None, decay=0.0, amsgrad=False)
    assert optimizer.epsilon == optimizer.get_config()["epsilon"] == 1e-7
    optimizer.apply([torch.ones(2)], [nn.Parameter(torch.ones(2))])


@pytest.mark.parametrize(
    ("wrong", "suggestion"), [("learning_rat", "learning_rate"), ("beta1", "beta_1"), ("clip_norm", "clipnorm")]
)
def test_unknown_argument_suggests(wrong, suggestion):
    with pytest.raises(ValueError, match=f"Adam has no argument '{wrong}'. Did you mean .*'{suggestion}'"):
        optimizers.Adam(**{wrong: 1.0})


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="Only one of clipnorm, clipvalue and global_clipnorm"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ValueError, match="momentum must be between 0 and 1; got 2"):
        optimizers.SGD(momentum=2)
    with pytest.raises(ValueError, match="AdamW needs a weight_decay"):
        optimizers.AdamW(weight_decay=None)
    with pytest.raises(TypeError, match="learning_rate must be a number, .*; got 'fast'"):
        optimizers.SGD("fast")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clipnorm": -1.0}, "clipnorm must be a number of at least 0, or None; got -1.0"),
        ({"weight_decay": "0.1"}, "weight_decay must be a number of at least 0, or None; got '0.1'"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps must be an integer of at least 2"),
        ({"use_ema": True, "ema_momentum": 1.5}, "ema_momentum must be between 0 and 1; got 1.5"),
        ({"use_ema": True, "ema_overwrite_frequency": 0.5}, "ema_overwrite_frequency must be a positive integer"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite; got nan"),
        ({"beta_1": 1.0}, "Adam: beta_1 must be at least 0 and below 1; got 1.0"),
        ({"beta_2": "0.9"}, "Adam: beta_2 must be at least 0 and below 1; got '0.9'"),
        ({"epsilon": "1e-7"}, "Adam: epsilon must be a number of at least 0, or None; got '1e-7'"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.Adam(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Lion(beta_1=0.0), "Lion: beta_1 must be above 0 and at most 1; got 0.0"),
        (lambda: optimizers.Adagrad(initial_accumulator_value=-1.0), "Adagrad: initial_accumulator_value must be"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.5), "Ftrl: -learning_rate_power must be at least 0; got -0.5"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-0.5), "Ftrl: l1_regularization_strength must be"),
        (lambda: optimizers.get(torch.optim.LBFGS(parameters())), "LBFGS computes the loss several times a step"),
    ],
)
def test_bad_values_of_one_optimizer(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_torch_optimizer_of_another_model():
    optimizer = optimizers.get(torch.optim.SGD(parameters(), lr=0.1))
    with pytest.raises(ValueError, match="SGD holds none of the model's trainable weights"):
        optimizer.track(parameters())


# ------------------------------------------------------------------------------------------------------ learning rate


def test_learning_rate_reads_as_a_number():
    optimizer = optimizers.SGD(0.25)
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer.learning_rate.numpy() == 0.25
    assert optimizer.learning_rate * 2 == 0.5
    optimizer.lr = 0.5
    assert float(optimizer.learning_rate) == 0.5 == float(optimizer.lr)
    optimizer.learning_rate.assign(0.75)
    assert optimizer.get_config()["learning_rate"] == 0.75
    optimizer.learning_rate = optimizer.learning_rate * 2
    assert float(optimizer.learning_rate) == 1.5


# -------------------------------------------------------------------------------------------------------------- state


@stateful
def test_state_follows_its_parameter(make):
    """Another order, one parameter less, one more: those that stay go on as they were."""
    straight, shuffled = make(), make()
    one, two = parameters(), parameters()
    for number in range(3):
        step(straight, one, number)
        step(shuffled, two, number)
    extra = nn.Parameter(torch.ones(2))
    gradients = [uniform(*w.shape, seed=i) for i, w in enumerate(one)]
    straight.apply(gradients, one)
    shuffled.apply([torch.zeros(2), gradients[1], gradients[0]], [extra, two[1], two[0]])
    for a, b in zip(one, two, strict=True):
        assert_close(a, b)


@stateful
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_go_on_with_the_same_numbers(make, copied):
    optimizer, weights = make(), parameters()
    for number in range(3):
        step(optimizer, weights, number)
    twin, twin_weights = copied((optimizer, weights))
    for number in range(3, 6):
        step(optimizer, weights, number)
    for number in range(3, 6):
        step(twin, twin_weights, number)
    for a, b in zip(weights, twin_weights, strict=True):
        assert a is not b
        assert torch.equal(a, b)
    assert int(twin.iterations) == int(optimizer.iterations) == 6


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_exclusion_from_weight_decay_survives_a_copy(copied):
    weights = parameters(3, 3)
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[weights[0]])
    optimizer.build(weights)
    twin, (first, second) = copied((optimizer, weights))
    before = first.detach().clone(), second.detach().clone()
    twin.build([first, second])  # as at every epoch
    twin.apply([torch.zeros(3), torch.zeros(3)])
    assert torch.equal(first, before[0]) and not torch.equal(second, before[1])


def test_exclusion_by_name():
    layer = layers.Dense(2, bias_initializer="ones")
    layer.build((None, 3))
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    kernel = layer.kernel.numpy().copy()
    optimizer.apply([torch.zeros(3, 2), torch.zeros(2)], layer.trainable_variables)
    assert_close(layer.bias, torch.ones(2))
    assert_close(layer.kernel.read(), kernel * 0.95)
    with pytest.raises(ValueError, match="before the first step"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_variables_are_the_count_the_rate_and_the_state():
    optimizer, weights = optimizers.Adam(), parameters()
    step(optimizer, weights, 0)
    assert len(optimizer.variables) == 2 + 2 * len(weights)
    assert int(optimizer.variables[0]) == 1


# -------------------------------------------------------------------------------------------------------------- steps


def test_apply_gradients_takes_pairs():
    weights = parameters()
    before = [w.detach().clone() for w in weights]
    optimizers.SGD(1.0).apply_gradients((torch.ones_like(w), w) for w in weights)
    for weight, old in zip(weights, before, strict=True):
        assert_close(weight, old - 1)


def test_apply_without_variables_uses_the_last():
    weights = parameters(3)
    optimizer = optimizers.SGD(1.0)
    optimizer.build(weights)
    before = weights[0].detach().clone()
    optimizer.apply([torch.ones(3)])
    assert_close(weights[0], before - 1)


def test_number_of_gradients_is_checked():
    with pytest.raises(ValueError, match="1 gradients for 2 variables"):
        optimizers.SGD().apply([torch.ones(3)], parameters())


def test_missing_gradient_warns_at_the_first_step_only():
    weights = parameters()
    optimizer = optimizers.Adam()
    with pytest.warns(UserWarning, match="1 trainable variable.* got no gradient"):
        optimizer.apply([None, torch.ones(4)], weights)
    optimizer.apply([None, torch.ones(4)], weights)


def test_no_gradient_at_all_is_an_error():
    with pytest.raises(ValueError, match="No variable got a gradient"):
        optimizers.Adam().apply([None, None], parameters())


def test_constraint_is_applied_after_the_step():
    layer = layers.Dense(2, kernel_constraint="unit_norm")
    layer.build((None, 3))
    optimizers.SGD(0.5).apply([uniform(3, 2), uniform(2)], layer.trainable_variables)
    assert_close(layer.kernel.numpy(), constraints.UnitNorm()(torch.tensor(layer.kernel.numpy())))
    assert_close((layer.kernel.read() ** 2).sum(0), torch.ones(2))


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_not_changed(name):
    for arguments in ({}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.1}):
        gradient = uniform(3)
        getattr(optimizers, name)(**arguments).apply([gradient], parameters(3))
        assert torch.equal(gradient, uniform(3))


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
@pytest.mark.parametrize("arguments", [{}, {"clipnorm": 1e6}], ids=str)
def test_gradients_may_lie_otherwise_in_memory(name, arguments):
    """A transposed gradient, or a channels_last kernel's: torch's fused kernels read both in memory order."""
    plain = [nn.Parameter(uniform(3, 4)), nn.Parameter(uniform(4, 3, 2, 2))]
    odd = [plain[0].detach().clone(), plain[1].detach().clone().to(memory_format=torch.channels_last)]
    odd = [nn.Parameter(tensor) for tensor in odd]
    momentum = {"momentum": 0.9} if name == "SGD" else {}
    one, other = (getattr(optimizers, name)(0.1, **momentum, **arguments) for _ in range(2))
    for number in range(3):
        gradients = [uniform(*w.shape, seed=20 * number + i) for i, w in enumerate(plain)]
        one.apply(gradients, plain)
        other.track(odd)
        other.step([gradients[0].t().contiguous().t(), gradients[1]])
    for a, b in zip(plain, odd, strict=True):
        assert_close(a, b)


def test_sparse_gradient():
    table, twin = nn.Embedding(5, 3, sparse=True), nn.Embedding(5, 3)
    twin.load_state_dict(table.state_dict())
    for embedding, optimizer in ((table, optimizers.Adam(0.1)), (twin, optimizers.Adam(0.1))):
        embedding(torch.tensor([1, 1, 4])).square().sum().backward()
        optimizer.track([embedding.weight])
        optimizer.step([embedding.weight.grad])
    assert_close(table.weight, twin.weight)


def test_custom_optimizer():
    class SignDescent(optimizers.Optimizer):
        slots = ("last",)

        def update(self, parameters, gradients, state, learning_rate):
            for parameter, gradient, last in zip(parameters, gradients, state["last"], strict=True):
                parameter.sub_(learning_rate * gradient.sign())
                last.copy_(gradient)

    weights = parameters(3)
    before = weights[0].detach().clone()
    optimizer = SignDescent(learning_rate=0.5)
    optimizer.apply([torch.tensor([2.0, -3.0, 0.0])], weights)
    assert_close(weights[0], before - torch.tensor([0.5, -0.5, 0.0]))
    assert_close(optimizer.state["last"][0], torch.tensor([2.0, -3.0, 0.0]))


# ------------------------------------------------------------------------------------------------- torch's optimizers


@pytest.mark.parametrize(
    "given",
    [
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        lambda weights: functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    ],
    ids=["object", "partial"],
)
def test_torch_optimizer_is_taken_as_it_is(given):
    ours, reference = parameters(), parameters()
    optimizer = optimizers.get(given(ours))
    expected = torch.optim.SGD(reference, lr=0.1, momentum=0.9)
    optimizer.build(ours)
    assert optimizer.learning_rate == 0.1
    for number in range(4):
        step(optimizer, ours, number)
        for i, weight in enumerate(reference):
            weight.grad = uniform(*weight.shape, seed=50 + 10 * number + i)
        expected.step()
    for a, b in zip(ours, reference, strict=True):
        assert torch.equal(a, b)
    optimizer.learning_rate = 0.5
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    "given", [torch.optim.SGD, functools.partial(torch.optim.SGD, lr=0.25)], ids=["class", "partial"]
)
def test_learning_rate_of_a_torch_optimizer_that_is_not_made_yet(given):
    """Callbacks look at it, and set it, before the first step."""
    optimizer = optimizers.get(given)
    assert optimizer.learning_rate == (0.25 if isinstance(given, functools.partial) else 0.001)
    optimizer.learning_rate = 0.5
    assert optimizer.learning_rate == 0.5
    optimizer.build(parameters())
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.5


def test_an_update_in_two_halves_decays_each_weight_once():
    """The kernel takes the weight decay along only where nobody stands between."""

    class Halves(optimizers.AdamW):
        def update(self, parameters, gradients, state, learning_rate):
            for half in (slice(0, 1), slice(1, None)):
                own = {slot: tensors[half] for slot, tensors in state.items()}
                super().update(parameters[half], gradients[half], own, learning_rate)

    results = []
    for cls in (Halves, optimizers.AdamW):
        optimizer, weights = cls(0.1, weight_decay=0.5), parameters()
        for number in range(3):
            step(optimizer, weights, number)
        results.append(weights)
    for a, b in zip(*results, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("late", [{"use_ema": True}, {"gradient_accumulation_steps": 2}], ids=str)
def test_settings_that_need_state_are_named_if_set_too_late(late):
    weight = nn.Parameter(torch.ones(2))
    optimizer = optimizers.Adam()
    optimizer.apply([torch.ones(2)], [weight])
    known = len(optimizer.variables)
    for name, value in late.items():
        setattr(optimizer, name, value)
    with pytest.raises(AttributeError, match=f"Pass {name}= to Adam"):
        optimizer.apply([torch.ones(2)], [weight])
    assert len(optimizer.variables) == known  # it can be saved
