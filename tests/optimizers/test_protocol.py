"""Optimizers as users write and call them: the same program on Keras and here gives the same numbers."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from tests.oracle import assert_alike, raised

RNG = np.random.default_rng(5)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 2)).astype("float32")
GRADIENTS = [RNG.normal(size=shape).astype("float32") for shape in ((3, 2), (2,))]


def fixed(keras):
    """A model whose weights do not depend on random numbers."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")], name="m")
    model.set_weights(
        [np.cos(np.arange(np.size(w)) + i).reshape(np.shape(w)) for i, w in enumerate(model.get_weights())]
    )
    return model


def trained(keras, optimizer):
    """The losses and weights of two epochs, the state and its paths."""
    model = fixed(keras)
    model.compile(optimizer, "mse")
    history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return history, model.get_weights(), state(optimizer), paths(optimizer)


def state(optimizer):
    return [np.array(variable.numpy()) for variable in optimizer.variables]


def paths(optimizer):
    """The paths without numbers that depend on how many objects there were before."""
    return [variable.path.split("/")[-1] for variable in optimizer.variables]


def gradients():
    return [torch.from_numpy(gradient) for gradient in GRADIENTS]


def momentum(keras, base=None):
    """The optimizer of Keras' documentation: its own variables, `update_step` and config."""

    class Momentum(base or keras.optimizers.Optimizer):
        def __init__(self, learning_rate=0.05, decay=0.9, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.decay = decay

        def build(self, variables):
            super().build(variables)
            self.momentums = []
            for variable in variables:
                self.momentums.append(self.add_variable_from_reference(reference_variable=variable, name="momentum"))

        def update_step(self, gradient, variable, learning_rate):
            ops = keras.ops
            learning_rate = ops.cast(learning_rate, variable.dtype)
            gradient = ops.cast(gradient, variable.dtype)
            m = self.momentums[self._get_variable_index(variable)]
            self.assign(
                m,
                ops.subtract(
                    ops.multiply(m, ops.cast(self.decay, variable.dtype)), ops.multiply(gradient, learning_rate)
                ),
            )
            self.assign_add(variable, m)

        def get_config(self):
            return {**super().get_config(), "decay": self.decay}

    return Momentum


def documented(keras):
    return trained(keras, momentum(keras)())


def documented_with_everything(keras):
    Momentum = momentum(keras)
    settings = (
        {"clipnorm": 0.1},
        {"weight_decay": 0.1, "global_clipnorm": 0.2},
        {"use_ema": True, "ema_momentum": 0.5},
        {"gradient_accumulation_steps": 2},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
    )
    results = [trained(keras, Momentum(**arguments)) for arguments in settings]
    copy = Momentum.from_config(Momentum(0.25, 0.5, weight_decay=0.1).get_config())
    return results, float(copy.learning_rate), copy.decay, copy.weight_decay


def own_step_on_top(keras):
    """`update_step` of a built-in optimizer, with the gradient doubled, and named arguments."""

    class Doubled(keras.optimizers.RMSprop):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient * 2, variable, learning_rate)

    class Halved(keras.optimizers.Adadelta):
        def update_step(self, grad, variable, learning_rate):
            super().update_step(grad=grad / 2, variable=variable, learning_rate=learning_rate)

    return trained(keras, Doubled(0.01)), trained(keras, Halved(0.5))


def own_apply(keras):
    calls = []

    class Counting(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            calls.append((len(grads), [tuple(variable.shape) for variable in trainable_variables]))
            return super().apply([gradient * 2 for gradient in grads], trainable_variables)

        def assign_sub(self, variable, value):
            calls.append("assign_sub")
            super().assign_sub(variable, value)

    results = trained(keras, Counting(0.05))
    return results, [call for call in calls if call != "assign_sub"]


def own_build(keras):
    """`build` of a built-in optimizer, which makes another variable for each."""

    class More(keras.optimizers.SGD):
        def build(self, variables):
            super().build(variables)
            self.counts = self.add_optimizer_variables(variables, "count", "ones")
            self.total = self.add_variable(shape=(), name="total")

        def update_step(self, gradient, variable, learning_rate):
            count = self.counts[self._get_variable_index(variable)]
            self.assign_add(count, keras.ops.ones(tuple(variable.shape)))
            self.assign_add(self.total, 1.0)
            super().update_step(gradient, variable, learning_rate)

    return trained(keras, More(0.05, momentum=0.5))


def by_hand(keras):
    """`apply` and `apply_gradients` in a loop of the user's own."""
    model = fixed(keras)
    optimizer = keras.optimizers.Adam(0.1)
    variables = model.trainable_variables
    optimizer.build(variables)
    optimizer.apply(gradients())
    optimizer.apply(gradients(), variables)
    count = optimizer.apply_gradients(zip(gradients(), variables))
    optimizer.apply([])
    return int(count), int(optimizer.iterations), model.get_weights(), state(optimizer)


def wrong_calls(keras):
    model = fixed(keras)
    optimizer = keras.optimizers.Adam(0.1)

    class Forgets(keras.optimizers.Optimizer):
        def __init__(self):
            self.mine = 1

    unbuilt = [
        raised(lambda: optimizer.apply(gradients())),
        raised(lambda: optimizer.stateless_apply([], [], [])),
        raised(lambda: optimizer.set_weights([])) in ("ValueError",),
        raised(lambda: keras.optimizers.Optimizer()),
        raised(lambda: Forgets().build([])),
    ]
    optimizer.build(model.trainable_variables)
    values = [variable.value for variable in optimizer.variables]
    weights = [variable.value for variable in model.trainable_variables]
    return unbuilt, [
        raised(lambda: optimizer.apply(gradients()[:1])),
        raised(lambda: optimizer.apply([None, None], model.trainable_variables)),
        raised(lambda: optimizer.stateless_apply(values[:-1], gradients(), weights)),
        raised(lambda: optimizer.stateless_apply(values, gradients(), weights[:-1])),
        raised(lambda: keras.optimizers.get("adamm")),
        raised(lambda: keras.optimizers.Adam(wrong=1)),
        raised(lambda: keras.optimizers.Adam(clipnorm=1.0, clipvalue=1.0)),
        raised(lambda: keras.optimizers.Adam(gradient_accumulation_steps=1)),
        raised(lambda: keras.optimizers.Adam(use_ema=True, ema_momentum=2)),
        raised(lambda: keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=-1)),
    ]


def own_variables(keras):
    optimizer = momentum(keras)()
    model = fixed(keras)
    optimizer.build(model.trainable_variables)
    number = optimizer.add_variable(
        shape=(2, 1), initializer="ones", dtype="float32", aggregation="none", name="number"
    )
    optimizer.assign(number, [[2.0], [3.0]])
    optimizer.assign_add(number, [[1.0], [1.0]])
    optimizer.assign_sub(number, [[0.5], [0.5]])
    kernel = model.trainable_variables[0]
    optimizer.assign(kernel, np.ones((3, 2), "float32"))
    optimizer.assign_add(kernel, kernel)
    optimizer.assign_sub(kernel, 0.5)
    return state(optimizer), paths(optimizer), model.get_weights(), optimizer._get_variable_index(kernel)


def rates(keras):
    optimizer = keras.optimizers.SGD(0.5)
    numbers = [float(optimizer.learning_rate)]
    optimizer.learning_rate = 0.25
    numbers.append(float(optimizer.learning_rate))
    optimizer.learning_rate.assign(0.125)
    numbers.append(float(optimizer.learning_rate))
    optimizer.learning_rate = keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5)
    numbers.append(float(optimizer.learning_rate))
    scheduled = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))
    called = keras.optimizers.SGD(lambda: 0.75)

    def set_rate():
        scheduled.learning_rate = 0.5

    return (
        numbers,
        float(scheduled.learning_rate),
        float(called.learning_rate),
        raised(set_rate),
        trained(keras, called),
    )


def counts(keras):
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    model = fixed(keras)
    numbers = []
    for _ in range(7):
        optimizer.apply(gradients(), model.trainable_variables)
        numbers.append(int(optimizer.iterations))
    return numbers, model.get_weights(), state(optimizer)


def averages(keras):
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = fixed(keras)
    for _ in range(3):
        optimizer.apply(gradients(), model.trainable_variables)
    before = model.get_weights()
    optimizer.finalize_variable_values(model.trainable_variables)
    return before, model.get_weights(), state(optimizer)


def decays(keras):
    results = []
    for exclude in (lambda v: {"var_list": [v[1]]}, lambda v: {"var_names": ["kernel"]}, lambda v: {}):
        model = fixed(keras)
        optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(**exclude(model.trainable_variables))
        optimizer.apply(gradients(), model.trainable_variables)
        results.append(model.get_weights())
    return results


def muon(keras):
    optimizer = keras.optimizers.Muon(0.1)
    matrix = torch.from_numpy(RNG.__class__(np.random.PCG64(1)).normal(size=(4, 3)).astype("float32"))
    return (
        optimizer.transpose_last_axis(matrix), optimizer.lr_adjust(matrix),
        optimizer.zeropower_via_newtonschulz5(matrix, 5), optimizer.zeropower_via_newtonschulz5(matrix.T, steps=2),
        optimizer.zeropower_via_newtonschulz5(torch.stack([matrix, 2 * matrix + 1]), 3),
        raised(lambda: optimizer.zeropower_via_newtonschulz5(matrix[0], 5)),
        keras.optimizers.Muon(0.1, rms_rate=None).lr_adjust(matrix),
    )  # fmt: skip


def loss_scale(keras):
    optimizer = keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.Adam(0.1), initial_scale=8.0, dynamic_growth_steps=2
    )
    model = fixed(keras)
    variables = model.trainable_variables
    optimizer.build(variables)
    finite, infinite = gradients(), [gradient / 0 for gradient in gradients()]
    results = [bool(optimizer.check_finite(each)) for each in (finite, infinite, [None, finite[1]])]
    values = [torch.tensor(np.array(variable.numpy())) for variable in optimizer.variables]
    weights = [torch.tensor(np.array(variable.numpy())) for variable in variables]
    for given in (finite, finite, infinite, finite):
        weights, values = optimizer.stateless_apply(values, given, weights)
        results.append([value.clone() for value in (*weights, *values)])  # Keras changes what it was given
    return results, model.get_weights(), state(optimizer), paths(optimizer)


def several(keras):
    def made():
        return keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1), {".*kernel": keras.optimizers.RMSprop(0.05)})
        )

    optimizer_map = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
    optimizer_map[".*kernel"] = keras.optimizers.RMSprop(0.05)
    copy = keras.optimizers.OptimizerMap.from_config(optimizer_map.get_config(), custom_objects={})

    def twice():
        optimizer_map[".*kernel"] = keras.optimizers.RMSprop(0.05)

    def number():
        optimizer_map[1] = keras.optimizers.RMSprop(0.05)

    def nested():
        optimizer_map["a"] = made()

    history, weights, *_ = trained(keras, made())
    model, optimizer = fixed(keras), made()
    optimizer.build(model.trainable_variables)
    values = [torch.tensor(np.array(variable.numpy())) for variable in optimizer.variables]
    given = [torch.tensor(np.array(variable.numpy())) for variable in model.trainable_variables]
    given, values = optimizer.stateless_apply(values, gradients(), given)
    given, values = optimizer.stateless_apply(values, gradients(), given)
    kinds = [type(copy[path]).__name__ for path in ("d/kernel", "d/bias")]
    mistakes = [raised(call) for call in (twice, number, nested, lambda: keras.optimizers.OptimizerMap(None))]
    shapes = [tuple(value.shape) for value in values]
    return history, weights, given, shapes, model.get_weights(), len(copy), list(copy), kinds, mistakes


PROGRAMS = [
    documented, documented_with_everything, own_step_on_top, own_apply, own_build, by_hand, wrong_calls, own_variables,
    rates, counts, averages, decays, muon, loss_scale, several,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_do_what_they_do_in_keras(program, keras):
    assert_alike(program(ks), program(keras))


NAMES = (
    "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion Muon Nadam RMSprop SGD ScheduleFreeAdamW"
).split()  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_stateless_apply_does_what_apply_does(name, keras):
    """Keras' own `stateless_apply` goes wrong with some, whose steps change what they were given."""
    model, other = fixed(ks), fixed(keras)
    optimizer, theirs = (getattr(each.optimizers, name)(learning_rate=0.1, weight_decay=0.01) for each in (ks, keras))
    optimizer.build(model.trainable_variables)
    before = [*model.get_weights(), *state(optimizer)]
    before = [np.array(each) for each in before]
    weights, values = (
        [torch.tensor(variable.numpy()) for variable in each]
        for each in (model.trainable_variables, optimizer.variables)
    )
    for _ in range(3):
        weights, values = optimizer.stateless_apply(values, gradients(), weights)
        theirs.apply(gradients(), other.trainable_variables)
    assert_alike([*weights, *values], [*other.get_weights(), *state(theirs)])
    assert_alike([*model.get_weights(), *state(optimizer)], before)


def test_stateless_apply_leaves_what_it_is_given():
    model = fixed(ks)
    optimizer = ks.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    values = [torch.tensor(variable.numpy()) for variable in optimizer.variables]
    weights = [torch.tensor(variable.numpy()) for variable in model.trainable_variables]
    before = [value.clone() for value in (*values, *weights)]
    optimizer.stateless_apply(values, gradients(), weights)
    assert_alike([*values, *weights], before)
