"""Objects as plain data: constructors, the functions of each namespace, scopes and the legacy form."""

import inspect

import pytest

import kstyle_torch as ks
from kstyle_torch.legacy import saving


def look_up(root, path):
    for name in path.split("."):
        root = getattr(root, name)
    return root


NO_ARGUMENTS = "constraints.NonNeg initializers.Ones initializers.Zeros".split()


@pytest.mark.parametrize("path", NO_ARGUMENTS)
def test_a_class_without_arguments_takes_none(path, keras):
    for library in (keras, ks):
        cls = look_up(library, path)
        assert type(cls()).__name__ == cls.__name__
        for arguments in ([(5,), {}], [(), {"seed": 1}]):
            with pytest.raises(TypeError):
                cls(*arguments[0], **arguments[1])


def parameters(function):
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


NAMESPACES = (
    "activations constraints dtype_policies initializers layers losses metrics optimizers optimizers.schedules regularizers"
).split()
FUNCTIONS = [f"{namespace}.{name}" for namespace in NAMESPACES for name in ("serialize", "deserialize")]
FUNCTIONS += [
    "saving.deserialize_keras_object",
    "saving.serialize_keras_object",
    "legacy.saving.deserialize_keras_object",
    "legacy.saving.serialize_keras_object",
    "utils.legacy.deserialize_keras_object",
]


@pytest.mark.parametrize("path", FUNCTIONS)
def test_functions_take_the_arguments_of_keras(path, keras):
    assert parameters(look_up(ks, path)) == parameters(look_up(keras, path))


# what a function of a namespace makes of a name, in both libraries
NAMED = {
    "activations": "relu",
    "constraints": "MaxNorm",
    "initializers": "GlorotUniform",
    "losses": "mean_squared_error",
    "metrics": "MeanSquaredError",
    "regularizers": "L2",
}


@pytest.mark.parametrize(("namespace", "name"), NAMED.items(), ids=NAMED)
def test_a_name_is_deserialized(namespace, name, keras):
    theirs, ours = (look_up(library, namespace).deserialize(name) for library in (keras, ks))
    kinds = [getattr(each, "__name__", type(each).__name__) for each in (theirs, ours)]
    assert kinds[0] == kinds[1] == name


def classes(library):
    """A class and a function of the user's own."""

    class Scale(library.layers.Layer):
        def __init__(self, factor=1.0, activation=None, **kwargs):
            super().__init__(**kwargs)
            self.factor, self.activation = factor, activation

        def get_config(self):
            return {**super().get_config(), "factor": self.factor, "activation": self.activation}

    def twice(x):
        return 2 * x

    return {"Scale": Scale, "twice": twice}


def described(value):
    """The same text for the same object of both libraries."""
    if hasattr(value, "get_config"):
        config = value.get_config()
        return type(value).__name__, {key: described(config[key]) for key in ("factor", "activation") if key in config}
    return getattr(value, "__name__", value)


MODULE_OBJECTS = {
    "a name": ("twice", {}),
    "an unknown name": ("thrice", {}),
    "None": (None, {}),
    "a class": ({"class_name": "Scale", "config": {"factor": 3.0}, "module": None, "registered_name": "Scale"}, {}),
    "by keyword": (
        {"class_name": "Scale", "config": {"factor": 3.0}, "registered_name": "Scale"},
        {"safe_mode": False},
    ),
}


@pytest.mark.parametrize(("config", "more"), MODULE_OBJECTS.values(), ids=MODULE_OBJECTS)
def test_objects_of_a_module(config, more, keras):
    found = []
    for library in (keras, ks):
        own = classes(library)
        known = {"module_objects": {"twice": own["twice"]}, "custom_objects": own, **more}
        found.append(described(library.saving.deserialize_keras_object(config, **known)))
    assert found[0] == found[1]


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="has no argument 'strict'"):
        ks.saving.deserialize_keras_object({}, strict=True)


LEGACY = {
    "None": lambda library, own, forms: forms.deserialize_keras_object(forms.serialize_keras_object(None)),
    "function": lambda library, own, forms: (
        forms.serialize_keras_object(own["twice"]),
        forms.deserialize_keras_object("twice", {}, own).__name__,
    ),
    "layer": lambda library, own, forms: (
        forms.serialize_keras_object(own["Scale"](3.0, "relu"))["class_name"],
        described(forms.deserialize_keras_object(forms.serialize_keras_object(own["Scale"](3.0)), own)),
    ),
    "named function": lambda library, own, forms: described(
        forms.deserialize_keras_object({"class_name": "Scale", "config": {"activation": "twice"}}, own)
    ),
    "custom": lambda library, own, forms: described(
        forms.deserialize_keras_object({"class_name": "Scale", "config": {"factor": 2.0}}, {}, own)
    ),
    "object inside": lambda library, own, forms: forms.serialize_keras_object(
        own["Scale"](1.0, library.regularizers.L2(0.5))
    )["config"]["activation"],
    "a class by its name": lambda library, own, forms: type(forms.deserialize_keras_object("Scale", {}, own)).__name__,
}


@pytest.mark.parametrize("case", LEGACY)
def test_the_form_of_keras_2(case, keras):
    theirs, ours = (LEGACY[case](library, classes(library), library.legacy.saving) for library in (keras, ks))
    assert ours == theirs


@pytest.mark.parametrize("identifier", [{"class_name": "nothing", "config": {}}, {"config": {}}, 3], ids=str)
def test_no_object_of_keras_2(identifier, keras):
    for library in (keras, ks):
        with pytest.raises(ValueError):
            library.legacy.saving.deserialize_keras_object(identifier, {})


def test_names_of_a_module_in_the_form_of_keras_2():
    """Keras 3.15 raises an AttributeError here: it asks for a table that it no longer has."""
    assert saving.deserialize_keras_object("Scale", classes(ks)).factor == 1.0
    with pytest.raises(ValueError, match="Unknown widget: 'nothing'"):
        saving.deserialize_keras_object("nothing", {}, printable_module_name="widget")


def test_a_scope_is_a_class(keras):
    for library in (keras, ks):
        scope = library.saving.custom_object_scope
        assert inspect.isclass(scope) and scope is library.utils.CustomObjectScope
        with scope(classes(library)) as entered:
            assert isinstance(entered, scope)
            assert library.saving.get_registered_object("twice")(3) == 6
        assert library.saving.get_registered_object("twice") is None


def test_configs_inside_a_file_may_not_ask_for_code():
    """A class that passes `safe_mode=False` in its `from_config` does not overrule the caller who reads the file."""

    class Sly(ks.layers.Layer):
        @classmethod
        def from_config(cls, config):
            ks.saving.deserialize_keras_object(config["inner"], safe_mode=False)
            return cls()

    stored = {"class_name": "__lambda__", "config": {"value": "x"}}
    config = {"class_name": "Sly", "config": {"inner": stored}, "registered_name": "Sly", "module": None}
    with pytest.raises(ValueError, match="can run any code"):
        ks.saving.deserialize_keras_object(config, {"Sly": Sly})
