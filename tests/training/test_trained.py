"""What `fit` trains is exactly the parameters with `requires_grad`, whoever made them, and as a loop by hand does."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization

import kstyle_torch as ks
from kstyle_torch import layers
from tests.choice import parameters
from tests.oracle import uniform

ROWS = 8


class Doubled(nn.Module):
    """A parametrization with a parameter of its own."""

    def __init__(self, invertible=True):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        if invertible:
            self.right_inverse = lambda value: value / self.factor

    def forward(self, weight):
        return weight * self.factor


class Adapter(nn.Module):
    """LoRA as PEFT writes it: takes the place of a module, and trains two thin matrices beside it."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(base.in_features, 2))
        self.b = nn.Parameter(torch.zeros(2, base.out_features))

    def forward(self, x):
        return self.base(x) + x @ self.a @ self.b


# --------------------------------------------------------------------------------------------------------- the models


def sequential():
    return ks.Sequential([ks.Input((6,)), layers.Dense(6, activation="relu"), layers.Dense(3)])


def two_inputs():
    a, b = ks.Input((6,)), ks.Input((6,))
    joined = layers.Concatenate()([layers.Dense(6)(a), layers.Dense(6)(b)])
    return ks.Model([a, b], layers.Dense(3)(joined))


class Subclass(ks.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(6), layers.Dense(6, activation="tanh")]
        self.head = layers.Dense(3)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def subclass():
    model = Subclass()
    model(torch.ones(1, 6))
    return model


def nested():
    return ks.Sequential([ks.Input((6,)), sequential(), layers.Dense(6), layers.Dense(3)])


def shared():
    layer, x = layers.Dense(6), ks.Input((6,))
    return ks.Model(x, layers.Dense(3)(layer(layer(x))))


def convnet():
    head = [layers.Flatten(), layers.Dense(3)]
    return ks.Sequential([ks.Input((4, 4, 2)), layers.Conv2D(3, 3), layers.BatchNormalization(), *head])


def recurrent():
    return ks.Sequential([ks.Input((5, 3)), layers.Masking(), layers.LSTM(4), layers.Dense(3)])


def attention():
    x = ks.Input((5, 4))
    y = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(x, x))
    return ks.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))


def foreign():
    return ks.from_torch(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)))


def bare_inside():
    return ks.Sequential([ks.Input((6,)), nn.Linear(6, 6), layers.TorchModule(nn.Linear(6, 6)), layers.Dense(3)])


MAKERS = (
    sequential, two_inputs, subclass, nested, shared, convnet, recurrent, attention, foreign, bare_inside
)  # fmt: skip
INPUTS = {two_inputs: [(6,), (6,)], convnet: (4, 4, 2), recurrent: (5, 3), attention: (5, 4)}


def data(make, rows=ROWS):
    shape = INPUTS.get(make, (6,))
    x = [uniform(rows, *each, seed=3) for each in shape] if isinstance(shape, list) else uniform(rows, *shape, seed=3)
    return x, uniform(rows, 3, seed=4)


# ---------------------------------------------------------------------------------------------------------- the tools


def matrices(model):
    """Every module that holds a matrix itself, with its name."""
    for module in [*model.modules()]:
        for name, weight in [*module._parameters.items()]:
            if weight is not None and weight.ndim > 1:
                yield module, name


def everywhere(tool):
    def use(model):
        for module, name in [*matrices(model)]:
            tool(module, name)

    return use


def mask_out(module, name):
    """torch's ways to choose a mask refuse weights in channels_last memory, whosever they are."""
    weight = module._parameters[name]
    prune.custom_from_mask(module, name, torch.rand(weight.shape, generator=torch.manual_seed(1)) > 0.3)


def adapt(model):
    for module in [*model.modules()]:
        for name, child in [*module._modules.items()]:
            if type(child) is nn.Linear:
                setattr(module, name, Adapter(child))


def add_late(model):
    for number, module in enumerate([*model.modules()]):
        module.register_parameter(f"late_{number}", nn.Parameter(torch.zeros(2)))


def tie(model):
    found = [(module, name) for module, name in matrices(model)]
    (module, name), (other, key) = found[0], found[-1]
    if module._parameters[name].shape == other._parameters[key].shape:
        other._parameters[key] = module._parameters[name]


TOOLS = {
    "nothing": lambda model: None,
    "weight_norm": everywhere(parametrizations.weight_norm),
    "spectral_norm": everywhere(parametrizations.spectral_norm),
    "orthogonal": everywhere(parametrizations.orthogonal),
    "parametrization": everywhere(lambda module, name: register_parametrization(module, name, Doubled())),
    "prune": everywhere(mask_out),
    "hooked-spectral_norm": everywhere(nn.utils.spectral_norm),
    "lora": adapt,
    "late": add_late,
    "tied": tie,
    "frozen-part": lambda model: next(model.parameters()).requires_grad_(False),
}


@pytest.mark.parametrize("use", TOOLS.values(), ids=TOOLS)
@pytest.mark.parametrize("make", parameters(MAKERS, lambda make: None, lambda make: make.__name__))
def test_what_is_trained_is_what_requires_a_gradient(make, use):
    model = make()
    count, shapes = len(model.weights), [tuple(view.shape) for view in model.weights]
    use(model)
    wanted = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    views = model.trainable_variables
    assert {id(view.parameter) for view in views} == wanted and len(views) == len(wanted)
    assert all(view.path and view.trainable for view in views)
    if use not in (TOOLS["lora"], TOOLS["late"], TOOLS["tied"]):
        assert [tuple(view.shape) for view in model.weights] == shapes and len(model.weights) == count
    x, y = data(make)
    model.compile(ks.optimizers.SGD(0.1), "mse")
    if use is TOOLS["late"]:
        with pytest.warns(UserWarning, match="got no gradient.*late_0"):
            model.fit(x, y, verbose=0)
    else:
        model.fit(x, y, verbose=0)
    assert {id(parameter) for parameter in model._compiled.parameters} == wanted
    assert int(model.optimizer.iterations) == 1


# -------------------------------------------------------------------------------------------------- as a loop by hand

CASES = {
    "weight_norm": (sequential, TOOLS["weight_norm"]),
    "spectral_norm": (convnet, TOOLS["spectral_norm"]),
    "own-parameter": (recurrent, TOOLS["parametrization"]),
    "prune": (recurrent, TOOLS["prune"]),
    "lora": (bare_inside, TOOLS["lora"]),
    "tied": (nested, TOOLS["tied"]),
    "untouched": (two_inputs, TOOLS["nothing"]),
}


@pytest.mark.parametrize(("make", "use"), CASES.values(), ids=CASES)
def test_trained_as_by_hand(make, use):
    """Over more steps than it takes until they are recorded."""
    epochs, (x, y) = 30, data(make, 32)
    xs = [torch.as_tensor(each) for each in (x if isinstance(x, list) else [x])]
    model = make()
    use(model)
    start = copy.deepcopy(model.state_dict())
    model.compile(ks.optimizers.SGD(0.02, momentum=0.9), "mse")
    model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    trained = copy.deepcopy(model.state_dict())

    model.load_state_dict(start)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.02, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for rows in range(0, 32, 8):
            parts = [each[rows : rows + 8] for each in xs]
            loss = (model(parts if len(parts) > 1 else parts[0]) - torch.as_tensor(y[rows : rows + 8])).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(
            trained[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )
    frozen = {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    for key, _ in model.named_parameters():
        assert torch.equal(trained[key], start[key]) == (key in frozen), key


# --------------------------------------------------------------------------------- weights that are computed by torch

COMPUTED = {key: TOOLS[key] for key in ("weight_norm", "spectral_norm", "parametrization", "prune")}


@pytest.mark.parametrize("use", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize(
    "make", [sequential, convnet, recurrent, attention, bare_inside], ids=lambda make: make.__name__
)
def test_files_hold_the_effective_weights(make, use, tmp_path):
    model, plain = make(), make()
    use(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    x, _ = data(make)
    wanted = model.predict(x, verbose=0)
    with pytest.warns(UserWarning, match="get_weights.*effective values of parametrized weights") as caught:
        weights = model.get_weights()
    assert len(caught) == 1
    plain.set_weights(weights)
    np.testing.assert_allclose(plain.predict(x, verbose=0), wanted, rtol=1e-5, atol=1e-6)
    with pytest.warns(UserWarning, match="effective values of parametrized weights") as caught:
        model.save_weights(tmp_path / "x.weights.h5")
    assert len(caught) == 1
    plain = make()
    plain.load_weights(tmp_path / "x.weights.h5")
    np.testing.assert_allclose(plain.predict(x, verbose=0), wanted, rtol=1e-5, atol=1e-6)
    again = make()
    use(again)
    if use is TOOLS["spectral_norm"]:  # whose right_inverse is not exact
        with pytest.warns(UserWarning, match="the effective weight is not the value that was set"):
            again.load_weights(tmp_path / "x.weights.h5")
    else:
        again.load_weights(tmp_path / "x.weights.h5")
        np.testing.assert_allclose(again.predict(x, verbose=0), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*effective values")
def test_a_parametrized_model_is_saved_and_loaded_whole(tmp_path):
    model = recurrent()
    x, _ = data(recurrent)
    register_parametrization(model.layers[1].cell, "weight_hh_l0", Doubled())
    model.save(tmp_path / "x.keras")
    loaded = ks.models.load_model(tmp_path / "x.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*effective values")
def test_a_parametrization_without_inverse_refuses_before_anything_changes(tmp_path):
    model = sequential()
    register_parametrization(model.layers[1].linear, "weight", Doubled(invertible=False))
    before = copy.deepcopy(model.state_dict())
    weights = [weight + 1 for weight in model.get_weights()]
    with pytest.raises(ValueError, match=r"dense_1/kernel cannot be set: .*Doubled, which has no right_inverse"):
        model.set_weights(weights)
    model.save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(ValueError, match="has no right_inverse"):
        model.load_weights(tmp_path / "x.weights.h5")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_reading_a_weight_does_not_move_the_power_iteration():
    model = sequential()
    parametrizations.spectral_norm(model.layers[0].linear)
    model.train()
    before = copy.deepcopy(model.state_dict())
    model.layers[0].kernel.numpy(), model.losses
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_penalty_and_constraint_of_a_parametrized_kernel():
    options = {"kernel_regularizer": "l2", "kernel_constraint": ks.constraints.NonNeg()}
    model = ks.Sequential([ks.Input((6,)), layers.Dense(3, **options)])
    parametrizations.weight_norm(model.layers[0].linear)
    x, y = data(sequential)
    model.compile("sgd", "mse")
    kernel = model.layers[0].kernel
    penalty = float(model.losses[0].detach())
    assert penalty == pytest.approx(0.01 * np.square(kernel.numpy()).sum())
    loss = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(np.square(model.predict(x, verbose=0) - y.numpy()).mean() + penalty, rel=1e-5)
    model.fit(x, y, verbose=0)
    assert (kernel.numpy() >= 0).all() and (kernel.numpy() > 0).any()


# ---------------------------------------------------------------------------------------------------- nothing to train


@pytest.mark.parametrize(
    "options", parameters([{}, {"jit_compile": "record"}, {"jit_compile": True}], lambda options: None)
)
def test_nothing_to_train(keras, options):
    x, y = uniform(64, 6), uniform(64, 3)
    theirs = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    ours = ks.Sequential([ks.Input((6,)), layers.Dense(3)])
    ours.set_weights(theirs.get_weights())
    found = []
    for model, settings in ((theirs, {}), (ours, options)):
        model.trainable = False
        model.compile("adam", "mse", metrics=["mae"], **settings)
        with pytest.warns(UserWarning, match="^The model does not have any trainable weights.$"):
            history = model.fit(x, y, epochs=2, verbose=0).history
        with pytest.warns(UserWarning, match="^The model does not have any trainable weights.$"):
            single = model.train_on_batch(x, y)
        found.append([history["loss"], history["mae"], single, int(np.asarray(model.optimizer.iterations))])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    ours.trainable = True
    ours.fit(x, y, verbose=0)
    assert int(ours.optimizer.iterations) == 2


def test_a_model_without_weights():
    model = ks.Sequential([ks.Input((3,)), layers.ReLU()])
    model.compile("adam", "mse")
    x = uniform(8, 3)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        history = model.fit(x, x, verbose=0).history
    assert history["loss"][0] == pytest.approx(model.evaluate(x, x, verbose=0))


def test_a_gan_in_keras_manner():
    discriminator = ks.Sequential([ks.Input((4,)), layers.Dense(1, activation="sigmoid")])
    discriminator.compile("adam", "binary_crossentropy")
    discriminator.trainable = False
    generator = ks.Sequential([ks.Input((2,)), layers.Dense(4)])
    both = ks.Sequential([ks.Input((2,)), generator, discriminator])
    both.compile("adam", "binary_crossentropy")
    frozen, moving = (copy.deepcopy(each.state_dict()) for each in (discriminator, generator))
    both.train_on_batch(uniform(8, 2), np.ones((8, 1)))
    assert all(torch.equal(value, frozen[key]) for key, value in discriminator.state_dict().items())
    assert all(not torch.equal(value, moving[key]) for key, value in generator.state_dict().items())


def test_what_is_added_to_a_frozen_model_is_frozen():
    model = ks.Sequential([ks.Input((6,)), layers.Dense(3)])
    model.trainable = False
    model.add(layers.Dense(2))
    assert model.trainable_variables == [] and not any(each.requires_grad for each in model.parameters())
    adapt(model)  # not a layer of Keras: what it brings is its own affair
    assert len(model.trainable_variables) == 4


class Scale(nn.Sequential):
    """A bare module that is false, since it has no children."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.factor


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from within torch.compile
@pytest.mark.parametrize(
    "make", [Scale, pytest.param(lambda: torch.compile(nn.Linear(3, 3), backend="eager"), marks=pytest.mark.full)]
)
def test_bare_modules_without_a_length_are_trained(make):
    module = make()
    model = ks.Sequential([ks.Input((6,)), layers.Dense(3), module])
    model.compile("sgd", "mse")
    before = [parameter.detach().clone() for parameter in module.parameters()]
    model.fit(np.ones((8, 6)), np.ones((8, 3)), verbose=0)
    assert len(model.trainable_weights) == 2 + len(before)
    assert not any(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))


# ------------------------------------------------------------------------------------------------ between two batches


class Between(ks.callbacks.Callback):
    """Calls a function before the second batch."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            self.change(self.model)


def fit_with(change, epochs=1, **how):
    ks.utils.set_random_seed(0)
    model = ks.Sequential([ks.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    model.compile(ks.optimizers.SGD(0.1), "mse", **how)
    x = torch.arange(6.0 * 32).sin().view(32, 6)
    callbacks = [Between(change)] if change else []
    model.fit(x, x[:, :1], batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def give_linear(model):
    model.layers[0].linear = nn.Linear(6, 8)
    model.given = model.layers[0].linear.weight.detach().clone()


def give_weight(model):
    model.given = torch.full((8, 6), 0.1)
    model.layers[0].linear.weight = nn.Parameter(model.given.clone())


def load_by_assignment(model):
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)
    model.given = model.layers[0].linear.weight.detach().clone()


@pytest.mark.parametrize("give", [give_weight, give_linear, load_by_assignment])
def test_weights_given_between_two_batches_are_trained_from_the_next_on(give):
    model = fit_with(give)
    assert not torch.equal(model.layers[0].linear.weight, model.given)


def test_an_optimizer_set_between_two_batches_takes_the_next_steps():
    model = fit_with(lambda model: setattr(model, "optimizer", ks.optimizers.Adam(0.01)))
    assert int(model.optimizer.iterations) == 3


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": False}], ids=["eagerly", "uncompiled"])
def test_gradients_of_a_callback_are_not_added_to_those_of_the_step(how):
    def look_at_gradients(model):
        model(torch.ones(2, 6)).sum().backward()

    for one, other in zip(
        fit_with(look_at_gradients, **how).get_weights(), fit_with(None, **how).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
