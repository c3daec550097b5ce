"""How often a model is called: once per batch, as in Keras. What is wrong with the data is said before anything changes."""

import numpy as np
import pytest
import torch
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 8)).astype("float32")
Y = RNG.integers(0, 3, 40)
LATE = np.where(np.arange(40) == 39, 7, Y)
SCCE = "sparse_categorical_crossentropy"


def subclassed(keras=ks):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.norm, self.drop = (
                keras.layers.Dense(3, "softmax"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
            )
            self.modes = []

        def call(self, x, training=None):
            self.modes.append(len(x))
            return self.dense(self.drop(self.norm(x, training=training), training=training))

    model = Own()
    model(X[:1])
    return model


def wrapped():
    return ks.models.from_torch(nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3), nn.Softmax(-1)))


def with_hooks():
    model = ks.Sequential(
        [ks.Input((8,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3, "softmax")]
    )
    model.layers[1].register_forward_pre_hook(lambda module, args: None)
    return model


MODELS = {"subclassed": subclassed, "from torch": wrapped, "hooks": with_hooks}
RUNS = {
    "fit": (lambda model: model.fit(X, Y, batch_size=16, epochs=2, verbose=0), [16, 16, 8] * 2),
    "fit with a validation": (
        lambda model: model.fit(X, Y, batch_size=20, validation_data=(X[:5], Y[:5]), epochs=2, verbose=0),
        [20, 20, 5] * 2,
    ),
    "fit on a stream": (lambda model: model.fit(iter([(X[:7], Y[:7])] * 2), verbose=0), [7, 7]),
    "evaluate": (lambda model: model.evaluate(X, Y, batch_size=16, verbose=0), [16, 16, 8]),
    "train_on_batch": (lambda model: model.train_on_batch(X, Y), [40]),
    "test_on_batch": (lambda model: model.test_on_batch(X, Y), [40]),
    "predict": (lambda model: model.predict(X, batch_size=16, verbose=0), [16, 16, 8]),
}


def counted(model):
    """The sizes of batches that its last layer sees."""
    sizes = []
    modules = [module for module in model.modules() if isinstance(module, nn.Linear)]
    modules[-1].register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    return sizes


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("model", MODELS)
def test_a_built_model_is_called_once_per_batch(model, run):
    model = MODELS[model]()
    model.compile("sgd", SCCE, metrics=["accuracy"])
    sizes = counted(model)
    for _ in range(2):
        sizes.clear()
        RUNS[run][0](model)
        assert sizes == RUNS[run][1]


@pytest.mark.parametrize("run", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_as_often_as_in_keras(keras, run):
    theirs, ours = subclassed(keras), subclassed()
    calls = []
    for model in (theirs, ours):
        model.compile("sgd", SCCE, metrics=["accuracy"], run_eagerly=True)
        RUNS[run][0](model)  # Keras looks for the shapes of the outputs once
        model.modes.clear()
        RUNS[run][0](model)
        calls.append([*model.modes])
    assert calls[0] == calls[1]


def test_the_numbers_of_a_model_that_was_tried_before():
    """Losses and metrics that only the first step makes count from that step on."""
    results = []
    for tried in (False, True):
        torch.manual_seed(0)
        model = wrapped()
        model.compile("adam", SCCE, metrics=["accuracy"], weighted_metrics=["accuracy"], jit_compile="auto")
        if tried:
            waiting = []
            model._checked(waiting, *(torch.as_tensor(each) for each in (X, Y)), None)
            waiting[0].try_rows()
        torch.manual_seed(1)
        history = model.fit(X, Y, batch_size=16, epochs=3, validation_split=0.2, verbose=0).history
        results.append((history, model.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0)))
        assert history["accuracy"][0] > 0
    assert results[0] == results[1]
    assert results[0][1] == results[0][2]


ERRORS = {
    "no targets": (SCCE, None, "needs targets"),
    "one-hot": (SCCE, np.eye(3, dtype="float32")[Y], "look one-hot"),
    "late label": (SCCE, LATE, "label 7 is out of range for 3 classes"),
    "class numbers": ("categorical_crossentropy", Y, "class numbers"),
    "shape": ("mse", X, "do not fit an output"),
    "no reduction": (ks.losses.MeanSquaredError(reduction=None), np.eye(3)[Y], "training needs one number"),
    "own error": ("own", Y, "of my own"),
}


def own_error(y_true, y_pred):
    raise ValueError("an error of my own")


@pytest.mark.parametrize("run", ["fit", "train_on_batch"])
@pytest.mark.parametrize("mistake", ERRORS)
@pytest.mark.parametrize("model", MODELS)
def test_a_mistake_changes_nothing(model, mistake, run):
    loss, y, message = ERRORS[mistake]
    model = MODELS[model]()
    model.compile("sgd", own_error if loss == "own" else loss, metrics=["accuracy"])
    before, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, verbose=0) if run == "fit" else model.train_on_batch(X, y)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert int(model.optimizer.iterations.numpy()) == 0
    assert not model.training
    if mistake in ("one-hot", "class numbers"):  # no choice of accuracy is left behind
        model.compile("sgd", loss, metrics=["accuracy"])
        model.fit(X, np.eye(3)[Y] if mistake == "class numbers" else Y, verbose=0)


def test_a_new_head_has_new_labels():
    """What was known of the old output does not count."""
    net = nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1))
    model = ks.models.from_torch(net)
    model.compile("sgd", SCCE)
    model.fit(X, Y, verbose=0)
    net[0].weight, net[0].bias = nn.Parameter(torch.zeros(8, 8)), nn.Parameter(torch.zeros(8))
    model.fit(X, LATE, verbose=0)
    net[0].weight, net[0].bias = nn.Parameter(torch.zeros(3, 8)), nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match="label 7 is out of range"):
        model.fit(X, LATE, verbose=0)


def test_labels_late_in_a_stream_are_looked_at():
    model = subclassed()
    model.compile("sgd", SCCE)
    with pytest.raises(ValueError, match="label 7 is out of range"):
        model.fit(iter([(X[start : start + 10], LATE[start : start + 10]) for start in range(0, 40, 10)]), verbose=0)


def test_a_model_that_is_not_built_is_built_before_the_first_step():
    model = ks.Sequential([layers.Dense(3, "softmax")])
    model.compile("sgd", SCCE)
    with pytest.raises(ValueError, match="label 7"):
        model.fit(X, LATE, verbose=0)
    model.fit(X, Y, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 2


def test_a_resumed_training_has_its_metrics(tmp_path):
    """They are restored in the middle of an epoch, before a step could make them."""

    class Stops(ks.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == 4:
                raise KeyboardInterrupt

    def train(*callbacks):
        torch.manual_seed(0)
        model = wrapped()
        model.compile("sgd", SCCE, metrics=["accuracy"])
        return model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[*callbacks]).history

    expected = train()
    backup = {"backup_dir": tmp_path / "backup", "save_freq": 1}
    with pytest.raises(KeyboardInterrupt):
        train(ks.callbacks.BackupAndRestore(**backup), Stops())
    assert train(ks.callbacks.BackupAndRestore(**backup)) == expected
