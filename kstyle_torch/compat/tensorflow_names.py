"""Names of TensorFlow and what a program writes in their place: a table, and a look-up for names that are Keras' own."""

from __future__ import annotations

import importlib
from typing import Any

PACKAGE = __name__.partition(".")[0]
# Groups of TensorFlow's functions, and Keras' namespaces that have most of them under the same name.
GROUPS = {
    "": ("ops",),
    "image": ("ops.image",),
    "linalg": ("ops.linalg", "ops"),
    "math": ("ops",),
    "nest": ("tree",),
    "nn": ("ops", "activations"),
    "random": ("random",),
    "signal": ("ops",),
}
DTYPES = (
    "bfloat16 bool complex64 float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 string".split()
)
# Spelt otherwise in Keras. The tests look every name of ours up.
RENAMED = {
    "Variable": "keras.Variable",
    "acos": "keras.ops.arccos",
    "asin": "keras.ops.arcsin",
    "atan": "keras.ops.arctan",
    "atan2": "keras.ops.arctan2",
    "batch_to_space": "keras.ops.reshape and keras.ops.transpose",
    "boolean_mask": "x[mask] of a torch tensor",
    "clip_by_norm": "keras.optimizers.Adam(clipnorm=...)",
    "clip_by_global_norm": "keras.optimizers.Adam(global_clipnorm=...)",
    "clip_by_value": "keras.ops.clip",
    "config.experimental.enable_op_determinism": "torch.use_deterministic_algorithms(True)",
    "concat": "keras.ops.concatenate",
    "constant": "keras.ops.convert_to_tensor",
    "control_dependencies": "nothing: calls run in the order in which they are written",
    "custom_gradient": "keras.ops.custom_gradient or torch.autograd.Function",
    "device": "keras.device or torch.device",
    "distribute": "torchrun and torch.distributed",
    "ensure_shape": "an assert on x.shape",
    "executing_eagerly": "nothing: calls are run where they are written",
    "experimental.numpy": "keras.ops",
    "fill": "keras.ops.full",
    "function": "no decorator: model.compile(jit_compile=True) and torch.compile compile",
    "gather": "keras.ops.take",
    "gather_nd": "x[tuple(indices.T)] of a torch tensor",
    "gfile": "pathlib.Path",
    "GradientTape": "loss.backward(), or torch.autograd.grad(loss, variables)",
    "gradients": "torch.autograd.grad",
    "greater": "keras.ops.greater",
    "group": "nothing: calls run in the order in which they are written",
    "image.convert_image_dtype": "keras.layers.Rescaling(1 / 255)",
    "image.decode_image": "keras.utils.load_img and keras.utils.img_to_array",
    "image.decode_jpeg": "keras.utils.load_img and keras.utils.img_to_array",
    "image.decode_png": "keras.utils.load_img and keras.utils.img_to_array",
    "image.resize_with_pad": "keras.ops.image.resize(..., pad_to_aspect_ratio=True)",
    "image.random_flip_left_right": "keras.layers.RandomFlip",
    "image.random_brightness": "keras.layers.RandomBrightness",
    "image.random_contrast": "keras.layers.RandomContrast",
    "io.gfile": "pathlib.Path",
    "io.read_file": "pathlib.Path.read_bytes",
    "io.write_file": "pathlib.Path.write_bytes",
    "linalg.band_part": "keras.ops.tril or keras.ops.triu",
    "linalg.diag": "keras.ops.diag",
    "linalg.matmul": "keras.ops.matmul",
    "linalg.norm": "keras.ops.norm",
    "linalg.trace": "keras.ops.trace",
    "losses": "keras.losses",
    "lookup": "keras.layers.StringLookup or keras.layers.IntegerLookup",
    "map_fn": "keras.ops.vectorized_map or keras.ops.map",
    "math.is_nan": "keras.ops.isnan",
    "math.l2_normalize": "keras.utils.normalize or torch.nn.functional.normalize",
    "math.pow": "keras.ops.power",
    "math.reduce_euclidean_norm": "keras.ops.norm",
    "math.reduce_logsumexp": "keras.ops.logsumexp",
    "math.reduce_std": "keras.ops.std",
    "math.reduce_variance": "keras.ops.var",
    "math.unsorted_segment_sum": "keras.ops.segment_sum",
    "name_scope": "keras.name_scope",
    "nest.map_structure": "keras.tree.map_structure",
    "newaxis": "None",
    "nn.avg_pool2d": "keras.ops.average_pool",
    "nn.bias_add": "x + bias",
    "nn.conv2d": "keras.ops.conv",
    "nn.dropout": "keras.random.dropout",
    "nn.embedding_lookup": "keras.ops.take(embeddings, ids, axis=0)",
    "nn.l2_loss": "keras.ops.sum(keras.ops.square(x)) / 2",
    "nn.l2_normalize": "torch.nn.functional.normalize",
    "nn.max_pool2d": "keras.ops.max_pool",
    "nn.sigmoid_cross_entropy_with_logits": "keras.losses.BinaryCrossentropy(from_logits=True)",
    "nn.softmax_cross_entropy_with_logits": "keras.losses.CategoricalCrossentropy(from_logits=True)",
    "nn.sparse_softmax_cross_entropy_with_logits": "keras.losses.SparseCategoricalCrossentropy(from_logits=True)",
    "nn.top_k": "keras.ops.top_k",
    "norm": "keras.ops.norm",
    "one_hot": "keras.ops.one_hot",
    "pow": "keras.ops.power",
    "print": "print",
    "py_function": "a plain call, since torch runs eagerly",
    "numpy_function": "a plain call, since torch runs eagerly",
    "random.categorical": "keras.random.categorical",
    "random.Generator": "keras.random.SeedGenerator",
    "random_normal_initializer": "keras.initializers.RandomNormal",
    "random_uniform_initializer": "keras.initializers.RandomUniform",
    "range": "keras.ops.arange",
    "rank": "x.ndim",
    "reduce_all": "keras.ops.all",
    "reduce_any": "keras.ops.any",
    "reduce_logsumexp": "keras.ops.logsumexp",
    "reduce_max": "keras.ops.max",
    "reduce_mean": "keras.ops.mean",
    "reduce_min": "keras.ops.min",
    "reduce_prod": "keras.ops.prod",
    "reduce_sum": "keras.ops.sum",
    "reverse": "keras.ops.flip",
    "saved_model.load": "keras.models.load_model, of a file that keras saved as '.keras'",
    "saved_model.save": "model.save('model.keras'), or model.export('model.pt2')",
    "scan": "keras.ops.scan",
    "scatter_nd": "keras.ops.scatter",
    "sparse": "dense tensors, or torch.sparse",
    "strings": "str methods, or keras.layers.TextVectorization",
    "summary": "keras.callbacks.TensorBoard or torch.utils.tensorboard",
    "tensor_scatter_nd_update": "keras.ops.scatter_update",
    "train.AdamOptimizer": "keras.optimizers.Adam",
    "train.Checkpoint": "model.save_weights or keras.callbacks.BackupAndRestore",
    "tensordot": "keras.ops.tensordot",
    "TensorSpec": "keras.InputSpec or keras.KerasTensor",
    "unique": "torch.unique",
    "where": "keras.ops.where",
    "while_loop": "keras.ops.while_loop",
    "zeros_initializer": "keras.initializers.Zeros",
    "ones_initializer": "keras.initializers.Ones",
}
STARTS = {
    "data": "arrays in fit(x, y, batch_size=...), or torch.utils.data: DataLoader(TensorDataset(x, y), batch_size)",
    "compat.v1": "TensorFlow 1 has no successor here: write the model in keras",
    "distribute": RENAMED["distribute"],
    "contrib": "keras; TensorFlow has dropped it",
    "estimator": "keras; TensorFlow has dropped it",
    "feature_column": "keras.utils.FeatureSpace",
    "lite": "model.export('model.onnx')",
    "profiler": "torch.profiler",
    "debugging": "assert",
    "strings": RENAMED["strings"],
    "sparse": RENAMED["sparse"],
    "ragged": "padded arrays and masks: keras.utils.pad_sequences",
    "io": "pathlib and keras.utils",
    "train": "keras.optimizers and keras.callbacks",
}


def replacement(path: str) -> str:
    """Returns what a program writes in place of a name of TensorFlow; nothing where that is not known.

    Args:
        path: The name without `tf`: `"math.reduce_mean"`.

    Example:
        >>> replacement("reduce_mean"), replacement("math.reduce_mean"), replacement("nn.relu")
        ('keras.ops.mean', 'keras.ops.mean', 'keras.ops.relu')
    """
    path = path.removeprefix("compat.v2.")
    for prefix in ("", "compat.v1.", "math.", "linalg.", "nn."):
        if path.startswith(prefix) and (known := RENAMED.get(path.removeprefix(prefix))):
            return known
    group, _, name = path.rpartition(".")
    if name in DTYPES and group in ("", "dtypes"):
        return f'"{name}"'
    for namespace in GROUPS.get(group, ()):
        module: Any = importlib.import_module(f"{PACKAGE}.{namespace}")
        if name in module.__all__:
            return f"keras.{namespace}.{name}"
    for start, advice in STARTS.items():
        if f"{path}.".startswith(f"{start}."):
            return advice
    return ""


def advice(path: str) -> str:
    """Returns the sentence of an error about a name of TensorFlow that is not here."""
    known = replacement(path)
    instead = f"Use {known}." if known else f"Use keras.ops, torch, or {PACKAGE}'s own names."
    return f"There is no TensorFlow here: {PACKAGE} runs on torch. {instead}"
