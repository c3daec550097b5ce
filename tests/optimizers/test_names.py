"""Every optimizer and schedule that Keras exports: its arguments, their defaults, and what it remembers."""

import inspect

import keras
import pytest

import kstyle_torch as ks
from kstyle_torch import optimizers
from kstyle_torch.optimizers import schedules

OPTIMIZERS = sorted(
    name
    for name in dir(keras.optimizers)
    if inspect.isclass(getattr(keras.optimizers, name)) and issubclass(getattr(keras.optimizers, name), keras.Optimizer)
)
SCHEDULES = sorted(name for name in dir(keras.optimizers.schedules) if inspect.isclass(getattr(schedules, name, None)))


def arguments_of(cls):
    if cls.__init__ is object.__init__:
        return []
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [(p.name, p.kind, p.default) for p in parameters if p.kind is not p.VAR_KEYWORD]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Optimizer"])
def test_arguments_and_defaults_of_an_optimizer(name):
    assert arguments_of(getattr(optimizers, name)) == arguments_of(getattr(keras.optimizers, name))


@pytest.mark.parametrize("name", SCHEDULES)
def test_arguments_and_defaults_of_a_schedule(name):
    assert arguments_of(getattr(schedules, name)) == arguments_of(getattr(keras.optimizers.schedules, name))


def test_names_of_legacy_are_todays():
    for name in ("Adam", "Adagrad", "Ftrl", "RMSprop", "SGD", "Optimizer"):
        assert getattr(optimizers.legacy, name) is getattr(optimizers, name)


# ------------------------------------------------------------------------------------------------ optimizer.variables


def small_model(library):
    """Kernels that torch lays out in another way, of one to four axes."""
    layers = library.layers
    x = library.Input((6, 4))
    y = layers.Conv1D(3, 2, name="conv")(x)
    y = layers.LSTM(5, name="lstm")(y)
    y = layers.Dense(2, name="out")(y)
    tokens = library.Input((3,), dtype="int32")
    z = layers.MultiHeadAttention(2, 3, name="heads")(e := layers.Embedding(7, 4, name="embedding")(tokens), e)
    z = layers.GRU(2, name="gru")(z)
    return library.Model([x, tokens], [y, z], name="small")


OF_VARIABLES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"use_ema": True, "gradient_accumulation_steps": 2}),
    ("Nadam", {}),
    ("Adamax", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Ftrl", {}),
    ("Lion", {}),
    ("Lamb", {}),
    ("Adafactor", {}),
    ("Muon", {"exclude_layers": ["out"]}),
    ("ScheduleFreeAdamW", {}),
]


def described(optimizer):
    return [(v.name, v.path, tuple(v.shape), v.dtype) for v in optimizer.variables]


def clear_names():
    ks.utils.clear_session(free_memory=False)  # which would look through all that the tests have made
    keras.utils.clear_session(free_memory=False)


def both_built(name, arguments):
    clear_names()
    built = []
    for library in (ks, keras):
        model = small_model(library)
        optimizer = getattr(library.optimizers, name)(name="mine", **arguments)
        optimizer.build(model.trainable_variables)
        built.append((model, optimizer))
    return built


@pytest.mark.parametrize(("name", "arguments"), OF_VARIABLES, ids=str)
def test_variables_have_keras_order_names_and_shapes(name, arguments):
    (_, ours), (_, theirs) = both_built(name, arguments)
    assert described(ours) == described(theirs)


def test_variables_of_a_wrapped_optimizer():
    clear_names()
    optimizers_of = []
    for library in (ks, keras):
        inner = library.optimizers.Adam(library.optimizers.schedules.CosineDecay(0.1, 10), name="inner")
        optimizer = library.optimizers.LossScaleOptimizer(inner, name="outer")
        optimizer.build(small_model(library).trainable_variables)
        optimizers_of.append(optimizer)
    assert described(optimizers_of[0]) == described(optimizers_of[1])


def test_variables_of_several_optimizers():
    clear_names()
    optimizers_of = []
    for library in (ks, keras):
        of = library.optimizers
        chosen = of.OptimizerMap(of.Adam(name="a"), {".*kernel": of.SGD(momentum=0.9, name="b")})
        optimizer = of.MultiOptimizer(chosen, name="outer")
        optimizer.build(small_model(library).trainable_variables)
        optimizers_of.append(optimizer)
    assert described(optimizers_of[0]) == described(optimizers_of[1])


@pytest.mark.parametrize(("name", "arguments"), OF_VARIABLES, ids=str)
def test_names_count_up_as_in_keras(name, arguments):
    clear_names()
    names = [[getattr(library.optimizers, name)().name for _ in range(2)] for library in (ks, keras)]
    assert names[0] == names[1]
