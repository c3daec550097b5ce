"""Data that holds its targets under a name: dicts, data sets of `datasets`; modules that look as those of `transformers`."""

import contextlib
from collections import OrderedDict, UserDict
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import kstyle_torch as ks
from kstyle_torch.data import labelled
from kstyle_torch.data.labelled import Column

RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(size=(24, 3)).astype("float32"), RANDOM.normal(size=(24, 2)).astype("float32")
LABELS = (A.sum(1) > 0).astype("int64")
IDS = RANDOM.integers(0, 9, (24, 5))


class Table:
    """A data set with the interface of `datasets.Dataset`."""

    def __init__(self, columns, kind=None, chosen=None):
        self.columns_of, self.kind, self.chosen = columns, kind, chosen
        self.features, self.column_names = dict.fromkeys(columns), [*columns]

    def __len__(self):
        return len(next(iter(self.columns_of.values())))

    def with_format(self, kind=None, columns=None):
        return Table(self.columns_of, kind, columns)

    def __getitem__(self, rows):
        read = self.column_names if self.chosen is None else self.chosen
        if isinstance(rows, (slice, int)):
            return {name: self.columns_of[name][rows] for name in read}
        return {name: [self.columns_of[name][row] for row in rows] for name in read}


def two_inputs():
    ks.utils.set_random_seed(3)
    a, b = ks.Input((3,), name="a"), ks.Input((2,), name="b")
    model = ks.Model([a, b], ks.layers.Dense(2, activation="softmax")(ks.layers.Concatenate()([a, b])))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def one_input():
    ks.utils.set_random_seed(3)
    model = ks.Sequential([ks.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class OfInputs(ks.Model):
    """A model whose inputs have no names that are known."""

    def __init__(self):
        super().__init__()
        self.dense = ks.layers.Dense(2, activation="softmax")

    def call(self, inputs):
        return self.dense(ks.ops.concatenate([inputs["a"], inputs["b"]], axis=-1))


def subclassed():
    ks.utils.set_random_seed(3)
    model = OfInputs()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def collated(rows, kind=dict):
    return kind({key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]})


def loader(columns, kind=dict):
    rows = [{key: column[row] for key, column in columns.items()} for row in range(len(LABELS))]
    return DataLoader(rows, batch_size=8, collate_fn=lambda rows: collated(rows, kind))


COLUMNS = {"a": A, "b": B, "labels": LABELS}
SOURCES = {
    "dict": lambda columns: columns,
    "loader": loader,
    "loader-of-mappings": lambda columns: loader(columns, UserDict),  # BatchEncoding is one
    "table": Table,
    "table-of-lists": lambda columns: Table({key: column.tolist() for key, column in columns.items()}),
    "table-with-more": lambda columns: Table({**columns, "text": ["word"] * 24}),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("make", [two_inputs, subclassed, one_input], ids=["functional", "subclass", "sequential"])
def test_a_model_takes_inputs_and_targets_by_name(source, make):
    if source == "table-with-more" and make is not two_inputs:
        pytest.skip("only a graph knows the names of its inputs")
    columns = {"pixels": A, "label": LABELS} if make is one_input else COLUMNS
    x = A if make is one_input else {"a": A, "b": B}
    data, results = SOURCES[source](columns), []
    for given, y in ((data, None), (x, LABELS)):
        model = make()
        batch_size = None if isinstance(given, DataLoader) else 8
        history = model.fit(
            given, y, batch_size=batch_size, shuffle=False, epochs=2, verbose=0, validation_data=(x, LABELS)
        )
        evaluated = model.evaluate(given, y, batch_size=batch_size, verbose=0)
        results.append((history.history, evaluated, *model.get_weights()))
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_equal(ours, expected)


def test_validation_and_prediction():
    model, table = two_inputs(), Table(COLUMNS)
    history = model.fit(table, validation_split=0.25, verbose=0, shuffle=False)
    other = two_inputs()
    expected = other.fit([A, B], LABELS, validation_split=0.25, verbose=0, shuffle=False)
    assert history.history == expected.history
    for data in (table, Table({"a": A, "b": B}), loader(COLUMNS)):
        np.testing.assert_array_equal(model.predict(data, verbose=0), other.predict([A, B], verbose=0))
    assert model.fit(table, validation_data=table, verbose=0)["val_loss"]
    assert model.fit(Table({"a": A, "b": B}), LABELS, verbose=0)["loss"]
    assert model.train_on_batch(COLUMNS) and model.test_on_batch(COLUMNS)


def test_inputs_that_are_named_as_targets():
    """A functional model's own `labels`, a subclass's in `predict`, and all of a dict for a model's own step."""
    a, labels = ks.Input((3,), name="a"), ks.Input((1,), name="labels")
    model = ks.Model([a, labels], ks.layers.Dense(1)(ks.layers.Concatenate()([a, labels])))
    model.compile("sgd", "mse")
    x = {"a": A, "labels": LABELS}
    assert model.predict(x, verbose=0).shape == (24, 1)
    with pytest.raises(ValueError, match="needs targets"):
        model.fit(x, verbose=0)

    class Own(OfInputs):
        def train_step(self, data):
            seen.append(sorted(data))
            return {"loss": torch.zeros(())}

        def call(self, inputs):
            seen.append(sorted(inputs))
            return super().call({"b": inputs["a"], **inputs})

    seen = []
    model = Own()
    model.compile("sgd", "mse")
    model.predict(x, verbose=0)
    assert seen and all(names == ["a", "labels"] for names in seen)
    model.fit(x, batch_size=24, verbose=0)
    assert seen[-1] == ["a", "labels"]


def test_large_columns_are_read_in_parts(monkeypatch):
    expected = two_inputs().fit([A, B], LABELS, batch_size=8, verbose=0).history
    monkeypatch.setattr(labelled, "WHOLE_BYTES", 16)
    read = []
    whole = Column.__getitem__
    monkeypatch.setattr(Column, "__getitem__", lambda self, rows: read.append(len(r := whole(self, rows))) or r)
    assert two_inputs().fit(Table(COLUMNS), batch_size=8, verbose=0).history == expected
    assert len(read) > len(COLUMNS)  # parts; whole columns would be read once


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"a": A, "b": ["some text"] * 24, "label": LABELS},
            "The column 'b' contains text, such as 'some text'.*tokenize",
        ),
        ({"a": A, "b": B, "label": ["yes"] * 24}, "The column 'label' contains text.*class_encode_column"),
        (
            {"a": A, "b": [[1.0, 2.0]] * 9 + [[1.0]] * 15, "label": LABELS},
            r"'b' have the shapes \(1,\) and \(2,\).*pads",
        ),
        ({"a": A, "b": [{}] * 24, "label": LABELS}, "'b' holds values of the type dict"),
        ({"a": A, "b": B}, "needs targets.*must be named 'labels' or 'label'"),
        ({"a": [], "b": [], "label": []}, "has no rows"),
    ],
    ids=["text", "text-label", "lengths", "objects", "no-label", "empty"],
)
def test_tables_that_do_not_fit(data, message):
    model = two_inputs()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(Table(data), verbose=0)
    with pytest.raises(
        ValueError, match=r"x holds the data sets 'train', 'test'; pass one of them, as data\['train'\]"
    ):
        model.fit({"train": Table(data), "test": Table(data)}, verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


# -------------------------------------------------------------------------------------------------------- transformers


@dataclass
class Named(OrderedDict):
    """Outputs by name, without those that are None, as transformers.utils.ModelOutput."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def __post_init__(self):
        first, *others = (getattr(self, field.name) for field in fields(self))
        if first is not None and all(other is None for other in others) and not isinstance(first, torch.Tensor):
            with contextlib.suppress(TypeError):
                iter(first)
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


torch.utils._pytree.register_pytree_node(
    Named,
    lambda node: ([*node.values()], [*node]),
    lambda values, names: Named(**dict(zip(names, values, strict=True))),
)


class Classifier(nn.Module):
    """A module with the interface of those of `transformers`: it computes a loss itself if it gets labels."""

    config = None

    def __init__(self):
        super().__init__()
        self.embed, self.query, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, input_ids, attention_mask=None, labels=None):
        x = self.query(self.embed(input_ids))
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits = self.head((x * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True))
        return Named(None if labels is None else nn.functional.cross_entropy(logits, labels), logits)


def classifier(module=Classifier):
    torch.manual_seed(0)
    model = ks.from_torch(module())
    model.compile("adam", ks.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


BATCHES = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "labels": LABELS}


@pytest.mark.parametrize("source", ["loader", "table-with-more"])
def test_modules_of_transformers(source):
    data, x = SOURCES[source](BATCHES), {key: BATCHES[key] for key in ("input_ids", "attention_mask")}
    batch_size = None if source == "loader" else 8
    model, other = classifier(), classifier()
    history = model.fit(data, batch_size=batch_size, shuffle=False, verbose=0).history
    assert history == other.fit(x, LABELS, batch_size=8, shuffle=False, verbose=0).history
    outputs = model.predict(data, verbose=0)
    assert [*outputs] == ["logits"]
    np.testing.assert_array_equal(outputs["logits"], other.predict(x, verbose=0)["logits"])


def test_a_module_of_transformers_within_a_graph():
    ids = ks.Input((5,), dtype="int64")
    outputs = ks.layers.TorchModule(Classifier())(ids)
    assert type(outputs) is Named and outputs.logits is outputs["logits"] and outputs.logits.shape == (None, 2)
    model = ks.Model(ids, ks.layers.Softmax()(outputs.logits))
    model.compile("adam", "sparse_categorical_crossentropy")
    assert model.fit(Table({"ids": IDS, "label": LABELS}), verbose=0)["loss"]
    lines = []
    model.summary(print_fn=lines.append)
    assert "{logits: (None, 2)}" in lines[0]


class Adapted(nn.Module):
    """A linear module with a low-rank update, as PEFT puts in the place of those of a model."""

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.lora_A, self.lora_B = base, nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def test_adapters():
    def module():
        made = Classifier().requires_grad_(False)
        made.query = Adapted(made.query)
        return made

    model = classifier(module)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.wrapped.query.requires_grad_(True).base_layer.requires_grad_(False)
    model.fit(loader(BATCHES), epochs=2, verbose=0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"query.lora_A.weight", "query.lora_B.weight"}
