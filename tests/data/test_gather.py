"""Memory for permuted rows is used again, but never while somebody looks at it."""

import torch

from kstyle_torch.data import gather as module
from kstyle_torch.data.gather import MAX_BUFFERS, Gatherer

X = torch.arange(40.0).reshape(20, 2)


def parts():
    return torch.randperm(20).split(4)


def test_memory_is_used_again_when_nobody_looks():
    gather, places = Gatherer(X), set()
    for part in parts():
        rows = gather(part)
        assert torch.equal(rows, X[part])
        places.add(rows.data_ptr())
        del rows
    assert len(places) == 1


def test_what_somebody_holds_stays_as_it_is():
    gather = Gatherer(X)
    held = [(part, gather(part).split(2)[1]) for part in parts()]  # views of the rows only
    arrays = [(part, gather(part).numpy()) for part in parts()]
    for part, view in held:
        assert torch.equal(view, X[part[2:]])
    for part, array in arrays:
        assert torch.equal(torch.from_numpy(array), X[part])
    assert len(gather.buffers) == MAX_BUFFERS


def test_what_the_backward_pass_needs_stays_as_it_is():
    gather, weight = Gatherer(X), torch.ones(2, requires_grad=True)
    chosen = parts()
    losses = [(gather(part) * weight).sum() for part in chosen]
    torch.stack(losses).sum().backward()
    assert torch.equal(weight.grad, X.sum(0))


def test_a_short_last_part_fits_into_longer_memory():
    gather = Gatherer(X)
    first = gather(torch.arange(4)).data_ptr()
    last = gather(torch.arange(3))
    assert last.shape == (3, 2) and last.data_ptr() == first


def test_without_torchs_private_count_nothing_is_used_again(monkeypatch):
    monkeypatch.setattr(module, "holders_of", None)
    gather = Gatherer(X)
    assert torch.equal(gather(torch.tensor([3, 1])), X[[3, 1]])
    assert not gather.buffers
