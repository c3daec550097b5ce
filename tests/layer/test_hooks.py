"""Hooks of layers are called where Keras calls them, with the same arguments: the same program runs on both libraries."""

import warnings
from collections import namedtuple

import keras
import numpy as np
import pytest
import torch

import kstyle_torch
from kstyle_torch import tree
from tests.oracle import array, assert_close

X = np.linspace(-1, 1, 30, dtype="float32").reshape(2, 5, 3)
MASK = np.array([[True] * 3 + [False] * 2, [True] * 5])


class Log(list):
    """Calls of hooks: name, and shapes of the arguments. How often a symbolic call runs `call` is each library's own."""

    closed = False

    def add(self, name, *args, **kwargs):
        """Notes a call; `call` without arguments counts once."""
        entry = (name, shown(args), shown(kwargs)) if args or kwargs else (name,)
        if not self.closed and (entry != ("call",) or entry not in self):
            self.append(entry)

    def close(self):
        """Notes nothing more: a graph that runs computes masks by what the hooks did when it was made, in Keras anew."""
        self.closed = True


def shown(value):
    """A nest with the shape in the place of each tensor; lists in the place of tuples."""
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return ["tensor", *value.shape] if hasattr(value, "shape") else value


def spec(value):
    """Shape and dtype of each symbolic tensor of a nest."""
    if isinstance(value, dict):
        return {key: spec(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [spec(item) for item in value]
    return [*value.shape], str(value.dtype).removeprefix("torch.")


def masked(library, x=X, mask=MASK):
    """A tensor with a mask on it, as layers before it would leave one."""
    tensor = torch.tensor(x)
    tensor._keras_mask = torch.tensor(mask)
    return tensor


def masked_input(library):
    """A symbolic tensor with a mask."""
    return library.layers.Masking()(library.Input((5, 3)))


def output_shape(library, log):
    class Declared(library.layers.Layer):
        def build(self, input_shape):
            log.add("build", input_shape)

        def compute_output_shape(self, input_shape):
            log.add("compute_output_shape", input_shape)
            return (input_shape[0], 7)

        def call(self, x):
            log.add("call")
            return library.ops.ones((library.ops.shape(x)[0], 7))

    layer = Declared(dtype="float16")
    inputs = library.Input((3,))
    outputs = layer(inputs)
    log.add("declared")
    return spec(outputs), spec(layer.compute_output_spec(inputs)), array(library.Model(inputs, outputs)(X[:, 0]))


def output_shape_of_several(library, log):
    class Declared(library.layers.Layer):
        def build(self, b_shape, a_shape):
            log.add("build", a_shape, b_shape)

        def compute_output_shape(self, a_shape, b_shape):
            log.add("compute_output_shape", a_shape, b_shape)
            return [a_shape, {"b": b_shape}]

        def call(self, a, b, scale=2.0):
            log.add("call")
            return [a * scale, {"b": b}]

    layer = Declared()
    a, b = library.Input((3,)), library.Input((4,))
    outputs = layer(b=b, a=a, scale=3.0)
    values = library.Model([a, b], outputs)([X[:, 0], np.ones((2, 4), "float32")])
    return spec(outputs), layer.get_build_config(), array(values[0]), array(values[1]["b"])


def output_spec(library, log):
    class Declared(library.layers.Layer):
        def compute_output_spec(self, x, training=None):
            log.add("compute_output_spec", x, training=training)
            return {"ids": library.KerasTensor((x.shape[0], 2), "int32"), "same": library.KerasTensor(x.shape)}

        def call(self, x, training=False):
            log.add("call")
            ids = library.ops.cast(x[:, :2] > 0, "int32")
            return {"ids": ids, "same": x}

    inputs = library.Input((3,))
    outputs = Declared()(inputs)
    log.add("declared")
    model = library.Model(inputs, [outputs["ids"], library.layers.Dense(2, kernel_initializer="ones")(outputs["same"])])
    return spec(outputs), *(array(value) for value in model(X[:, 0]))


def output_spec_calls_super(library, log):
    class Wider(library.layers.Dense):
        def compute_output_spec(self, *args, **kwargs):
            log.add("compute_output_spec", *args, **kwargs)
            return super().compute_output_spec(*args, **kwargs)

        def symbolic_call(self, *args, **kwargs):
            log.add("symbolic_call", *args, **kwargs)
            return super().symbolic_call(*args, **kwargs)

    inputs = library.Input((5, 3))
    return spec(Wider(4)(inputs)), spec(Wider(4, dtype="mixed_bfloat16")(inputs))


def output_shape_builds_layers_inside(library, log):
    class Outer(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = library.layers.Dense(4)

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], 4)

        def call(self, x):
            log.add("call")
            return self.inner(x)

    layer = Outer()
    return spec(layer(library.Input((3,)))), layer.inner.built, [tuple(weight.shape) for weight in layer.weights]


def output_shape_of_a_model(library, log):
    class Outer(library.Model):
        def __init__(self):
            super().__init__()
            self.inner = library.layers.Dense(4)

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], 4)

        def call(self, x):
            return self.inner(x)

    model = Outer()
    if library is kstyle_torch:
        model.build((None, 3))  # where Keras believes the hook, and leaves the layer inside without weights
        assert model.inner.built
    return spec(model(library.Input((3,)))), [tuple(weight.shape) for weight in model.weights]


def output_shape_of_what_cannot_be_run(library, log):
    class Outer(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = library.layers.Dense(4)

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], 4)

        def call(self, x):
            if x.shape[0] != 2 or not hasattr(x, "data_ptr") or x.device.type == "meta" or not float(x.sum()):
                raise RuntimeError("only on data")
            return self.inner(x)

    with pytest.warns(UserWarning, match="build"):
        outputs = Outer()(library.Input((3,)))
    return spec(outputs)


def output_spec_masks(library, log):
    class Declared(library.layers.Layer):
        def compute_output_shape(self, input_shape):
            log.add("compute_output_shape", input_shape)
            return input_shape

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask

        def call(self, x, mask=None):
            log.add("call")
            return x if mask is None else x * library.ops.cast(mask, x.dtype)[..., None]

    inputs = library.Input((5, 3))
    model = library.Model(inputs, Declared()(library.layers.Masking(-1.0)(inputs)))
    log.close()
    return array(model(X))


def mask_of_one(library, log):
    class Hooked(library.layers.Layer):
        def call(self, x, mask=None):
            log.add("call", x, mask)
            return x * 2

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask if previous_mask is None else previous_mask[:, :2]

    layer = Hooked()
    results = [layer(X), layer(masked(library)), layer(X, mask=torch.tensor(MASK))]
    return layer.supports_masking, [shown(getattr(result, "_keras_mask", None)) for result in results]


def mask_of_one_in_a_graph(library, log):
    class Hooked(library.layers.Layer):
        def call(self, x, mask=None):
            log.add("call")
            return x * 2

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask

    plain = Hooked()(library.Input((5, 3)))
    return hasattr(plain, "_keras_mask"), shown(Hooked()(masked_input(library))._keras_mask)


def masks_of_a_list(library, log):
    class Hooked(library.layers.Layer):
        def call(self, inputs, mask=None):
            log.add("call", inputs, mask)
            return inputs[0] + inputs[1]

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask[1]

    layer = Hooked()
    results = [layer([X, X]), layer([X, masked(library)]), layer([masked(library), masked(library)])]
    return [shown(getattr(result, "_keras_mask", None)) for result in results]


def masks_of_a_list_in_a_graph(library, log):
    class Hooked(library.layers.Layer):
        def compute_output_spec(self, inputs, mask=None):
            log.add("compute_output_spec", inputs, mask)
            return library.KerasTensor(inputs[0].shape)

        def call(self, inputs, mask=None):
            return (
                inputs[0]
                if mask is None or mask[1] is None
                else inputs[0] * library.ops.cast(mask[1], "float32")[..., None]
            )

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask[1]

    a, b = library.Input((5, 3)), library.Input((5, 3))
    plain = Hooked()([a, b])
    outputs = Hooked()([a, library.layers.Masking(-1.0)(b)])
    log.close()
    return spec([plain, outputs]), hasattr(plain, "_keras_mask"), array(library.Model([a, b], outputs)([X, X]))


def masks_of_several(library, log):
    class Hooked(library.layers.Layer):
        def call(self, a, b, a_mask=None, b_mask=None):
            log.add("call", a, b, a_mask, b_mask)
            return a + b[0]

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)

    layer = Hooked()
    layer(X, [X, masked(library)])
    layer(b=[X, X], a=masked(library))
    layer(X, [X, X])


def mask_switched_off(library, log):
    class Hooked(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = False

        def call(self, x):
            return x * 1

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask")
            return previous_mask

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [Hooked()(masked(library)), Hooked()(masked_input(library))]
    return [hasattr(result, "_keras_mask") for result in results], len(caught)


def mask_of_a_mixin(library, log):
    class Cut:
        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask

    class Hooked(Cut, library.layers.Layer):
        def call(self, x):
            return x * 1

    class Further(Hooked):
        pass

    return [(layer.supports_masking, shown(layer(masked(library))._keras_mask)) for layer in (Hooked(), Further())]


def mask_put_by_the_call(library, log):
    class Hooked(library.layers.Layer):
        def call(self, x):
            y = x * 2
            y._keras_mask = torch.tensor(MASK)
            return y

        def compute_mask(self, inputs, previous_mask):
            log.add("compute_mask", inputs, previous_mask)
            return previous_mask

    return shown(Hooked()(X)._keras_mask)


def building(library, log):
    class Built(library.layers.Layer):
        def build(self, query_shape, value_shape, extra_shape=None):
            log.add("build", query_shape, value_shape, extra_shape, self.path)
            self.w = self.add_weight(shape=(query_shape[-1], value_shape["v"][-1]), initializer="ones", name="w")

        def build_from_config(self, config):
            log.add("build_from_config", config)
            super().build_from_config(config)

        def call(self, query, value, extra=None, scale=1.0):
            return query @ self.w * scale

    layer = Built(name="layer")
    layer(X, {"v": X[:, 0]}, scale=2.0)
    config = layer.get_build_config()
    other = Built(name="other")
    other.build_from_config(config)
    unbuilt = Built()
    unbuilt.build_from_config({})
    return layer.built, config, other.built, other.path, [tuple(w.shape) for w in other.weights], unbuilt.built


def building_by_default(library, log):
    class Plain(library.layers.Layer):
        def call(self, a, b=None):
            return a * 1

    called, built = Plain(), Plain()
    called(X, b=X)
    before = built.built, built.path, built.get_build_config()
    built.build((None, 3))
    return before, [(each.built, each.path, each.get_build_config()) for each in (called, built)]


def paths_and_dtypes(library, log):
    class Outer(library.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = library.layers.Dense(2, name="inner")

        def call(self, x):
            return self.inner(x)

    outer = Outer(name="outer", dtype="mixed_float16")
    before = outer.path, outer.inner.path
    outer(X)
    model = library.Sequential(
        [library.Input((3,)), library.layers.Dense(2, name="d"), library.layers.Dropout(0.5)], name="m"
    )
    layers = [outer, outer.inner, model, *model.layers]
    return (
        before,
        [(each.path, each.input_dtype) for each in layers],
        [w.path for w in (*outer.weights, *model.weights)],
    )


def metrics(library, log):
    class Outer(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = library.layers.Dense(2)
            self.inner.seen = library.metrics.Mean(name="seen")
            self.several = [library.metrics.Sum(name="sum"), library.metrics.Mean(name="mean")]

        def call(self, x):
            self.several[0].update_state(x)
            return self.inner(x)

    layer = Outer()
    layer(X[0])
    return [metric.name for metric in layer.metrics], [array(v) for v in layer.metrics_variables], len(layer.weights)


def weights(library, log):
    layer = library.layers.Layer()
    by_position = layer.add_weight((2, 3), "ones", "float32")
    by_name = layer.add_weight(
        shape=(3,), initializer="zeros", dtype="int32", trainable=False, autocast=False, aggregation="mean", name="n"
    )
    older = layer.add_variable((2,), "ones", None, True, True, "l2", "non_neg", "older")
    made = [by_position, by_name, older]
    shown_weights = [
        (w.name.rstrip("_0123456789"), tuple(w.shape), str(w.dtype).removeprefix("torch."), w.trainable) for w in made
    ]
    return (
        shown_weights,
        by_name.aggregation,
        float(layer.losses[0].detach()),
        layer.add_weight().name.startswith("variable"),
    )


def stateless(library, log):
    class Hooked(library.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = library.layers.Dense(3, kernel_regularizer="l2")
            self.norm = library.layers.BatchNormalization()
            self.lstm = library.layers.LSTM(2)

        def build(self, input_shape):
            self.w = self.add_weight(shape=(3, 2), name="w", regularizer="l2")
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
            self.dense.build((None, 5, 2))
            self.norm.build((None, 5, 3))
            self.lstm.build((None, 5, 3))

        def call(self, x, training=False):
            self.calls.assign_add(1.0)
            y = self.norm(self.dense(library.ops.matmul(x, self.w)), training=training)
            self.add_loss(library.ops.mean(y**2))
            return self.lstm(y)

    layer = Hooked()
    layer(X)
    draw = np.random.default_rng(0)
    kinds = (layer.trainable_variables, [v for v in layer.non_trainable_variables if "seed" not in v.path])
    given = [[torch.tensor(np.asarray(draw.random(tuple(v.shape)), "float32")) for v in kind] for kind in kinds]
    seeds = [v.value for v in layer.non_trainable_variables if "seed" in v.path]
    for value in given[0]:
        value.requires_grad_()
    before, kept = layer.get_weights(), [value.clone() for value in given[1]]
    outputs, after, losses = layer.stateless_call(given[0], [*given[1], *seeds], X, training=True, return_losses=True)
    (outputs.sum() + sum(losses)).backward()
    for old, new in zip((*before, *kept), (*layer.get_weights(), *given[1]), strict=True):
        np.testing.assert_array_equal(old, new)
    pair = layer.stateless_call(layer.trainable_variables, layer.non_trainable_variables, X)
    return (
        array(outputs),
        [array(value) for value in after[: len(given[1])]],
        [float(loss.detach()) for loss in losses],
        [array(value.grad) for value in given[0]],
        len(pair),
    )


def calls_of_base_classes(library, log):
    class Sampled(library.layers.Dropout):
        def call(self, inputs):
            return super().call(inputs, training=True)

    zeros = (array(Sampled(0.5)(np.ones((20, 20), "float32"))) == 0).mean()
    return bool(0.3 < zeros < 0.7)


def arguments_by_name(library, log):
    class Pair(library.layers.Layer):
        def build(self, a_shape, b_shape):
            log.add("build", a_shape, b_shape)

        def call(self, a, b):
            return a - b

    layers, ones = library.layers, np.ones_like(X)
    a, b = library.Input((5, 3)), library.Input((5, 3))
    return (
        [array(Pair()(b=ones, a=X)), array(Pair()(X, ones, training=True)), array(Pair()(X, b=ones))],
        array(library.Model([a, b], Pair()(b=b, a=a))([X, ones])),
        [tuple(layers.MultiHeadAttention(2, 4)(*args, training=True).shape) for args in ((X, X), (X, X, X))],
        tuple(layers.GroupQueryAttention(4, 2, 2)(query=X, value=X, training=True).shape),
        array(layers.Add()([X, X], training=True)),
        tuple(layers.Dense(3)(inputs=X, training=True).shape),
        spec(layers.Dense(3)(inputs=library.Input((3,)))),
    )


PROGRAMS = [
    output_shape,
    output_shape_of_several,
    output_spec,
    output_spec_calls_super,
    output_shape_builds_layers_inside,
    output_shape_of_a_model,
    output_shape_of_what_cannot_be_run,
    output_spec_masks,
    mask_of_one,
    mask_of_one_in_a_graph,
    masks_of_a_list,
    masks_of_a_list_in_a_graph,
    masks_of_several,
    mask_switched_off,
    mask_of_a_mixin,
    mask_put_by_the_call,
    building,
    building_by_default,
    paths_and_dtypes,
    metrics,
    weights,
    stateless,
    calls_of_base_classes,
    arguments_by_name,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_hooks_and_results_are_those_of_keras(program):
    logs = Log(), Log()
    ours, theirs = (program(library, log) for library, log in zip((kstyle_torch, keras), logs, strict=True))
    assert logs[0] == logs[1]
    ours, theirs = tree.flatten(ours), tree.flatten(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        if isinstance(other, (np.ndarray, float)):
            assert_close(mine, other, rtol=1e-4, atol=1e-5)
        else:
            assert mine == other


SETTINGS = {
    "full": ("full", 0, ()),
    "named": ("list_of_layers", 0, ("inner",)),
    "not-named": ("list_of_layers", 0, ("other",)),
    "large": ("larger_than", 2 * 5 * 4 - 1, ()),
    "small": ("larger_than", 2 * 5 * 4, ()),
    "activations": ("activations", 0, ()),
    "none": None,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_rematerialized_calls_compute_again_for_the_gradients(setting):
    """The values and gradients are those of a call; Keras' own layers are asked with the same settings."""
    counts, results = [], []
    for library in (kstyle_torch, keras):
        runs = {"call": 0, "activation": 0}

        def activation(x, runs=runs):
            runs["activation"] += 1
            return x * x

        layer = library.layers.Dense(4, activation=activation, name="inner", kernel_initializer="ones")
        layer(X)
        runs["activation"] = 0
        names = ("mode", "output_size_threshold", "layer_names")
        layer._remat_mode = SETTINGS[setting] and namedtuple("Mode", names)(*SETTINGS[setting])
        x = torch.tensor(X, requires_grad=True)

        def call(x, layer=layer, runs=runs):
            runs["call"] += 1
            return layer.call(x)

        y = layer.rematerialized_call(call, x)(x)
        y.sum().backward()
        counts.append(runs)
        results.append((y, x.grad))
    assert_close(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])
    again = {"full", "named", "large"}
    assert counts[0]["call"] == (2 if setting in again else 1)
    if setting not in ("large", "small"):  # whose size takes a run
        assert counts[0]["activation"] == (2 if setting in again | {"activations"} else 1)
