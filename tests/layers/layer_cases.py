"""One row a layer (and a way of using it), a file a family: the harness beside it does the rest."""

from tests.layers.case import Case
from tests.layers.cases import (
    activation,
    attention,
    convolution,
    core,
    image,
    merging,
    normalization,
    pooling,
    preprocessing,
    recurrent,
    regularization,
    reshaping,
)

FAMILIES = (
    core,
    activation,
    regularization,
    reshaping,
    convolution,
    pooling,
    normalization,
    merging,
    attention,
    recurrent,
    preprocessing,
    image,
)
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
FAMILY = {id(case): family.__name__.rpartition(".")[-1] for family in FAMILIES for case in family.CASES}


def family_of(case: Case) -> str:
    """Returns the name of the file in which the row stands."""
    return FAMILY[id(case)]
