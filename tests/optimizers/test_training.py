"""Optimizers inside fit: averages, several at once, frozen and tied weights, copies, subclasses in Keras' style."""

import copy
import functools
import pickle
import warnings

import keras
import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers, optimizers
from tests.oracle import assert_close, assert_same_bits, uniform


def model_of(library=ks):
    return library.Sequential(
        [
            library.Input((5,)),
            library.layers.Dense(6, "tanh", name="first"),
            library.layers.Dense(4, "tanh", name="second", kernel_constraint="max_norm"),
            library.layers.Dense(1, name="last"),
        ],
        name="small",
    )


def data():
    x = uniform(40, 5).numpy()
    return x, x.sum(axis=1, keepdims=True)


def both(make, **options):
    """The same model, compiled and fitted there and here."""
    keras.utils.set_random_seed(0)  # Keras' rounding of Adam's first steps is near the tolerance for some weights
    ours, theirs = model_of(), model_of(keras)
    ours.set_weights([weight.numpy() for weight in theirs.weights])
    for library, model in ((ks, ours), (keras, theirs)):
        model.compile(make(library.optimizers), "mse")
        model.fit(*data(), batch_size=16, epochs=3, shuffle=False, verbose=0, **options)
    return ours, theirs


def assert_same_state(ours, theirs):
    """Weights, and all that the optimizers remember, in Keras' layout."""
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        assert_close(a.read(), b)
    for a, b in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=5e-6, err_msg=a.path)


FITS = {
    "sgd": lambda of: of.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=0.5),
    "adam": lambda of: of.Adam(0.01, amsgrad=True, global_clipnorm=1.0),
    "adafactor": lambda of: of.Adafactor(0.01),
    "muon": lambda of: of.Muon(0.01, exclude_layers=["last"]),
    "lamb": lambda of: of.Lamb(0.01),
    "ftrl": lambda of: of.Ftrl(0.1),
    "schedule": lambda of: of.RMSprop(of.schedules.ExponentialDecay(0.01, 3, 0.8)),
    "averages": lambda of: of.AdamW(0.01, use_ema=True, ema_momentum=0.7),
    "averages-often": lambda of: of.SGD(0.05, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=4),
    "accumulation": lambda of: of.Adam(0.01, gradient_accumulation_steps=2, use_ema=True),
    "several": lambda of: of.MultiOptimizer(
        of.OptimizerMap(of.Adam(0.01), {".*bias": of.SGD(0.05, momentum=0.9), "small/last/kernel": of.Lion(0.001)})
    ),
}


@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_fit_ends_with_keras_weights_and_state(make):
    assert_same_state(*both(make))


@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_state_goes_over_to_keras_and_back(make):
    """As the files do it: all variables by their numbers; then one more step here and there."""
    ours, theirs = both(make)
    store, back = {}, {}
    ours.optimizer.save_own_variables(store)
    other = model_of(keras)
    other.set_weights(ours.get_weights())
    other.compile(make(keras.optimizers), "mse")
    other.optimizer.build(other.trainable_variables)
    other.optimizer.load_own_variables(store)
    theirs.optimizer.save_own_variables(back)
    again = model_of()
    again.set_weights([weight.numpy() for weight in theirs.weights])
    again.compile(make(optimizers), "mse")
    again.optimizer.build(again.trainable_variables)
    again.optimizer.load_own_variables(back)
    for model in (ours, theirs, other, again):
        model.fit(*data(), batch_size=20, shuffle=False, verbose=0)
    for model in (other, again):
        for a, b in zip(model.weights, theirs.weights, strict=True):
            assert_close(a.numpy(), b.numpy(), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["Muon", "Adafactor", "RMSprop"])
def test_weights_whose_layout_is_not_a_view(name):
    """A GRU's gates are in another order here; its biases are two rows."""
    keras.utils.set_random_seed(0)
    models = [
        library.Sequential([library.Input((6, 5)), library.layers.GRU(4), library.layers.Dense(1)])
        for library in (ks, keras)
    ]
    models[0].set_weights([weight.numpy() for weight in models[1].weights])
    x = uniform(8, 6, 5, low=-3, high=3).numpy()
    for library, model in zip((ks, keras), models, strict=True):
        model.compile(getattr(library.optimizers, name)(0.01), "mse")
        model.fit(x, x.sum(axis=(1, 2)), batch_size=8, epochs=2, verbose=0)
    for a, b in zip(*(model.weights for model in models), strict=True):
        assert_close(a.read(), b, rtol=1e-4, atol=1e-5)
    for a, b in zip(*(model.optimizer.variables for model in models), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-5, err_msg=a.path)


def test_state_of_another_size_is_left_alone():
    optimizer = optimizers.SGD(momentum=0.9)
    with pytest.warns(UserWarning, match="was not loaded: it has 2 variables, the saved one 1"):
        optimizer.load_own_variables({"0": 3})
    assert int(optimizer.iterations) == 0


def test_set_weights():
    weight = nn.Parameter(torch.ones(3))
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    with pytest.raises(ValueError, match="not built yet"):
        optimizer.set_weights([])
    optimizer.build([weight])
    optimizer.set_weights([4, 0.5, np.array([1.0, 2.0, 3.0])])
    assert int(optimizer.iterations) == 4 and float(optimizer.learning_rate) == 0.5
    assert_close(optimizer.state["momentum"][0], torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"has shape \(3,\); got \(2,\)"):
        optimizer.set_weights([4, 0.5, np.ones(2)])


# --------------------------------------------------------------------------------------------------- several optimizers


def test_each_optimizer_gets_its_own_share():
    model = model_of()
    kernels, rest = optimizers.SGD(0.0), optimizers.SGD(0.5)
    model.compile(optimizers.MultiOptimizer(optimizers.OptimizerMap(rest, {".*kernel": kernels})), "mse")
    before = model.get_weights()
    model.fit(*data(), verbose=0)
    changed = [not np.allclose(a, b, rtol=1e-6) for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, True] * 3
    assert int(kernels.iterations) == int(rest.iterations) == int(model.optimizer.iterations) == 2


def test_config_of_several():
    chosen = optimizers.OptimizerMap(optimizers.Adam(0.01), {".*kernel": optimizers.SGD(0.05)})
    config = optimizers.serialize(optimizers.MultiOptimizer(chosen, loss_scale_factor=2.0))
    theirs = keras.saving.deserialize_keras_object(config)
    again = optimizers.deserialize(keras.saving.serialize_keras_object(theirs))
    assert again.get_config().keys() == theirs.get_config().keys()
    assert [type(each).__name__ for each in again.optimizers] == ["SGD", "Adam"]
    assert all(each.loss_scale_factor == 2.0 for each in again.optimizers)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.OptimizerMap("adam"), TypeError, "default_optimizer must be an optimizer; got 'adam'"),
        (lambda: optimizers.OptimizerMap(optimizers.SGD(), [1]), TypeError, "must be a dict"),
        (
            lambda: optimizers.OptimizerMap(optimizers.SGD(), {3: optimizers.SGD()}),
            ValueError,
            "must be a string; got 3",
        ),
        (lambda: optimizers.OptimizerMap(optimizers.SGD(), {"a": 1}), ValueError, "plain optimizers inside; got 1"),
        (
            lambda: optimizers.OptimizerMap(optimizers.SGD(), {"a.*": optimizers.SGD(), ".*b": optimizers.SGD()})["ab"],
            ValueError,
            "Several patterns of the OptimizerMap match 'ab'",
        ),
        (lambda: optimizers.MultiOptimizer(3), TypeError, "needs an OptimizerMap or a function"),
        (
            lambda: optimizers.MultiOptimizer(lambda v: None).build([nn.Parameter(torch.ones(1))]),
            ValueError,
            "got None",
        ),
        (lambda: optimizers.MultiOptimizer(lambda v: None).learning_rate, AttributeError, "use those of its"),
    ],
)
def test_mistakes_with_several(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ------------------------------------------------------------------------------------------------- what is trained


def test_freezing_and_thawing_keeps_the_state():
    """As Keras: state of a frozen weight waits until it is trained again."""
    trained = []
    for library in (ks, keras):
        model = model_of(library)
        if library is ks:
            start = model.get_weights()
        else:
            model.set_weights(start)
        model.compile(library.optimizers.Adam(0.01), "mse")
        for frozen in (False, True, False):
            model.layers[0].trainable = not frozen
            if library is keras:
                model.train_function = None
            model.fit(*data(), batch_size=20, shuffle=False, verbose=0)
        trained.append(model)
    assert_same_state(*trained)


def test_thawing_more_than_before_starts_their_state():
    model = model_of()
    model.layers[0].trainable = False
    optimizer = optimizers.Adam(0.01)
    model.compile(optimizer, "mse")
    model.fit(*data(), verbose=0)
    assert len(optimizer.variables) == 2 + 2 * 4
    model.layers[0].trainable = True
    model.compile(optimizer, "mse")
    before = model.get_weights()[0]
    model.fit(*data(), verbose=0)
    assert len(optimizer.variables) == 2 + 2 * 6
    assert not np.array_equal(before, model.get_weights()[0])


def test_tied_weights_are_stepped_once():
    class Tied(ks.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(5, use_bias=False), layers.Dense(5, use_bias=False)

        def call(self, x):
            return self.two(self.one(x))

    model, x = Tied(), data()[0]
    inputs, linear = torch.from_numpy(x), nn.functional.linear
    model(inputs)
    model.two.linear.weight = model.one.linear.weight
    weight = model.one.linear.weight.detach().clone().requires_grad_()
    model.compile(optimizers.SGD(0.1), "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, x, batch_size=40, verbose=0)
    (linear(linear(inputs, weight), weight) - inputs).square().mean().backward()
    assert_close(model.one.linear.weight, weight - 0.1 * weight.grad)


@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copy_of_a_trained_model_trains_on_alike(make, copied):
    model = model_of()
    model.compile(make(optimizers), "mse")
    model.fit(*data(), batch_size=16, verbose=0)
    twin = copied(model)
    for each in (model, twin):
        each.fit(*data(), batch_size=16, shuffle=False, verbose=0)
    assert_same_bits(model.get_weights(), twin.get_weights())
    assert twin.optimizer.variables[0] is not model.optimizer.variables[0]


def test_unused_weight_stays_and_is_named():
    ks.utils.clear_session()

    class Half(ks.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(1), layers.Dense(1)

        def call(self, x):
            self.unused(x)
            return self.used(x)

    model = Half()
    model.compile("adam", "mse")
    model(data()[0][:1])
    before = model.unused.kernel.numpy().copy()
    with pytest.warns(UserWarning, match="2 trainable .*half/dense_1/kernel"):
        model.fit(*data(), verbose=0)
    np.testing.assert_array_equal(before, model.unused.kernel.numpy())


# ----------------------------------------------------------------------------------------- subclasses in Keras' style


def momentum_sgd(library):
    """The optimizer of Keras' own docstring, with what its subclasses may use."""

    class MomentumSGD(library.optimizers.Optimizer):
        def __init__(self, learning_rate=0.05, momentum=0.9, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.momentum = momentum

        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")
            self.squares, self.means = self.add_optimizer_variables(variables, ["square", "mean"], ["ones", "zeros"])
            self.count = self.add_variable((), name="count")

        def update_step(self, gradient, variable, learning_rate):
            ops = library.ops
            learning_rate = ops.cast(learning_rate, variable.dtype)
            index = self._get_variable_index(variable)
            m = self.momentums[index]
            self.assign(m, ops.subtract(m * self.momentum, gradient * learning_rate))
            self.assign_add(self.squares[index], ops.square(gradient))
            self.assign_add(self.count, 1.0)
            self.assign_sub(variable, -m / ops.sqrt(self.squares[index] + ops.cast(self.iterations, "float32")))

        def get_config(self):
            return {**super().get_config(), "momentum": self.momentum}

    return MomentumSGD


@pytest.mark.parametrize("arguments", [{}, {"weight_decay": 0.1, "clipnorm": 0.5, "use_ema": True}], ids=str)
def test_subclass_in_keras_style(arguments):
    ours, theirs = both(lambda of: momentum_sgd(ks if of is optimizers else keras)(name="mine", **arguments))
    assert_same_state(ours, theirs)
    described = [[(v.name, v.path, tuple(v.shape)) for v in model.optimizer.variables] for model in (ours, theirs)]
    assert described[0] == described[1]
    cls = type(ours.optimizer)
    assert cls.from_config(ours.optimizer.get_config()).momentum == 0.9


def test_subclass_of_a_built_in_optimizer():
    """It changes the gradient and leaves the rest to its base class."""

    def centralized(library):
        class Centralized(library.optimizers.SGD):
            def update_step(self, gradient, variable, learning_rate):
                super().update_step(gradient - gradient.mean(0, keepdim=True), variable, learning_rate)

        return Centralized(0.05, momentum=0.9)

    assert_same_state(*both(lambda of: centralized(ks if of is optimizers else keras)))


def test_subclass_with_an_apply_of_its_own():
    def halved(library):
        class Halved(library.optimizers.SGD):
            def apply(self, grads, trainable_variables=None):
                super().apply([grad / 2 for grad in grads], trainable_variables)

        return Halved(0.1)

    assert_same_state(*both(lambda of: halved(ks if of is optimizers else keras)))


def test_built_by_hand_for_other_variables():
    optimizer = momentum_sgd(ks)()
    optimizer.apply([torch.ones(2)], [nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="was built without the variable"):
        optimizer.apply([torch.ones(2)], [nn.Parameter(torch.ones(2))])


def square_layer():
    layer = layers.Dense(3)
    layer.build((None, 3))
    return layer


SQUARE = torch.arange(9.0).view(3, 3)


@pytest.mark.parametrize(
    ("pick", "change"),
    [
        (lambda variable: variable, SQUARE),
        (lambda variable: variable.value, SQUARE),
        (lambda variable: variable.parameter, SQUARE.T),
    ],
    ids=["variable", "value", "parameter"],
)
def test_the_variable_decides_the_layout_of_its_gradient(pick, change):
    """A square gradient fits both ways; arrays are taken too, and so are later steps without variables."""
    layer = square_layer()
    kernel, optimizer = layer.kernel.numpy().copy(), optimizers.SGD(1.0)
    optimizer.build(layer.trainable_variables)
    variables = [pick(layer.kernel), pick(layer.bias)]
    optimizer.apply([SQUARE, torch.ones(3)], variables)
    assert_close(layer.kernel.numpy(), kernel - change.numpy())
    optimizer.apply([SQUARE.numpy(), np.ones(3, "float32")])
    assert_close(layer.kernel.numpy(), kernel - 2 * change.numpy())
    optimizer.apply_gradients(zip([SQUARE, torch.ones(3)], [layer.kernel, layer.bias], strict=True))
    assert_close(layer.kernel.numpy(), kernel - 2 * change.numpy() - SQUARE.numpy())


def test_gradients_of_another_shape_are_refused():
    layer = layers.Dense(2)
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"gradient of .*kernel has shape \(4, 4\); expected \(3, 2\)"):
        optimizers.SGD(1.0).apply([torch.ones(4, 4), torch.ones(2)], layer.trainable_variables)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected \(3, 2\).* layout; pass that parameter with it"):
        optimizers.SGD(1.0).apply([torch.ones(2, 3), torch.ones(2)], layer.trainable_variables)
    with pytest.raises(ValueError, match="got 1 gradients for 2 variables"):
        optimizers.SGD(1.0).apply([torch.ones(3, 2)], layer.trainable_variables)


def test_fit_hands_an_overridden_apply_gradients_in_keras_layout():
    seen = []

    class Watching(optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            seen.append([tuple(gradient.shape) for gradient in grads])
            super().apply(grads, trainable_variables)

    weights = []
    for make in (Watching, optimizers.SGD):
        model = ks.Sequential([ks.Input((3,)), layers.Dense(2, kernel_initializer="ones")])
        model.compile(make(0.1), "mse")
        model.fit(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"), verbose=0)
        weights.append(model.get_weights())
    assert seen == [[(3, 2), (2,)]]
    assert_close(weights[0][0], weights[1][0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda model: torch.optim.Adam,
        lambda model: functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        lambda model: torch.optim.Adam(model.parameters()),
    ],
    ids=["class", "partial", "given"],
)
def test_state_of_a_torch_optimizer_follows_the_dtype_of_its_weights(make, dtype):
    model, (x, y) = model_of(), data()
    model.compile(make(model), "mse")
    model.fit(x, y, verbose=0)
    state = {key: dict(each) for key, each in model.optimizer.optimizer.state.items()}
    assert state
    model.to(dtype)
    model.optimizer.track(model.trainable_weights)
    for parameter, before in state.items():
        for key, value in model.optimizer.optimizer.state[parameter].items():
            assert value.dtype is (torch.float32 if key == "step" else dtype)
            assert torch.equal(value, before[key].to(value.dtype))
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert all(np.any(one != other) for one, other in zip(model.get_weights(), before, strict=True))


class InFloat32(torch.optim.SGD):
    """Keeps float32 sums of gradients beside weights of any dtype."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            total = self.state[parameter].setdefault("total", torch.zeros_like(parameter, dtype=torch.float32))
            total.add_(parameter.grad)
        super().step(closure)


def test_state_that_has_a_dtype_of_its_own_keeps_it():
    model, (x, y) = model_of(), data()
    model.to(torch.bfloat16)
    model.compile(functools.partial(InFloat32, lr=0.1), "mse")
    for dtype in (torch.bfloat16, torch.float64):
        model.to(dtype)
        model.fit(x, y, verbose=0)
        assert {each["total"].dtype for each in model.optimizer.optimizer.state.values()} == {torch.float32}


def test_zero_grad_of_an_optimizer_says_what_to_call():
    optimizer = optimizers.Adam()
    assert not hasattr(optimizer, "zero_grad") and not hasattr(keras.optimizers.Adam(), "zero_grad")
    with pytest.raises(AttributeError, match=r"call model\.zero_grad\(\)"):
        optimizer.zero_grad()
