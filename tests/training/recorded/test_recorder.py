"""The recording's rules for calls that change a tensor: which they change, and that none may change a constant."""

import pytest
import torch

from kstyle_torch.training.recorded.recorder import CannotRecordError, Recorder, RecordingWriter, tensors_in, written_by
from tests.oracle import uniform


def sgd(changed, x):
    settings = {"weight_decay": 0.0, "momentum": 0.9, "lr": 0.1, "dampening": 0.0, "nesterov": False}
    torch._fused_sgd_([x], [x * 1], [changed], maximize=False, is_first_step=False, **settings)


# Each changes its first tensor, which stands at another place among the operator's arguments.
CHANGES = {
    "first argument": lambda changed, x: changed.add_(x),
    "first of a list": lambda changed, x: torch._foreach_add_([changed, x], 1.0),
    "third argument": sgd,
    "keyword": lambda changed, x: torch.add(x, 1.0, out=changed),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_call_that_changes_a_constant_is_not_recorded(change):
    changed, x = uniform(4), uniform(4, seed=1)
    before = [changed.clone(), x.clone()]
    with Recorder() as recorder:
        change(changed, x)
    call = recorder.calls[-1]
    written = {id(tensor) for tensor in written_by(call.function, call.args, call.kwargs)}
    differ = {id(now) for now, then in zip((changed, x), before) if not torch.equal(now, then)}
    read = {id(tensor) for tensor in tensors_in((call.args, call.kwargs))} - written
    assert id(changed) in differ and differ <= written and not differ & read
    RecordingWriter([x], [changed], []).write(recorder.calls, [])  # as state it may change
    with pytest.raises(CannotRecordError, match="may change a constant"):
        RecordingWriter([x], [], [changed]).write(recorder.calls, [])
