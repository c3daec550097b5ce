"""Sizes to try for unknown axes if the usual ones do not fit.

Most calls run at any size. Some need a small one (a table of 50 learned positions), some a large one (a window of 2048
samples), some the size of another tensor (`x + zeros((1, 100, 64))`), and some one that is written in the call
(`reshape(x, (12,))`). Sizes that succeed are then varied: an axis whose size cannot vary has that size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

Shape = tuple[int | None, ...]
Unknown = tuple[int, int]  # index of the symbolic tensor, and of the axis

USUAL = (192, 320)  # can be halved five times (83 and 89, which Keras tries, break a U-Net)
SHORT = (32, 64)  # likewise, for tensors that would be huge
SMALL, SMALLEST = (8, 12), (2, 3)
LONG, LONGEST = (1260, 1680), (5040, 6720)  # multiples of every small number
NEXT = dict([USUAL, SHORT, SMALL, SMALLEST, LONG, LONGEST])
MOST_TRIES = 64
MOST_ELEMENTS = 2**24  # of the made-up tensors of one call, and of all calls in a search together


class Probe(NamedTuple):
    """The sizes that replace None in one run: for first axes, for others, and exceptions for single axes."""

    rows: int
    open_size: int
    given: Mapping[Unknown, int] = MappingProxyType({})

    def fill(self, shape: Shape, number: int) -> list[int]:
        """Returns the shape of the symbolic tensor at an index, without None."""
        return [self.size_of((number, axis)) if size is None else size for axis, size in enumerate(shape)]

    def size_of(self, unknown: Unknown) -> int:
        """Returns the size of one unknown axis."""
        return self.given.get(unknown, self.open_size if unknown[1] else self.rows)

    def count_elements(self, shapes: Sequence[Shape]) -> int:
        """Returns the total number of elements of the tensors."""
        return sum(math.prod(self.fill(shape, number)) for number, shape in enumerate(shapes))


class Hints(NamedTuple):
    """Candidate sizes found in a call.

    Args:
        shapes: Shapes of the tensors in the call that are not symbolic.
        numbers: Integers in arguments, settings and weights' shapes.
        broadcasts: Whether a size of 1 broadcasts: in operations, merging and attention, but not in users' code,
            whose output may depend on it.
    """

    shapes: list[tuple[int, ...]]
    numbers: list[int]
    broadcasts: bool


def unknowns_in(shapes: Sequence[Shape]) -> list[Unknown]:
    """Returns the unknown axes."""
    return [(number, axis) for number, shape in enumerate(shapes) for axis, size in enumerate(shape) if size is None]


def fallbacks(hints: Hints, shapes: Sequence[Shape]) -> Iterator[Probe]:
    """Yields probes for a call that fails at the usual sizes.

    Args:
        hints: Candidate sizes found in the call.
        shapes: Shapes of the symbolic tensors.
    """
    unknowns = unknowns_in(shapes)
    for size in (SMALL[0], SMALLEST[0], LONG[0], LONGEST[0]):
        yield Probe(0, size)
    for size in (USUAL[0], SMALL[0]):
        for at_first_axis, choose in itertools.product((False, True), (max, min)):
            if given := _aligned(unknowns, shapes, hints.shapes, at_first_axis, choose):
                yield Probe(0, size, given)
    yield Probe(SMALL[0], SMALL[0])
    for size in (SMALL[0], SMALLEST[0], LONG[0], LONGEST[0]):
        yield Probe(2, size)
    known = {size for shape in (*shapes, *hints.shapes) for size in shape if size}
    candidates = [size for size in dict.fromkeys([*sorted(known), *hints.numbers]) if size > 1][:12]
    per_sample = [math.prod(size or 1 for size in shape[1:]) for shape in shapes]
    quotients = dict.fromkeys(_quotients(candidates, [*per_sample, *candidates]))
    candidates += [size for size in quotients if size not in candidates][:6]
    for size in candidates:
        yield Probe(0, size)
        yield Probe(size, USUAL[0])
    if hints.broadcasts:
        yield Probe(0, 1)
        yield Probe(1, 1)
        for size in candidates:
            yield Probe(0, 1, {unknowns[-1]: size})
    for unknown, size in itertools.product(unknowns, candidates):
        yield Probe(0, USUAL[0], {unknown: size})
    for rows, size in itertools.product(candidates + [1] * hints.broadcasts, repeat=2):
        yield Probe(rows, size)


def _aligned(
    unknowns: list[Unknown],
    shapes: Sequence[Shape],
    others: Sequence[Shape],
    at_first_axis: bool,
    choose: Callable[[list[int]], int],
) -> dict[Unknown, int]:
    """Returns the sizes of other tensors at unknown axes, aligned as for broadcasting."""
    given = {}
    for number, axis in unknowns:
        place = axis if at_first_axis else axis - len(shapes[number])
        rest = [shape for other, shape in enumerate(shapes) if other != number] + [*others]
        sizes = [shape[place] for shape in rest if -len(shape) <= place < len(shape)]
        known = [size for size in sizes if size is not None and size > 1]
        if known:
            given[number, axis] = choose(known)
    return given


def _quotients(sizes: list[int], divisors: list[int]) -> Iterator[int]:
    for divisor, size in itertools.product(divisors, sizes):
        if 1 < divisor < size and size % divisor == 0:
            yield size // divisor


def groups_to_vary(probe: Probe, unknowns: Sequence[Unknown]) -> Iterator[list[Unknown]]:
    """Yields groups of unknown axes of equal size that may have to change together."""
    rows = [each for each in unknowns if each not in probe.given and each[1] == 0 and probe.rows > 0]
    inner = [each for each in unknowns if each not in probe.given and each[1] > 0]
    if rows and inner and probe.rows == probe.open_size:
        yield rows + inner
    yield from filter(None, (rows, inner))
    for size in dict.fromkeys(probe.given.values()):
        yield [each for each, given in probe.given.items() if given == size]


def varied(probe: Probe, members: Sequence[Unknown]) -> Iterator[Probe]:
    """Yields the probe with other sizes for some unknown axes of equal size."""
    size = probe.size_of(members[0])
    for other in dict.fromkeys([NEXT.get(size, 2 * size), size + 1, 2 * size, max(size - 1, 1)]):
        if other != size:
            yield probe._replace(given={**probe.given, **dict.fromkeys(members, other)})
