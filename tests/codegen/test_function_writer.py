"""The writer of generated code: names of its own, objects by reference, variables that live no longer than needed."""

import gc
import linecache
import traceback
import weakref
from collections import namedtuple

import pytest

from kstyle_torch.codegen.function_writer import FunctionWriter

EVIL = ['");__import__("os").system("false");("', "import", "a b", "x'y", "run", "x", "ä", "1st", "lambda", "print", ""]
Pair = namedtuple("Pair", "first second")


class Thing:
    """An object that can be referred to weakly."""


def no_leaf(value):
    return None


def writer(**names):
    return FunctionWriter("run", ("x",), "test", names)


@pytest.mark.parametrize("wish", EVIL)
def test_names_are_identifiers_of_the_writers_own(wish):
    code = writer(taken=len)
    names = [code.variable(wish), code.variable(wish), code.bind(Thing(), wish), code.variable("taken")]
    assert len({*names, "run", "x", "taken"}) == 7
    assert all(name.isidentifier() and name.isascii() for name in names)
    code.write(f"{names[0]} = 1", assigns=[names[0]])
    assert code.finish(names[0], [names[0]])[0](None) == 1


def test_the_same_object_has_one_name_and_equal_ones_have_two():
    first, second = [1], [1]
    code = writer(given=first)
    assert code.bind(first) == "given"
    assert code.bind(second) == code.bind(second) != "given"


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, -3, 2**70, 0.1, -0.0, 1e-300, float("inf"), float("nan"), "text", b"bytes", len),
        *((), (1,), [1, [2.5, "a"]], {"key": (1, 2)}, slice(1, None, 2), Pair(1, "b"), [Pair(slice(3), {})]),
    ],
    ids=repr,
)
def test_values_come_out_as_they_went_in(value):
    code = writer()
    function, source = code.finish(code.value(value, no_leaf))
    assert repr(function(None)) == repr(value)
    assert '"' not in source and "'" not in source


def test_values_that_stand_for_variables_become_their_names():
    code = writer()
    value = code.value([1, (Thing, {"a": Thing})], lambda value: "x" if value is Thing else None)
    assert code.finish(value)[0]("got") == [1, ("got", {"a": "got"})]


@pytest.mark.parametrize("name", ["a", "_b1", "a b", "lambda", "None", "ä", "x=1, y", "__debug__", 'a"', "run", "key"])
def test_keyword_arguments_of_any_name_arrive(name):
    code = writer(gather=dict)
    function, source = code.finish(code.call("gather", [], {"first": "x", name: "2", "last": "3"}))
    assert function(1) == {"first": 1, name: 2, "last": 3}
    assert f"{name}=" in source if name in ("a", "_b1", "run", "key") else name not in source


def test_a_variable_is_deleted_after_its_last_use():
    alive = []
    code = writer(make=Thing, note=lambda: alive.append([thing() is not None for thing in made]))
    made = []
    keep = code.bind(lambda *things: made.extend(map(weakref.ref, things)))
    first, second = code.variable("a"), code.variable("a")
    code.write(f"{first} = make()", [], [first])
    code.write(f"{second} = make()", [], [second])
    code.write(f"{keep}({first}, {second})", [keep, first, second])
    code.write("note()")
    code.write(f"assert {second}", [second])
    code.write("note()")
    function, source = code.finish("x", ["x"])
    assert function(7) == 7
    assert alive == [[False, True], [False, False]]
    assert source.splitlines()[4:7:2] == [f"    del {first}", f"    assert {second}"]


def test_what_the_result_reads_is_left():
    code = writer()
    kept = code.variable("a")
    code.write(f"{kept} = x + 1", ["x"], [kept])
    code.write(f"{kept}.bit_length()", [kept])
    function, source = code.finish(f"{kept}, x", [kept, "x"])
    assert function(1) == (2, 1)
    assert "del" not in source


def test_optional_statements_go_with_those_that_read_them():
    code = writer(note=(noted := []).append)
    names = [code.variable("a") for _ in range(4)]
    code.write(f"{names[0]} = note(0)", [], [names[0]], optional=True)
    code.write(f"{names[1]} = note(1)", [names[0]], [names[1]], optional=True)  # nothing reads it
    code.write(f"{names[2]} = note(2)", [], [names[2]], optional=True)
    code.write(f"{names[3]} = note(3)", [names[2]], [names[3]])
    code.finish("None")[0](None)
    assert noted == [2, 3]


def test_the_source_is_in_tracebacks_and_goes_with_the_function():
    code = writer()
    code.write(f"{code.bind(Thing(), 'thing')}.missing")
    function = code.finish("x")[0]
    with pytest.raises(AttributeError) as caught:
        function(1)
    assert "thing.missing" in "".join(traceback.format_tb(caught.tb))
    filename = function.__code__.co_filename
    thing = weakref.ref(function.__globals__["thing"])
    assert filename in linecache.cache
    gc.collect()
    gc.disable()  # no cycle may hold them
    try:
        del caught, function, code
        assert filename not in linecache.cache
        assert thing() is None
    finally:
        gc.enable()
