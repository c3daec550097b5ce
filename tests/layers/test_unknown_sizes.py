"""Every layer on symbolic tensors of unknown sizes: the shapes that Keras infers, or better, and those of real data."""

import keras
import pytest
import torch

import kstyle_torch
from kstyle_torch import tree
from tests.choice import parameters
from tests.layers.layer_cases import CASES
from tests.symbolic.unknown_sizes import few_tries, missing, openings, untrue

ELSEWISE = {  # where Keras infers a shape that its own result does not have
    "bidirectional-two-layers": "the forward layer's units twice, though the backward one has others",
    "category-multi-hot-3d": "the axis of the numbers kept",
    "einsum-left": "the axes that the ellipsis stands for turned around",
    "heads-scores": "scores of the queries with themselves",
    "heads-scores-causal": "likewise",
    "heads-padded-scores": "likewise",
    "heads-grid-scores": "likewise",
    "heads-axis-scores": "likewise",
    "heads-mask-of-heads": "the shape of the queries, whatever that of the mask",
    "layer-norm-bare": "an unknown number of features, of which torch's module needs to know",
}
TAKEN_AS_LONG = {"category-one-hot-column": "a single number has no axis, a list of an unknown length has one"}


def tensors_of(case):
    """The tensors of a call, positional and named; none where there are others than Keras' tensors can stand for."""
    args, kwargs = case.args(), case.call()
    if case.exempt or not case.oracle or not all(isinstance(leaf, torch.Tensor) for leaf in tree.flatten(args)):
        return None
    given = []
    tree.map_structure(lambda leaf: given.append(leaf) if isinstance(leaf, torch.Tensor) else None, (args, kwargs))
    return args, kwargs, given


ROWS = [case for case in CASES if tensors_of(case)]


@pytest.mark.parametrize("case", parameters(ROWS, lambda case: case.layer, lambda case: case.id))
def test_shapes_are_keras_or_better(case, monkeypatch):
    args, kwargs, tensors = tensors_of(case)

    def symbolic_call(library, name, shapes):
        layer = getattr(library.layers, name)(**case.arguments_for(library))
        made = [
            library.layers.Input(batch_shape=shape, dtype=str(tensor.dtype).removeprefix("torch."))
            for shape, tensor in zip(shapes, tensors)
        ]
        inputs = iter(made)
        given = tree.map_structure(
            lambda leaf: next(inputs) if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs)
        )
        return layer, layer(*given[0], **given[1])

    for shapes in openings([tuple(tensor.shape) for tensor in tensors]):
        try:
            theirs = symbolic_call(keras, case.keras_layer or case.layer, shapes)[1]
        except Exception:  # Keras raises all kinds of errors
            continue
        with few_tries(monkeypatch):
            try:
                layer, ours = symbolic_call(kstyle_torch, case.layer, shapes)
            except ValueError:
                if case.id not in ELSEWISE:
                    raise
                continue
        assert case.id in ELSEWISE or not missing(ours, theirs), (shapes, ours, theirs)
        assert case.id in TAKEN_AS_LONG or not untrue(ours, layer(*args, **kwargs)), (shapes, ours)
