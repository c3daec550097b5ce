"""Distillation: the same programs here and on Keras give the same losses, metrics and weights."""

import copy

import numpy as np
import pytest
import torch

import kstyle_torch as ks
from kstyle_torch import layers
from kstyle_torch.distillation import DistillationLoss, Distiller, FeatureDistillation, LogitsDistillation
from tests.oracle import assert_close

RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-1, 1, (48, 4)).astype("float32")
Y = RANDOM.integers(0, 3, 48)
ONE_HOT = np.eye(3, dtype="float32")[Y]


def graph(lib, hidden, name, activation="softmax"):
    x = lib.Input((4,))
    first = lib.layers.Dense(hidden, activation="relu", name="hidden")(x)
    middle = lib.layers.Dense(6, activation="tanh", name="middle")(first)
    return lib.Model(x, lib.layers.Dense(3, activation=activation, name="out")(middle), name=name)


def chain(lib, hidden, name, activation="softmax"):
    dense = lib.layers.Dense
    steps = [dense(hidden, activation="relu", name="hidden"), dense(6, activation="tanh", name="middle")]
    return lib.Sequential([lib.Input((4,)), *steps, dense(3, activation=activation, name="out")], name=name)


def two_outputs(lib, hidden, name, as_dict=False):
    x = lib.Input((4,))
    inner = lib.layers.Dense(hidden, activation="relu")(x)
    outputs = [lib.layers.Dense(3, activation="softmax", name=end)(inner) for end in ("a", "b")]
    return lib.Model(x, dict(zip("ab", outputs, strict=True)) if as_dict else outputs, name=name)


def pair(lib, make, **options):
    """A teacher and a student with the same weights here and there."""
    models = [make(lib, hidden, name, **options) for hidden, name in ((8, "teacher"), (5, "student"))]
    for seed, model in enumerate(models):
        random = np.random.default_rng(seed)
        model.set_weights([random.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    return models


def logits(lib, *args, **kwargs):
    return lib.distillation.LogitsDistillation(*args, **kwargs)


def features(lib, *args, **kwargs):
    return lib.distillation.FeatureDistillation(*args, **kwargs)


def own(lib):
    class Squares(lib.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return lib.ops.sum(lib.ops.square(teacher_outputs - student_outputs))

    return Squares()


SPARSE = "sparse_categorical_crossentropy"
CASES = {
    "logits": (graph, {}, lambda lib: {"distillation_losses": logits(lib)}, SPARSE, Y),
    "logits, softened": (
        graph,
        {"activation": None},
        lambda lib: {"distillation_losses": logits(lib, 2.0, lib.losses.KLDivergence())},
        "mse",
        ONE_HOT,
    ),
    "logits, crossentropy": (
        graph,
        {"activation": None},
        lambda lib: {"distillation_losses": logits(lib, loss=lib.losses.CategoricalCrossentropy(from_logits=True))},
        "mse",
        ONE_HOT,
    ),
    "chain": (chain, {}, lambda lib: {"distillation_losses": logits(lib, loss="mse")}, SPARSE, Y),
    "features": (
        graph,
        {},
        lambda lib: {"distillation_losses": features(lib, "mse", "middle", "middle")},
        SPARSE,
        Y,
    ),
    "features of a chain": (
        chain,
        {},
        lambda lib: {
            "distillation_losses": [features(lib, "cosine_similarity", "middle", "middle"), logits(lib, loss="mae")],
            "distillation_loss_weights": [0.3, 2.0],
        },
        SPARSE,
        Y,
    ),
    "final features": (graph, {}, lambda lib: {"distillation_losses": features(lib)}, SPARSE, Y),
    "targets alone": (
        graph,
        {},
        lambda lib: {"distillation_losses": logits(lib), "student_loss_weight": 1.0},
        SPARSE,
        Y,
    ),
    "teacher alone": (graph, {}, lambda lib: {"distillation_losses": logits(lib), "student_loss_weight": 0}, SPARSE, Y),
    "own loss": (
        graph,
        {},
        lambda lib: {"distillation_losses": [own(lib), logits(lib)], "student_loss_weight": 0.9},
        SPARSE,
        Y,
    ),
}


@pytest.mark.parametrize(("make", "options", "losses", "loss", "y"), CASES.values(), ids=CASES)
def test_training_equals_keras(keras, make, options, losses, loss, y):
    results = []
    for lib in (ks, keras):
        teacher, student = pair(lib, make, **options)
        before = teacher.get_weights()
        distiller = lib.distillation.Distiller(teacher, student, **losses(lib))
        metrics = ["accuracy"] if isinstance(loss, str) and y is Y else None
        distiller.compile(lib.optimizers.SGD(0.05, momentum=0.9), loss, metrics=metrics)
        history = distiller.fit(X, y, batch_size=16, epochs=3, shuffle=False, verbose=0, validation_split=0.25).history
        evaluated = distiller.evaluate(X, y, verbose=0, return_dict=True)
        results.append((history, evaluated, student.get_weights(), distiller.predict(X, verbose=0)))
        assert all(map(np.array_equal, before, teacher.get_weights()))
        assert len(distiller.trainable_variables) == len(student.trainable_variables)
    (history, evaluated, weights, predicted), theirs = results
    assert history.keys() == theirs[0].keys() and evaluated.keys() == theirs[1].keys()
    assert history["loss"][0] != history["loss"][-1]
    for key in history:
        assert_close(np.array(history[key]), np.array(theirs[0][key]), rtol=1e-4, atol=1e-5)
    for key in evaluated:
        assert_close(np.array(evaluated[key]), np.array(theirs[1][key]), rtol=1e-4, atol=1e-5)
    ks.tree.map_structure(lambda a, b: assert_close(a, b, rtol=1e-4, atol=1e-5), [weights, predicted], list(theirs[2:]))


OTHERS = ONE_HOT[::-1].copy()
NESTS = {
    "lists": (False, ["mse", None], ["mse", "mae"], [ONE_HOT, OTHERS]),
    "dicts": (True, {"a": "mse", "b": "mae"}, {"a": "mse", "b": "mae"}, {"a": ONE_HOT, "b": OTHERS}),
}


@pytest.mark.parametrize(("as_dict", "distilled", "loss", "y"), NESTS.values(), ids=NESTS)
def test_nests_of_outputs(as_dict, distilled, loss, y):
    """Keras on torch refuses nests of losses."""
    teacher, student = pair(ks, two_outputs, as_dict=as_dict)
    model = Distiller(teacher, student, [LogitsDistillation(2.0, distilled), FeatureDistillation(distilled)])
    model.compile(ks.optimizers.SGD(0.0), loss)
    found = model.evaluate(X, y, batch_size=48, verbose=0, return_dict=True)
    errors = {"mse": lambda a, b: ((a - b) ** 2).mean(), "mae": lambda a, b: (a - b).abs().mean(), None: lambda a, b: 0}

    def total(losses, targets, outputs, scale=1):
        parts = zip(*map(ks.tree.flatten, (losses, targets, outputs)), strict=True)
        return sum(errors[each](torch.tensor(a) / scale, torch.tensor(b) / scale) for each, a, b in parts)

    taught, learnt = ks.tree.map_structure(lambda out: out.detach().numpy(), teacher(X)), student.predict(X, verbose=0)
    distillation = total(distilled, taught, learnt, 2) + total(distilled, taught, learnt)
    expected = {"student_loss": total(loss, y, learnt), "distillation_loss": distillation}
    expected["loss"] = expected["total_loss"] = (expected["student_loss"] + distillation) / 2
    assert found == pytest.approx({key: float(value) for key, value in expected.items()}, rel=1e-4)
    assert model.fit(X, y, verbose=0)["loss"][0] == pytest.approx(found["loss"], rel=1e-4)


def distiller(**options):
    teacher, student = pair(ks, graph)
    losses = [LogitsDistillation(4.0), FeatureDistillation("mse", "middle", "middle")]
    made = Distiller(teacher, student, losses, **{"distillation_loss_weights": [0.5, 2.0], **options})
    made.compile("adam", SPARSE, metrics=["accuracy"])
    return made


def test_the_layers_have_one_name_each():
    model = distiller()
    assert {key.split(".")[0] for key in model.state_dict()} == {"teacher", "student"}
    assert [layer.name for layer in model.layers][:2] == ["teacher", "student"]
    assert not model.teacher.trainable and model.student.trainable


def test_saved_and_opened(keras, tmp_path):
    model = distiller(student_loss_weight=0.3)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "ours.keras")
    again = ks.saving.load_model(tmp_path / "ours.keras")
    assert (
        type(again) is Distiller and again.distillation_loss_weights == [0.5, 2.0] and again.student_loss_weight == 0.3
    )
    assert [type(loss) for loss in again.distillation_losses] == [LogitsDistillation, FeatureDistillation]
    assert again.distillation_losses[0].temperature == 4.0
    assert_close(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert again.fit(X, Y, verbose=0, shuffle=False)["loss"] == model.fit(X, Y, verbose=0, shuffle=False)["loss"]
    theirs = keras.saving.load_model(tmp_path / "ours.keras", compile=False)
    assert type(theirs) is keras.distillation.Distiller and theirs.distillation_losses[1].student_layer_name == "middle"
    assert_close(ks.saving.load_model(tmp_path / "ours.keras").predict(X, verbose=0), theirs.predict(X, verbose=0))


def test_a_file_of_keras_opens(keras, tmp_path):
    teacher, student = pair(keras, graph)
    losses = [logits(keras, 4.0), features(keras, keras.losses.MeanSquaredError(), "middle", "middle")]
    theirs = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.3)
    theirs.build((None, 4))
    theirs.save(tmp_path / "theirs.keras")
    ours = ks.saving.load_model(tmp_path / "theirs.keras")
    assert_close(ours.predict(X, verbose=0), theirs.predict(X, verbose=0))
    assert ours.distillation_losses[1].teacher_layer_name == "middle" and ours.student_loss_weight == 0.3
    theirs.compile("adam", SPARSE)
    theirs.fit(X, Y, verbose=0)
    theirs.save(tmp_path / "theirs.keras")
    with pytest.warns(UserWarning, match="does not say the student's loss of 'distiller'; call compile"):
        ours = ks.saving.load_model(tmp_path / "theirs.keras")
    assert_close(ours.predict(X, verbose=0), theirs.predict(X, verbose=0))


@pytest.mark.parametrize("jit_compile", ["record", False])
def test_ways_of_running_agree(recorded_soon, jit_compile):
    losses = []
    for way in ("auto", jit_compile):
        model = distiller()
        model.compile("adam", SPARSE, jit_compile=way)
        losses.append(model.fit(X, Y, batch_size=4, epochs=3, verbose=0, shuffle=False).history)
    assert losses[0] == losses[1]


def test_a_copy_trains_alone():
    model = distiller()
    other = copy.deepcopy(model)
    before = model.student.get_weights()
    other.fit(X, Y, verbose=0)
    assert all(map(np.array_equal, before, model.student.get_weights()))
    assert not np.array_equal(before[0], other.student.get_weights()[0])


def test_evaluation_leaves_the_statistics_of_a_student():
    """Keras runs the student in training mode there."""
    x = ks.Input((4,))
    normal = layers.BatchNormalization(name="normal")(x)
    student = ks.Model(x, layers.Dense(3)(normal))
    teacher = ks.Model(x, layers.Dense(3)(layers.Dense(4, name="first")(x)))
    model = Distiller(teacher, student, FeatureDistillation("mse", "first", "normal"))
    model.compile("sgd", "mse")
    before = student.get_layer("normal").moving_mean.numpy().copy()
    model.evaluate(X, ONE_HOT, verbose=0)
    assert np.array_equal(before, student.get_layer("normal").moving_mean.numpy())
    model.fit(X, ONE_HOT, verbose=0)
    assert not np.array_equal(before, student.get_layer("normal").moving_mean.numpy())


def test_a_layer_of_the_student_alone_is_compared_with_the_final_output():
    x = ks.Input((4,))
    student = ks.Model(x, layers.Dense(3)(layers.Dense(3, name="first")(x)))
    teacher = ks.Model(x, layers.Dense(3)(x))
    model = Distiller(teacher, student, FeatureDistillation("mse", None, "first"), student_loss_weight=0.0)
    model.compile("sgd", "mse")
    expected = ((teacher(X) - student.get_layer("first")(X)) ** 2).mean()
    assert_close(model.compute_loss(torch.from_numpy(X), None).detach(), expected.detach())


def test_losses_by_hand(keras):
    given = [RANDOM.normal(size=(5, 3)).astype("float32") for _ in range(4)]
    nests = ([given[0], given[1]], [given[2], given[3]])
    for make in (
        lambda lib: logits(lib, 2.0, [lib.losses.KLDivergence(), "mse"]),
        lambda lib: features(lib, ["mae", lib.losses.CosineSimilarity()]),
    ):
        ours, theirs = (make(lib).compute_loss(*nests) for lib in (ks, keras))
        assert_close(ours, theirs)


@pytest.mark.parametrize(
    "make", [lambda lib: logits(lib, 2.5, ["mse", None]), lambda lib: features(lib, "mae", "a", "b")]
)
def test_losses_from_configs(keras, make):
    ours = make(ks)
    for again in (
        type(ours).from_config(ours.get_config()),
        ks.saving.deserialize_keras_object(ks.saving.serialize_keras_object(ours)),
    ):
        assert type(again) is type(ours) and vars(again) == vars(ours)
    assert vars(type(ours).from_config(make(keras).get_config())) == vars(ours)


def subclass():
    class Student(ks.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    return Student()


def distil(*losses, lib=ks, student=None, **options):
    teacher, own_student = pair(lib, graph)
    return lib.distillation.Distiller(teacher, student or own_student, *losses, **options)


def narrow(lib):
    return lib.Sequential([lib.Input((5,)), lib.layers.Dense(3)])


MISTAKES = {
    "no loss": (lambda lib: distil(None, lib=lib), "needs distillation_losses"),
    "weights": (
        lambda lib: distil([logits(lib)], lib=lib, distillation_loss_weights=[1, 2]),
        "has 2 numbers for 1 losses",
    ),
    "share": (
        lambda lib: distil(logits(lib), lib=lib, student_loss_weight=1.5),
        "student_loss_weight must be a number from 0",
    ),
    "text": (
        lambda lib: distil(logits(lib), lib=lib, student_loss_weight="x"),
        "student_loss_weight must be a number from 0",
    ),
    "no model": (lambda lib: distil(logits(lib), lib=lib, student="model"), "the student must be a Model; got str"),
    "inputs": (
        lambda lib: distil(logits(lib), lib=lib, student=narrow(lib)),
        "inputs of teacher and student must",
    ),
    "layer": (lambda lib: distil(features(lib, "mse", "second", "middle"), lib=lib), "In the teacher"),
    "layer of the student": (lambda lib: distil(features(lib, "mse", "middle", "second"), lib=lib), "In the student"),
    "no loss to compile": (lambda lib: distil(logits(lib), lib=lib).compile("adam"), "needs the student's loss"),
    "metrics": (
        lambda lib: distil(logits(lib), lib=lib).compile("adam", "mse", metrics="mae"),
        "a list of metrics; got str",
    ),
    "temperature": (lambda lib: logits(lib, 0), "temperature must be a positive number; got 0"),
    "temperature of text": (lambda lib: logits(lib, "hot"), "temperature must be a positive number; got 'hot'"),
    "loss name": (lambda lib: logits(lib, 2.0, "mss"), "mss"),
    "only None": (lambda lib: features(lib, [None, None]), "at least one loss that is not None"),
    "outputs": (
        lambda lib: logits(lib).validate_outputs([lib.ops.ones((2, 2))], lib.ops.ones((2, 2))),
        "structure",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake(keras, make, message):
    with pytest.raises(ValueError, match=message):
        make(ks)
    with pytest.raises(ValueError):
        make(keras)


def test_other_mistakes():
    with pytest.raises(ValueError, match="the student is a subclass of Model, or not built"):
        distil(FeatureDistillation("mse", "middle", "middle"), student=subclass())
    with pytest.raises(ValueError, match="a loss for each output"):
        FeatureDistillation(["mse", "mae"]).validate_outputs(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(NotImplementedError, match="must define compute_loss"):
        DistillationLoss().compute_loss(X, X)

    class Rows(DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return (teacher_outputs - student_outputs).mean(-1)

    model = distil(Rows())
    model.compile("sgd", SPARSE)
    with pytest.raises(ValueError, match=r"Rows.compute_loss\(\) must return one number; got the shape \(32,\)"):
        model.fit(X, Y, verbose=0)
    subclassed = Distiller(pair(ks, graph)[0], subclass(), LogitsDistillation(loss="mse"))
    subclassed.compile("sgd", "mse")
    assert np.isfinite(subclassed.fit(X, ONE_HOT, verbose=0)["loss"]).all()


def test_the_summary_has_the_shapes_of_both_models(keras):
    def rows(lib):
        teacher, student = chain(lib, 8, "teacher"), chain(lib, 4, "student")
        lines = []
        made = lib.distillation.Distiller(teacher, student, lib.distillation.LogitsDistillation())
        made.summary(print_fn=lambda text, **_: lines.extend(text.splitlines()))
        return [line.replace("│", " ").split() for line in lines if "Sequential" in line]

    assert rows(ks) == rows(keras)
    assert len(rows(ks)) == 2
