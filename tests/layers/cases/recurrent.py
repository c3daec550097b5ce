"""Recurrent layers and what wraps them."""

import torch

from tests.layers.case import Case
from tests.oracle import uniform

SEQUENCE = ((3, 5, 4),)
FRAMES = ((2, 3, 6, 5, 2),)
LAYERS = ("SimpleRNN", "GRU", "LSTM")
MASK = torch.tensor(
    [[True, False, True, True, False], [False, True, True, False, True], [False, False, False, False, False]]
)
PADDED = torch.arange(5) < torch.tensor([[5], [2], [1]])


def masked():
    return {"mask": MASK.clone()}


def padded():
    return {"mask": PADDED.clone()}


def states(number, *shape, **more):
    """A function that gives the keyword arguments with an initial state."""
    return lambda: {"initial_state": [uniform(*shape, seed=5 + i) for i in range(number)], **more}


def each(ids, arguments, **more):
    """The row for SimpleRNN, GRU and LSTM alike."""
    return [Case(f"{name.lower()}-{ids}", name, {"units": 3, **arguments}, SEQUENCE, **more) for name in LAYERS]


def inside(layer, inner, **arguments):
    """Constructor arguments of a wrapper around a layer."""
    return lambda lib: {"layer": getattr(lib.layers, layer)(**inner), **arguments}


def both_ways(id, layer="LSTM", inner=(), shapes=SEQUENCE, call=dict, **arguments):
    inner = {"units": 3, **dict(inner)}
    return Case(f"bidirectional-{id}", "Bidirectional", inside(layer, inner, **arguments), shapes, call=call)


def cells(*made):
    return lambda lib: {"cell": [getattr(lib.layers, name)(units) for name, units in made]}


SEQUENCES = {"return_sequences": True}
STATE = {"return_state": True}
EVERYTHING = {**SEQUENCES, **STATE}

ROWS = [
    *each("last", {}),
    *each("sequences", SEQUENCES),
    *each("state", EVERYTHING),
    *each("no-bias", {"use_bias": False, **SEQUENCES}),
    *each("relu", {"activation": "relu"}),
    *each("elu", {"activation": "elu", **EVERYTHING}),
    *each("backwards", {"go_backwards": True, **EVERYTHING}),
    *each("unroll", {"unroll": True}),
    *each("no-kernel", {"use_cudnn": False, **EVERYTHING})[1:],
    *each("initializers", {"bias_initializer": "ones", "recurrent_initializer": "glorot_normal"}),
    *each(
        "regularizers", {"kernel_regularizer": "l2", "recurrent_regularizer": "l1", "recurrent_constraint": "unit_norm"}
    ),
    *each("dropout", {"dropout": 0.5, "recurrent_dropout": 0.3, "seed": 2}),
    *each("masked", {}, call=masked),
    *each("masked-sequences", SEQUENCES, call=masked),
    *each("masked-state", STATE, call=masked),
    *each("masked-all", EVERYTHING, call=padded),
    *each("masked-backwards", {"go_backwards": True, **EVERYTHING}, call=masked),
    *each("masked-zeros", {"zero_output_for_mask": True}, call=masked),
    *each("masked-zeros-all", {"zero_output_for_mask": True, **EVERYTHING}, call=masked),
    *each("masked-no-bias", {"use_bias": False, **EVERYTHING}, call=masked),
    *each("masked-elu", {"activation": "elu", **EVERYTHING}, call=masked),
    *each("masked-elu-zeros", {"activation": "elu", "zero_output_for_mask": True}, call=masked),
    *each("train", EVERYTHING, call=masked, training=True),
    *each("dropout-train", {"dropout": 0.3, "recurrent_dropout": 0.3}, training=True, random=True),
    *each("dropout-kernel-train", {"dropout": 0.3}, training=True, random=True, call=masked),
    Case("lstm-initial-state", "LSTM", {"units": 3}, SEQUENCE, call=states(2, 3, 3)),
    Case("lstm-initial-state-masked", "LSTM", {"units": 3, **EVERYTHING}, SEQUENCE, call=states(2, 3, 3, mask=MASK)),
    Case("gru-initial-state", "GRU", {"units": 3, **STATE}, SEQUENCE, call=states(1, 3, 3, mask=MASK)),
    Case("rnn-initial-state", "SimpleRNN", {"units": 3, **STATE}, SEQUENCE, call=states(1, 3, 3)),
    Case(
        "lstm-forget-bias",
        "LSTM",
        {"units": 3, "unit_forget_bias": False, "recurrent_activation": "hard_sigmoid"},
        SEQUENCE,
    ),
    Case("lstm-implementation", "LSTM", {"units": 3, "implementation": 1}, SEQUENCE),
    Case("gru-implementation", "GRU", {"units": 3, "implementation": 1, "reset_after": False}, SEQUENCE),
    Case("gru-reset-before", "GRU", {"units": 3, "reset_after": False, **SEQUENCES}, SEQUENCE),
    Case("gru-reset-before-masked", "GRU", {"units": 3, "reset_after": False, **EVERYTHING}, SEQUENCE, call=masked),
    Case("gru-reset-before-no-bias", "GRU", {"units": 3, "reset_after": False, "use_bias": False}, SEQUENCE),
    Case(
        "gru-reset-before-train",
        "GRU",
        {"units": 3, "reset_after": False, "recurrent_dropout": 0.3},
        SEQUENCE,
        training=True,
        random=True,
    ),
    Case("simple-rnn-cell", "SimpleRNNCell", {"units": 3}, ((5, 4), (5, 3)), spread=True),
    Case("gru-cell", "GRUCell", {"units": 3}, ((5, 4), (5, 3)), spread=True),
    Case("gru-cell-reset-before", "GRUCell", {"units": 3, "reset_after": False}, ((5, 4), (5, 3)), spread=True),
    Case(
        "lstm-cell",
        "LSTMCell",
        {"units": 3},
        ((5, 4),),
        call=lambda: {"states": [uniform(5, 3), uniform(5, 3, seed=1)]},
    ),
    Case("rnn-cell", "RNN", lambda lib: {"cell": lib.layers.LSTMCell(3), **EVERYTHING}, SEQUENCE),
    Case("rnn-cell-masked", "RNN", lambda lib: {"cell": lib.layers.GRUCell(3), **SEQUENCES}, SEQUENCE, call=masked),
    Case("rnn-cells", "RNN", cells(("GRUCell", 4), ("SimpleRNNCell", 2)), SEQUENCE),
    Case("rnn-cells-state", "RNN", lambda lib: {**cells(("LSTMCell", 4), ("GRUCell", 2))(lib), **EVERYTHING}, SEQUENCE),
    Case(
        "rnn-cells-masked",
        "RNN",
        lambda lib: {**cells(("LSTMCell", 4), ("LSTMCell", 2))(lib), **EVERYTHING},
        SEQUENCE,
        call=masked,
    ),
    Case(
        "rnn-stacked",
        "RNN",
        lambda lib: {"cell": lib.layers.StackedRNNCells([lib.layers.GRUCell(4), lib.layers.GRUCell(3)])},
        SEQUENCE,
        call=masked,
    ),
    both_ways("lstm"),
    both_ways("gru", "GRU"),
    both_ways("simple", "SimpleRNN", SEQUENCES),
    both_ways("sequences", inner=SEQUENCES),
    both_ways("state", inner=EVERYTHING),
    both_ways("initial-state", inner=EVERYTHING, call=states(4, 3, 3)),
    both_ways("masked", call=masked),
    both_ways("masked-sequences", inner=SEQUENCES, call=masked),
    both_ways("masked-state", "GRU", EVERYTHING, call=padded),
    *(both_ways(f"{mode}", inner=SEQUENCES, merge_mode=mode) for mode in ("sum", "mul", "ave", None)),
    both_ways("none-state", inner=STATE, merge_mode=None),
    Case(
        "bidirectional-two-layers",
        "Bidirectional",
        lambda lib: {"layer": lib.layers.LSTM(3), "backward_layer": lib.layers.GRU(2, go_backwards=True)},
        SEQUENCE,
    ),
    Case("time-distributed", "TimeDistributed", inside("Dense", {"units": 2}), SEQUENCE),
    Case(
        "time-distributed-masked",
        "TimeDistributed",
        inside("Dense", {"units": 2}),
        SEQUENCE,
        call=masked,
    ),
    Case(
        "time-distributed-conv",
        "TimeDistributed",
        inside("Conv2D", {"filters": 3, "kernel_size": 2}),
        FRAMES,
    ),
    Case("time-distributed-lstm", "TimeDistributed", inside("LSTM", {"units": 3}), ((2, 3, 5, 4),)),
    Case("conv-lstm-1d", "ConvLSTM1D", {"filters": 2, "kernel_size": 3, **EVERYTHING}, ((2, 3, 6, 2),)),
    Case("conv-lstm-2d", "ConvLSTM2D", {"filters": 2, "kernel_size": 3}, FRAMES),
    Case(
        "conv-lstm-2d-same",
        "ConvLSTM2D",
        {"filters": 2, "kernel_size": (2, 3), "padding": "same", **EVERYTHING},
        FRAMES,
    ),
    Case(
        "conv-lstm-2d-strides",
        "ConvLSTM2D",
        {"filters": 2, "kernel_size": 3, "strides": (2, 1), "padding": "same"},
        FRAMES,
    ),
    Case("conv-lstm-2d-dilation", "ConvLSTM2D", {"filters": 2, "kernel_size": 2, "dilation_rate": 2}, FRAMES),
    Case(
        "conv-lstm-2d-channels-first",
        "ConvLSTM2D",
        {"filters": 3, "kernel_size": 2, "data_format": "channels_first", **EVERYTHING},
        ((2, 3, 2, 6, 5),),
    ),
    Case(
        "conv-lstm-2d-no-bias",
        "ConvLSTM2D",
        {"filters": 2, "kernel_size": 3, "use_bias": False, "unit_forget_bias": False},
        FRAMES,
    ),
    Case(
        "conv-lstm-2d-masked",
        "ConvLSTM2D",
        {"filters": 2, "kernel_size": 3, "go_backwards": True, **EVERYTHING},
        FRAMES,
        call=lambda: {"mask": torch.tensor([[True, False, True], [False, True, False]])},
    ),
    Case(
        "conv-lstm-2d-train",
        "ConvLSTM2D",
        {"filters": 2, "kernel_size": 3, "dropout": 0.3, "recurrent_dropout": 0.3},
        FRAMES,
        training=True,
        random=True,
    ),
    Case("conv-lstm-3d", "ConvLSTM3D", {"filters": 2, "kernel_size": 2}, ((2, 3, 4, 3, 3, 2),)),
]

# weights of both signs, small enough that the gates do not saturate
CASES = [
    *(row._replace(weights=(-0.8, 0.8)) for row in ROWS),
    Case(
        "time-distributed-batch-norm",
        "TimeDistributed",
        inside("BatchNormalization", {}),
        SEQUENCE,
        training=True,
    ),
]
