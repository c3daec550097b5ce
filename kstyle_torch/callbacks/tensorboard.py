"""Writing of event files for TensorBoard."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kstyle_torch import config
from kstyle_torch.callbacks.base import Callback, hook_if
from kstyle_torch.callbacks.control import learning_rates
from kstyle_torch.layers.embedding import Embedding
from kstyle_torch.registry import did_you_mean


class TensorBoard(Callback):
    """Callback that writes metrics, histograms of the weights and the model's graph, for `tensorboard --logdir=logs`.

    It needs the tensorboard package: `pip install "kstyle-torch[tensorboard]"`.

    Args:
        log_dir: Folder for the subfolders `train` and `validation`.
        histogram_freq: Number of epochs between histograms of the weights; 0 for none.
        write_graph: Whether to write the graph of a `Sequential` or functional model.
        write_images: Whether to write the weights as images too, with the histograms.
        write_steps_per_second: Whether to write the speed.
        update_freq: `"epoch"`, `"batch"`, or the number of batches after which the running metrics are written too.
        profile_batch: Must be 0; use `torch.profiler` to profile.
        embeddings_freq: Number of epochs between writes of the vectors of `Embedding` layers; 0 for never.
        embeddings_metadata: File with one label per line, or `{layer name: file}`; relative to `log_dir`.
    Raises: ValueError: for a `profile_batch`, or a name that is not that of an `Embedding`. ImportError: without tensorboard.

    Example:
        >>> TensorBoard("logs", histogram_freq=1).log_dir
        'logs'
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: str | dict[str, str] | None = None,
    ):
        super().__init__()
        if profile_batch:
            raise ValueError(
                f"TensorBoard: profile_batch must be 0; got {profile_batch!r}. Use torch.profiler to profile."
            )
        if update_freq not in ("epoch", "batch") and not isinstance(update_freq, int):
            raise ValueError(f"TensorBoard: update_freq must be 'epoch', 'batch' or an int; got {update_freq!r}.")
        self.log_dir = str(log_dir)
        self.histogram_freq, self.write_graph, self.write_images = histogram_freq, write_graph, write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self.embeddings_freq, self.embeddings_metadata = embeddings_freq, embeddings_metadata
        self._writers: dict[str, Any] = {}
        self._global_train_batch = self._iterations = 0
        self._epoch_start = self._batch_start = 0.0

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    'TensorBoard needs the tensorboard package: pip install "kstyle-torch[tensorboard]".'
                ) from error
            self._writers[name] = SummaryWriter(str(Path(self.log_dir) / name))
        return self._writers[name]

    # ---------------------------------------------------------------------------------------------------------- hooks

    def set_model(self, model: Any) -> None:
        """Writes the graph if requested."""
        super().set_model(model)
        self._close()
        if self.embeddings_freq:
            self._check_metadata()
        if self.write_graph and hasattr(model, "to_json"):
            self._write_graph()

    def on_train_begin(self, logs: Any = None) -> None:
        self._global_train_batch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_start = time.perf_counter()
        self._iterations = self._steps_taken()

    @hook_if(lambda self: self.update_freq != "epoch")
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._global_train_batch += 1
        self._batch_start = time.perf_counter()

    @hook_if(lambda self: self.update_freq != "epoch")
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self._global_train_batch
        if step % int(self.update_freq):
            return
        values = dict(logs or {})
        if self.write_steps_per_second:
            values["steps_per_second"] = 1 / (time.perf_counter() - self._batch_start)
        self._write("train", "batch", values, step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        trained = {name: value for name, value in logs.items() if not name.startswith("val_")}
        tested = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        if logs:
            optimizer = self.model.optimizer
            trained.update(learning_rates(getattr(optimizer, "inner_optimizer", optimizer)))
        if self.write_steps_per_second:
            taken = self._steps_taken() - self._iterations
            trained["steps_per_second"] = taken / (time.perf_counter() - self._epoch_start)
        self._write("train", "epoch", trained, epoch)
        self._write("validation", "epoch", tested, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings(epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_test_end(self, logs: Any = None) -> None:
        if self.model.optimizer is not None and logs:
            values = {f"{name}_vs_iterations": value for name, value in logs.items()}
            self._write("validation", "evaluation", values, self._steps_taken())
            self._writer("validation").flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._close()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _steps_taken(self) -> int:
        return int(getattr(self.model.optimizer, "iterations", 0))

    # --------------------------------------------------------------------------------------------------- what is written

    def _write(self, writer: str, prefix: str, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            self._writer(writer).add_scalar(f"{prefix}_{name}", value, step, new_style=True)

    def _write_graph(self) -> None:
        """Writes the model's config, which TensorBoard draws as its conceptual graph."""
        writer = self._writer("train")
        try:
            text = self.model.to_json()
        except Exception as error:  # a layer of the user's without a config: no reason not to train  # noqa: BLE001
            warnings.warn(f"TensorBoard: the graph is not written, since the model has no JSON: {error}", stacklevel=2)
            return
        if '"layers"' not in text:  # a subclass, whose graph is in its code only
            return
        from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2

        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="graph_keras_model", content=b"1")
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text.encode()])
        metadata = summary_pb2.SummaryMetadata(plugin_data=plugin)
        value = summary_pb2.Summary.Value(tag="keras", metadata=metadata, tensor=tensor)
        writer.file_writer.add_summary(summary_pb2.Summary(value=[value]), 0)

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for layer in self.model.layers:
            for weight in layer.weights:
                name, value = weight.path.replace(":", "_"), weight.read().detach().cpu().float()
                writer.add_histogram(f"{name}/histogram", value, epoch)
                pictures = as_images(value) if self.write_images else None
                if pictures is not None:
                    writer.add_images(f"{name}/image", pictures, epoch, dataformats="NHWC")

    def _embeddings(self) -> list[Any]:
        return [layer for layer in self.model.layers if isinstance(layer, Embedding)]

    def _check_metadata(self) -> None:
        names = [layer.name for layer in self._embeddings()]
        for name in self.embeddings_metadata if isinstance(self.embeddings_metadata, dict) else ():
            if name not in names:
                raise ValueError(f"TensorBoard: the model has no Embedding layer {name!r}.{did_you_mean(name, names)}")

    def _write_embeddings(self, epoch: int) -> None:
        for layer in self._embeddings():
            given = self.embeddings_metadata
            file = given.get(layer.name) if isinstance(given, dict) else given
            labels = None if file is None else (Path(self.log_dir) / file).read_text(encoding="utf-8").splitlines()
            table = layer.weights[0].read().detach().cpu().float()
            self._writer("train").add_embedding(table, metadata=labels, global_step=epoch, tag=layer.name)


def as_images(weight: Tensor) -> Tensor | None:
    """Returns a weight as images between 0 and 1, (number, height, width, channels); None if its shape does not allow it."""
    image = weight.squeeze().float()
    if image.ndim == 1:
        image = image[None, :, None, None]
    elif image.ndim == 2:
        image = (image.T if image.shape[0] > image.shape[1] else image)[None, :, :, None]
    elif image.ndim == 3:
        image = image.permute(2, 0, 1) if config.image_data_format() == "channels_last" else image
        image = image[..., None]
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        return None
    low, high = image.min(), image.max()
    return (image - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny)
