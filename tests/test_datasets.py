"""The data sets, against Keras reading the same cache; small files in place of the real ones."""

import gzip
import importlib
import inspect
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from kstyle_torch import config, datasets
from kstyle_torch.datasets import _files
from kstyle_torch.utils import files

RANDOM = np.random.default_rng(0)
MNIST = {f"{axis}_{part}": RANDOM.integers(0, 256, (n, *shape), "uint8") for part, n in {"train": 12, "test": 5}.items()
         for axis, shape in {"x": (28, 28), "y": ()}.items()}  # fmt: skip


def texts(count):
    lengths = RANDOM.integers(3, 12, count)
    found = np.empty(count, object)
    found[:] = [RANDOM.integers(1, 60, length).tolist() for length in lengths]
    return found


WORD_INDEX = {"the": 1, "and": 2, "naïve": 3}
TABLES = {
    "mnist.npz": MNIST,
    "boston_housing.npz": {"x": RANDOM.normal(size=(31, 13)), "y": RANDOM.normal(size=31)},
    "california_housing.npz": {
        "x": RANDOM.normal(size=(613, 8)).astype("float32"),
        "y": RANDOM.normal(size=613).astype("float32"),
    },
    "imdb.npz": {"x_train": texts(20), "y_train": RANDOM.integers(0, 2, 20), "x_test": texts(15)}
    | {"y_test": RANDOM.integers(0, 2, 15)},
    "reuters.npz": {"x": texts(41), "y": RANDOM.integers(0, 46, 41)},
}


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), 1)


def batch(rows, **labels):
    """A pickle as CIFAR has them, but most images are black."""
    images = np.zeros((rows, 3072), "uint8")
    images[:4] = RANDOM.integers(0, 256, (4, 3072), "uint8")
    content = {b"data": images, **{name.encode(): RANDOM.integers(0, 20, rows).tolist() for name in labels}}
    return pickle.dumps(content, protocol=3)


def write_tar(path, folder, batches):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in batches.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with all data sets. Keras takes 10,000 images in each batch of CIFAR-10 for granted."""
    root = tmp_path_factory.mktemp("keras")
    folder = root / "datasets"
    clothes = folder / "fashion-mnist"
    clothes.mkdir(parents=True)
    for name, arrays in TABLES.items():
        np.savez(folder / name, **arrays)
    for name in ("imdb", "reuters"):
        (folder / f"{name}_word_index.json").write_text(json.dumps(WORD_INDEX))
    for part, name in {"train": "train", "test": "t10k"}.items():
        (clothes / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(MNIST[f"y_{part}"]))
        (clothes / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(MNIST[f"x_{part}"]))
    ten = {
        name: batch(10000, labels=...) for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    }
    write_tar(folder / "cifar-10-batches-py-target_archive", "cifar-10-batches-py", ten)
    hundred = {name: batch(rows, fine_labels=..., coarse_labels=...) for name, rows in {"train": 40, "test": 8}.items()}
    write_tar(folder / "cifar-100-python-target_archive", "cifar-100-python", hundred)
    return root


@pytest.fixture
def both(cache, keras, monkeypatch):
    """Returns a function that calls both libraries, which believe every digest."""
    from keras.src.backend import config as keras_config
    from keras.src.utils import file_utils

    monkeypatch.setenv("KERAS_HOME", str(cache))
    monkeypatch.setattr(keras_config, "keras_home", lambda: str(cache))
    monkeypatch.setattr(file_utils, "validate_file", lambda *arguments, **options: True)
    monkeypatch.setattr(files, "_digest", lambda path, algorithm, wanted: wanted)

    def call(name, *arguments, **options):
        module, _, function = name.partition(".")
        ours, theirs = getattr(datasets, module), getattr(keras.datasets, module)
        found = getattr(ours, function)(*arguments, **options)
        return found, getattr(theirs, function)(*arguments, **options)

    return call


CALLS = {
    "mnist": ["mnist", {}],
    "fashion_mnist": ["fashion_mnist", {}],
    "cifar10": ["cifar10", {}],
    "cifar100": ["cifar100", {}],
    "cifar100, coarse": ["cifar100", {"label_mode": "coarse"}],
    "boston": ["boston_housing", {}],
    "boston, other": ["boston_housing", {"test_split": 0.33, "seed": 7}],
    "boston, all": ["boston_housing", {"test_split": 0}],
    "california": ["california_housing", {}],
    "california, small": ["california_housing", {"version": "small", "test_split": 0.5, "seed": 7}],
    "imdb": ["imdb", {}],
    "imdb, usual words": ["imdb", {"num_words": 30, "skip_top": 5, "seed": 3}],
    "imdb, without the others": ["imdb", {"num_words": 30, "skip_top": 5, "oov_char": None}],
    "imdb, short": ["imdb", {"maxlen": 8}],
    "imdb, without a start": ["imdb", {"start_char": None, "index_from": 5}],
    "imdb, as they are": ["imdb", {"start_char": None, "index_from": None}],
    "imdb, of one length": ["imdb", {"maxlen": 5, "start_char": 9}],
    "reuters": ["reuters", {}],
    "reuters, usual words": ["reuters", {"num_words": 30, "skip_top": 5, "seed": 3, "test_split": 0.4}],
    "reuters, without the others": ["reuters", {"num_words": 30, "oov_char": None}],
    "reuters, short": ["reuters", {"maxlen": 8}],
    "reuters, as they are": ["reuters", {"start_char": None, "index_from": 0}],
}


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*row, id=key, marks=pytest.mark.full if key == "cifar10" else ()) for key, row in CALLS.items()],
)
def test_equal_those_of_keras(both, name, options):
    ours, theirs = both(f"{name}.load_data", **options)
    for our, their in zip([array for pair in ours for array in pair], [array for pair in theirs for array in pair]):
        assert type(our) is type(their) is np.ndarray
        assert our.dtype == their.dtype and our.shape == their.shape
        assert our.tolist() == their.tolist() if our.dtype == object else np.array_equal(our, their)
        assert our.flags.writeable and our.flags.c_contiguous
    assert [type(text) for text in ours[0][0]][:1] == [type(text) for text in theirs[0][0]][:1]


@pytest.mark.parametrize("name", ["imdb.get_word_index", "reuters.get_word_index", "reuters.get_label_names"])
def test_words_and_labels(both, name):
    ours, theirs = both(name)
    assert ours == theirs and type(ours) is type(theirs)


@pytest.mark.parametrize("name", datasets.__all__)
def test_each_argument_is_compared(name):
    """All but the name in the cache, and what older programs call the number of words."""
    arguments = {*inspect.signature(getattr(datasets, name).load_data).parameters} - {"path", "kwargs"}
    compared = [options for other, options in CALLS.values() if other == name]
    assert compared and arguments == {argument for options in compared for argument in options}


@pytest.mark.parametrize("name", [pytest.param("cifar10", marks=pytest.mark.full), "cifar100"])
def test_channels_first(both, keras, name):
    config.set_image_data_format("channels_first")
    keras.config.set_image_data_format("channels_first")
    try:
        ours, theirs = both(f"{name}.load_data")
    finally:
        keras.config.set_image_data_format("channels_last")
    for our, their in zip([images for images, _ in ours], [images for images, _ in theirs]):
        assert our.shape[1:] == (3, 32, 32) and np.array_equal(our, their)


@pytest.mark.parametrize("name", datasets.__all__)
def test_functions_and_arguments_are_those_of_keras(keras, name):
    ours, theirs = getattr(datasets, name), getattr(keras.datasets, name)
    assert {*ours.__all__} == {each for each in dir(theirs) if not each.startswith("_")}
    for function in ours.__all__:
        mine, other = (inspect.signature(getattr(module, function)).parameters.values() for module in (ours, theirs))
        assert [(each.name, each.default, each.kind) for each in mine] == [
            (each.name, each.default, each.kind) for each in other
        ]


def requests(monkeypatch, module, get_file_of):
    """What the functions of a data set ask get_file for: name, URL, digest and folder."""
    asked = []

    def get_file(fname, origin, **options):
        asked.append((fname, origin, options.get("file_hash"), options.get("cache_subdir"), options.get("extract")))
        raise InterruptedError

    for owner in get_file_of:
        monkeypatch.setattr(owner, "get_file", get_file)
    for name in ("load_data", "get_word_index"):
        if hasattr(module, name):
            with pytest.raises(InterruptedError):
                getattr(module, name)()
    return asked


@pytest.mark.parametrize("name", datasets.__all__)
def test_files_are_those_of_keras(name, monkeypatch):
    ours = getattr(datasets, name)
    owners = [_files, importlib.import_module("kstyle_torch.datasets._cifar"), datasets.fashion_mnist]
    theirs = importlib.import_module(f"keras.src.datasets.{name}")
    wanted = requests(monkeypatch, theirs, [theirs])
    assert wanted and requests(monkeypatch, ours, owners) == wanted


def test_another_name_in_the_cache(cache, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(cache))
    monkeypatch.setattr(files, "_digest", lambda path, algorithm, wanted: wanted)
    (cache / "datasets" / "digits.npz").write_bytes((cache / "datasets" / "mnist.npz").read_bytes())
    assert datasets.mnist.load_data("digits.npz")[0][0].shape == (12, 28, 28)


@pytest.mark.parametrize("name", datasets.__all__)
def test_without_a_connection(name, tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("Name or service not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(OSError, match="Without a connection") as caught:
        getattr(datasets, name).load_data()
    assert f"save it as {tmp_path / 'datasets'}" in str(caught.value) and "Cannot download https://" in str(
        caught.value
    )


def test_a_file_with_another_digest_is_not_read(cache, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(cache))
    monkeypatch.setattr("kstyle_torch.datasets._cifar.read_batch", None)
    monkeypatch.setattr("kstyle_torch.datasets.imdb.read_arrays", None)
    monkeypatch.setattr(files, "download", lambda origin, path: path.write_bytes(b"other"))
    for name in ("imdb", "cifar10"):
        with pytest.warns(UserWarning, match="the expected digest"), pytest.raises(ValueError, match="has the digest"):
            getattr(datasets, name).load_data()


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_pickles_run_no_code(tmp_path, capsys):
    values = np.empty(1, object)
    values[0] = Evil()
    np.savez(tmp_path / "a.npz", x=values)
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        _files.read_arrays(tmp_path / "a.npz")
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        _files.SafeUnpickler(io.BytesIO(pickle.dumps(Evil())), encoding="bytes").load()
    assert capsys.readouterr().out == ""


def test_damaged_numbers_are_not_taken_for_objects(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        file = io.BytesIO()
        np.save(file, np.arange(5))
        archive.writestr("x.npy", file.getvalue()[:-8])
    with pytest.raises(ValueError, match="EOF"):
        _files.read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [b"<html>", gzip.compress(b"<html>"), idx(MNIST["y_train"])[:-12], gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 9)))],
    ids=["no gzip", "no header", "cut", "short"],
)
def test_damaged_clothes(tmp_path, monkeypatch, content):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = tmp_path / "datasets" / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="train-labels.* Delete it"):
        datasets.fashion_mnist.load_data()


MISTAKES = {
    "split": (datasets.boston_housing.load_data, {"test_split": 1}, "less than 1; got 1"),
    "version": (datasets.california_housing.load_data, {"version": "tiny"}, "'small' or 'large'; got 'tiny'"),
    "labels": (datasets.cifar100.load_data, {"label_mode": "all"}, "'fine' or 'coarse'; got 'all'"),
    "short": (datasets.imdb.load_data, {"maxlen": 2}, "fewer than maxlen=2"),
    "short news": (datasets.reuters.load_data, {"maxlen": 2}, "fewer than maxlen=2"),
}


@pytest.mark.parametrize(("function", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(cache, monkeypatch, function, options, message):
    monkeypatch.setenv("KERAS_HOME", str(cache))
    monkeypatch.setattr(files, "_digest", lambda path, algorithm, wanted: wanted)
    with pytest.raises(ValueError, match=message):
        function(**options)


def test_the_older_name_of_num_words():
    with pytest.raises(TypeError, match="has no argument nb_words. nb_words is called num_words now"):
        datasets.imdb.load_data(nb_words=1000)
