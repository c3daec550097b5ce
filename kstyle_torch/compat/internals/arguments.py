"""Arguments: checked, and made one of the forms that they come in."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from kstyle_torch import activations, config
from kstyle_torch.layer.input_spec import check_inputs

FORMATS = ("channels_first", "channels_last")


def standardize_tuple(value: Any, n: int, name: str, allow_zero: bool = False) -> tuple[int, ...]:
    """Returns `n` ints, from one or from as many.

    Raises: ValueError: if there are not so many, or one is less than 1, or than 0 with `allow_zero`.
    """
    least = 0 if allow_zero else 1
    values = (value,) * n if isinstance(value, int) else tuple(value) if isinstance(value, Iterable) else ()
    if len(values) != n or any(not hasattr(size, "__index__") or size < least for size in values):
        raise ValueError(f"{name} must be an int or a tuple of {n}, at least {least}; got {value!r}.")
    return values


def standardize_padding(value: Any, allow_causal: bool = False) -> Any:
    """Returns a padding in lower case; lists and tuples as they are.

    Raises: ValueError: if it is not one of the known ones.
    """
    known = ("valid", "same", "causal") if allow_causal else ("valid", "same")
    if isinstance(value, (list, tuple)):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError(f"padding must be a list, a tuple or one of {known}; got {value!r}.")
    return value.lower()


def validate_string_arg(
    value: Any,
    allowable_strings: Iterable[str],
    caller_name: str,
    arg_name: str,
    allow_none: bool = False,
    allow_callables: bool = False,
) -> None:
    """Checks that an argument is one of some strings.

    Raises: ValueError: if it is not.
    """
    known = [*allowable_strings]
    is_other = (allow_none and value is None) or (allow_callables and callable(value))
    if not is_other and not (isinstance(value, str) and value in known):
        raise ValueError(f"{caller_name}: {arg_name} must be one of {known}; got {value!r}.")


def standardize_data_format(data_format: str | None) -> str:
    """Returns the data format; that of `config` for None.

    Raises: ValueError: if it is not one.
    """
    found = config.image_data_format() if data_format is None else str(data_format).lower()
    if found not in FORMATS:
        raise ValueError(f"data_format must be one of {FORMATS}; got {data_format!r}.")
    return found


def standardize_reduction(reduction: Any) -> None:
    """Checks the name of a reduction of losses.

    Raises: ValueError: if it is not one.
    """
    known = (None, "none", "sum", "sum_over_batch_size", "mean", "mean_with_sample_weight")
    if reduction not in known:
        raise ValueError(f"reduction must be one of {known}; got {reduction!r}.")


def assert_input_compatibility(input_spec: Any, inputs: Any, layer_name: str) -> None:
    """Raises a ValueError if inputs do not meet an `input_spec`."""
    if input_spec is not None:
        check_inputs(input_spec, inputs, layer_name)


def obtain_input_shape(
    input_shape: Sequence[int | None] | None,
    default_size: int,
    min_size: int,
    data_format: str,
    require_flatten: bool,
    weights: str | None = None,
) -> tuple[int | None, ...]:
    """Returns the input shape of an image model, checked.

    Args:
        input_shape: The caller's; None for the default one.
        default_size: Height and width of the default.
        min_size: The least height and width.
        data_format: `"channels_last"` or `"channels_first"`.
        require_flatten: Whether the model needs known sizes.
        weights: `"imagenet"` for three channels and, with `require_flatten`, the default size.
    Raises: ValueError: for a shape that the model cannot take.
    """
    first = data_format == "channels_first"

    def shape_of(size: int | None, channels: int | None) -> tuple[int | None, ...]:
        return (channels, size, size) if first else (size, size, channels)

    if not input_shape:
        return shape_of(default_size if require_flatten else None, 3)
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise ValueError(f"input_shape must have three sizes; got {shape}.")
    channels, *sides = (shape[0], *shape[1:]) if first else (shape[2], *shape[:2])
    if weights == "imagenet":
        wanted = shape_of(default_size, 3)
        if require_flatten and shape != wanted:
            raise ValueError(
                f"With include_top=True and weights='imagenet', input_shape must be {wanted}; got {shape}."
            )
        if channels != 3:
            raise ValueError(f"With weights='imagenet' the input has 3 channels; got input_shape={shape}.")
    elif channels not in (1, 3):
        warnings.warn(f"Image models usually take 1 or 3 channels; got input_shape={shape}.", stacklevel=2)
    if any(side is not None and side < min_size for side in sides):
        raise ValueError(f"Images must be at least {min_size} by {min_size}; got input_shape={shape}.")
    if require_flatten and None in shape:
        raise ValueError(f"With include_top=True all sizes of input_shape must be known; got {shape}.")
    return shape


def correct_pad(inputs: Any, kernel_size: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the zero padding of height and width before a convolution with strides of 2."""
    first_axis = 2 if config.image_data_format() == "channels_first" else 1
    kernel = standardize_tuple(kernel_size, 2, "kernel_size")
    sides = inputs.shape[first_axis : first_axis + 2]
    short = [1 if sides[0] is None else 1 - side % 2 for side in sides]
    low, high = ((size // 2 - less, size // 2) for size, less in zip(kernel, short, strict=True))
    return low, high


def validate_activation(classifier_activation: Any, weights: Any) -> None:
    """Raises a ValueError for an activation that a pretrained classifier does not have."""
    allowed = (activations.get(None), activations.softmax)
    if weights is not None and activations.get(classifier_activation) not in allowed:
        raise ValueError(
            f"With pretrained weights, classifier_activation must be None or 'softmax'; got {classifier_activation!r}."
        )
