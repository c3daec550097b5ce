"""Nests, compared with Keras' on the same ones."""

from collections import OrderedDict, defaultdict, deque, namedtuple

import pytest

from kstyle_torch import tree

Point = namedtuple("Point", ["x", "y"])

NESTS = {
    "leaf": 1,
    "none": None,
    "empty": [],
    "list": [1, 2, None],
    "tuple": (1, (2, 3)),
    "deep": {"b": [1, {"a": (3,), "z": 2}], "a": 4},
    "ordered": OrderedDict(b=1, a=[2, 3]),
    "default": defaultdict(list, {"b": 1, "a": {"c": 3, "d": 2}}),
    "named": Point(1, {"b": 2, "a": 3}),
    "deque": deque([1, {"b": 2, "a": 3}]),
    "shapes": {"b": (1, None, 3), "a": [(2, 3), [4, 5]]},
    "set": {1},
}

per_nest = pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS.keys())


def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except (ValueError, TypeError):
        return "refused"


def test_every_name_is_here(keras):
    assert {name for name in dir(keras.tree) if not name.startswith("_")} == {*tree.__all__}


@per_nest
def test_reading_equals_keras(nest, keras):
    assert tree.is_nested(nest) == keras.tree.is_nested(nest)
    assert tree.flatten(nest) == keras.tree.flatten(nest)
    assert tree.lists_to_tuples(nest) == keras.tree.lists_to_tuples(nest)
    assert tree.map_shape_structure(str, nest) == keras.tree.map_shape_structure(str, nest)


@per_nest
def test_paths_equal_keras(nest, keras):
    assert tree.flatten_with_path(nest) == keras.tree.flatten_with_path(nest)


def test_inner_dicts_are_sorted_too():  # as Keras says it does; on torch it sorts the outermost only
    nest = [{"b": {"d": 1, "c": 2}, "a": 3}]
    assert tree.flatten(nest) == [leaf for _, leaf in tree.flatten_with_path(nest)] == [3, 2, 1]
    assert tree.pack_sequence_as(nest, [3, 2, 1]) == nest


@per_nest
def test_packing_undoes_flattening(nest, keras):
    leaves = [f"leaf {position}" for position in range(len(tree.flatten(nest)))]
    packed = tree.pack_sequence_as(nest, leaves)
    assert packed == keras.tree.pack_sequence_as(nest, leaves)
    assert type(packed) is type(nest) or not tree.is_nested(nest)
    assert tree.flatten(packed) == leaves
    with pytest.raises(ValueError):
        tree.pack_sequence_as(nest, [*leaves, 1])


@per_nest
def test_mapping_equals_keras(nest, keras):
    for none_is_leaf in (True, False):
        ours = tree.map_structure(lambda *leaves: leaves, nest, nest, none_is_leaf=none_is_leaf)
        assert ours == keras.tree.map_structure(lambda *leaves: leaves, nest, nest, none_is_leaf=none_is_leaf)


@per_nest
def test_comparing_equals_keras(nest, keras):
    for other in NESTS.values():
        for name in ("assert_same_structure", "assert_same_paths"):
            mine, theirs = (outcome(getattr(library, name), nest, other) for library in (tree, keras.tree))
            assert mine == theirs, f"{name} with {other}: {mine}, Keras {theirs}"


def test_mapping_up_to_equals_keras(keras):
    for shallow, nest in [
        ([None, None], [[1, 1], [2, 2]]),
        ([None, [None, None]], [[1, 1], [2, 2]]),
        ([[1], 2], [1, 2]),
    ]:
        ours = outcome(tree.map_structure_up_to, shallow, str, nest)
        assert ours == outcome(keras.tree.map_structure_up_to, shallow, str, nest)


@per_nest
@pytest.mark.parametrize("top_down", [True, False])
def test_traversing_equals_keras(nest, top_down, keras):
    def visits(library):
        visited = []

        def visit(node):
            visited.append(node)
            if isinstance(node, tuple):
                return ["was a tuple"]
            return library.MAP_TO_NONE if node == 3 else None

        return library.traverse(visit, nest, top_down=top_down), visited

    assert visits(tree) == visits(keras.tree)


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="func must be a function"):
        tree.traverse(1, [1])
    with pytest.raises(ValueError, match="at least one structure"):
        tree.map_structure(str)
    with pytest.warns(DeprecationWarning, match="no effect"):
        tree.assert_same_structure([1], [2], check_types=True)
