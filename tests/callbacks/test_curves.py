"""Training curves and tables of a History: the calls of matplotlib, which the tests do without, and pandas' frames."""

import math
import pickle
import sys
import types

import numpy as np
import pytest

import kstyle_torch as ks


class Panel:
    """Axes that remember what is drawn on them."""

    def __init__(self):
        self.lines, self.texts, self.integers = [], [], None
        locator = types.SimpleNamespace(set_params=self.set_locator)
        self.xaxis = types.SimpleNamespace(get_major_locator=lambda: locator)

    def set_locator(self, integer):
        self.integers = integer

    def plot(self, x, y, **options):
        self.lines.append((options["label"], options["linestyle"], options["color"], [*x], [*y]))

    def set_xlabel(self, text):
        self.texts.append(text)

    def set_ylabel(self, text):
        self.texts.append(text)

    def legend(self):
        self.texts.append("legend")


class Pyplot(types.ModuleType):
    """The part of matplotlib.pyplot that curves use."""

    def __init__(self):
        super().__init__("matplotlib.pyplot")
        self.saved = []

    def subplots(self, ncols, figsize, squeeze, layout):
        assert not squeeze and layout == "constrained" and figsize[0] == 5 * ncols
        return types.SimpleNamespace(savefig=self.saved.append), np.array([[Panel() for _ in range(ncols)]])


@pytest.fixture
def pyplot(monkeypatch):
    made = Pyplot()
    package = types.ModuleType("matplotlib")
    package.pyplot = made
    monkeypatch.setitem(sys.modules, "matplotlib", package)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", made)
    return made


def trained(**arguments):
    model = ks.Sequential([ks.Input((2,)), ks.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    return model.fit(x, y, epochs=4, verbose=0, validation_data=(x, y), **arguments)


def test_a_frame_has_a_row_for_each_epoch():
    pd = pytest.importorskip("pandas")
    history = trained(validation_freq=2)
    frame = history.to_frame()
    assert [*frame.columns] == [*history.history] and [*frame.index] == [1, 2, 3, 4] and frame.index.name == "epoch"
    assert [math.isnan(value) for value in frame["val_loss"]] == [True, False, True, False]
    assert [*frame["loss"]] == history["loss"] and [*frame["val_loss"].dropna()] == history["val_loss"]
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(history)).to_frame(), frame)


def test_curves(pyplot, tmp_path):
    history = trained(validation_freq=2)
    loss, mae = history.plot(path=tmp_path / "curves.png")
    values = history.history
    assert loss.lines == [
        ("training", "-", "C0", [1, 2, 3, 4], values["loss"]),
        ("validation", "--", "C0", [2, 4], values["val_loss"]),
    ]
    assert loss.integers
    assert loss.texts == ["epoch", "loss", "legend"] and mae.lines[0][4] == values["mae"]
    assert pyplot.saved == [tmp_path / "curves.png"]


def test_curves_of_several_trainings(pyplot):
    first, second = {"loss": [3.0, 2.0]}, types.SimpleNamespace(history={"loss": [2.5], "val_loss": [2.75]})
    drawn = [[line[:3] for line in ks.utils.plot_history(given)[0].lines] for given in ([first, second], {"a": first})]
    assert drawn[0] == [("1 training", "-", "C0"), ("2 training", "-", "C1"), ("2 validation", "--", "C1")]
    assert drawn[1] == [("a training", "-", "C0")]
    assert pyplot.saved == []


def test_chosen_metrics(pyplot):
    history = {"loss": [1.0], "mae": [2.0]}
    assert [panel.texts[1] for panel in ks.utils.plot_history(history, metrics="mae")] == ["mae"]
    with pytest.raises(ValueError, match="has no metric 'acc'; it has loss, mae"):
        ks.utils.plot_history(history, metrics=["acc"])
    for empty in ({}, {"loss": [1.0]}):
        with pytest.raises(ValueError, match="nothing to draw"):
            ks.utils.plot_history(empty, metrics=[])
    for wrong in (3, [3], {"loss": 3}):
        with pytest.raises(TypeError, match="Expected what fit"):
            ks.utils.plot_history(wrong)


def test_a_history_of_two_trainings():
    """Its epochs begin anew, as in Keras, and so its rows are numbered through."""
    pytest.importorskip("pandas")
    history = ks.callbacks.History()
    for _ in range(2):
        trained(callbacks=[history])
    assert [*history.to_frame().index] == [*range(1, 9)]


@pytest.mark.parametrize(("name", "call"), [("matplotlib", "plot"), ("pandas", "to_frame")])
def test_what_is_missing(name, call, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"needs? {name}: pip install"):
        getattr(trained(), call)()
