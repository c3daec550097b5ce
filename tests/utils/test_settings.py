"""utils.Config, against Keras."""

import copy
import pickle

import pytest

import kstyle_torch as ks


def frozen(package, change):
    config = package.utils.Config(rate=0.1, steps=3)
    config.freeze()
    change(config)


USES = {
    "attribute": lambda c: (setattr(c, "more", 3), c.more, c["more"], len(c)),
    "item": lambda c: (c.__setitem__("seed", 5), c.seed, "seed" in c),
    "change": lambda c: (setattr(c, "rate", 1.0), c.rate),
    "delete": lambda c: (c.__delitem__("rate"), c.as_dict()),
    "views": lambda c: ([*c.keys()], [*c.values()], [*c.items()], [*c]),
    "pop": lambda c: (c.pop("rate"), c.pop("none", 7), c.as_dict()),
    "update": lambda c: (c.update({"rate": 2}, steps=4), c.update([("x", 1)]), c.as_dict()),
    "get": lambda c: (c.get("rate"), c.get("none"), c.get("none", 3), c.get(keyname="none", value=2)),
    "json": lambda c: c.to_json(),
    "repr": lambda c: repr(c),
    "freeze": lambda c: (c.frozen, c.freeze(), c.frozen, c.unfreeze(), c.frozen, setattr(c, "rate", 9), c.rate),
    "a copy of the dict": lambda c: (c.as_dict().clear(), len(c)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_use_equals_keras(keras, use):
    ours, theirs = (use(package.utils.Config(rate=0.1, steps=3)) for package in (ks, keras))
    assert ours == theirs


MISTAKES = {
    "unknown": (AttributeError, lambda c: c.rates),
    "unknown item": (KeyError, lambda c: c["rates"]),
    "pop": (KeyError, lambda c: c.pop("rates")),
    "property": (AttributeError, lambda c: setattr(c, "frozen", True)),
    "frozen": (ValueError, lambda c: (c.freeze(), setattr(c, "rate", 1))),
    "frozen item": (ValueError, lambda c: (c.freeze(), c.__setitem__("rate", 1))),
    "frozen pop": (ValueError, lambda c: (c.freeze(), c.pop("rate"))),
    "frozen update": (ValueError, lambda c: (c.freeze(), c.update(rate=3))),
    "frozen del": (ValueError, lambda c: (c.freeze(), c.__delitem__("rate"))),
}


@pytest.mark.parametrize(("error", "use"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_equals_keras(keras, error, use):
    for package in (keras, ks):
        with pytest.raises(error):
            use(package.utils.Config(rate=0.1, steps=3))


def test_the_nearest_name_is_named():
    with pytest.raises(AttributeError, match="has no value 'rates'. Did you mean 'rate'?"):
        ks.utils.Config(rate=0.1).rates  # noqa: B018


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies(again):
    config = ks.utils.Config(rate=0.1)
    config.freeze()
    copied = again(config)
    assert copied.frozen and copied.as_dict() == {"rate": 0.1}
