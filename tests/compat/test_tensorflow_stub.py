"""The stub behind `import tensorflow`: a few calls, classes without instances, and errors that name what to use."""

import importlib

import pytest
import torch

import kstyle_torch as ks
from kstyle_torch.compat import tensorflow_names, tensorflow_stub

tf = tensorflow_stub.module("")


def test_replacements_exist():
    """Each name of Keras in the table is one of ours; each of torch is one of torch's."""
    texts = [*tensorflow_names.RENAMED.values(), *tensorflow_names.STARTS.values()]
    words = [word.strip(",;:.()") for text in texts for word in text.split()]
    paths = [word.partition("(")[0].rstrip(",;:") for word in words if word.startswith(("keras.", "torch."))]
    assert len(paths) > 60
    assert [path for path in paths if not exists(path)] == []


def exists(path):
    root, *names = path.split(".")
    value = {"keras": ks, "torch": torch}[root]
    for i, name in enumerate(names):
        if not hasattr(value, name):
            try:
                importlib.import_module(".".join([value.__name__, name]))
            except ImportError:
                return False
        value = getattr(value, name)
        if isinstance(value, type) and names[i + 1 :]:
            return hasattr(value, names[i + 1])
    return True


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abs", "keras.ops.abs"),
        ("math.reduce_std", "keras.ops.std"),
        ("linalg.inv", "keras.ops.linalg.inv"),
        ("image.resize", "keras.ops.image.resize"),
        ("random.normal", "keras.random.normal"),
        ("nest.flatten", "keras.tree.flatten"),
        ("nn.relu", "keras.ops.relu"),
        ("nn.max_pool2d", "keras.ops.max_pool"),
        ("compat.v1.reduce_sum", "keras.ops.sum"),
        ("compat.v2.reduce_sum", "keras.ops.sum"),
        ("float32", '"float32"'),
        ("no_such_function", ""),
    ],
)
def test_replacements_of_names(name, expected):
    assert tensorflow_names.replacement(name) == expected


def test_missing_names_say_what_to_use():
    with pytest.raises(AttributeError, match=r"keras\.ops\.mean"):
        _ = tf.reduce_mean
    with pytest.raises(AttributeError, match=r"DataLoader"):
        _ = tf.data.TFRecordDataset
    assert not hasattr(tf, "no_such_name")
    with pytest.raises(ModuleNotFoundError, match="There is no TensorFlow here"):
        tensorflow_stub.module("no_such")


def test_classes_have_no_instances():
    assert not isinstance(torch.ones(1), tf.Tensor) and not isinstance(1, (tf.Variable, tf.data.Dataset))
    with pytest.raises(TypeError, match=r"keras\.Variable"):
        tf.Variable(1.0)
    with pytest.raises(AttributeError, match="torch.utils.data"):
        _ = tf.data.Dataset.from_tensor_slices


def test_seeds():
    state = torch.get_rng_state()
    try:
        tf.random.set_seed(3)
        first = torch.rand(2)
        tf.compat.v1.set_random_seed(3)
        assert torch.equal(first, torch.rand(2))
    finally:
        torch.set_rng_state(state)


def test_threads_and_visible_devices():
    threads, device = torch.get_num_threads(), ks.config.device()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(0)
        assert torch.get_num_threads() == threads
        tf.config.threading.set_intra_op_parallelism_threads(threads + 1)
        assert torch.get_num_threads() == threads + 1
        tf.config.set_visible_devices([], "GPU")
        assert ks.config.device().type == "cpu"
    finally:
        torch.set_num_threads(threads)
        ks.config.set_device(device)


def test_devices():
    assert [device.device_type for device in tf.config.list_physical_devices("CPU")] == ["CPU"]
    assert len(tf.config.experimental.list_physical_devices("GPU")) == torch.cuda.device_count()
    assert tf.config.list_logical_devices()[0].name == "/device:CPU:0"
    assert tf.config.experimental.set_memory_growth("any", True) is None
    assert tf.compat.v2 is tf and tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR) is None
