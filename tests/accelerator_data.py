"""Every source of data on the simulated accelerator, for a process of its own: see data/test_accelerator_data.py.

`python tests/accelerator_data.py NAME...` runs some checks, all without names, and prints {name: traceback or null}.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from data_sources import SOURCES, W, X, Y, fitted, network
from simulated_device import NAME, counting

from kstyle_torch import Input, Sequential, config, layers, utils
from kstyle_torch.data import arrays, batches, transfer
from kstyle_torch.data.stream import StreamBatches
from kstyle_torch.data.transfer import Carrier, carried, read_ahead
from tests.models_to_train import assert_same_history


def on(device, *args, **kwargs):
    """The history and the weights of a fit on the device."""
    with config.device_scope(device):
        return fitted(*args, **kwargs)


def check_source(name):
    """Training on a source gives the CPU's numbers, and waits for the device once an epoch."""
    data, options = SOURCES[name](True)
    expected = on("cpu", data, **options)
    data, options = SOURCES[name](True)
    assert_same_history(on(NAME, data, **options), expected)
    if not options:
        with config.device_scope(NAME):
            model = network()
            model.fit(data, verbose=0)
            with counting() as counts:
                model.fit(data, epochs=4, verbose=0)
        assert counts.sync + counts.d2h <= 4 + 1, counts


def check_text():
    """Text is converted on the host, and its numbers take the way of all batches: the CPU's losses, a wait an epoch."""
    texts, targets = ["a b", "b", "a a a"] * 20, torch.arange(60.0)[:, None] % 2
    for length in (4, None):  # converted at once, or batch by batch
        histories = {}
        for device in ("cpu", NAME):
            with config.device_scope(device):
                utils.set_random_seed(1)
                words = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=length)
                rest = [layers.Embedding(4, 3), layers.GlobalAveragePooling1D(), layers.Dense(1)]
                model = Sequential([Input((1,), dtype="string"), words, *rest])
                model.compile("sgd", "mse")
                model.fit(texts, targets, verbose=0)
                with counting() as counts:
                    histories[device] = model.fit(texts, targets, epochs=4, batch_size=10, verbose=0)
                assert device == "cpu" or counts.sync + counts.d2h <= 4 + 1, counts
                halves = [(texts[:30], targets[:30]), (texts[30:], targets[30:])]
                model.fit(iter(halves), verbose=0)
                assert model(texts).device.type == device
        assert_same_history(histories[NAME], histories["cpu"])


def check_inputs_in_another_order():
    """Batches of a stream keep each input under its name, whatever the order of the names."""
    with config.device_scope(NAME):
        stream = StreamBatches([({"z": X[:4], "a": X[:4, :1]}, Y[:4])], torch.device(NAME))
        ((x, y, weight),) = stream.epoch()
    assert weight is None and y.tolist() == Y[:4].tolist()
    assert {name: part.tolist() for name, part in x.items()} == {"z": X[:4].tolist(), "a": X[:4, :1].tolist()}


def check_stream_waits():
    """A longer stream takes more copies to the device, and no more waits for it."""
    with config.device_scope(NAME):
        model, counted = network(), []
        model.fit(X, Y, verbose=0)
        for number in (2, 20, 38):
            stream = iter([(X[:32], Y[:32], W[:32])] * number)
            with counting() as counts:
                model.fit(stream, verbose=0)
            counted.append((counts.sync + counts.d2h, counts.h2d))
    _, (short_waits, short_copies), (long_waits, long_copies) = counted  # the first does what is done once
    assert short_waits == long_waits <= 2, counted
    assert long_copies - short_copies == 3 * 18, counted


def large(kind, folder):
    x = X.astype("float64")
    if kind == "memmap":
        np.save(folder / "x.npy", x)
        return np.load(folder / "x.npy", mmap_mode="r")
    return {"float32": X, "float64": x, "sparse": scipy.sparse.csr_matrix(x)}[kind]


def check_large(kind, shuffle):
    """Arrays that do not fit are streamed in chunks: the same batches, a copy for each chunk, no waits."""
    with tempfile.TemporaryDirectory() as folder:
        x = large(kind, Path(folder))
        expected = on(NAME, X, Y, sample_weight=W, batch_size=8, shuffle=shuffle)
        config.set_resident_bytes(0)
        batches.DEVICE_CHUNK_BYTES = 16 * 7 * 4 + 8  # two batches
        try:
            assert_same_history(on(NAME, x, Y, sample_weight=W, batch_size=8, shuffle=shuffle), expected)
            with config.device_scope(NAME):
                model = network()
                model.fit(x, Y, batch_size=8, verbose=0, shuffle=shuffle)
                with counting() as counts:
                    model.fit(x, Y, batch_size=8, epochs=2, verbose=0, shuffle=shuffle)
        finally:
            config.set_resident_bytes(None)
            batches.DEVICE_CHUNK_BYTES = 64 * 2**20
    assert counts.sync + counts.d2h <= 3, counts
    assert 20 <= counts.h2d <= 24, counts  # x and y of five chunks in two epochs, and the rows that are checked


def check_brought_once():
    """What has to be converted and fits is brought to the device once, a chunk at a time."""
    batches.DEVICE_CHUNK_BYTES = 16 * 6 * 4
    try:
        with config.device_scope(NAME):
            model = network()
            rows = scipy.sparse.csr_matrix(X)
            arrays.WHOLE_BYTES = 0
            model.fit(rows, Y, verbose=0)
            counted = []
            for epochs in (2, 6):
                with counting() as counts:
                    model.fit(rows, Y, epochs=epochs, verbose=0, shuffle=False)
                counted.append(counts.h2d)
        assert counted[0] == counted[1], counted
    finally:
        batches.DEVICE_CHUNK_BYTES, arrays.WHOLE_BYTES = 64 * 2**20, 64 * 2**20


class Stream:
    """Notes what is done to a stream: the simulated device has none that copies could run on."""

    def __init__(self):
        self.log = []

    def __enter__(self):
        self.log.append("enter")

    def __exit__(self, *error):
        self.log.append("exit")

    def record_event(self):
        self.log.append("event")
        return len(self.log)


def check_carrier():
    """Copies run on the side stream; the stream that computes waits for them before it gets the tensors."""
    carrier, side = Carrier(torch.device(NAME)), Stream()
    carrier.stream = side
    waited = []

    class Current:
        def wait_event(self, event):
            waited.append(event)

    class Moved:
        def record_stream(self, stream):
            waited.append(type(stream).__name__)

    current_stream, torch.accelerator.current_stream = torch.accelerator.current_stream, lambda device: Current()
    carrier._moved = lambda tensor: Moved()
    try:
        pieces = [[torch.ones(1)], [torch.ones(1)], [torch.ones(1)]]
        arriving = carried(iter(pieces), carrier)
        next(arriving)
        assert side.log == ["enter", "exit", "event"] * 2, side.log  # the second is on its way
        assert waited == [3, "Current"], waited
        assert len([*arriving]) == 2
        assert waited == [3, "Current", 6, "Current", 9, "Current"], waited
    finally:
        torch.accelerator.current_stream = current_stream


def check_read_ahead():
    """Order is kept, one piece is read ahead, and an error arrives where it belongs."""
    done = []

    def job(number):
        if number == 3:
            raise LookupError("file 3")
        done.append(number)
        return number

    results = read_ahead(functools.partial(job, number) for number in range(5))
    assert next(results) == 0
    assert [next(results), next(results)] == [1, 2]
    try:
        next(results)
    except LookupError:
        assert done[:3] == [0, 1, 2]
    else:
        raise AssertionError("no error")


def check_side_stream():
    """What a device lacks is done without."""
    assert transfer._side_stream(torch.device("cpu")) is None
    moved = Carrier(torch.device(NAME)).send([torch.ones(2), torch.ones(2, device=NAME)])
    assert {tensor.device.type for tensor in Carrier(torch.device(NAME)).receive(moved)} == {NAME}


CHECKS = {
    **{f"source {name}": functools.partial(check_source, name) for name in SOURCES},
    **{
        f"large {kind}": functools.partial(check_large, kind, False)
        for kind in ("float32", "float64", "sparse", "memmap")
    },
    **{f"large {kind}, shuffled": functools.partial(check_large, kind, True) for kind in ("float32", "memmap")},
    "inputs in another order": check_inputs_in_another_order,
    "text": check_text,
    "waits of a stream": check_stream_waits,
    "brought once": check_brought_once,
    "carrier": check_carrier,
    "read ahead": check_read_ahead,
    "side stream": check_side_stream,
}
