"""The summary in notebooks: what it shows, that it escapes names, and that it runs nothing."""

import sys
from html.parser import HTMLParser

import pytest
from torch import nn

import kstyle_torch as ks
from kstyle_torch import layers


class Table(HTMLParser):
    """The cells of a table, by row."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.is_over = [], set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        self.is_over |= tag == "table"

    def handle_data(self, data):
        if self.rows and not self.is_over:
            self.rows[-1].append(data)


def test_a_chain():
    model = ks.Sequential(
        [ks.Input((3,)), layers.Dense(4, name="first"), layers.Dropout(0.5, name="second")], name="net"
    )
    text = model._repr_html_()
    rows = Table(text).rows
    assert rows[0] == ["Layer (type)", "Output shape", "Parameters", "Trainable"]
    assert rows[1][1:] == ["(None, 3)", "0", "-"]
    assert rows[2:4] == [["first (Dense)", "(None, 4)", "16", "Y"], ["second (Dropout)", "(None, 4)", "0", "-"]]
    assert "Sequential &#x27;net&#x27;" in text and "Trainable params: 16" in text


def test_a_graph_says_what_is_connected():
    inputs = ks.Input((3,), name="x")
    model = ks.Model(inputs, layers.Add(name="sum")([inputs, layers.Dense(3, name="dense")(inputs)]))
    rows = Table(model._repr_html_()).rows
    assert rows[0][3] == "Connected to" and rows[3][3] == "x[0][0], dense[0][0]"


def test_names_are_escaped():
    name = "<script>alert(1)</script>&"
    inputs = ks.Input((3,))
    model = ks.Sequential([inputs, layers.Dense(1)], name="<b>")
    model.layers[0].name = name
    table = Table(model._repr_html_())
    assert "script" not in table.tags and any("".join(row).startswith(f"{name} (Dense)") for row in table.rows)
    assert "<b><b>" not in model._repr_html_()


class Unrun(ks.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = layers.Dense(2), nn.LayerNorm(3)

    def call(self, x):
        raise AssertionError("it was run")


@pytest.mark.parametrize("make", [Unrun, lambda: ks.Sequential([layers.Dense(2)])], ids=["subclass", "sequential"])
def test_nothing_is_run_and_nothing_heavy_imported(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchinfo", None)
    text = make()._repr_html_()
    assert "(Dense)" in text and "not built" in text
