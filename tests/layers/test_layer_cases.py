"""The harness: every row of `layer_cases`, held to all that a layer promises."""

import copy
import pickle

import keras
import numpy as np
import pytest
import torch

import kstyle_torch
from kstyle_torch import layers, optimizers, tree
from kstyle_torch.layer.shapes import as_leaves
from kstyle_torch.layers import Input
from tests.choice import first_of_each, parameters
from tests.layers.case import Case
from tests.layers.layer_cases import CASES, family_of
from tests.oracle import GraphModule, array, assert_close, uniform


def cases(chosen):
    """The mark that runs a test for every row chosen; the quick set has the first of each layer."""
    rows = [case for case in CASES if chosen(case)]
    return pytest.mark.parametrize("case", parameters(rows, lambda case: case.layer, lambda case: case.id))


def tensors(structure):
    return [leaf for leaf in tree.flatten(structure) if isinstance(leaf, torch.Tensor)]


def ranks(case: Case):
    """The ranks of the inputs, and whether there are a mask, a state or the like besides."""
    return (*(tensor.ndim for tensor in tensors((case.args(),))), bool(case.call()))


def representatives(chosen):
    """The mark of tests that compile: a row of each family and ranks; the quick set has one of each family."""
    rows = [case for case in CASES if chosen(case)]
    rows = first_of_each(rows, lambda case: (family_of(case), ranks(case)))
    return pytest.mark.parametrize("case", parameters(rows, family_of, lambda case: case.id))


def one_of_each(chosen):
    """The mark of tests of what no argument changes: a row of each layer and ranks; the quick set has one a layer."""
    rows = [case for case in CASES if chosen(case)]
    rows = first_of_each(rows, lambda case: (case.layer, case.training, ranks(case)))
    return pytest.mark.parametrize("case", parameters(rows, lambda case: case.layer, lambda case: case.id))


TRAINED = (
    "AdditiveAttention Attention BatchNormalization Bidirectional Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D "
    "Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Dense DepthwiseConv1D DepthwiseConv2D EinsumDense Embedding GRU "
    "GRUCell GroupNormalization GroupQueryAttention LSTM LSTMCell LayerNormalization MultiHeadAttention PReLU Pipeline "
    "RMSNormalization RNN ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell "
    "SpectralNormalization TimeDistributed TorchModule"
).split()
BARE = (  # the rows of these layers that have no weight to train
    "batch-norm-train-bare batch-norm-renorm-bare layer-norm-bare attention attention-value-mask attention-causal "
    "attention-causal-masks attention-dropout attention-dropout-seed additive-no-scale"
).split()


def trains(case: Case) -> bool:
    """Returns whether the row's layer has weights to train; checked in `test_copies_are_equal_and_separate`."""
    return case.layer in TRAINED and case.id not in BARE


def make(case: Case, **more):
    """The layer, not built."""
    return getattr(layers, case.layer)(**copy.deepcopy(case.arguments_for(kstyle_torch)), **more)


def keras_twin(case: Case, **more):
    """Keras' layer of the same arguments."""
    return getattr(keras.layers, case.keras_layer or case.layer)(**copy.deepcopy(case.arguments_for(keras)), **more)


def random_weights(layer, low, high) -> list[np.ndarray]:
    """New weights of a built layer's shapes; whole numbers stay as they are."""
    return [
        array(uniform(*w.shape, low=low, high=high, seed=i)) if w.dtype.kind == "f" else w
        for i, w in enumerate(layer.get_weights())
    ]


def built(case: Case):
    """The layer, built, with random weights and in inference mode; augmentation would else be in training mode."""
    layer = make(case)
    run(layer, case)
    layer.set_weights(random_weights(layer, *case.weights))
    return layer.eval()


def run(layer, case: Case, **more):
    """The layer's output on the case's inputs."""
    torch.manual_seed(0)
    return layer(*case.args(), **case.call(), **more)


def symbols(case: Case):
    """Symbolic inputs of the case's shapes: the arguments and keyword arguments of the call."""

    def symbol(leaf):
        return Input(leaf.shape[1:], dtype=leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf

    return tree.map_structure(symbol, (case.args(), case.call()))


def assert_same(ours, theirs, **tolerance):
    """Two nests of tensors are equal."""
    ours, theirs = tree.flatten(ours), tree.flatten(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other, **tolerance)


@cases(lambda case: not case.exempt)
def test_symbolic_call_equals_eager(case):
    """Inferred shapes are the real ones, before and after the layer is built; the graph gives the layer's numbers."""
    layer = make(case)
    args, kwargs = symbols(case)
    inferred = tree.flatten(layer(*args, **kwargs))
    for symbol, real in zip(inferred, tree.flatten(run(layer, case)), strict=True):
        assert symbol.shape == (None, *real.shape[1:])
        assert symbol.dtype == real.dtype

    layer = built(case)
    outputs = layer(*args, **kwargs)
    inputs = [leaf for leaf in tree.flatten((args, kwargs)) if hasattr(leaf, "source")]
    graph = GraphModule(inputs, outputs)
    assert_same(graph(tensors((case.args(), case.call()))), run(layer, case))

    if not case.spread and not case.call():
        shapes = [(None, *shape[1:]) for shape in case.shapes]
        shape = layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes)
        # as in Keras, a cell's only state is not in a list of its own here
        assert [leaf.sizes for leaf in tree.flatten(as_leaves(shape))] == [out.shape for out in tree.flatten(outputs)]


@cases(lambda case: case.has_config)
def test_config_round_trip(case):
    """Through a config of our own; Keras takes it, and we take that of Keras."""
    layer = built(case)
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert again.name == layer.name
    copies = [again]
    if case.oracle:
        theirs = keras_twin(case, name=layer.name)
        assert plain(type(theirs).from_config(config).get_config()) == plain(theirs.get_config())
        copies.append(getattr(layers, case.layer).from_config(theirs.get_config()))
    weights = layer.get_weights()
    expected = run(layer, case)
    for again in copies:
        run(again, case)
        again.set_weights(weights)
        assert_same(run(again.eval(), case), expected)


def plain(config):
    """A config without the names that a nested layer gets from a counter."""
    if isinstance(config, dict):
        return {
            key: plain(value)
            for key, value in config.items()
            if key not in ("name", "build_config", "shared_object_id")
        }
    return [plain(item) for item in config] if isinstance(config, (list, tuple)) else config


@one_of_each(lambda case: True)
def test_copies_are_equal_and_separate(case):
    """By `state_dict`, `deepcopy` and pickle; all in inference mode."""
    layer, second = built(case), make(case)
    assert not any(module.training for module in layer.modules())
    assert any(view.trainable for view in layer.weights) == trains(case)
    run(second, case)
    second.load_state_dict(layer.state_dict())
    twin, pickled = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    assert [weight.path for weight in pickled.weights] == [weight.path for weight in layer.weights]
    expected = run(layer, case)
    for again in (second.eval(), twin, pickled):
        assert_same(run(again, case), expected)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
    assert_same(run(copy.deepcopy(layer), case), run(layer, case))


@representatives(lambda case: not case.exempt and not (case.random and case.training))
def test_compiles_to_one_graph(case):
    layer = built(case)
    if case.training:
        layer.train()
    twin = copy.deepcopy(layer)
    torch.compiler.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(layer, fullgraph=True, backend="eager")
        assert_same(run(compiled, case), run(twin, case))


@representatives(lambda case: not case.exempt)
def test_exports(case):
    layer = built(case)
    program = torch.export.export(layer, case.args(), case.call())
    assert_same(run(program.module(), case), run(layer, case))


@one_of_each(lambda case: not case.exempt and case.high is None)
def test_moves_to_another_dtype(case):
    layer = built(case)
    expected = cast(run(layer, case), torch.float32)
    layer.to(torch.float64)
    args, kwargs = cast((case.args(), case.call()), torch.float64)
    torch.manual_seed(0)
    outputs = layer(*args, **kwargs)
    assert all(output.dtype != torch.float32 for output in tensors(outputs))
    assert_same(cast(outputs, torch.float32), expected, rtol=1e-4, atol=1e-5)


def cast(structure, dtype):
    """The nest with its float tensors in another dtype."""

    def to(leaf):
        return leaf.to(dtype) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    return tree.map_structure(to, structure)


TOLERANCES = {"float64": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 5e-2, "float16": 2e-2, "bfloat16": 1e-1}


@one_of_each(
    lambda case: (
        not (case.exempt or case.random or callable(case.arguments))  # layers inside have a policy of their own
        and case.has_config
        and case.id not in ("input", "stft-angle", "resizing-whole-numbers")
    )  # an angle jumps; whole numbers stay whole
)
def test_dtype_policies(case):
    """Weights and outputs have the policy's dtypes, and about the numbers that they have in float32."""
    reference = built(case)
    expected = cast(run(reference, case), torch.float32)
    scale = max((float(output.detach().abs().max()) for output in tensors(expected) if output.numel()), default=1)
    for policy, tolerance in TOLERANCES.items():
        layer = make(case, dtype=policy).eval()
        if policy.endswith("float16") and case.layer == "AveragePooling3D":
            continue  # torch has no kernel for it on the CPU
        run(layer, case)
        layer.set_weights(reference.get_weights())
        outputs = run(layer, case)
        floats = {str(output.dtype) for output in tensors(outputs) if output.is_floating_point()}
        assert floats <= {f"torch.{layer.compute_dtype}"}
        kept = {str(view.dtype).removeprefix("torch.") for view in layer.weights if view.value.is_floating_point()}
        assert kept <= {layer.variable_dtype, "float32"}
        assert_same(cast(outputs, torch.float32), expected, rtol=tolerance, atol=tolerance * max(scale, 1))


@cases(trains)
def test_a_step_lowers_the_loss(case):
    layer = built(case)
    weights = [view.value for view in layer.weights if view.trainable]

    def loss():
        return sum((output.double() - 1).square().mean() for output in tensors(run(layer, case)))

    before = loss()
    gradients = torch.autograd.grad(before, weights, allow_unused=True)
    assert any(gradient is not None for gradient in gradients)
    norm = sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight -= gradient * min(1e-3, 1e-2 * float(before) / max(norm, 1e-12))
    assert norm < 1e-9 or loss() < before


# Keras' InputLayer cannot be called
@cases(lambda case: case.layer != "InputLayer" and case.oracle and not (case.random and case.training))
def test_equals_keras(case):
    """Values, gradients of inputs and weights, the weights' layout, and what a training call leaves in them."""
    layer, keras_layer = built(case), keras_twin(case)
    (theirs_in, theirs_call), (ours_in, ours_call) = inputs_with_grad(case), inputs_with_grad(case)
    mode = {} if case.layer == "TorchModule" else {"training": case.training}
    keras_layer(*theirs_in, **theirs_call, **mode)
    assert [w.shape for w in layer.get_weights()] == [w.shape for w in keras_layer.get_weights()]
    keras_layer.set_weights(layer.get_weights())
    if hasattr(keras_layer, "finalize_state"):  # Keras' Normalization reads its weights only here
        keras_layer.finalize_state()
    theirs = keras_layer(*theirs_in, **theirs_call, **mode)
    ours = layer(*ours_in, **ours_call, training=case.training)
    tolerance = {"rtol": case.rtol, "atol": case.atol}
    assert_same(ours, theirs, **tolerance)
    assert_same_gradients(ours, theirs, (ours_in, ours_call), (theirs_in, theirs_call), layer, keras_layer, tolerance)
    for mine, other in zip(layer.get_weights(), keras_layer.get_weights(), strict=True):
        assert_close(mine, other, **tolerance)


def inputs_with_grad(case: Case):
    """The arguments and keyword arguments of the call, asking for gradients where they can have them."""

    def asking(leaf):
        return leaf.requires_grad_() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    return tree.map_structure(asking, (case.args(), case.call()))


def assert_same_gradients(ours, theirs, ours_in, theirs_in, layer, keras_layer, tolerance):
    ours, theirs = tensors(ours), tensors(theirs)
    assert [output.requires_grad for output in ours] == [output.requires_grad for output in theirs]
    differentiable = [output.requires_grad for output in ours]
    if not any(differentiable):
        return
    for outputs in (ours, theirs):
        sum(
            (y * uniform(*y.shape, seed=9)).sum() for y, asks in zip(outputs, differentiable, strict=True) if asks
        ).backward()
    for mine, other in zip(tensors(ours_in), tensors(theirs_in), strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None:
            assert_close(mine.grad, other.grad, **tolerance)
    trainable = [view for view in layer.weights if view.trainable]
    for view, variable in zip(trainable, keras_layer.trainable_variables, strict=True):
        assert (view.value.grad is None) == (variable.value.grad is None)
        if variable.value.grad is not None:
            assert_close(view.value.grad, variable.value.grad, **tolerance)
    assert_same_step(trainable, keras_layer.trainable_variables, tolerance)


def assert_same_step(ours, theirs, tolerance):
    """Keras' own loop: gradients read off `value`, given to the optimizer, and taken off again."""
    pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if other.value.grad is not None]
    for variables, optimizer in zip(zip(*pairs, strict=True), (optimizers.SGD(0.1), keras.optimizers.SGD(0.1))):
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], list(variables))
        for variable in variables:
            variable.value.grad = None
    assert all(parameter.grad is None for mine, _ in pairs for parameter in mine.parameters().values())


BUILT_BY_A_CHECK = (  # of the rank, or of the axes; Keras' have nothing to do, and are built at once
    "SpatialDropout1D SpatialDropout2D SpatialDropout3D MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D "
    "AveragePooling2D AveragePooling3D GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D UnitNormalization"
).split()


def as_lists(structure):
    """A nest of shapes with lists in the place of tuples."""
    if isinstance(structure, dict):
        return {key: as_lists(item) for key, item in structure.items()}
    return [*map(as_lists, structure)] if isinstance(structure, (list, tuple)) else structure


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.layer)
        for case in first_of_each(CASES, lambda case: case.layer)
        if case.oracle and case.layer not in ("InputLayer", *BUILT_BY_A_CHECK)
    ],
)
def test_states_are_those_of_keras(case):
    """When it is built, for which shapes, and what it takes; a call leaves no attribute behind, and takes `training`."""
    ours, theirs = make(case), keras_twin(case)
    assert ours.supports_masking == theirs.supports_masking
    if case.layer != "TorchModule":  # a torch module takes anything
        assert ours._allow_non_tensor_positional_args == theirs._allow_non_tensor_positional_args
    assert (ours.built, ours.path) == (theirs.built, theirs.path)
    run(ours, case)
    run(theirs, case)
    assert ours.built and theirs.built
    assert (ours.path is None) == (theirs.path is None)
    assert as_lists(ours.get_build_config()) == as_lists(theirs.get_build_config())
    names = dir(ours)
    run(ours, case, training=True)
    assert dir(ours) == names
