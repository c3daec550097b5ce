"""Older spellings: each works as today's, and says once what that is."""

import importlib
import re
import warnings

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import callbacks, constraints, layers, metrics, models, optimizers, utils
from kstyle_torch.compat import keras2
from kstyle_torch.layers.merge_with_mode import Merge

X, Y = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3), np.ones((8, 1), "float32")

ARGUMENTS = {
    "dense": (
        "Dense",
        {"output_dim": 2, "init": "ones", "bias": False},
        {"units": 2, "kernel_initializer": "ones", "use_bias": False},
    ),
    "regularizers": (
        "Dense",
        {"units": 2, "W_regularizer": "l2", "b_regularizer": "l1", "W_constraint": "non_neg"},
        {"units": 2, "kernel_regularizer": "l2", "bias_regularizer": "l1", "kernel_constraint": "non_neg"},
    ),
    "convolution": (
        "Convolution2D",
        {"nb_filter": 2, "kernel_size": 3, "border_mode": "same", "subsample": 2, "dim_ordering": "tf"},
        {"filters": 2, "kernel_size": 3, "padding": "same", "strides": 2, "data_format": "channels_last"},
    ),
    "convolution-1d": ("Conv1D", {"nb_filter": 2, "filter_length": 3}, {"filters": 2, "kernel_size": 3}),
    "pooling": ("MaxPooling1D", {"pool_length": 3, "stride": 1}, {"pool_size": 3, "strides": 1}),
    "recurrent": (
        "LSTM",
        {"output_dim": 2, "inner_init": "zeros", "inner_activation": "sigmoid", "dropout_W": 0.1, "dropout_U": 0.2},
        {
            "units": 2,
            "recurrent_initializer": "zeros",
            "recurrent_activation": "sigmoid",
            "dropout": 0.1,
            "recurrent_dropout": 0.2,
        },
    ),
    "embedding": (
        "Embedding",
        {"input_dim": 4, "output_dim": 2, "init": "ones"},
        {"input_dim": 4, "output_dim": 2, "embeddings_initializer": "ones"},
    ),
    "normalization": ("BatchNormalization", {"mode": 0, "beta_init": "ones"}, {"beta_initializer": "ones"}),
    "dropout": ("Dropout", {"p": 0.25}, {"rate": 0.25}),
    "noise": ("GaussianNoise", {"sigma": 0.25}, {"stddev": 0.25}),
    "leaky": ("LeakyReLU", {"alpha": 0.25}, {"negative_slope": 0.25}),
}


@pytest.mark.parametrize(("name", "older", "today"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_of_layers(name, older, today):
    cls = getattr(layers, name)
    with pytest.warns(UserWarning, match="is the spelling of an older Keras: ") as warned:
        layer = cls(**older, name="it")
    assert layer.get_config() == cls(**today, name="it").get_config()
    assert len(warned) == len(older.keys() - today.keys())
    assert all(each.filename == __file__ for each in warned), "the line to change is the user's"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(**older, name="it")  # it has been told


def test_a_subclass_may_pass_them_on_and_have_its_own():
    class Mine(layers.Dense):
        def __init__(self, units, init=3, **kwargs):
            super().__init__(units, bias=False, **kwargs)
            self.init = init

    with pytest.warns(UserWarning, match=re.escape("Dense(bias=...)")):
        layer = Mine(2)
    assert layer.init == 3 and not layer.use_bias and layer.get_config()["init"] == 3


def test_both_spellings_at_once():
    with pytest.raises(TypeError, match="Dense got units= and its older spelling output_dim="):
        layers.Dense(units=2, output_dim=3)


def test_signatures_show_todays_names_alone():
    for name in keras2.ARGUMENTS:
        cls = getattr(layers, name, None) or getattr(constraints, name, None) or getattr(models, name)
        assert not keras2.ARGUMENTS[name].keys() & set(ks.serialization.argument_names(cls)), name


def program_of_keras_1():
    model = ks.Sequential()
    model.add(layers.Dense(output_dim=4, input_dim=3, init="glorot_uniform"))
    model.add(layers.Dropout(p=0.0))
    model.add(layers.Dense(output_dim=1))
    model.compile(optimizer=optimizers.SGD(lr=0.1), loss="mse")
    return model.fit(X, Y, nb_epoch=3, batch_size=4, verbose=0, shuffle=False)


def test_a_program_of_keras_1():
    with pytest.warns(UserWarning, match="older Keras"):
        history = program_of_keras_1()
    assert len(history.history["loss"]) == 3


def test_models_of_input_and_output():
    x = layers.Input((3,))
    with pytest.warns(UserWarning, match="older Keras") as warned:
        model = models.Model(input=x, output=layers.Dense(2)(x))
    assert model(X).shape == (8, 2) and isinstance(model, models.Functional) and len(warned) == 2


def batches(size=4):
    while True:
        for start in range(0, len(X), size):
            yield X[start : start + size], Y[start : start + size]


GENERATORS = {
    "steps": {"steps_per_epoch": 2, "epochs": 2, "workers": 4, "use_multiprocessing": True, "max_queue_size": 3},
    "samples": {"samples_per_epoch": 8, "nb_epoch": 2, "nb_worker": 1, "pickle_safe": False},
    "validation": {"samples_per_epoch": 8, "nb_epoch": 2, "validation_data": (X, Y), "nb_val_samples": 8},
    "validation-generator": {"steps_per_epoch": 2, "nb_epoch": 2, "validation_data": batches(), "nb_val_samples": 8},
}


@pytest.mark.parametrize("arguments", GENERATORS.values(), ids=GENERATORS)
def test_fit_generator_trains_as_fit_does(arguments):
    def network():
        model = ks.Sequential([layers.Input((3,)), layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        return model

    model, other = network(), network()
    with pytest.warns(UserWarning, match=re.escape("model.fit_generator(...)")):
        history = model.fit_generator(batches(), verbose=0, **arguments)
    expected = other.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert history.history["loss"] == pytest.approx(expected.history["loss"])
    assert ("val_loss" in history.history) is ("validation_data" in arguments)


def test_other_methods():
    model = ks.Sequential([layers.Input((3,)), layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    expected = model.predict(X, verbose=0)
    calls = {
        "predict_proba": ((X,), expected),
        "predict_classes": ((X,), expected > 0.5),
        "predict_generator": (((x for x, _ in batches()), 2), expected),
        "evaluate_generator": ((batches(), 2), model.evaluate(X, Y, verbose=0)),
    }
    for name, (arguments, wanted) in calls.items():
        with pytest.warns(UserWarning, match=f"model.{name}"):
            found = getattr(model, name)(*arguments)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert model.evaluate_generator(batches(), val_samples=8) == pytest.approx(calls["evaluate_generator"][1])
    several = ks.Sequential([layers.Input((3,)), layers.Dense(4, "softmax")])
    np.testing.assert_array_equal(several.predict_classes(X), several.predict(X, verbose=0).argmax(-1))


def test_reset_states_of_a_model():
    model = ks.Sequential([layers.Input(batch_shape=(8, 1, 3)), layers.LSTM(2, stateful=True)])
    first = model.predict(X[:, None], verbose=0)
    assert not np.allclose(model.predict(X[:, None], verbose=0), first)
    with pytest.warns(UserWarning, match=re.escape("model.reset_states()")):
        model.reset_states()
    np.testing.assert_allclose(model.predict(X[:, None], verbose=0), first)


def test_reset_states_of_a_metric():
    metric = metrics.Mean()
    metric.update_state(3.0)
    with pytest.warns(UserWarning, match=re.escape("metric.reset_states()")):
        metric.reset_states()
    assert float(metric.result()) == 0


MODES = {
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    "max": torch.maximum,
    "concat": lambda a, b: torch.cat([a, b], -1),
    "dot": lambda a, b: (a * b).sum(-1, keepdim=True),
    "cos": lambda a, b: torch.cosine_similarity(a, b).unsqueeze(-1),
}


@pytest.mark.parametrize("mode", [*MODES, "function"])
def test_merge_in_a_sequential(mode, tmp_path):
    branches = [ks.Sequential([layers.Dense(4, input_dim=3)]) for _ in range(2)]
    with pytest.warns(UserWarning, match="keras.layers.Merge .*keras.layers.Concatenate"):
        merge = layers.Merge(branches, mode=(lambda both: both[0] - both[1]) if mode == "function" else mode)
    model = ks.Sequential([merge, layers.Dense(1)])
    inputs = [X, X[::-1].copy()]
    merged = MODES.get(mode, lambda a, b: a - b)(*(branch(x) for branch, x in zip(branches, inputs, strict=True)))
    torch.testing.assert_close(merge([torch.from_numpy(x) for x in inputs]), merged)
    model.compile("sgd", "mse")
    assert len(model.fit(inputs, Y, epochs=2, verbose=0).history["loss"]) == 2
    if mode != "function":
        model.save(tmp_path / "model.keras")
        again = models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(again.predict(inputs, verbose=0), model.predict(inputs, verbose=0))


@pytest.mark.parametrize(("count", "mode"), [(1, "sum"), (2, "power")])
def test_merge_refuses(count, mode):
    with pytest.raises(ValueError, match="Merge joins|mode must be"):
        Merge([layers.Dense(2) for _ in range(count)], mode)


NAMES = [(namespace, name) for namespace, names in keras2.NAMES.items() for name in names]


@pytest.mark.parametrize(("namespace", "name"), NAMES, ids=[".".join(filter(None, row)) for row in NAMES])
def test_names(namespace, name):
    module = importlib.import_module(f"kstyle_torch.{namespace}".rstrip("."))
    if name in vars(module):
        assert f"{namespace}.{name}" in keras2.CALLED  # a module of ours of that name, which can be called
        return
    with pytest.warns(UserWarning, match=re.escape(f"keras.{namespace}.{name}".replace("..", "."))):
        assert getattr(module, name) is not None
    assert name not in dir(module)


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_optimizers_in_small_letters(name):
    with pytest.warns(UserWarning, match="older Keras"):
        optimizer = getattr(optimizers, name)(lr=0.25)
    assert float(optimizer.learning_rate) == 0.25 and type(optimizer).__name__.lower() == name


IMPORTS = {
    "layers.core": "Dense Dropout Activation Flatten",
    "layers.convolutional": "Conv2D MaxPooling2D ZeroPadding2D",
    "layers.pooling": "MaxPooling2D GlobalAveragePooling1D",
    "layers.recurrent": "LSTM GRU",
    "layers.embeddings": "Embedding",
    "layers.normalization": "BatchNormalization LayerNormalization",
    "layers.advanced_activations": "LeakyReLU PReLU",
    "layers.merge": "concatenate Concatenate",
    "layers.wrappers": "TimeDistributed Bidirectional",
    "layers.noise": "GaussianNoise",
    "engine": "Layer Model",
    "engine.topology": "Layer Input",
    "objectives": "mean_squared_error",
    "optimizer_v2.adam": "Adam",
    "optimizers.experimental": "AdamW",
    "saving.save": "load_model",
    "utils.np_utils": "to_categorical",
    "utils.vis_utils": "plot_model",
    "utils.visualize_util": "plot_model",
    "utils.generic_utils": "get_custom_objects",
    "utils.data_utils": "get_file",
}


@pytest.mark.parametrize("path", IMPORTS)
def test_modules(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in IMPORTS[path].split():
            found: dict[str, object] = {}
            exec(f"from kstyle_torch.{path} import {name}", found)
            home = getattr(layers, name, None) or getattr(ks, name, None) or getattr(utils, name, None)
            assert home is None or found[name] is home
        with pytest.raises(ImportError):
            exec(f"from kstyle_torch.{path} import Dence")


def test_every_module_of_the_table_imports():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in keras2.MODULES:
            assert importlib.import_module(f"kstyle_torch.{path}").__name__ == f"kstyle_torch.{path}"


def test_arguments_of_saving(tmp_path):
    model = ks.Sequential([layers.Input((3,)), layers.Dense(1)])
    with pytest.warns(UserWarning, match="it does nothing any more"):
        model.save_weights(tmp_path / "w.weights.h5", save_format="h5")
    with pytest.warns(UserWarning, match="it does nothing any more"):
        model.load_weights(tmp_path / "w.weights.h5", options=None)


def test_model_checkpoint_every_few_epochs(tmp_path):
    model = ks.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    kept = callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", period=2)
    model.fit(X, Y, epochs=5, callbacks=[kept], verbose=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.keras", "4.keras"]
    with pytest.raises(ValueError, match="period must be a positive int"):
        callbacks.ModelCheckpoint("x.keras", period=0)


def test_maxnorm():
    with pytest.warns(UserWarning, match="older Keras"):
        assert constraints.maxnorm(m=2).get_config() == constraints.MaxNorm(2).get_config()
