"""Folders of images and texts, against Keras' index of them."""

import numpy as np
import pytest
import torch
from PIL import Image

import kstyle_torch as ks
from kstyle_torch import utils

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for name, number in (("b", 7), ("a", 6)):
        (root / name / "more").mkdir(parents=True)
        for count in range(number):
            pixels = RNG.integers(0, 256, (4, 5, 3), dtype="uint8")
            Image.fromarray(pixels).save(root / name / ("more" if count == 3 else "") / f"{count}.png")
    (root / ".hidden").mkdir()
    (root / "a" / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for name in ("neg", "pos"):
        (root / name).mkdir()
        for count in range(5):
            (root / name / f"{count}.txt").write_text(f"a {name} text, number {count}")
    return root


def read(dataset):
    batches = list(dataset)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@pytest.mark.parametrize("class_names", [None, ["b", "a"], ["b"]])
def test_files_and_labels_are_those_of_keras(keras, images, class_names):
    from keras.src.utils.dataset_utils import index_directory

    options = {"labels": "inferred", "class_names": class_names, "shuffle": False}
    paths, labels, names = index_directory(str(images), formats=(".png",), verbose=False, **options)
    dataset = utils.image_dataset_from_directory(images, image_size=(4, 5), batch_size=4, verbose=False, **options)
    assert dataset.file_paths == paths and dataset.class_names == names
    x, y = read(dataset)
    assert y.tolist() == list(labels) and len(dataset) == -(-len(paths) // 4)
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert x.dtype is torch.float32
    np.testing.assert_array_equal(x, expected)


def test_sizes_colors_and_formats(images):
    options = {"shuffle": False, "verbose": False, "label_mode": None}
    gray = utils.image_dataset_from_directory(
        images, color_mode="grayscale", image_size=(8, 9), data_format="channels_first", **options
    )
    assert gray[0].shape == (13, 1, 8, 9)
    whole = utils.image_dataset_from_directory(images, image_size=(4, 5), **options)[0]
    small = utils.image_dataset_from_directory(images, image_size=(2, 2), interpolation="nearest", **options)[0]
    np.testing.assert_array_equal(small, ks.ops.image.resize(whole, (2, 2), "nearest"))
    cut = utils.image_dataset_from_directory(images, image_size=(4, 4), crop_to_aspect_ratio=True, **options)[0]
    np.testing.assert_allclose(cut, ks.ops.image.resize(whole, (4, 4), crop_to_aspect_ratio=True), rtol=1e-5)


def test_label_modes(images):
    def labels(mode):
        return read(utils.image_dataset_from_directory(images, label_mode=mode, shuffle=False, verbose=False))[1]

    numbers = labels("int")
    assert numbers.dtype is torch.int64
    assert torch.equal(labels("categorical"), torch.nn.functional.one_hot(numbers, 2).float())
    assert torch.equal(labels("binary"), numbers[:, None].float())
    given = utils.image_dataset_from_directory(images, labels=[5] * 6 + [2] * 7, shuffle=False, verbose=False)
    assert given.class_names == ["2", "5"]
    assert read(given)[1].tolist() == [5] * 6 + [2] * 7
    assert utils.image_dataset_from_directory(images, labels=None, verbose=False)[0].shape == (13, 256, 256, 3)


def test_parts_do_not_overlap(images, capsys):
    options = {"validation_split": 0.3, "seed": 3, "image_size": (4, 5)}
    train, test = utils.image_dataset_from_directory(images, subset="both", **options)
    assert capsys.readouterr().out == "Found 13 files belonging to 2 classes.\n"
    assert (len(train.file_paths), len(test.file_paths)) == (10, 3)
    assert not {*train.file_paths} & {*test.file_paths}
    again = utils.image_dataset_from_directory(images, subset="validation", **options)
    assert again.file_paths == test.file_paths


def test_each_epoch_has_its_own_order(images):
    dataset = utils.image_dataset_from_directory(images, image_size=(4, 5), seed=1, verbose=False)
    first = read(dataset)[0]
    dataset.on_epoch_end()
    second = read(dataset)[0]
    assert not torch.equal(first, second)
    assert sorted(first.sum((1, 2, 3)).tolist()) == sorted(second.sum((1, 2, 3)).tolist())
    for x, y in [*dataset][:1]:
        name = {0: "a", 1: "b"}[int(y[0])]
        assert any(np.array_equal(x[0], np.asarray(Image.open(path))) for path in (images / name).rglob("*.png"))


def test_a_tutorial(images):
    options = {"validation_split": 0.3, "seed": 3, "image_size": (4, 5), "batch_size": 4, "verbose": False}
    train, test = utils.image_dataset_from_directory(images, subset="both", **options)
    model = ks.Sequential([ks.layers.Rescaling(1 / 255), ks.layers.Flatten(), ks.layers.Dense(len(train.class_names))])
    model.compile("adam", ks.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(train.cache().prefetch(-1), validation_data=test, epochs=2, verbose=0)
    assert np.isfinite(history["val_loss"]).all()
    for x, y in train.take(1):
        assert x.shape == (4, 4, 5, 3) and y.shape == (4,)
    normalised = train.map(lambda x, y: (x / 255, y))
    assert float(normalised[0][0].max()) <= 1 and normalised.class_names == ["a", "b"]


def test_texts(texts):
    dataset = utils.text_dataset_from_directory(texts, batch_size=3, shuffle=False, max_length=10, verbose=False)
    assert dataset.class_names == ["neg", "pos"] and len(dataset) == 4
    x, y = dataset[1]
    assert x == ["a neg text", "a neg text", "a pos text"] and y.tolist() == [0, 0, 1]
    vectorize = ks.layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    vectorize.adapt([text for batch, _ in dataset for text in batch])
    numbers = dataset.map(lambda x, y: (vectorize(x), y))
    model = ks.Sequential([ks.layers.Embedding(20, 4), ks.layers.GlobalAveragePooling1D(), ks.layers.Dense(1)])
    model.compile("adam", "mse")
    assert np.isfinite(model.fit(numbers, verbose=0)["loss"]).all()


MISTAKES = {
    "color": ({"color_mode": "bgr"}, "color_mode must be one of"),
    "mode": ({"label_mode": "float"}, "label_mode must be"),
    "labels": ({"labels": "guess"}, "labels must be 'inferred'"),
    "number of labels": ({"labels": [1, 2]}, "labels has 2 entries, but there are 13 files"),
    "names with labels": ({"labels": None, "class_names": ["a"]}, "class_names can only be given"),
    "names": ({"class_names": ["a", "c"]}, "class_names has 'c', which is not a folder"),
    "binary": ({"class_names": ["a"], "label_mode": "binary"}, "needs two classes"),
    "share": ({"validation_split": 1.5, "subset": "both"}, "between 0 and 1"),
    "no subset": ({"validation_split": 0.5}, "validation_split and subset go together"),
    "subset": ({"validation_split": 0.5, "subset": "test"}, "subset must be"),
    "seed": ({"validation_split": 0.5, "subset": "both"}, "pass a seed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, images):
    options, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        utils.image_dataset_from_directory(images, verbose=False, **options)


def test_a_folder_without_files(tmp_path):
    with pytest.raises(ValueError, match="No files found"):
        utils.text_dataset_from_directory(tmp_path)


@pytest.mark.parametrize("name", ["image", "text"])
def test_formats(keras, images, texts, name):
    folder = images if name == "image" else texts
    for value in ("tf", "grain"):
        assert getattr(utils, f"{name}_dataset_from_directory")(folder, format=value, verbose=False)[0]
    for lib in (ks, keras):
        with pytest.raises(ValueError, match="format"):
            getattr(lib.utils, f"{name}_dataset_from_directory")(str(folder), format="torch", verbose=False)
