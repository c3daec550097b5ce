"""Every layer in a model, saved here and opened in Keras, and the other way round."""

import copy

import keras
import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import tree
from tests.choice import first_of_each, parameters
from tests.layers.layer_cases import CASES, family_of
from tests.layers.test_layer_cases import ranks
from tests.oracle import array, uniform

# cannot be called in Keras; has a pickled module in its config; has a cycle in Keras' graphs
WITHOUT = ("InputLayer", "TorchModule", "Equalization")
SAVED = [
    case
    for case in CASES
    if case.oracle and case.has_config and not (case.exempt or case.training) and case.layer not in WITHOUT
]
# A row of each layer and rank, and all that hold other layers; in the quick set, one of each family.
SAVED = first_of_each(SAVED, lambda case: case.id if callable(case.arguments) else (case.layer, ranks(case)))
BOTH_WAYS = [pytest.param(keras, ks, id="to-ours"), pytest.param(ks, keras, id="to-keras")]


def model_around(library, case):
    """A functional model of one layer, with random weights."""
    name = (case.keras_layer if library is keras else "") or case.layer
    layer = getattr(library.layers, name)(**copy.deepcopy(case.arguments_for(library)))
    inputs = []

    def symbol(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        dtype = str(leaf.dtype).removeprefix("torch.")
        inputs.append(library.Input(batch_shape=tuple(leaf.shape), dtype=dtype))
        return inputs[-1]

    args, kwargs = tree.map_structure(symbol, (case.args(), case.call()))
    model = library.Model(inputs, layer(*args, **kwargs))
    low, high = case.weights
    model.set_weights(
        [
            array(uniform(*w.shape, low=low, high=high, seed=i)) if w.dtype.kind == "f" else w
            for i, w in enumerate(model.get_weights())
        ]
    )
    return model


def outputs(model, case):
    data = []
    tree.map_structure(
        lambda leaf: data.append(leaf) if isinstance(leaf, torch.Tensor) else None, (case.args(), case.call())
    )  # in the order in which the inputs were made
    with torch.no_grad():
        found = model(data if len(data) > 1 else data[0], training=False)
    return [array(leaf) for leaf in tree.flatten(found)]


@pytest.mark.parametrize(("theirs", "ours"), BOTH_WAYS)
@pytest.mark.parametrize("case", parameters(SAVED, family_of, lambda case: case.id))
def test_goes_from_one_library_to_the_other(case, theirs, ours, tmp_path):
    model = model_around(theirs, case)
    expected = outputs(model, case)
    model.save(tmp_path / "m.keras")
    again = ours.saving.load_model(tmp_path / "m.keras")
    found = outputs(again, case)
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        scale = np.abs(other).max() if other.size else 0.0
        np.testing.assert_allclose(mine, other, rtol=max(1e-6, case.rtol), atol=1e-6 * max(scale, 1.0) + case.atol)
