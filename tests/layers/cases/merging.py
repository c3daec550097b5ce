"""Layers that make one tensor of several."""

from tests.layers.case import Case

SAME = ((2, 3), (2, 3), (2, 3))
BROADCAST = ((2, 3, 4), (2, 1, 4))
RANKS = ((2, 3, 4), (2, 4), (2, 1))

CASES = [
    Case("concatenate", "Concatenate", {}, ((2, 3), (2, 5))),
    Case("concatenate-axis", "Concatenate", {"axis": 1}, ((2, 3, 4), (2, 5, 4), (2, 1, 4))),
    Case("add", "Add", {}, SAME),
    Case("add-broadcast", "Add", {}, BROADCAST),
    Case("add-ranks", "Add", {}, RANKS),
    Case("subtract", "Subtract", {}, SAME[:2]),
    Case("subtract-broadcast", "Subtract", {}, BROADCAST),
    Case("multiply", "Multiply", {}, SAME),
    Case("multiply-broadcast", "Multiply", {}, BROADCAST),
    Case("multiply-ranks", "Multiply", {}, RANKS),
    Case("average", "Average", {}, SAME),
    Case("average-broadcast", "Average", {}, BROADCAST),
    Case("maximum", "Maximum", {}, SAME),
    Case("maximum-broadcast", "Maximum", {}, BROADCAST),
    Case("minimum", "Minimum", {}, SAME),
    Case("minimum-ranks", "Minimum", {}, RANKS),
    Case("dot-vectors", "Dot", {"axes": 1}, ((2, 3), (2, 3))),
    Case("dot-axes", "Dot", {"axes": (1, 2)}, ((2, 3, 5), (2, 7, 3))),
    Case("dot-last", "Dot", {"axes": -1}, ((2, 5, 3), (2, 7, 3))),
    Case("dot-mixed-ranks", "Dot", {"axes": (1, 2)}, ((2, 3), (2, 7, 3))),
    Case("dot-high-ranks", "Dot", {"axes": [2, 1]}, ((2, 4, 3, 5), (2, 3, 6, 7))),
    Case("dot-normalize", "Dot", {"axes": -1, "normalize": True}, ((2, 5, 3), (2, 3))),
]
