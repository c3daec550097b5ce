"""utils.split_dataset, against Keras."""

import numpy as np
import pytest
import torch
from PIL import Image

import kstyle_torch as ks
from tests.oracle import assert_close

X, Y = np.arange(40, dtype="float32").reshape(20, 2), np.arange(20)
DATA = {
    "array": X,
    "list": [X, Y],
    "tuple": (X, Y),
    "torch": torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
}
SIZES = {
    "left share": {"left_size": 0.8},
    "right share": {"right_size": 0.33},
    "left count": {"left_size": 7},
    "right count": {"right_size": 7},
    "both shares": {"left_size": 0.4, "right_size": 0.6},
    "both kinds": {"left_size": 5, "right_size": 0.75},
}


def rows(part):
    return [[np.asarray(value).tolist() for value in part[number]] for number in range(len(part))]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_shuffled_split_equals_keras(keras, data, sizes):
    ours, theirs = (lib.utils.split_dataset(data, **sizes, shuffle=True, seed=3) for lib in (ks, keras))
    for mine, other in zip(ours, theirs, strict=True):
        assert isinstance(mine, torch.utils.data.Dataset) and type(mine) is type(other)
        assert rows(mine) == rows(other)


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_without_shuffle_the_order_stays(data):
    left, right = ks.utils.split_dataset(data, left_size=3, right_size=5)
    assert [row[0] for row in rows(left) + rows(right)] == X[[0, 1, 2, 15, 16, 17, 18, 19]].tolist()


def test_no_seed_gives_another_order_each_time():
    orders = [str(rows(ks.utils.split_dataset(X, 0.5, shuffle=True)[0])) for _ in range(3)]
    assert len(set(orders)) > 1


def test_the_parts_train(keras):
    losses = []
    for lib in (ks, keras):
        left, right = lib.utils.split_dataset((X, X[:, :1]), 0.8, shuffle=True, seed=1)
        model = lib.Sequential([lib.Input((2,)), lib.layers.Dense(1, kernel_initializer="ones")])
        model.compile(lib.optimizers.SGD(1e-4), "mse")
        loaders = (torch.utils.data.DataLoader(part, batch_size=4) for part in (left, right))
        model.fit(next(loaders), epochs=2, verbose=0)
        losses.append(model.evaluate(next(loaders), verbose=0))
    assert_close(*losses)


class Batches(ks.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"a": X[index * 8 : index * 8 + 8]}, Y[index * 8 : index * 8 + 8]


def test_batches_are_split_by_samples():
    left, right = ks.utils.split_dataset(Batches(), left_size=9)
    assert [len(y) for _, y in left] == [8, 1] and [len(y) for _, y in right] == [8, 3]
    assert torch.cat([y for _, y in [*left, *right]]).tolist() == Y.tolist()
    assert torch.equal(right[0][0]["a"], torch.from_numpy(X[9:17]))


def test_a_folder_is_split_without_being_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for count in range(5):
            Image.new("RGB", (2, 2), (count, 0, 0)).save(tmp_path / name / f"{count}.png")
    dataset = ks.utils.image_dataset_from_directory(tmp_path, image_size=(2, 2), batch_size=4, seed=2, verbose=False)
    left, right = ks.utils.split_dataset(dataset, right_size=0.3, shuffle=True, seed=0)
    assert left.class_names == ["a", "b"] and {*left.file_paths} | {*right.file_paths} == {*dataset.file_paths}
    assert len(left.file_paths) == 7 and [len(y) for _, y in left] == [4, 3]
    for part in (left, right):
        named = [("a" in path.split("/")[-2], int(path[-5])) for path in part.file_paths]
        x, y = (torch.cat(column) for column in zip(*part, strict=True))
        assert named == [(label == 0, value) for label, value in zip(y.tolist(), x[:, 0, 0, 0].tolist(), strict=True)]
    mapped = ks.utils.split_dataset(dataset.map(lambda x, y: (x + 1, y)), 2)[0]
    assert mapped[0][0].shape == (2, 2, 2, 3) and torch.equal(mapped[0][0], dataset[0][0][:2] + 1)


MISTAKES = {
    "no size": (ValueError, X, {}),
    "text": (TypeError, X, {"left_size": "all"}),
    "texts": (TypeError, X, {"left_size": "all", "right_size": "all"}),
    "zero": (ValueError, X, {"left_size": 0, "right_size": 0}),
    "too many": (ValueError, X, {"left_size": 20}),
    "share of 1": (ValueError, X, {"right_size": 1.0}),
    "negative": (ValueError, X, {"right_size": -3}),
    "shares above 1": (ValueError, X, {"left_size": 0.6, "right_size": 0.5}),
    "counts above all": (ValueError, X, {"left_size": 12, "right_size": 0.5}),
    "empty part": (ValueError, X, {"left_size": 0.01}),
    "dict": (TypeError, {"x": X}, {"left_size": 0.5}),
    "number": (TypeError, 5, {"left_size": 0.5}),
}


@pytest.mark.parametrize(("error", "data", "sizes"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_raises_what_keras_raises(keras, error, data, sizes):
    for lib in (keras, ks):
        with pytest.raises(error):
            lib.utils.split_dataset(data, **sizes)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([X, Y[:5]], {}, "equal length"),
        ([], {}, "equal length"),
        ([X, [1, 2]], {}, "list of arrays or tensors; got list"),
        (X, {"preferred_backend": "tensorflow"}, "preferred_backend"),
    ],
)
def test_a_mistake_says_what_is_wrong(data, options, message):
    with pytest.raises(ValueError, match=message):
        ks.utils.split_dataset(data, 0.5, **options)
