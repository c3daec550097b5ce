"""The arguments that all architectures take: checked once, and made into the input, the top and the model."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from kstyle_torch import activations, initializers, layers
from kstyle_torch.applications._shapes import channel_axis, in_data_format
from kstyle_torch.applications._weights_file import WeightsFile
from kstyle_torch.applications.imagenet_utils import CLASSES
from kstyle_torch.models.functional import Functional
from kstyle_torch.symbolic.graph import get_source_inputs
from kstyle_torch.symbolic.tensor import SymbolicTensor, is_symbolic
from kstyle_torch.tracebacks import warn_user

F = TypeVar("F", bound=Callable[..., Functional])

SHARED = """

Arguments of every architecture:
    include_top: Whether the layers that classify are there.
    weights: `"imagenet"`, a file that is downloaded into Keras' cache once; a path; or None for random weights.
    input_tensor: What `Input`, or a layer called on it, gave; a new input if None.
    input_shape: Shape of an image, by `config.image_data_format()`; that of ImageNet's with the top, else any size, if None.
    pooling: Without the top: None, or `"avg"` or `"max"` over each image.
    classes: With the top: how many; 1000 for ImageNet.
    classifier_activation: With the top: name, function, or None for logits.
    name: Of the model.
Returns: A functional model.
Raises: ValueError: for arguments that do not go together. OSError: if weights cannot be downloaded.
"""


def architecture(function: F) -> F:
    """Decorates the function of an architecture: documents the shared arguments, and draws no weights that a file has."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Functional:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.arguments["weights"] is None:
            return function(*args, **kwargs)
        with initializers.left_out():
            return function(*args, **kwargs)

    make.__doc__ = inspect.cleandoc(function.__doc__ or "") + SHARED
    return cast(F, make)


@dataclass(frozen=True)
class Arguments:
    """The shared arguments of one call, checked as far as they do not depend on the architecture.

    Raises: ValueError: for arguments that do not go together.
    """

    include_top: bool
    weights: Any
    input_tensor: Any
    input_shape: Any
    pooling: str | None
    classes: int
    classifier_activation: Any
    name: str | None

    def __post_init__(self) -> None:
        if self.weights not in (None, "imagenet") and not os.path.exists(self.weights):
            raise ValueError(
                "weights must be None, 'imagenet' or the path of a file that exists; "
                f"got {self.weights!r}. Save weights with save_weights() first."
            )
        if self.pooling not in (None, "avg", "max"):
            raise ValueError(f"pooling must be None, 'avg' or 'max'; got {self.pooling!r}.")
        if not self.include_top:
            return
        if self.is_published and self.classes != CLASSES:
            raise ValueError(
                f"weights='imagenet' with include_top=True has classes={CLASSES}; got {self.classes!r}. "
                "Pass include_top=False and add a Dense layer of your own, or weights=None."
            )
        usual = (activations.get(None), activations.get("softmax"))
        if self.weights is not None and activations.get(self.classifier_activation) not in usual:
            raise ValueError(
                "classifier_activation must be 'softmax' or None where weights are loaded; "
                f"got {self.classifier_activation!r}."
            )

    @property
    def is_published(self) -> bool:
        """True where the weights are those that Keras publishes."""
        return bool(self.weights == "imagenet")

    def image(self, default_size: int, min_size: int) -> SymbolicTensor:
        """Returns the symbolic tensor with which the network begins.

        Args:
            default_size: Height and width of the images on which it was trained.
            min_size: Smallest height and width.
        Raises: ValueError: for an `input_shape` that does not go with the other arguments.
        """
        shape = self.image_shape(default_size, min_size)
        if self.input_tensor is None:
            return layers.Input(shape)
        if not is_symbolic(self.input_tensor):
            layers.Input(shape, tensor=self.input_tensor)  # raises the error for other tensors
        return self.input_tensor

    def check_same_shape(self) -> None:
        """Checks that `input_tensor` and `input_shape` agree where both are given.

        Raises: ValueError: if not.
        """
        if self.input_shape is None or not is_symbolic(self.input_tensor):
            return
        if self.input_tensor.shape[1:] != tuple(self.input_shape):
            raise ValueError(
                f"input_tensor is of images {self.input_tensor.shape[1:]}, and input_shape={self.input_shape}; leave one out."
            )

    def image_shape(self, default_size: int, min_size: int) -> tuple[int | None, ...]:
        """Returns the shape of an image, checked; see `image`."""
        size = default_size if self.include_top else None
        if self.input_shape is None:
            return in_data_format(size, size, 3)
        shape = tuple(self.input_shape)
        if len(shape) != 3:
            raise ValueError(f"input_shape must have three sizes, such as {in_data_format(224, 224, 3)}; got {shape}.")
        rows, columns, channels = shape if channel_axis() == -1 else (*shape[1:], shape[0])
        usual = in_data_format(default_size, default_size, 3)
        if self.is_published and self.include_top and shape != usual:
            raise ValueError(f"weights='imagenet' with include_top=True needs input_shape={usual}; got {shape}.")
        if self.is_published and channels != 3:
            raise ValueError(f"weights='imagenet' needs three channels; got input_shape={shape}.")
        if channels not in (1, 3):
            warn_user(f"The model usually has 1 or 3 input channels; input_shape={shape} has {channels}.")
        if any(each is not None and each < min_size for each in (rows, columns)):
            raise ValueError(f"Images must be at least {min_size} x {min_size}; got input_shape={shape}.")
        if self.include_top and None in shape:
            raise ValueError(f"include_top=True needs an input_shape without None; got {shape}.")
        return shape

    def pooled(self, x: SymbolicTensor, average: str | None = None, largest: str | None = None) -> SymbolicTensor:
        """Returns features as `pooling` asks for; the other arguments name the two layers."""
        if self.pooling == "avg":
            return layers.GlobalAveragePooling2D(name=average)(x)
        return layers.GlobalMaxPooling2D(name=largest)(x) if self.pooling == "max" else x

    def predictions(self, x: SymbolicTensor) -> SymbolicTensor:
        """Returns the classes' scores from the last features."""
        return layers.Dense(self.classes, activation=self.classifier_activation, name="predictions")(x)

    def model(self, image: SymbolicTensor, x: SymbolicTensor, file: WeightsFile) -> Functional:
        """Returns the model with its weights.

        Args:
            image: What `image` gave.
            x: Its output.
            file: The file for `weights="imagenet"`.
        """
        inputs = image if self.input_tensor is None else get_source_inputs(self.input_tensor)
        model = Functional(inputs, x, name=self.name)
        if self.weights is not None:
            model.load_weights(file.fetch() if self.is_published else self.weights)
        return model
