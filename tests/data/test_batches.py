"""Batches of arrays: their order, their memory, and epochs of a given number of steps."""

import itertools

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.data import batches as module
from kstyle_torch.data.batches import ArrayBatches
from kstyle_torch.data.rows import Rows
from kstyle_torch.data.sources import make_batches

X = torch.arange(50.0).reshape(25, 2)
Y = torch.arange(25)
CPU = torch.device("cpu")


def batches_of(x=X, y=Y, weight=None, batch_size=4, shuffle=False, limit=None, **kwargs):
    return ArrayBatches((x, y, weight), batch_size, shuffle, CPU, limit, **kwargs)


def rows_of(epoch):
    return [y.tolist() for _, y, _ in epoch]


@pytest.fixture(params=[4 * 2**20, 150, 1], ids=["one chunk", "chunks", "a batch a chunk"])
def chunk_bytes(request, monkeypatch):
    monkeypatch.setattr(module, "HOST_CHUNK_BYTES", request.param)


@pytest.mark.parametrize("kind", ["tensors", "rows", "both"])
@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_every_row_comes_once_an_epoch(chunk_bytes, kind, shuffle):
    x = X if kind == "tensors" else Rows(X.double().numpy())
    y = Rows(Y.numpy()) if kind == "rows" else Y
    batches = batches_of(x, y, shuffle=shuffle)
    orders = []
    for _ in range(2):
        epoch = list(batches.epoch())
        assert [len(y) for _, y, _ in epoch][:-1] == [4] * 6 and len(epoch[-1][1]) == 1
        assert all(torch.equal(x[:, 0].long(), 2 * y) and weight is None for x, y, weight in epoch)
        orders.append([*itertools.chain(*rows_of(epoch))])
        assert sorted(orders[-1]) == list(range(25))
    if not shuffle:
        assert orders == [list(range(25))] * 2
    else:
        assert orders[0] != orders[1] != list(range(25))
    if shuffle == "batch":
        assert all(batch == list(range(batch[0], batch[0] + len(batch))) for batch in rows_of(batches.epoch()))


@pytest.mark.parametrize("shuffle", [True, "batch"])
def test_the_order_does_not_depend_on_the_chunks(shuffle, monkeypatch):
    orders = []
    for size in (1, 150, 4 * 2**20):
        monkeypatch.setattr(module, "HOST_CHUNK_BYTES", size)
        torch.manual_seed(3)
        orders.append(rows_of(batches_of(shuffle=shuffle).epoch()))
    assert orders[0] == orders[1] == orders[2]


def test_batches_in_order_are_views():
    first, second, *_ = batches_of().epoch()
    assert first[0].data_ptr() == X.data_ptr() and second[0].data_ptr() == X[4:].data_ptr()


def test_nests_come_in_their_form():
    x = {"b": X, "a": [Y, Y.float()]}
    epoch = list(ArrayBatches((x, [Y, None], None), 4, False, CPU).epoch())
    part, targets, weight = epoch[1]
    assert torch.equal(part["b"], X[4:8]) and torch.equal(part["a"][1], Y[4:8].float())
    assert torch.equal(targets[0], Y[4:8]) and targets[1] is None and weight is None


def test_an_epoch_of_some_steps_goes_on_where_the_last_one_stopped():
    batches = batches_of(limit=3)
    assert batches.steps == 3
    assert rows_of(batches.epoch())[0][0] == 0
    assert rows_of(batches.epoch())[0][0] == 12
    with pytest.warns(UserWarning, match="ran out after 1 of 3 batches"):
        assert rows_of(batches.epoch()) == [[24]]
    assert rows_of(batches.epoch())[0][0] == 0


def test_an_epoch_that_ends_with_the_data_begins_anew():
    batches = batches_of(x=X[:24], y=Y[:24], limit=3)
    assert [rows_of(batches.epoch())[0][0] for _ in range(3)] == [0, 12, 0]


def test_a_validation_begins_with_the_first_batch_each_time():
    batches = batches_of(limit=3, restarts=True)
    assert rows_of(batches.epoch()) == rows_of(batches.epoch())


@pytest.mark.parametrize(("steps", "batch_size", "lengths"), [(3, None, [9, 9, 7]), (2, 10, [10, 10]), (1, None, [25])])
def test_steps_without_a_batch_size_share_the_data_out(steps, batch_size, lengths):
    batches = make_batches(X, Y, None, batch_size=batch_size, shuffle=False, device=CPU, steps=steps)
    assert [len(y) for _, y, _ in batches.epoch()] == lengths


def keras_batches(keras, rows, steps, batch_size, epochs):
    """The samples that Keras takes, epoch by epoch, and whether it warned."""
    import warnings

    from keras.src.backend.torch.trainer import TorchEpochIterator

    x = np.arange(float(rows))[:, None]
    iterator = TorchEpochIterator(x, batch_size=batch_size, steps_per_epoch=steps, shuffle=False)
    taken = []
    for _ in range(epochs):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            taken.append([data[0].ravel().tolist() for _, _, data in iterator])
        taken[-1].append(bool(caught))
    return taken


@pytest.mark.parametrize(
    ("rows", "steps", "batch_size"), [(25, 3, 4), (24, 3, 4), (25, 3, None), (25, 10, 4), (25, None, 4), (25, 7, 4)]
)
def test_steps_per_epoch_take_the_samples_that_keras_takes(keras, rows, steps, batch_size):
    import warnings

    x = torch.arange(float(rows))[:, None]
    batches = make_batches(x, None, None, batch_size=batch_size, shuffle=False, device=CPU, steps=steps)
    taken = []
    for _ in range(5):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            taken.append([x.ravel().tolist() for x, _, _ in batches.epoch()])
        taken[-1].append(bool(caught))
    assert taken == keras_batches(keras, rows, steps, batch_size, 5)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "all", True])
def test_bad_steps(steps):
    with pytest.raises(ValueError, match="number of steps of an epoch"):
        make_batches(X, Y, None, batch_size=None, shuffle=False, device=CPU, steps=steps)


def model_of(features):
    ks.utils.set_random_seed(0)
    model = ks.Sequential([ks.Input((features,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_a_file_larger_than_memory_is_trained_on(tmp_path):
    """The file has holes: 256 GiB of it can neither be read nor copied."""
    x = np.memmap(tmp_path / "x.bin", dtype="float64", mode="w+", shape=(2**15, 2**20))
    x[:8, :3] = 1.0
    model, y = model_of(2**20), np.zeros(2**15)
    model.fit(x, y, batch_size=2, steps_per_epoch=2, validation_split=0.5, validation_steps=1, shuffle=True, verbose=0)
    assert model.predict(x, batch_size=4, steps=2, verbose=0).shape == (8, 1)


def test_a_mapped_file_trains_as_the_array_does(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 5))
    np.save(tmp_path / "x.npy", x)
    weights = []
    for data in (x, np.load(tmp_path / "x.npy", mmap_mode="r")):
        model = model_of(5)
        model.fit(data, x.sum(1), epochs=2, validation_split=0.2, verbose=0)
        weights.append(np.concatenate([weight.ravel() for weight in model.get_weights()]))
    np.testing.assert_array_equal(*weights)


def test_a_sparse_matrix_stays_sparse(monkeypatch):
    import scipy.sparse

    matrix = scipy.sparse.random(40, 5, density=0.3, random_state=0, format="coo")
    dense = matrix.toarray()
    expected = model_of(5).fit(dense, dense.sum(1), verbose=0)["loss"]
    monkeypatch.setattr("kstyle_torch.data.arrays.WHOLE_BYTES", 0)
    monkeypatch.setattr(module, "HOST_CHUNK_BYTES", 300)
    sizes = []
    read = Rows._read
    monkeypatch.setattr(Rows, "_read", lambda self, rows: sizes.append(len(part := read(self, rows))) or part)
    assert model_of(5).fit(matrix, dense.sum(1), batch_size=10, verbose=0)["loss"]
    assert max(sizes) < 40  # never dense as a whole
    got = model_of(5).fit(matrix, dense.sum(1), verbose=0)["loss"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
