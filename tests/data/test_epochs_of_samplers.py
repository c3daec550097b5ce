"""Samplers and data sets that are told the number of the epoch, such as torch's DistributedSampler."""

import torch
from torch.utils import data as torch_data

import kstyle_torch as ks
from kstyle_torch.data.stream import StreamBatches


def sampled(data=None):
    data = torch_data.TensorDataset(torch.arange(8.0)[:, None], torch.zeros(8, 1)) if data is None else data
    sampler = torch_data.DistributedSampler(data, num_replicas=2, rank=0)
    return torch_data.DataLoader(data, batch_size=2, sampler=sampler)


def by_hand(epochs, first=0):
    loader = sampled()
    for epoch in range(first, first + epochs):
        loader.sampler.set_epoch(epoch)
        yield [x.flatten().tolist() for x, _ in loader]


def given(batches, epochs):
    return [[x.flatten().tolist() for x, _, _ in batches.epoch()] for _ in range(epochs)]


def test_every_epoch_has_an_order_of_its_own():
    assert given(StreamBatches(sampled(), torch.device("cpu")), 3) == [*by_hand(3)]


def test_the_user_may_say_with_which_epoch_it_begins():
    loader = sampled()
    loader.sampler.set_epoch(4)
    assert given(StreamBatches(loader, torch.device("cpu")), 2) == [*by_hand(2, first=4)]


def test_a_training_that_goes_on_has_the_order_of_its_epoch():
    batches, again = (StreamBatches(sampled(), torch.device("cpu")) for _ in range(2))
    given(batches, 2)
    again.go_to(batches.position())
    assert given(again, 1) == [*by_hand(1, first=2)]


def test_fit_tells_a_sampler():
    loader, seen = sampled(), []
    x = ks.Input((1,))
    model = ks.Model(x, ks.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    tell = ks.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(loader.sampler.epoch))
    model.fit(loader, epochs=3, callbacks=[tell], verbose=0)
    assert seen == [0, 1, 2]
