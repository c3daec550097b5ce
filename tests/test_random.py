"""Random numbers: Keras' numbers from Keras' seeds, its distributions without one, and seeds that can be kept."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch

from kstyle_torch import config, draws, initializers, layers, random, serialization, utils
from kstyle_torch.random import SeedGenerator
from tests.ops.row import assert_same_parameters
from tests.oracle import GraphModule, array, assert_close, uniform

NAMES = sorted(name for name in dir(keras.random) if name[0] != "_")
FUNCTIONS = [name for name in NAMES if name != "SeedGenerator"]
LOGITS = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
CALLS = [
    ("normal", ((3, 4),), {}),
    ("normal", ((3, 4), 2.0, 0.5), {"dtype": "float64"}),
    ("normal", ((),), {}),
    ("normal", ([64],), {"dtype": "float16"}),
    ("uniform", ((3, 4),), {}),
    ("uniform", ((3, 4), -2.0, 5.0), {"dtype": "float64"}),
    ("uniform", ((), 1.0, 2.0), {}),
    ("randint", ((3, 4), -3, 10), {}),
    ("randint", ((3, 4), 0, 100), {"dtype": "int64"}),
    ("truncated_normal", ((30, 4),), {}),
    ("truncated_normal", ((30,), 1.0, 3.0), {"dtype": "float64"}),
    ("categorical", (LOGITS, 7), {}),
    ("categorical", (LOGITS, 7), {"dtype": "int64"}),
    ("dropout", (torch.ones(4, 6), 0.3), {}),
    ("dropout", (torch.ones(4, 6), 0.3), {"noise_shape": (4, 1)}),
    ("dropout", (torch.ones(4, 6), 0.3), {"noise_shape": (None, 1)}),
    ("dropout", (torch.ones(4, 6), 1.0), {}),
    ("dropout", (torch.ones(4, 6), 0.0), {}),
    ("shuffle", (uniform(9),), {}),
    ("shuffle", (uniform(5, 3, 2),), {}),
    ("shuffle", (uniform(5, 6, 2),), {"axis": 1}),
    ("gamma", ((40,), 0.7), {}),
    ("gamma", ((3, 2), torch.tensor([0.5, 4.0])), {"dtype": "float64"}),
    ("binomial", ((40,), 10, 0.3), {}),
    ("binomial", ((3, 2), torch.tensor([5.0, 50.0]), torch.tensor([0.5, 0.1])), {"dtype": "int32"}),
    ("beta", ((40,), 0.7, 2.0), {}),
    ("beta", ((3, 2), torch.tensor([0.5, 4.0]), 1.0), {"dtype": "float64"}),
]
per_call = pytest.mark.parametrize(
    ("name", "args", "kwargs"), CALLS, ids=[f"{row[0]}{i}" for i, row in enumerate(CALLS)]
)


@pytest.mark.parametrize("name", NAMES)
def test_name_and_parameters_are_those_of_keras(name):
    assert_same_parameters(getattr(random, name), getattr(keras.random, name))


def test_every_function_has_a_row():
    assert {row[0] for row in CALLS} == {*FUNCTIONS}
    assert {*random.__all__} == {*NAMES}


@per_call
@pytest.mark.parametrize("seed", [3, 2**32 - 1])
def test_equal_numbers_for_an_equal_seed(name, args, kwargs, seed):
    ours = getattr(random, name)(*args, **kwargs, seed=seed)
    theirs = getattr(keras.random, name)(*args, **kwargs, seed=seed)
    assert ours.dtype == theirs.dtype
    assert_close(ours, theirs)
    assert_close(getattr(random, name)(*args, **kwargs, seed=seed), ours, rtol=0, atol=0)


@per_call
def test_equal_numbers_for_equal_seed_generators(name, args, kwargs):
    ours, theirs = SeedGenerator(5), keras.random.SeedGenerator(5)
    for _ in range(3):
        assert_close(
            getattr(random, name)(*args, **kwargs, seed=ours), getattr(keras.random, name)(*args, **kwargs, seed=theirs)
        )
    assert_close(ours.state.value, theirs.state.value)


@per_call
def test_without_a_seed_the_programs_seed_decides(name, args, kwargs):
    utils.set_random_seed(1)
    first = getattr(random, name)(*args, **kwargs)
    second = getattr(random, name)(*args, **kwargs)
    utils.set_random_seed(1)
    assert_close(getattr(random, name)(*args, **kwargs), first)
    if name != "dropout" and first.numel() > 10:  # what is dropped may be nothing or everything
        assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["dropout", "categorical", "shuffle"])
def test_symbolic_is_real(name):
    x, inputs = uniform(4, 6), layers.Input((6,))
    arguments = {"dropout": (0.5,), "categorical": (3,), "shuffle": (1,)}[name]
    outputs = getattr(random, name)(inputs, *arguments, seed=3)
    real = getattr(random, name)(x, *arguments, seed=3)
    assert outputs.dtype == real.dtype and outputs.shape == (None, *real.shape[1:])
    assert_close(GraphModule(inputs, outputs)(x), real)


def distributions():
    """A hundred thousand draws, and the same number from NumPy."""
    other = np.random.default_rng(0)
    n = (100_000,)
    cut = other.normal(size=300_000)
    return {
        "normal": (random.normal(n, 1.0, 2.0), other.normal(1.0, 2.0, n)),
        "uniform": (random.uniform(n, -1.0, 3.0), other.uniform(-1.0, 3.0, n)),
        "randint": (random.randint(n, -2, 5).float(), other.integers(-2, 5, n)),
        "truncated_normal": (random.truncated_normal(n, 1.0, 2.0), 1 + 2 * cut[abs(cut) < 2][: n[0]]),
        "gamma": (random.gamma(n, 2.5), other.gamma(2.5, size=n)),
        "binomial": (random.binomial(n, 10, 0.3), other.binomial(10, 0.3, n)),
        "beta": (random.beta(n, 2.0, 0.7), other.beta(2.0, 0.7, n)),
        "categorical": (
            random.categorical(LOGITS[:1], n[0])[0].float(),
            other.choice(3, n, p=array(LOGITS[0].softmax(0))),
        ),
        "dropout": (random.dropout(torch.ones(n), 0.3), (other.uniform(size=n) > 0.3) / 0.7),
    }


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "shuffle"])
def test_distribution(name):
    ours, wanted = map(array, distributions()[name])
    tolerance = 8 * wanted.std() / 100_000**0.5  # of a difference of two means: under six standard errors
    assert abs(ours.mean() - wanted.mean()) < tolerance
    assert abs(ours.std() - wanted.std()) < 2 * tolerance
    quantiles = np.linspace(0.05, 0.95, 19)
    if len(np.unique(wanted)) > 100:
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(wanted, quantiles), atol=5 * tolerance)


def test_truncated_normal_stays_within_two_deviations():
    """Also in the rare draw where four tries fail, which Keras lets through."""
    assert random.truncated_normal((2_000_000,), seed=1).abs().max() <= 2


def test_shuffle_keeps_the_values():
    x = torch.arange(50.0).reshape(5, 10)
    assert_close(random.shuffle(x, 1).sort(1).values, x)
    assert_close(random.shuffle(x, -1, seed=2), random.shuffle(x, 1, seed=2))


def test_unseeded_draws_compile_in_one_graph():
    torch.compiler.reset()

    def call(x):
        return random.dropout(x, 0.5) + random.normal((3,)) + random.uniform((3,))

    assert torch.compile(call, fullgraph=True, backend="eager")(torch.ones(3)).shape == (3,)


def test_seed_generator_counts_like_that_of_keras():
    ours, theirs = SeedGenerator(7), keras.random.SeedGenerator(7)
    for ordered in (True, True, False, False, True):
        assert ours.next(ordered).tolist() == theirs.next(ordered).tolist()
    assert ours.state.dtype == theirs.state.dtype == "int32"
    assert not ours.state.trainable
    assert ours.name == "seed_generator" and SeedGenerator().name == "seed_generator_1"


def test_state_can_be_put_back():
    seed = SeedGenerator(7)
    random.normal((3,), seed=seed)
    kept = seed.state.numpy()
    first = random.normal((3,), seed=seed)
    seed.state.assign(kept)
    assert_close(random.normal((3,), seed=seed), first)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda seed: pickle.loads(pickle.dumps(seed))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_where_the_original_was(again):
    seed = SeedGenerator(7)
    seed.next()
    other = again(seed)
    assert_close(random.normal((3,), seed=seed), random.normal((3,), seed=other))
    assert other.state.value.tolist() == seed.state.value.tolist() == [7, 2]


def test_seed_generator_without_seed_is_repeatable():
    utils.set_random_seed(1)
    first, second = SeedGenerator(), SeedGenerator()
    utils.set_random_seed(1)
    assert first.state.value.tolist() == SeedGenerator().state.value.tolist() != second.state.value.tolist()


def test_state_stays_on_the_cpu():
    """Reading it must not wait for a device."""
    with config.device_scope("meta"):
        seed = SeedGenerator(7)
    assert seed.state.device == torch.device("cpu") and seed.next().tolist() == [7, 0]


def test_config_of_seed_generator_is_that_of_keras():
    ours, theirs = SeedGenerator(7, name="mine"), keras.random.SeedGenerator(7, name="mine")
    plain = serialization.serialize_keras_object(ours)
    assert plain == keras.saving.serialize_keras_object(theirs)
    assert serialization.deserialize_keras_object(plain).next().tolist() == [7, 0]


@pytest.mark.parametrize(
    "name", ["RandomNormal", "RandomUniform", "TruncatedNormal", "GlorotUniform", "HeNormal", "Orthogonal"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initializers_draw_the_numbers_of_keras(name, dtype):
    ours, theirs = (getattr(library, name)(seed=3) for library in (initializers, keras.initializers))
    if name != "Orthogonal" or dtype == "float32":  # Keras decomposes in the dtype of the weights
        assert_close(ours((20, 30), dtype), theirs((20, 30), dtype))
    ours = getattr(initializers, name)(seed=SeedGenerator(3))
    theirs = getattr(keras.initializers, name)(seed=keras.random.SeedGenerator(3))
    for _ in range(2):
        assert_close(ours((20, 30)), theirs((20, 30)))


def test_initializer_with_seed_generator_has_the_config_of_keras():
    ours = initializers.RandomNormal(seed=SeedGenerator(3, name="mine"))
    theirs = keras.initializers.RandomNormal(seed=keras.random.SeedGenerator(3, name="mine"))
    assert ours.get_config() == theirs.get_config()
    assert_close(ours.clone()((3, 4)), ours((3, 4)))
    layer = layers.Dense(4, kernel_initializer=ours)
    again = layers.Dense.from_config(layer.get_config())
    assert again.kernel_initializer.seed.name == "mine"


def test_draws_without_seed_follow_torch():
    torch.manual_seed(1)
    first = torch.rand(3, generator=draws.generator(None))
    torch.manual_seed(1)
    assert_close(torch.rand(3, generator=draws.generator(None)), first)


WRONG = [
    (lambda: random.normal((3,), seed=1.5), "seed must be an int"),
    (lambda: random.normal((3,), seed="1"), "seed must be an int"),
    (lambda: SeedGenerator(1.5), "seed must be an int"),
    (lambda: SeedGenerator(1, sed=2), "has no argument 'sed'"),
    (lambda: random.uniform((3,), dtype="int32"), "must be a float type; got 'int32'"),
    (lambda: random.randint((3,), 0, 5, dtype="float32"), "must be an integer type; got 'float32'"),
    (lambda: random.categorical(torch.ones(3), 2), r"must be \(batch, classes\); got shape \(3,\)"),
    (lambda: initializers.RandomNormal(seed="1"), "an int, a SeedGenerator or None"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_isolated_seed_leaves_no_trace():
    """Also within another, and after an error."""

    def drawn():
        weights = layers.Dense(2)(torch.ones(1, 2)).tolist()
        return torch.rand(2).tolist(), np.random.rand(), random.uniform((2,)).tolist(), weights

    def inside(seed):
        with draws.isolated_seed(seed):
            return drawn()

    utils.set_random_seed(5)
    expected = [drawn(), drawn()]
    utils.set_random_seed(5)
    first = drawn()
    assert inside(1) == inside(1) != inside(2)
    with draws.isolated_seed(1):
        around = drawn()
        inside(2)
        assert drawn() != around
    with pytest.raises(ValueError, match="an error"), draws.isolated_seed(1):
        raise ValueError("an error")
    assert [first, drawn()] == expected
