"""Windows of a series, against windows that are cut out one by one."""

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.utils import timeseries_dataset_from_array

SERIES, TARGETS = np.arange(60.0).reshape(30, 2), np.arange(30) * 10


def cut(length, stride=1, rate=1, first=0, last=30, with_targets=True):
    """Windows and targets, by the words of Keras' documentation."""
    used, wanted = SERIES[first:last], TARGETS[first:last]
    windows = [used[start : start + length * rate : rate] for start in range(0, len(used), stride)]
    windows = [window for window in windows if len(window) == length]
    return np.array(windows), np.array([wanted[number * stride] for number in range(len(windows))])


CASES = {
    "default": ({"sequence_length": 5}, cut(5)),
    "stride": ({"sequence_length": 5, "sequence_stride": 3}, cut(5, 3)),
    "rate": ({"sequence_length": 5, "sampling_rate": 2}, cut(5, 1, 2)),
    "part": ({"sequence_length": 4, "start_index": 3, "end_index": 20}, cut(4, first=3, last=20)),
    "all": ({"sequence_length": 3, "sequence_stride": 4, "sampling_rate": 3, "start_index": 2}, cut(3, 4, 3, 2)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [4, 128])
def test_windows_and_targets(case, batch_size):
    options, (windows, targets) = CASES[case]
    dataset = timeseries_dataset_from_array(SERIES, TARGETS, batch_size=batch_size, **options)
    batches = list(dataset)
    assert len(batches) == len(dataset) == -(-len(windows) // batch_size)
    assert batches[0][0].dtype is torch.float32
    np.testing.assert_array_equal(torch.cat([x for x, _ in batches]), windows)
    np.testing.assert_array_equal(torch.cat([y for _, y in batches]), targets)
    alone = torch.cat(list(timeseries_dataset_from_array(SERIES, None, batch_size=batch_size, **options)))
    np.testing.assert_array_equal(alone, windows)


def test_targets_that_are_fewer():
    dataset = timeseries_dataset_from_array(SERIES[:-3], TARGETS[3:10], 3)
    assert sum(len(y) for _, y in dataset) == 7


def test_shuffled_windows_keep_their_targets():
    dataset = timeseries_dataset_from_array(SERIES, TARGETS, 5, shuffle=True, seed=1)
    x, y = dataset[0]
    assert torch.equal(x[:, 0, 0] * 5, y.float()) and not torch.equal(y, y.sort().values)
    assert torch.equal(timeseries_dataset_from_array(SERIES, TARGETS, 5, shuffle=True, seed=1)[0][1], y)


def test_single_windows():
    window, target = next(iter(timeseries_dataset_from_array(SERIES, TARGETS, 5, batch_size=None)))
    assert window.shape == (5, 2) and target.ndim == 0


def test_it_trains_and_chains():
    dataset = timeseries_dataset_from_array(SERIES / 60, TARGETS / 300, 5, batch_size=4)
    model = ks.Sequential([ks.Input((5, 2)), ks.layers.LSTM(4), ks.layers.Dense(1)])
    model.compile("adam", "mse")
    doubled = dataset.map(lambda x, y: (2 * x, y)).cache().prefetch(2)
    model.fit(doubled.skip(2), validation_data=doubled.take(2), epochs=2, verbose=0)
    assert torch.equal(doubled[1][0], 2 * dataset[1][0]) and doubled[1][0] is doubled[1][0]
    assert (len(doubled), len(doubled.take(2)), len(doubled.skip(2)), len(doubled.take(-1))) == (7, 2, 5, 7)
    assert torch.equal(next(iter(doubled.skip(2)))[1], dataset[2][1])


def test_fit_keeps_its_order():
    seen = []
    dataset = timeseries_dataset_from_array(SERIES, TARGETS, 5, batch_size=4).map(
        lambda x, y: seen.append(float(y[0])) or (x, y)
    )
    model = ks.Sequential([ks.Input((5, 2)), ks.layers.Flatten(), ks.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(dataset, verbose=0, shuffle=True)
    assert seen == sorted(seen)


MISTAKES = {
    "stride": ({"sequence_stride": 0}, "sequence_stride must be above 0 and below the length of the data, 30; got 0"),
    "rate": ({"sampling_rate": 30}, "sampling_rate must be above 0"),
    "start": ({"start_index": 30}, r"start_index must be in \[0, 30\)"),
    "end": ({"start_index": 5, "end_index": 5}, "end_index must be above start_index"),
    "too long": ({"sequence_length": 31}, "hold no window of 31 steps"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    options, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        timeseries_dataset_from_array(SERIES, TARGETS, **{"sequence_length": 5, **options})
