"""The mode of a call: Keras' rules for `training`, torch's `train()` and `eval()`, and modules that are not ours."""

import copy
import pickle

import keras
import pytest
import torch
from torch import nn

import kstyle_torch
from kstyle_torch import layers
from kstyle_torch import mode as modes
from tests.oracle import uniform

X = torch.ones(8, 4)


class Table:
    """The same small programs in either library. `seen` holds the modes that layers got, in order."""

    def __init__(self, library):
        self.library, self.layers, self.seen = library, library.layers, []
        seen = self.seen

        class See(library.layers.Layer):
            def call(self, x, training=None):
                seen.append(bool(training))
                return x

        class Flip(library.layers.Layer):
            def call(self, x, training=True):
                seen.append(bool(training))
                return x

        class Quiet(library.layers.Layer):
            def call(self, x, training=False):
                seen.append(bool(training))
                return x

        self.See, self.Flip, self.Quiet = See, Flip, Quiet

    def chain(self, *parts):
        return self.library.Sequential([self.library.Input((4,)), *parts])

    def graph(self, *parts):
        x = inputs = self.library.Input((4,))
        for part in parts:
            x = part(x)
        return self.library.Model(inputs, x)

    def subclass(self, body, default=None):
        """A model whose `call` is `body(table, x, training)`, with the default, or without the argument for "missing"."""
        table = self

        class Sub(table.library.Model):
            def __init__(self):
                super().__init__()
                self.parts = {"see": table.See(), "flip": table.Flip(), "drop": table.layers.Dropout(0.5)}

        if default == "missing":

            class Model(Sub):
                def call(self, x):
                    return body(self.parts, x, None)

        else:

            class Model(Sub):
                def call(self, x, training=default):
                    return body(self.parts, x, training)

        return Model()


def plain(parts, x, training):
    return parts["see"](x)


def passing(parts, x, training):
    return parts["see"](x, training=training)


def flipping(parts, x, training):
    return parts["see"](parts["flip"](x))


def sampling(parts, x, training):
    return parts["see"](parts["drop"](x, training=True))


PROGRAMS = {
    "a layer": lambda table: table.See(),
    "a default of True": lambda table: table.Flip(),
    "a default of False": lambda table: table.Quiet(),
    "sequential": lambda table: table.chain(table.See()),
    "sequential, flip first": lambda table: table.chain(table.Flip(), table.See()),
    "sequential, flip last": lambda table: table.chain(table.See(), table.Flip()),
    "sequential, a False first": lambda table: table.chain(table.Quiet(), table.Flip(), table.See()),
    "sequential, dropout first": lambda table: table.chain(table.layers.Dropout(0.5), table.Flip()),
    "sequential, a False last": lambda table: table.chain(table.Flip(), table.Quiet(), table.See()),
    "sequential, dropout last": lambda table: table.chain(table.Flip(), table.layers.Dropout(0.5), table.See()),
    "unbuilt, a False last": lambda table: table.library.Sequential([table.Flip(), table.Quiet(), table.See()]),
    "subclass, a False first": lambda table: table.subclass(
        lambda parts, x, training: parts["see"](parts["flip"](parts["drop"](x)))
    ),
    "functional": lambda table: table.graph(table.See(), table.Flip(), table.See()),
    "nested": lambda table: table.chain(table.chain(table.Flip()), table.See()),
    "unbuilt": lambda table: table.library.Sequential([table.Flip(), table.See()]),
    "pipeline": lambda table: table.layers.Pipeline([table.See()]),
    **{
        f"subclass, {body.__name__}, {default}": lambda table, body=body, default=default: table.subclass(body, default)
        for body in (plain, passing, flipping, sampling)
        for default in (None, True, False, "missing")
    },
}
# Keras hands a mode on to later layers even where the outermost call was passed the other one
PASSED_ON = {f"subclass, sampling, {default}" for default in (None, True, False, "missing")}
# and takes a None that is passed for a mode
NONE_PASSED = {"subclass, passing, missing"}


@pytest.mark.filterwarnings("ignore:.build.. was called on layer")
@pytest.mark.parametrize("passed", [{}, {"training": True}, {"training": False}], ids=["", "True", "False"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_direct_call_is_in_the_mode_that_it_has_in_keras(program, passed):
    if (program in PASSED_ON and passed.get("training") is False) or (
        program in NONE_PASSED and passed.get("training")
    ):
        pytest.skip("where this is not as in Keras on purpose")
    results = []
    for library in (keras, kstyle_torch):
        table = Table(library)
        made = PROGRAMS[program](table)
        made(X, **passed)
        table.seen.clear()
        made(X, **passed)
        results.append(table.seen)
        assert modes.running.mode is modes.running.default is None and not modes.running.inside
    assert results[1] == results[0]


def test_what_the_outermost_call_was_passed_holds_but_for_the_layer_that_is_told_otherwise():
    table = Table(kstyle_torch)
    model = table.subclass(sampling)
    model(X, training=False)
    model.predict(X, verbose=0)
    assert not any(table.seen)


@pytest.mark.parametrize(
    "make",
    [
        lambda library: library.layers.Dropout(0.5),
        lambda library: library.layers.GaussianNoise(0.5),
        lambda library: library.layers.RandomFlip(),
        lambda library: library.Sequential([library.layers.RandomFlip(), library.layers.RandomRotation(0.2)]),
        lambda library: library.layers.BatchNormalization(),
    ],
    ids=["Dropout", "GaussianNoise", "RandomFlip", "augmentation", "BatchNormalization"],
)
@pytest.mark.parametrize("passed", [{}, {"training": True}, {"training": False}], ids=["", "True", "False"])
def test_layers_that_differ_in_training(make, passed):
    images = uniform(16, 6, 6, 3)
    changed = []
    for library in (keras, kstyle_torch):
        layer = make(library)
        layer(images, training=False)
        y = layer(images, **passed)
        quiet = layer(images, training=False)
        changed.append(
            not torch.equal(y.detach(), quiet.detach()) or (layer.weights != [] and bool(layer.moving_mean.value.any()))
        )
    assert changed[1] is changed[0]


class Sampling(layers.Dropout):
    """Monte-Carlo dropout as in Keras' programs."""

    def call(self, inputs):
        return super().call(inputs, training=True)


@pytest.mark.parametrize("run", ["call", "predict", "evaluate mode"])
def test_super_call_with_a_mode(run):
    model = kstyle_torch.Sequential([kstyle_torch.Input((4,)), Sampling(0.5)])
    call = {
        "call": model,
        "predict": lambda x: torch.from_numpy(model.predict(x, verbose=0)),
        "evaluate mode": model.eval(),
    }[run]
    torch.manual_seed(0)
    assert not torch.equal(call(X), X)


def noisy():
    torch.manual_seed(0)
    return kstyle_torch.Sequential(
        [kstyle_torch.Input((4,)), layers.Dense(6), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)]
    )


def drops(module, x=X):
    """Whether two calls differ."""
    with torch.no_grad():
        return not torch.equal(module(x), module(x))


def test_train_and_eval_give_a_mode():
    model, augment = noisy(), layers.RandomFlip()
    assert not model.training and not drops(model)
    model.train(), augment.train()
    assert all(module.training for module in model.modules()) and drops(model)
    assert not torch.equal(model(X, training=False), model(X))  # what is passed comes first
    model.layers[1].eval()
    before = model.layers[1].running_mean.clone()
    model(X)
    assert torch.equal(before, model.layers[1].running_mean)
    model.eval(), augment.eval()
    images = uniform(8, 6, 6, 3)
    assert not drops(model) and torch.equal(augment(images), images)
    assert not torch.equal(augment.train(False)(images), images)  # no mode is given any more


@pytest.mark.parametrize("start", [None, False, True], ids=["not given", "eval", "train"])
@pytest.mark.parametrize("each", [False, True], ids=["root", "each module"])
def test_code_that_saves_the_mode_and_sets_it_back_leaves_no_trace(start, each):
    model = noisy()
    if start is not None:
        model.train() if start else model.eval()
    saved = [(module, module.training) for module in model.modules()]
    model.eval()
    if each:
        for module, mode in saved:
            module.training = mode
    else:
        model.train(saved[0][1])
    assert [layer._mode for layer in (model, *model.layers)] == [start] * 5
    assert model.train(False)._mode is None


@pytest.mark.parametrize(
    "change",
    [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), kstyle_torch.models.clone_model],
    ids=["copy", "deepcopy", "pickle", "clone"],
)
@pytest.mark.parametrize("mode", [None, False, True])
def test_copies_carry_the_mode(change, mode):
    model = noisy()
    if mode is not None:
        model.train() if mode else model.eval()
    assert [layer._mode for layer in (change(model), *change(model).layers)] == [mode] * 5


class Parent(nn.Module):
    def __init__(self, child):
        super().__init__()
        self.net = nn.ModuleDict({"deep": nn.Sequential(child, nn.Linear(2, 2))})

    def forward(self, x):
        return self.net["deep"](x)


@pytest.mark.parametrize(
    "make", [lambda child: nn.Sequential(child, nn.Linear(2, 2)), Parent], ids=["Sequential", "deep"]
)
def test_a_child_of_a_module_that_is_not_ours_follows_it(make):
    model = noisy()
    parent = make(model)
    before = model.layers[1].running_mean.clone()
    assert model.training and drops(parent)
    assert not torch.equal(before, model.layers[1].running_mean)
    parent.eval()
    assert not drops(parent) and [layer._mode for layer in model.layers] == [False] * 4
    parent.train()
    assert drops(parent)
    assert not drops(make(noisy()).eval())


def test_wrappers_for_compilation_and_export_change_no_mode():
    model = noisy()
    torch.compile(model, backend="eager")
    torch.export.export(model, (X,))
    assert model._mode is None

    class Flip(layers.Layer):
        def call(self, x, training=True):
            return -x if training else x

    flip = Flip().eval()
    compiled = torch.compile(flip, backend="eager")
    assert torch.equal(compiled(X), X)
    compiled.train()
    assert torch.equal(compiled(X), -X)
    compiled.eval()
    assert torch.equal(compiled(X), X) and flip._mode is False
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda parts: nn.Sequential(*parts)], ids=["ModuleList", "Sequential"])
def test_layers_in_torchs_containers_inside_a_model_start_without_a_mode(kind):
    class Model(kstyle_torch.Model):
        def __init__(self):
            super().__init__()
            self.blocks = kind([layers.RandomFlip(), layers.Dropout(0.5)])
            self.blocks.append(layers.Dropout(0.5))

        def call(self, x, training=True):
            for block in self.blocks:
                x = block(x)
            return x

    model = Model()
    assert [block._mode for block in model.blocks] == [None] * 3
    assert drops(model, uniform(4, 6, 6, 3)) and not drops(model.eval(), uniform(4, 6, 6, 3))


def test_compiled_by_torch():
    """The mode is guarded on, also where it is passed by a call around the compiled code."""

    class Inner(layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop = layers.Dropout(0.5)
            self.fast = torch.compile(self.dropped, backend="eager", fullgraph=True)

        def dropped(self, x):
            return self.drop(x)

        def call(self, x):
            return self.fast(x)

    inner, model = Inner(), noisy()
    assert not drops(inner) and drops(lambda x: inner(x, training=True)) and not drops(inner)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert not drops(compiled) and drops(lambda x: compiled(x, training=True)) and not drops(compiled)
    model.train()
    assert drops(compiled)
    model.eval()
    assert not drops(compiled)
    torch._dynamo.reset()


@pytest.mark.parametrize("strict", [False, True])
def test_exported_by_torch(strict):
    model = noisy()
    program = torch.export.export(model, (X,), strict=strict).module()
    torch.testing.assert_close(program(X), model(X))


class Watching(nn.Module):
    """A module that is not ours; `seen` holds its flag at each call."""

    def __init__(self):
        super().__init__()
        self.norm, self.seen = nn.BatchNorm1d(4), []

    def forward(self, x):
        self.seen.append(self.training)
        return self.norm(x)


def around(net):
    return kstyle_torch.Sequential([kstyle_torch.Input((4,)), net, layers.Dense(1)])


@pytest.mark.parametrize("make", [around, kstyle_torch.from_torch, lambda net: around(layers.TorchModule(net))])
def test_modules_that_are_not_ours_get_the_mode_and_their_own_back(make):
    net = Watching()
    model = make(net)
    model.compile("sgd", "mse")
    y = torch.zeros(8, 4) if make is kstyle_torch.from_torch else torch.zeros(8, 1)
    for run, expected in (
        (lambda: model.fit(X, y, verbose=0), True),
        (lambda: model.train_on_batch(X, y), True),
        (lambda: model.evaluate(X, y, verbose=0), False),
        (lambda: model.predict(X, verbose=0), False),
        (lambda: model.train_step((X, y)), True),
        (lambda: model.predict_step((X,)), False),
        (lambda: model(X, training=True), True),
        (lambda: model(X, training=False), False),
    ):
        run()
        assert net.seen[-1] is expected and not net.training and not net.norm.training
    net.train()
    model.predict(X, verbose=0)
    assert net.seen[-1] is False and net.training


def test_frozen_normalization_of_torch_runs_in_inference_mode():
    layer = layers.TorchModule(nn.BatchNorm1d(4))
    model = around(layer)
    model.compile("sgd", "mse")
    before = layer.module.running_mean.clone()
    layer.trainable = False
    model.compile("sgd", "mse")
    model.fit(X, torch.zeros(8, 1), verbose=0)
    model(X, training=True)
    model.train()
    model(X)
    assert torch.equal(before, layer.module.running_mean)
    layer.trainable = True
    model.fit(X, torch.zeros(8, 1), verbose=0)
    assert not torch.equal(before, layer.module.running_mean)


def test_what_a_callback_or_a_loss_calls_is_not_within_the_step():
    """As in Keras: there it is a call of its own."""
    table = Table(kstyle_torch)
    see = table.See()

    class Model(kstyle_torch.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            see(y_pred)
            return ((y - y_pred) ** 2).mean()

    class Calling(kstyle_torch.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            see(X)

    model = Model()
    model.compile("sgd")
    model.fit(X, torch.zeros(8, 1), verbose=0, callbacks=[Calling()])
    assert table.seen and not any(table.seen)


def test_data_that_is_augmented_on_its_way_into_evaluate():
    seen = []

    class Flip(layers.Layer):
        def call(self, x, training=True):
            seen.append(training)
            return x

    flip = Flip()
    model = kstyle_torch.Sequential([kstyle_torch.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.evaluate(((flip(X), torch.zeros(8, 1)) for _ in range(3)), verbose=0)
    model.predict((flip(X) for _ in range(3)), verbose=0)
    assert seen == [True] * 6


def test_checkpoints_of_torch_run_again_in_the_mode_of_the_step():
    class Checkpointed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.dropout = layers.Dense(6), layers.Dropout(0.5)

        def block(self, x):
            return self.dropout(self.dense(x))

        def call(self, x):
            return torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)

    model = kstyle_torch.Sequential([kstyle_torch.Input((4,)), Checkpointed(), layers.Dense(1)])
    model.compile("sgd", "mse")
    assert model.fit(X, torch.zeros(8, 1), verbose=0)["loss"][0] > 0
