"""One dataset in every form that fit takes: what the tests of data, on the CPU and on an accelerator, run over."""

import collections
import itertools
import multiprocessing

import numpy as np
import torch
from torch.utils import data as torch_data

import kstyle_torch as ks
from tests import models_to_train
from tests.models_to_train import rows_with_signs

RNG = np.random.default_rng(0)
X, Y = rows_with_signs(70, 5)
W = RNG.uniform(0.5, 2, 70).astype("float32")


def network(optimizer="adam"):
    return models_to_train.network(optimizer, features=5, weighted_metrics=["mse"])


def fitted(x, y=None, epochs=2, shuffle=False, **kwargs):
    model = network()
    history = model.fit(x, y, epochs=epochs, shuffle=shuffle, verbose=0, **kwargs).history
    history["weights"] = np.concatenate([weight.ravel() for weight in model.get_weights()])
    return history


def slices():
    return [slice(start, start + 32) for start in range(0, 70, 32)]


def batches(weighted):
    return [(X[rows], Y[rows], W[rows]) if weighted else (X[rows], Y[rows]) for rows in slices()]


class Items(torch_data.Dataset):
    def __init__(self, weighted=False):
        self.weighted = weighted

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return (X[index], Y[index], W[index]) if self.weighted else (X[index], Y[index])


class Flow(torch_data.IterableDataset):
    def __init__(self, weighted=False):
        self.weighted = weighted

    def __iter__(self):
        return (Items(self.weighted)[index] for index in range(70))


class Squares(ks.utils.PyDataset):
    """Its first batch is not there before its second one, so that workers overtake each other."""

    def __init__(self, weighted=False, **kwargs):
        super().__init__(**kwargs)
        self.weighted, self.events = weighted, []
        self.second_is_read = multiprocessing.Event() if self.workers > 1 else None

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if self.workers > 1 and index == 0:
            assert self.second_is_read.wait(60), "one worker reads everything"
        if self.workers > 1 and index == 1:
            self.second_is_read.set()
        return batches(self.weighted)[index]

    def on_epoch_begin(self):
        self.events.append("begin")

    def on_epoch_end(self):
        self.events.append("end")


class LikeTensorFlow:
    """A leaf that only gives its numbers away by numpy(), as tf.Tensor does."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def numpy(self):
        return self.array


class LikeTfData:
    def __init__(self, weighted):
        self.weighted = weighted

    def __len__(self):
        raise TypeError("dataset length is unknown")

    def __iter__(self):
        return (tuple(map(LikeTensorFlow, batch)) for batch in batches(self.weighted))


class OldSequence:
    """Only __len__ and __getitem__, as before PyDataset."""

    def __init__(self, weighted):
        self.weighted = weighted

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return batches(self.weighted)[index] if index < 3 else [][0]


def lists_of(batch):
    return [part.tolist() for part in batch]


def loader(dataset, **kwargs):
    return torch_data.DataLoader(dataset, batch_size=32, **kwargs)


SOURCES = {
    "Dataset": lambda weighted: (Items(weighted), {}),
    "IterableDataset": lambda weighted: (Flow(weighted), {}),
    "TensorDataset": lambda weighted: (
        torch_data.TensorDataset(*map(torch.from_numpy, (X, Y, W) if weighted else (X, Y))),
        {},
    ),
    "DataLoader": lambda weighted: (loader(Items(weighted)), {}),
    "DataLoader, workers": lambda weighted: (loader(Items(weighted), num_workers=1), {}),
    "DataLoader, iterable": lambda weighted: (loader(Flow(weighted)), {}),
    "DataLoader, own batches": lambda weighted: (
        torch_data.DataLoader(batches(weighted), batch_size=None, collate_fn=lambda batch: batch),
        {},
    ),
    "generator": lambda weighted: (itertools.cycle(batches(weighted)), {"steps_per_epoch": 3}),
    "list iterator": lambda weighted: (iter(batches(weighted) * 2), {"steps_per_epoch": 3}),
    "iterable": lambda weighted: (collections.deque(batches(weighted)), {}),
    "lists in batches": lambda weighted: (collections.deque(map(lists_of, batches(weighted))), {}),
    "tf.data": lambda weighted: (LikeTfData(weighted), {}),
    "old Sequence": lambda weighted: (OldSequence(weighted), {}),
    "PyDataset": lambda weighted: (Squares(weighted), {}),
    "PyDataset, threads": lambda weighted: (Squares(weighted, workers=3, max_queue_size=2), {}),
    "PyDataset, processes": lambda weighted: (Squares(weighted, workers=2, use_multiprocessing=True), {}),
}
