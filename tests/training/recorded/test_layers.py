"""Every layer in a recorded step: each bit of the loss, the weights and the random state is that of the eager step."""

import copy

import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from tests.choice import first_of_each, parameters
from tests.layers.layer_cases import CASES, family_of

ROWS = 16
# what decides on the host by the numbers it sees, or is the user's
EAGER = {"CategoryEncoding", "RandAugment", "AugMix", "Lambda"}


def usable(case):
    return not case.exempt and case.call is dict and case.inputs is None and case.shapes


FIRST = first_of_each(filter(usable, CASES), lambda case: case.layer)  # a row of each class


def inputs_of(case):
    args = case.args()
    arrays = args[0] if isinstance(args[0], (list, tuple)) else args
    return [torch.cat([array] * ROWS)[:ROWS] for array in arrays]


def trained(case, arrays, jit_compile):
    torch.manual_seed(0)
    inputs = [ks.Input(array.shape[1:], dtype=None if array.is_floating_point() else "int32") for array in arrays]
    layer = getattr(layers, case.layer)(**copy.deepcopy(case.arguments_for(ks)))
    outputs = layer(*inputs) if case.spread or len(inputs) == 1 else layer(inputs)
    output = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    if not output.dtype.is_floating_point:
        return None
    columns = [layers.Flatten()(part) for part in (output, *inputs) if part.dtype.is_floating_point]
    model = ks.Model(inputs, layers.Dense(1)(layers.Concatenate()(columns) if len(columns) > 1 else columns[0]))
    model.compile("adam", "mse", metrics=["mae"], jit_compile=jit_compile)
    torch.manual_seed(1)
    x = arrays if len(arrays) > 1 else arrays[0]
    history = model.fit(x, torch.linspace(-1, 1, ROWS), batch_size=2, epochs=2, verbose=0).history
    recordings = getattr(model._fit.step_engine, "recordings", {})
    is_recorded = any(recording is not None and recording.checked for recording in recordings.values())
    return repr(history), [*model.state_dict().values(), torch.get_rng_state()], is_recorded


@pytest.mark.filterwarnings("ignore:The loss became")  # a layer alone may divide by 0
@pytest.mark.filterwarnings("ignore:.*trainable variable.*got no gradient")
@pytest.mark.filterwarnings("ignore:.*got an input with a mask")  # of Flatten behind a Masking, as in Keras
@pytest.mark.parametrize("case", parameters(FIRST, family_of, lambda case: case.id))
def test_a_layer_keeps_every_bit(case, recorded_soon):
    arrays = inputs_of(case)
    eager, recorded = trained(case, arrays, False), trained(case, arrays, "auto")
    if eager is None or recorded is None:
        assert eager is recorded is None  # whole numbers come out: nothing to train through
        return
    assert recorded[2] is (case.layer not in EAGER)
    assert eager[0] == recorded[0]
    for mine, other in zip(recorded[1], eager[1], strict=True):
        assert torch.equal(mine.nan_to_num(), other.nan_to_num())
