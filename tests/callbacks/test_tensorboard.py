"""What TensorBoard reads is what was trained."""

import json
import sys

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.callbacks.tensorboard import as_images
from tests import models_to_train
from tests.models_to_train import rows_with_signs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # of tensorboard's own imports
]
X, Y = rows_with_signs(64, 5)


@pytest.fixture(scope="module")
def loader():
    """Event files -> `{(tag, step): value}`, and the names of the plugins."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    def load(folder):
        events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "histograms": 0, "images": 0})
        events.Reload()
        found = {
            (tag, event.step): tensor_util.make_ndarray(event.tensor_proto)
            for tag in events.Tags()["tensors"]
            for event in events.Tensors(tag)
        }
        plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
        return found, plugins, events

    return load


def network():
    return models_to_train.network(ks.optimizers.Adam(0.01), features=5, hidden=(4, "relu"))


def fit(model, callback, **kwargs):
    kwargs = {"batch_size": 16, "epochs": 3, "verbose": 0, "validation_split": 0.5, **kwargs}
    return model.fit(X, Y, callbacks=[callback], **kwargs)


def test_scalars_are_the_history(tmp_path, loader):
    history = fit(network(), ks.callbacks.TensorBoard(tmp_path))
    trained, plugins, _ = loader(tmp_path / "train")
    tested, _, _ = loader(tmp_path / "validation")
    for name in ("loss", "accuracy"):
        for epoch in range(3):
            assert trained[f"epoch_{name}", epoch] == pytest.approx(history[name][epoch])
            assert tested[f"epoch_{name}", epoch] == pytest.approx(history[f"val_{name}"][epoch])
            assert tested[f"evaluation_{name}_vs_iterations", 2 * epoch + 2] == tested[f"epoch_{name}", epoch]
    assert trained["epoch_learning_rate", 2] == pytest.approx(0.01)
    assert plugins["epoch_loss"] == "scalars"
    assert not [key for key in trained if key[0].startswith("batch_")]


@pytest.mark.parametrize(
    ("update_freq", "steps"), [("batch", [1, 2, 3, 4, 5, 6]), (1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6])]
)
def test_batches(tmp_path, loader, update_freq, steps):
    seen = []
    callback = ks.callbacks.TensorBoard(tmp_path, update_freq=update_freq, write_steps_per_second=True)
    model = network()
    note = ks.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    model.fit(X[:32], Y[:32], batch_size=16, epochs=3, verbose=0, callbacks=[callback, note])
    found, _, _ = loader(tmp_path / "train")
    assert [step for tag, step in found if tag == "batch_loss"] == steps
    for step in steps:
        assert found["batch_loss", step] == pytest.approx(seen[step - 1])
        assert found["batch_steps_per_second", step] > 0
    assert found["epoch_steps_per_second", 0] > 0


def test_hooks_of_batches_are_not_there_without_need(tmp_path):
    listed = ks.callbacks.CallbackList([ks.callbacks.TensorBoard(tmp_path)])
    assert listed.hooks("on_train_batch_begin") == listed.hooks("on_train_batch_end") == ()


def test_histograms_and_images_of_the_weights(tmp_path, loader):
    model = network()
    fit(model, ks.callbacks.TensorBoard(tmp_path, histogram_freq=2, write_images=True))
    _, _, events = loader(tmp_path / "train")
    names = [weight.path for layer in model.layers for weight in layer.weights]
    assert sorted(tag for tag in events.Tags()["histograms"]) == sorted(f"{name}/histogram" for name in names)
    for weight in model.weights:
        kept = events.Histograms(f"{weight.path}/histogram")
        assert [event.step for event in kept] == [0, 2]
        value = kept[-1].histogram_value
        assert value.num == weight.numpy().size
        assert value.sum == pytest.approx(float(weight.numpy().sum()), abs=1e-5)
        if weight.numpy().size > 1:
            assert [event.step for event in events.Images(f"{weight.path}/image")] == [0, 2]


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_tensorboard_draws_the_graph_that_it_draws_of_a_keras_model(keras, tmp_path, loader, kind):
    from tensorboard.plugins.graph import keras_util

    def model_of(library):
        first, second = library.layers.Dense(2, name="first"), library.layers.Dense(2, name="second")
        if kind == "sequential":
            return library.Sequential([library.Input((5,), name="input"), first, second], name="model")
        a, b = library.Input((5,), name="a"), library.Input((5,), name="b")
        return library.Model([a, b], library.layers.Add(name="both")([first(a), second(b)]), name="model")

    callback = ks.callbacks.TensorBoard(tmp_path)
    callback.set_model(model_of(ks))
    callback.on_train_end()
    found, plugins, _ = loader(tmp_path / "train")
    assert plugins["keras"] == "graph_keras_model"
    ours, theirs = (
        keras_util.keras_model_to_graph_def(json.loads(text))
        for text in (found["keras", 0].item(), model_of(keras).to_json())
    )
    assert [(node.name, [*node.input]) for node in ours.node] == [(node.name, [*node.input]) for node in theirs.node]


def test_no_graph_for_models_that_have_none(tmp_path, loader):
    class Own(ks.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model.compile("sgd", "mse")
    fit(model, ks.callbacks.TensorBoard(tmp_path))
    found, plugins, _ = loader(tmp_path / "train")
    assert "keras" not in plugins and ("epoch_loss", 0) in found


def test_embeddings(tmp_path):
    model = ks.Sequential([ks.Input((2,), dtype="int32"), layers.Embedding(4, 3, name="words"), layers.Flatten()])
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    callback = ks.callbacks.TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "labels.txt"})
    model.fit(np.random.default_rng(1).integers(0, 4, (8, 2)), np.zeros(8), verbose=0, callbacks=[callback])
    (table,) = (tmp_path / "train").rglob("tensors.tsv")
    np.testing.assert_allclose(np.loadtxt(table), model.layers[0].get_weights()[0], rtol=1e-5)
    assert table.with_name("metadata.tsv").read_text().split() == ["a", "b", "c", "d"]
    assert "words" in (tmp_path / "train" / "projector_config.pbtxt").read_text()
    callback = ks.callbacks.TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"word": "labels.txt"})
    with pytest.raises(ValueError, match="no Embedding layer 'word'. Did you mean 'words'"):
        model.fit(np.zeros((8, 2)), np.zeros(8), verbose=0, callbacks=[callback])


def test_evaluate_writes_too(tmp_path, loader):
    model = network()
    result = model.evaluate(X, Y, verbose=0, callbacks=[ks.callbacks.TensorBoard(tmp_path)], return_dict=True)
    found, _, _ = loader(tmp_path / "validation")
    assert found["evaluation_loss_vs_iterations", 0] == pytest.approx(result["loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"profile_batch": 2}, "profile_batch must be 0; got 2"), ({"update_freq": "never"}, "got 'never'")],
    ids=["profile", "update"],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.callbacks.TensorBoard(**arguments)


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    model = network()
    with pytest.raises(ImportError, match=r"pip install .kstyle-torch\[tensorboard\]"):
        fit(model, ks.callbacks.TensorBoard(tmp_path))


@pytest.mark.parametrize(
    ("shape", "images"),
    [
        ((5,), (1, 5, 1, 1)),
        ((7, 3), (1, 3, 7, 1)),
        ((3, 3, 4), (4, 3, 3, 1)),
        ((3, 3, 2, 4), (3, 3, 2, 4)),
        ((2, 2, 2, 8), None),
    ],
    ids=str,
)
def test_weights_as_images(shape, images):
    made = as_images(torch.randn(shape))
    assert (made if made is None else tuple(made.shape)) == images
