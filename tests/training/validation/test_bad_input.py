"""The mistakes that users make: each gets an error that says what was got, expected and what to do; nothing changes."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.oracle import assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 8)).astype("float32")
Y = RNG.integers(0, 2, 40)


def network(units=1, activation="sigmoid", shape=(8,)):
    return ks.Sequential([ks.Input(shape), layers.Dense(4), layers.Dense(units, activation=activation)])


def compiled(loss="binary_crossentropy", **kwargs):
    model = network(**kwargs)
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


def nan_x():
    x = X.copy()
    x[3:5] = np.nan
    return x


def objects(shape):
    return np.array(["a", 1.0] * (shape // 2), dtype=object)


class Dicts(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"pixels": X[index], "class": Y[index]}


def with_empty_batch():
    yield X[:8], Y[:8]
    yield X[:0], Y[:0]


IMAGES = RNG.normal(size=(40, 6, 8)).astype("float32")
ERRORS = {
    "fit-before-compile": (lambda: network().fit(X, Y), "fit\\(\\) was called before compile"),
    "evaluate-before-compile": (lambda: network().evaluate(X, Y), "evaluate\\(\\) was called before compile"),
    "train-on-batch-before-compile": (lambda: network().train_on_batch(X, Y), "before compile"),
    "epochs-float": (lambda: compiled().fit(X, Y, epochs=2.0), "epochs must be an int; got 2.0"),
    "initial-epoch-text": (lambda: compiled().fit(X, Y, initial_epoch="1"), "initial_epoch must be an int; got '1'"),
    "empty-batch": (lambda: compiled().fit(with_empty_batch(), verbose=0), "a generator, yields a batch of 0 samples"),
    "labels-of-minus-one": (
        lambda: compiled().fit(X, Y * 2 - 1),
        "targets must be between 0 and 1; got .* from -1 to 1",
    ),
    "labels-of-two": (lambda: compiled().fit(X, Y + 1.0), "from 1 to 2. Write classes"),
    "dicts-without-labels": (
        lambda: compiled().fit(torch.utils.data.DataLoader(Dicts(), batch_size=8)),
        "needs targets.* x holds 'pixels', 'class'; targets in it must be named 'labels' or 'label'",
    ),
    "no-loss": (lambda: compiled(None).fit(X, Y, verbose=0), "No loss to compute"),
    "unknown-loss": (lambda: compiled("binary_cross_entropy"), "Did you mean 'binary_crossentropy'"),
    "unknown-optimizer": (lambda: network().compile("adm"), "Did you mean 'adam'"),
    "metrics-in-third-place": (
        lambda: network().compile("adam", "mse", ["mae"]),
        r"got 'mae'. The third argument of compile\(\) is loss_weights; write metrics=\['mae'\]",
    ),
    "unknown-metric": (lambda: network().compile("adam", "mse", metrics=["acurracy"]), "Did you mean 'accuracy'"),
    "unknown-activation": (lambda: layers.Dense(3, activation="rellu"), "Did you mean 'relu'"),
    "metrics-not-a-list": (lambda: network().compile("adam", "mse", metrics="accuracy"), "must be a list"),
    "wrong-features": (lambda: compiled().fit(X[:, :7], Y), r"shape \(40, 7\).*expects \(None, 8\)"),
    "sample-not-batch": (lambda: compiled().predict(X[0]), r"use x\[None\]"),
    "conv-flat-input": (
        lambda: ks.Sequential([ks.Input((28, 28, 1)), layers.Conv2D(2, 3)]).predict(np.zeros((4, 784))),
        "Reshape it to \\(samples, height, width, channels\\)",
    ),
    "dense-2d-no-flatten": (
        lambda: compiled("sparse_categorical_crossentropy", units=5, activation="softmax", shape=(6, 8)).fit(IMAGES, Y),
        "sparse_categorical_crossentropy.*Flatten",
    ),
    "cce-int-labels": (
        lambda: compiled("categorical_crossentropy", units=3).fit(X, Y),
        "sparse_categorical_crossentropy.*to_categorical",
    ),
    "scce-onehot": (
        lambda: compiled("sparse_categorical_crossentropy", units=3).fit(X, np.eye(3)[Y]),
        "look one-hot: use 'categorical_crossentropy'",
    ),
    "scce-out-of-range": (
        lambda: compiled("sparse_categorical_crossentropy", units=3).fit(X, Y + 2),
        r"label 3 is out of range for 3 classes \(labels must be 0 to 2\)",
    ),
    "bce-wrong-units": (lambda: compiled(units=3).fit(X, Y), r"targets of shape \(32,\).*output of shape \(32, 3\)"),
    "mse-3-out": (lambda: compiled("mse", units=3).fit(X[:3], Y[:3]), "do not fit an output"),
    "length-mismatch": (lambda: compiled().fit(X, Y[:-1]), "x: 40; y: 39"),
    "string-labels": (lambda: compiled().fit(X, np.array(["yes", "no"] * 20)), "y contains text, such as 'yes'"),
    "string-features": (lambda: compiled().fit(objects(40), Y), "x contains text"),
    "ragged": (lambda: compiled().fit([[1, 2], [3]], [0, 1]), "different lengths"),
    "ragged-objects": (
        lambda: compiled().fit(np.array([[1, 2], [3]], dtype=object), np.array([0, 1])),
        "rows of different lengths",
    ),
    "empty": (lambda: compiled().fit(X[:0], Y[:0]), "x has 0 samples"),
    "y-missing": (lambda: compiled().fit(X), "'binary_crossentropy' needs targets"),
    "none-x": (lambda: compiled().fit(None, Y), "x is None"),
    "val-split-1": (lambda: compiled().fit(X, Y, validation_split=1.0), r"must be in \[0, 1\)"),
    "val-split-generator": (
        lambda: compiled().fit(iter([(X, Y)]), validation_split=0.1),
        "validation_split needs arrays or tensors",
    ),
    "val-split-too-small": (lambda: compiled().fit(X[:2], Y[:2], validation_split=0.9), "both need at least one"),
    "y-with-dataloader": (
        lambda: compiled().fit(torch.utils.data.DataLoader([(X[0], 1)]), Y),
        "y must not be given when x is a DataLoader",
    ),
    "batch-size": (lambda: compiled().fit(X, Y, batch_size=0), "batch_size must be a positive int"),
    "verbose": (lambda: compiled().fit(X, Y, verbose="loud"), "verbose must be"),
    "callback-class": (
        lambda: compiled().fit(X, Y, callbacks=[ks.callbacks.EarlyStopping]),
        "pass EarlyStopping\\(",
    ),
    "input-shape-int": (lambda: layers.Dense(4, input_shape=8), r"input_shape must be a tuple, such as \(8,\)"),
    "units-float": (lambda: layers.Dense(4.0), "units must be a positive int; got 4.0"),
    "wrong-kwarg": (lambda: layers.Dense(4, activaton="relu"), "Did you mean 'activation'"),
    "class-weight-and-sample-weight": (
        lambda: compiled().fit(X, Y, class_weight={0: 1.0}, sample_weight=np.ones(40)),
        "cannot be given together",
    ),
}


@pytest.mark.parametrize("mistake", ERRORS)
def test_mistake_gets_a_clear_error(mistake):
    make, message = ERRORS[mistake]
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        make()


def reader(**settings):
    body = [layers.Embedding(10, 2, name="embedding"), layers.Flatten(), layers.Dense(1)]
    return ks.Sequential([ks.Input((3,), **settings), *body])


READERS = {
    "any numbers": reader,
    "whole numbers": lambda: reader(dtype="int32"),
    "model within": lambda: ks.Sequential([ks.Input((3,), dtype="int64"), reader(dtype="int64"), layers.Dense(1)]),
}


@pytest.mark.parametrize("make", READERS.values(), ids=READERS)
@pytest.mark.parametrize("source", [lambda x, y: (x, y), lambda x, y: (iter([(x, y)]),)], ids=["arrays", "stream"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("bad", [11, -1])
def test_embedding_refuses_numbers_outside_its_table(make, source, kind, bad):
    model = make()
    model.compile("sgd", "mse")
    x = np.zeros((50, 3), dtype=int)
    model.fit(kind(x), np.zeros(50), verbose=0)
    x[-1, 0] = bad
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"'embedding': x contains {bad}.*from 0 to 9"):
        model.fit(*source(kind(x), kind(np.ones(50))), verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_table_is_compared_with_the_input_that_goes_into_it():
    z, a = ks.Input((3,), name="z"), ks.Input((2,), name="a")  # not in the order of their names
    h = layers.Concatenate()([layers.Flatten()(layers.Embedding(10, 4)(z)), a])
    model = ks.Model([z, a], layers.Dense(1)(h))
    model.compile("sgd", "mse")
    x = {"z": np.full((20, 3), 9), "a": np.full((20, 2), 1000.0)}
    model.fit(x, np.ones(20), verbose=0)
    model.fit(iter([(x, np.ones(20))]), verbose=0)
    x["z"] = x["z"] + 1
    with pytest.raises(ValueError, match="x contains 10"):
        model.fit(x, np.ones(20), verbose=0)


def test_two_inputs_one_array():
    a, b = ks.Input((4,), name="a"), ks.Input((4,), name="b")
    model = ks.Model([a, b], layers.Dense(1)(layers.Add()([a, b])))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="2 input.*'a', 'b'; got 1"):
        model.fit(X[:, :4], Y)
    with pytest.raises(ValueError, match=r"Missing data for input 'b': got \['a', 'c'\], expected \['a', 'b'\]"):
        model.fit({"a": X[:, :4], "c": X[:, :4]}, Y)


def test_loss_for_an_unknown_output():
    a = ks.Input((8,))
    model = ks.Model(a, [layers.Dense(1, name="p")(a), layers.Dense(1, name="q")(a)])
    model.compile("sgd", {"p": "mse", "r": "mse"})
    with pytest.raises(ValueError, match=r"Expected keys \['p', 'q'\] in the loss dict, but found \['p', 'r'\]"):
        model.fit(X, [Y, Y], verbose=0)


def test_nan_in_x_warns_and_names_the_step():
    model = compiled("mse", activation=None)
    with pytest.warns(UserWarning) as caught:  # noqa: PT030 - there are two of them
        model.fit(nan_x(), Y, verbose=0, shuffle=False)
    messages = [str(warning.message) for warning in caught]
    assert any("x contains NaN or infinity in 2 of 40 samples" in message for message in messages)
    assert any("The loss became nan at epoch 1, step 1" in message for message in messages)


def test_legacy_arguments_warn():
    with pytest.warns(UserWarning, match="learning_rate"):
        optimizer = ks.optimizers.Adam(lr=0.01)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    with pytest.warns(UserWarning, match="decay is ignored"):
        ks.optimizers.Adam(decay=1e-6)


def test_early_stopping_without_validation_warns_and_trains_on():
    model = compiled()
    with pytest.warns(UserWarning, match="'val_loss', but fit\\(\\) runs no validation"):
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[ks.callbacks.EarlyStopping()])
    assert len(history.epoch) == 2


def test_monitoring_an_unknown_metric_names_the_nearest():
    model = compiled()
    with pytest.raises(ValueError, match="logs lack 'val_acc'. Did you mean 'val_accuracy'"):
        model.fit(X, Y, validation_split=0.2, verbose=0, callbacks=[ks.callbacks.EarlyStopping("val_acc")])


@pytest.mark.parametrize("optimizer", [ks.optimizers.Adam, torch.optim.Adam, "torch instance"], ids=str)
def test_optimizer_classes_and_torch_optimizers_are_taken(optimizer):
    model = network()
    if optimizer == "torch instance":
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    model.compile(optimizer, "bce")
    losses = model.fit(X, Y, epochs=5, verbose=0)["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "loss", [torch.nn.BCELoss(), torch.nn.BCELoss, torch.nn.MSELoss()], ids=["bce", "class", "mse"]
)
def test_torch_losses_are_taken(loss):
    name = "mse" if isinstance(loss, torch.nn.MSELoss) else "bce"
    histories = []
    for kind in (loss, name):
        ks.utils.set_random_seed(0)
        model = network()
        model.compile("adam", kind)
        histories.append(model.fit(X, Y, epochs=2, verbose=0, shuffle=False)["loss"])
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)


def test_one_dimensional_targets_do_not_broadcast(keras):
    x, y = X, X.sum(1)
    model = network(activation=None)
    model.compile("sgd", "mse")
    prediction = model.predict(x, verbose=0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(float(((prediction[:, 0] - y) ** 2).mean()), rel=1e-5)


@pytest.mark.parametrize("y", [Y.astype(bool), Y.astype("float64"), Y.astype("int8"), Y[:, None], Y.tolist()], ids=str)
def test_targets_of_any_number_type(y):
    model = compiled()
    assert np.isfinite(model.fit(X, y, verbose=0)["loss"]).all()


def test_images_without_channel_axis_are_taken():
    model = ks.Sequential([ks.Input((6, 8, 1)), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(IMAGES, Y, verbose=0)
    assert model.predict((IMAGES * 100).astype("uint8"), verbose=0).shape == (40, 1)


def test_frames_and_series_are_positional():
    import pandas

    frame = pandas.DataFrame(X[:, :7]).assign(flag=X[:, 7] > 0)
    series = pandas.Series(Y, index=RNG.permutation(40))
    model = compiled()
    loss = model.evaluate(frame, series, verbose=0)
    mixed = np.column_stack([X[:, :7], X[:, 7] > 0])
    np.testing.assert_allclose(loss, model.evaluate(mixed, Y, verbose=0), rtol=1e-6)
    with pytest.raises(ValueError, match="columns that are not numbers: 'city'"):
        model.fit(frame.drop(columns="flag").assign(city="Rome"), series)


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_training_inside_no_grad(method):
    model, other = compiled(), compiled()
    other.set_weights(model.get_weights())
    arguments = {"verbose": 0, "shuffle": False} if method == "fit" else {}
    getattr(other, method)(X, Y, **arguments)
    with torch.no_grad():
        getattr(model, method)(X, Y, **arguments)
        assert not torch.is_grad_enabled()
    assert_same_bits(model.get_weights(), other.get_weights())
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inside torch.inference_mode"):
        getattr(model, method)(X, Y, **arguments)
