"""Attention. Queries that may see nothing are in test_attention.py: Keras' gradients there are too large."""

from tests.layers.case import Case
from tests.oracle import integers

QUERY, VALUE = (2, 5, 6), (2, 7, 6)
GRID = (2, 3, 4, 6)  # two axes between batch and features
WEIGHTS = (-0.6, 0.6)  # all positive, they would put the scores 50 apart, where rounding moves small gradients
DRAWS = {"random": True, "training": True}


def heads(name, arguments=None, shapes=(QUERY, VALUE), call=dict, **more):
    """A row of MultiHeadAttention."""
    arguments = {"num_heads": 2, "key_dim": 4, **(arguments or {})}
    return Case(
        f"heads{name}", "MultiHeadAttention", arguments, shapes, spread=True, call=call, weights=WEIGHTS, **more
    )


def grouped(name, arguments=None, shapes=(QUERY, VALUE), call=dict, **more):
    """A row of GroupQueryAttention."""
    arguments = {"head_dim": 4, "num_query_heads": 6, "num_key_value_heads": 2, **(arguments or {})}
    return Case(
        f"grouped{name}", "GroupQueryAttention", arguments, shapes, spread=True, call=call, weights=WEIGHTS, **more
    )


def plain(name, arguments=None, shapes=(QUERY, VALUE), call=dict, **more):
    """A row of Attention."""
    return Case(f"attention{name}", "Attention", arguments or {}, shapes, call=call, **more)


def additive(name, arguments=None, shapes=(QUERY, VALUE), call=dict, **more):
    """A row of AdditiveAttention."""
    return Case(f"additive{name}", "AdditiveAttention", arguments or {}, shapes, call=call, **more)


def visible(*shape, seed=0):
    """A mask that leaves every row something."""
    mask = integers(*shape, high=2, seed=seed) > 0
    mask[..., 0] = True
    return mask


def padded():
    """A mask whose first row leaves nothing."""
    mask = visible(2, 7)
    mask[0] = False
    return mask


def masks(*sizes):
    """A mask for each of the inputs of a list."""
    return {"mask": [visible(2, size) for size in sizes]}


def scores(**more):
    """Keywords of a call that gives the scores too."""
    return {"return_attention_scores": True, **more}


def causal(**more):
    """Keywords of a causal call."""
    return {"use_causal_mask": True, **more}


CASES = [
    heads(""),
    heads("-key", shapes=(QUERY, (2, 7, 3), VALUE)),
    heads("-sizes", {"value_dim": 3, "output_shape": 5}),
    heads("-output-axes", {"output_shape": (2, 3)}),
    heads("-no-bias", {"use_bias": False}),
    heads("-gate", {"use_gate": True, "value_dim": 3}),
    heads("-window", {"sliding_window": 3}),
    heads("-window-causal", {"sliding_window": 2}, (QUERY, QUERY), causal),
    heads("-causal", call=causal),
    heads("-scores", {"use_gate": True}, call=scores),
    heads("-scores-causal", call=lambda: scores(**causal())),
    heads("-mask", call=lambda: {"attention_mask": visible(2, 5, 7)}),
    heads("-mask-of-heads", call=lambda: causal(attention_mask=visible(2, 2, 5, 7))),
    heads("-mask-of-numbers", call=lambda: {"attention_mask": visible(2, 5, 7).int()}),
    heads(
        "-masks",
        shapes=(QUERY, VALUE, VALUE),
        call=lambda: {"value_mask": visible(2, 7), "key_mask": visible(2, 7, seed=4)},
    ),
    heads("-padded-dropout", {"dropout": 0.5}, call=lambda: {"value_mask": padded()}),
    heads("-padded-scores", call=lambda: scores(value_mask=padded())),
    heads("-grid", shapes=(GRID, GRID)),
    heads("-grid-scores", shapes=(GRID, GRID), call=scores),
    heads("-grid-mask", shapes=(GRID, GRID), call=lambda: {"attention_mask": visible(2, 3, 4, 3, 4)}),
    heads("-axis", {"attention_axes": 2}, (GRID, (2, 3, 5, 6))),
    heads(
        "-axis-scores",
        {"attention_axes": (-3,)},
        (GRID, (2, 5, 4, 6)),
        lambda: scores(attention_mask=visible(2, 4, 2, 3, 5)),
    ),
    heads("-dropout", {"dropout": 0.5}, **DRAWS),
    heads("-dropout-seed", {"dropout": 0.5, "seed": 3}, **DRAWS),
    heads("-dropout-off", {"dropout": 0.5, "seed": 3}),
    heads(
        "-regularized",
        {
            "kernel_regularizer": "l2",
            "bias_regularizer": "l1",
            "kernel_constraint": "max_norm",
            "bias_initializer": "ones",
        },
    ),
    grouped(""),
    grouped("-key", {"use_bias": False}, (QUERY, VALUE, VALUE)),
    grouped("-one", {"num_key_value_heads": 1}),
    grouped("-gate", {"use_gate": True}),
    grouped("-window", {"sliding_window": 2}, (QUERY, QUERY)),
    grouped("-causal", shapes=(QUERY, QUERY), call=causal),
    grouped("-masks", call=lambda: {"value_mask": visible(2, 7), "attention_mask": visible(2, 5, 7)}),
    grouped("-scores", shapes=(QUERY, QUERY), call=lambda: scores(**causal(query_mask=visible(2, 5)))),
    grouped("-dropout", {"dropout": 0.3}, **DRAWS),
    plain(""),
    plain("-key", {"use_scale": True}, (QUERY, (2, 7, 3), VALUE)),
    plain("-concat", {"score_mode": "concat"}),
    plain("-concat-scale", {"score_mode": "concat", "use_scale": True}),
    plain("-masks", {"use_scale": True}, call=lambda: masks(5, 7)),
    plain("-value-mask", call=lambda: {"mask": [None, visible(2, 7)]}),
    plain("-causal", call=causal),
    plain("-causal-masks", shapes=(QUERY, QUERY), call=lambda: causal(**masks(5, 5))),
    plain("-scores", {"use_scale": True}, call=lambda: scores(**causal(**masks(5, 7)))),
    plain("-dropout", {"dropout": 0.5}, **DRAWS),
    plain("-dropout-seed", {"dropout": 0.5, "seed": 3}, **DRAWS),
    additive(""),
    additive("-no-scale", {"use_scale": False}, (QUERY, (2, 7, 3), VALUE)),
    additive("-masks", call=lambda: scores(**causal(**masks(5, 7)))),
    additive("-dropout", {"dropout": 0.5, "seed": 3}, **DRAWS),
]
