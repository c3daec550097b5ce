"""Mistakes of beginners: an error of the type that Keras raises, or of a subclass; none where Keras has none."""

import warnings

import keras
import numpy as np
import pytest

import kstyle_torch as ks
from tests.choice import parameters

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y, CLASSES = X[:, :1], np.arange(8) % 3
IMAGES, SEQUENCES = np.ones((2, 8, 8, 3), "float32"), np.ones((2, 5, 3), "float32")


def model(k, units=1, loss="mse", **options):
    """A small model, compiled unless the loss is None."""
    made = k.Sequential([k.Input((4,)), k.layers.Dense(units)])
    if loss is not None:
        made.compile("sgd", loss, **options)
    return made


def fit(made, x=X, y=Y, **options):
    return made.fit(x, y, **{"epochs": 1, "verbose": 0, **options})


def own(k, call):
    return type("Own", (k.Model,), {"call": call})()


def two_outputs(k, **options):
    a, b = k.Input((4,), name="a"), k.Input((4,), name="b")
    made = k.Model([a, b], [k.layers.Dense(1, name="p")(a), k.layers.Dense(1, name="q")(b)])
    made.compile("sgd", **options)
    return made


def twins(k):
    x = k.Input((3,))
    return k.Model(x, k.layers.Dense(3, name="a")(k.layers.Dense(3, name="a")(x)))


def compiled_without_loss(k):
    made = model(k, loss=None)
    made.compile("sgd")
    return fit(made)


def without_constructor(k):
    class Own(k.layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.units = units

    return Own(3, name="own")


LAYERS = {
    "units-word": lambda k: k.layers.Dense("4"),
    "units-none": lambda k: k.layers.Dense(None),
    "units-missing": lambda k: k.layers.Dense(),
    "units-tuple": lambda k: k.layers.Dense((4,)),
    "filters-word": lambda k: k.layers.Conv2D("4", 3),
    "kernel-missing": lambda k: k.layers.Conv2D(4),
    "padding-misspelled": lambda k: k.layers.Conv2D(4, 3, padding="sam"),
    "strides-zero": lambda k: k.layers.Conv2D(4, 3, strides=0),
    "padding-capitals": lambda k: k.layers.Conv2D(4, 3, padding="SAME"),
    "activation-number": lambda k: k.layers.Dense(3, activation=5),
    "activation-layer": lambda k: k.layers.Dense(3, activation=k.layers.ReLU()),
    "initializer-number": lambda k: k.layers.Dense(3, kernel_initializer=5),
    "regularizer-number": lambda k: k.layers.Dense(3, kernel_regularizer=0.01),
    "keyword-misspelled": lambda k: k.layers.Dense(3, activaton="relu"),
    "name-slash": lambda k: k.layers.Dense(3, name="a/b"),
    "name-space": lambda k: k.layers.Dense(3, name="a b"),
    "lstm-word": lambda k: k.layers.LSTM("4"),
    "dropout-two": lambda k: k.layers.Dropout(2),
    "embedding-negative": lambda k: k.layers.Embedding(-1, 4),
    "repeat-word": lambda k: k.layers.RepeatVector("3"),
    "dtype-unknown": lambda k: k.layers.Dense(3, dtype="float31"),
    "bidirectional-mode": lambda k: k.layers.Bidirectional(k.layers.LSTM(3), merge_mode="add"),
    "lambda-word": lambda k: k.layers.Lambda("x"),
    "list-of-two": lambda k: k.layers.Dense(3)([X, X]),
    "list-of-two-built": lambda k: [(d := k.layers.Dense(3))(X), d([X, X])],
    "list-of-two-symbolic": lambda k: k.layers.Dense(3)([k.Input((4,)), k.Input((4,))]),
    "no-argument": lambda k: k.layers.Dense(3)(),
    "nothing": lambda k: k.layers.Dense(3)(None),
    "a-word": lambda k: k.layers.Dense(3)("abc"),
    "one-sample": lambda k: k.layers.Dense(3)(X[0]),
    "conv-flat": lambda k: k.layers.Conv2D(4, 3)(X),
    "conv-one-image": lambda k: k.layers.Conv2D(4, 3)(IMAGES[0]),
    "conv-too-large": lambda k: k.layers.Conv2D(4, 9)(IMAGES),
    "lstm-flat": lambda k: k.layers.LSTM(4)(X),
    "pooling-flat": lambda k: k.layers.MaxPooling2D()(X),
    "embedding-beyond": lambda k: k.layers.Embedding(10, 4)(np.full((2, 3), 10)),
    "axis-beyond": lambda k: k.layers.LayerNormalization(axis=5)(X),
    "merge-a-tensor": lambda k: k.layers.Add()(X),
    "merge-shapes": lambda k: k.layers.Add()([X, X[:, :3]]),
    "concatenate-one": lambda k: k.layers.Concatenate()([X]),
    "attention-alone": lambda k: k.layers.MultiHeadAttention(2, 4)(SEQUENCES),
    "attention-a-tensor": lambda k: k.layers.Attention()(SEQUENCES),
    "rescaling-word": lambda k: k.layers.Rescaling("a")(X),
    "forgotten-kwargs": without_constructor,
    "rate-word": lambda k: k.layers.Dropout("0.5"),
    "interpolation-unknown": lambda k: k.layers.UpSampling2D(2, interpolation="what"),
    "mode-unknown": lambda k: k.layers.RandomFlip("what"),
}
MODELS = {
    "names-twice": lambda k: k.Sequential([k.layers.Dense(3, name="a"), k.layers.Dense(3, name="a")]),
    "names-twice-functional": twins,
    "a-word": lambda k: k.Sequential(["dense"]),
    "a-class": lambda k: k.Sequential([k.layers.Dense]),
    "a-function": lambda k: k.Sequential([lambda x: x]),
    "add-nothing": lambda k: k.Sequential().add(None),
    "call-missing": lambda k: type("Own", (k.Model,), {})()(X),
    "call-of-a-layer-missing": lambda k: type("Own", (k.layers.Layer,), {})()(X),
    "output-unbuilt": lambda k: k.Sequential([k.layers.Dense(3)]).output,
    "shape-unbuilt": lambda k: k.Sequential([k.layers.Dense(3)]).input_shape,
    "count-unbuilt": lambda k: k.Sequential([k.layers.Dense(3)]).count_params(),
    "summary-unbuilt": lambda k: k.Sequential([k.layers.Dense(3)]).summary(print_fn=lambda *_, **__: None),
    "kernel-unbuilt": lambda k: k.layers.Dense(3).kernel,
    "weights-unbuilt": lambda k: k.layers.Dense(3).set_weights([np.ones((8, 3)), np.ones(3)]),
    "weights-too-few": lambda k: model(k).set_weights([np.ones((4, 1))]),
    "weights-shape": lambda k: model(k).layers[0].set_weights([np.ones((1, 4)), np.ones(1)]),
    "layer-unknown": lambda k: model(k).get_layer("nope"),
    "layer-beyond": lambda k: model(k).get_layer(index=9),
    "arrays-as-ends": lambda k: k.Model(X, X),
    "apart": lambda k: k.Model(k.Input((3,)), k.layers.Dense(2)(k.Input((3,)))),
    "a-layer-as-output": lambda k: k.Model(k.Input((3,)), k.layers.Dense(2)),
    "input-number": lambda k: k.Input(8),
    "input-list": lambda k: k.Input([8]),
    "input-nothing": lambda k: k.Input(),
    "input-negative": lambda k: k.Input((-1,)),
    "two-arguments": lambda k: model(k)(X, X),
    "if-symbolic": lambda k: 1 if k.Input((3,)) > 0 else 0,
    "numpy-of-symbolic": lambda k: np.asarray(k.Input((3,))),
    "float-of-symbolic": lambda k: float(k.Input(())),
    "shapes-of-symbolic": lambda k: k.Input((3,)) + k.Input((4,)),
    "load-missing": lambda k: k.models.load_model("nowhere.keras"),
    "load-missing-h5": lambda k: k.models.load_model("nowhere.h5"),
    "load-what": lambda k: k.models.load_model("nowhere"),
    "load-weights-missing": lambda k: model(k).load_weights("nowhere.weights.h5"),
    "save-without-ending": lambda k: model(k).save("nowhere"),
    "weights-without-ending": lambda k: model(k).save_weights("nowhere.h5"),
    "json-of-nothing": lambda k: k.models.model_from_json("{}"),
    "clone-a-word": lambda k: k.models.clone_model("a"),
    "json-broken": lambda k: k.models.model_from_json("what"),
}
OBJECTS = {
    "optimizer-misspelled": lambda k: model(k, loss=None).compile("adm", "mse"),
    "optimizer-number": lambda k: model(k, loss=None).compile(123, "mse"),
    "compile-keyword": lambda k: model(k, loss=None).compile("sgd", "mse", what=1),
    "rate-word": lambda k: k.optimizers.SGD("a"),
    "rate-nothing": lambda k: k.optimizers.SGD(None),
    "rate-set-to-a-word": lambda k: setattr(k.optimizers.SGD(), "learning_rate", "a"),
    "momentum": lambda k: k.optimizers.SGD(0.1, momentum=2),
    "optimizer-keyword": lambda k: k.optimizers.Adam(what=1),
    "two-clips": lambda k: k.optimizers.Adam(clipnorm=1.0, clipvalue=1.0),
    "loss-unknown": lambda k: k.losses.get("what"),
    "loss-reduction": lambda k: k.losses.MeanSquaredError(reduction="avg"),
    "metric-unknown": lambda k: k.metrics.get("what"),
    "metric-curve": lambda k: k.metrics.AUC(curve="X"),
    "metric-threshold": lambda k: k.metrics.Precision(thresholds=2.0),
    "initializer-unknown": lambda k: k.initializers.get("what"),
    "initializer-mode": lambda k: k.initializers.VarianceScaling(mode="what"),
    "regularizer-word": lambda k: k.regularizers.L2("a"),
    "checkpoint-ending": lambda k: k.callbacks.ModelCheckpoint("what"),
    "plateau-factor": lambda k: k.callbacks.ReduceLROnPlateau(factor=2.0),
    "policy-unknown": lambda k: k.mixed_precision.set_global_policy("what"),
    "floatx-unknown": lambda k: k.config.set_floatx("what"),
    "seed-word": lambda k: k.utils.set_random_seed("a"),
    "classes-too-few": lambda k: k.utils.to_categorical([0, 3], 3),
    "classes-negative": lambda k: k.utils.to_categorical([-1, 0]),
    "classes-fractions": lambda k: k.utils.to_categorical([0.5, 1.0]),
    "clip-negative": lambda k: k.optimizers.Adam(clipnorm=-1.0),
    "sequences-number": lambda k: k.utils.pad_sequences(5),
    "sequences-flat": lambda k: k.utils.pad_sequences([1, 2]),
    "variable-nothing": lambda k: k.Variable(None),
    "variable-word": lambda k: k.Variable("a"),
    "assign-shape": lambda k: k.Variable(np.ones(3)).assign(np.ones(4)),
    "sum-of-a-word": lambda k: k.ops.sum("a"),
    "reshape": lambda k: k.ops.reshape(X, (3, 3)),
    "matmul": lambda k: k.ops.matmul(X, X),
    "expand-beyond": lambda k: k.ops.expand_dims(X, 5),
    "softmax-beyond": lambda k: k.ops.softmax(X, 5),
    "random-seed": lambda k: k.random.normal((3,), seed="a"),
}
TRAINING = {
    "verbose-three": lambda k: fit(model(k), verbose=3),
    "uncompiled": lambda k: fit(model(k, loss=None)),
    "without-loss": compiled_without_loss,
    "loss-misspelled": lambda k: fit(model(k, loss="mean_square")),
    "metric-misspelled": lambda k: fit(model(k, metrics=["acurracy"])),
    "epochs-negative": lambda k: fit(model(k), epochs=-1),
    "epochs-word": lambda k: fit(model(k), epochs="2"),
    "epochs-fraction": lambda k: fit(model(k), epochs=2.0),
    "batch-negative": lambda k: fit(model(k), batch_size=-3),
    "batch-word": lambda k: fit(model(k), batch_size="8"),
    "batch-zero": lambda k: fit(model(k), batch_size=0),
    "split-above-one": lambda k: fit(model(k), validation_split=1.5),
    "loss-weights-metrics": lambda k: model(k, loss=None).compile("adam", "mse", ["mae"]),
    "callback-word": lambda k: fit(model(k), callbacks=["EarlyStopping"]),
    "class-weights-list": lambda k: fit(model(k), X, CLASSES, class_weight=[1, 2, 3]),
    "validation-never": lambda k: fit(model(k), validation_data=(X, Y), validation_freq=0),
    "predict-nothing": lambda k: model(k).predict(None, verbose=0),
    "labels-of-others": lambda k: fit(model(k, 3), X, X[:, :2]),
    "split-all": lambda k: fit(model(k), validation_split=1.0),
    "split-word": lambda k: fit(model(k), validation_split="0.2"),
    "fit-keyword": lambda k: fit(model(k), what=1),
    "callback-class": lambda k: fit(model(k), callbacks=[k.callbacks.EarlyStopping]),
    "features": lambda k: fit(model(k), X[:, :3]),
    "features-in-predict": lambda k: model(k).predict(X[:, :3], verbose=0),
    "one-sample": lambda k: model(k).predict(X[0], verbose=0),
    "length": lambda k: fit(model(k), X, Y[:7]),
    "labels-missing": lambda k: fit(model(k), X, None),
    "labels-words": lambda k: fit(model(k), X, np.array(["a"] * 8)),
    "labels-flat": lambda k: fit(model(k), X, Y[:, 0]),
    "labels-classes": lambda k: fit(model(k, 3, "categorical_crossentropy"), X, CLASSES),
    "labels-one-hot": lambda k: fit(model(k, 3, "sparse_categorical_crossentropy"), X, np.eye(3)[CLASSES]),
    "labels-floats": lambda k: fit(model(k, 3, "sparse_categorical_crossentropy"), X, CLASSES.astype("float32")),
    "labels-beyond": lambda k: fit(model(k, 3, "sparse_categorical_crossentropy"), X, CLASSES + 1),
    "output-nothing": lambda k: [(m := own(k, lambda self, x: None)).compile("sgd", "mse"), fit(m)],
    "one-input-of-two": lambda k: two_outputs(k, loss="mse").predict(X, verbose=0),
    "wrong-key": lambda k: two_outputs(k, loss="mse").predict({"a": X, "c": X}, verbose=0),
    "loss-of-what": lambda k: fit(two_outputs(k, loss={"p": "mse", "z": "mse"}), [X, X], [Y, Y]),
    "metric-of-what": lambda k: fit(two_outputs(k, loss="mse", metrics={"z": "mae"}), [X, X], [Y, Y]),
    "generator-split": lambda k: fit(model(k), iter([(X, Y)]), None, validation_split=0.2),
}
ROWS = [
    (f"{kind}-{name}", action)
    for kind, table in {"layer": LAYERS, "model": MODELS, "object": OBJECTS, "fit": TRAINING}.items()
    for name, action in table.items()
]
ELSEWISE = {  # where Keras' error is an accident, or it goes on with something that cannot be meant
    "fit-batch-zero": "batches of 32",
    "fit-split-above-one": "no data is left for training, and the loss is 0",
    "fit-loss-weights-metrics": "metrics by position are loss weights, which are ignored",
    "fit-callback-word": "an AttributeError of the word",
    "fit-class-weights-list": "an AttributeError of the list",
    "fit-validation-never": "a ZeroDivisionError",
    "fit-predict-nothing": "a KeyError of an empty set",
    "fit-labels-of-others": "torch's RuntimeError",
    "layer-rate-word": "a comparison fails, with a TypeError",
    "layer-interpolation-unknown": "an error only when it is called",
    "layer-mode-unknown": "images come back as they are",
    "object-classes-negative": "the last class",
    "object-classes-fractions": "rounded down",
    "object-clip-negative": "gradients turn around",
    "model-json-of-nothing": "a dict in the place of a model",
    "model-clone-a-word": "the word",
}


def outcome(library, action):
    """The built-in types of the error that an action raises; none if there is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            action(library)
        except Exception as error:
            return [cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins"], str(error)
    return [], ""


@pytest.mark.parametrize(("name", "action"), parameters(ROWS, lambda row: row[0].split("-")[0], lambda row: row[0]))
def test_the_error_is_of_keras_type(name, action):
    theirs, ours = outcome(keras, action)[0], outcome(ks, action)
    if name in ELSEWISE:
        assert ours[1] and (not theirs or theirs[0] not in ours[0]), "Keras does the same now: delete the reason"
    else:
        assert bool(ours[0]) == bool(theirs), ours
        assert not theirs or theirs[0] in ours[0], (theirs[0], ours)
    assert bool(ours[0]) == bool(ours[1])
