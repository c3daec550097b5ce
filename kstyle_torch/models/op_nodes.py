"""Conversion between the operations in Keras' graphs and functions of `ops` or torch.

Keras has a class for each operation: some arguments belong to the constructor, and are in the config; the others, tensors
first, belong to the call.
"""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from kstyle_torch import activations, ops, tree
from kstyle_torch.ops.indexing import rows_of_nonzero
from kstyle_torch.registry import snake_case
from kstyle_torch.symbolic.graph import Ref

# module -> its classes, each with the names of its constructor's arguments
CLASSES = {
    "numpy": """
        Abs Absolute Add All(axis,keepdims) AllClose(rtol,atol,equal_nan) Amax(axis,keepdims) Amin(axis,keepdims)
        Angle Any(axis,keepdims) Append(axis) Arange(dtype) Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh
        Argmax(axis,keepdims) Argmin(axis,keepdims) Argpartition(kth,axis) Argsort(axis) Array(dtype)
        ArraySplit(indices_or_sections,axis) Average(axis) Bincount(weights,minlength,sparse) BitwiseAnd
        BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo(shape) Cbrt
        Ceil Clip(x_min,x_max) Concatenate(axis) Conj Conjugate Copy Corrcoef Correlate(mode) Cos Cosh
        CountNonzero(axis) Cross(axisa,axisb,axisc,axis) Cumprod(axis,dtype) Cumsum(axis,dtype) Deg2rad Diag(k)
        Diagflat(k) Diagonal(offset,axis1,axis2) Diff(n,axis) Digitize Divide DivideNoNan Dot
        Dsplit(indices_or_sections) Dstack Einsum(subscripts) EmptyLike(dtype) Equal Exp Exp2 ExpandDims(axis) Expm1
        Fabs Flip(axis) Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Full(shape,dtype) FullLike(dtype) Gcd
        Geomspace(num,endpoint,dtype,axis) GetItem Greater GreaterEqual Heaviside Histogram(bins,range)
        Hsplit(indices_or_sections) Hstack Hypot I0 Imag Inner IsIn(assume_unique,invert) Isclose(equal_nan)
        Isfinite Isinf Isnan Isneginf Isposinf Isreal Kron Lcm Ldexp LeftShift Less LessEqual
        Linspace(num,endpoint,retstep,dtype,axis) Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot
        LogicalOr LogicalXor Logspace(num,endpoint,base,dtype,axis) Matmul Max(axis,keepdims,initial) Maximum
        Mean(axis,keepdims) Median(axis,keepdims) Meshgrid(indexing) Min(axis,keepdims,initial) Minimum Mod
        Moveaxis(source,destination) Multiply NanToNum(nan,posinf,neginf) Nanargmax(axis,keepdims)
        Nanargmin(axis,keepdims) Nancumprod(axis,dtype) Nancumsum(axis,dtype) Nanmax(axis,keepdims)
        Nanmean(axis,keepdims) Nanmedian(axis,keepdims) Nanmin(axis,keepdims) Nanpercentile(axis,method,keepdims)
        Nanprod(axis,keepdims) Nanquantile(axis,method,keepdims) Nanstd(axis,keepdims) Nansum(axis,keepdims)
        Nanvar(axis,keepdims) Ndim Negative Nextafter Nonzero NotEqual OnesLike(dtype) Outer Pad(pad_width,mode)
        Percentile(axis,method,keepdims) Power Prod(axis,keepdims,dtype) Ptp(axis,keepdims)
        Quantile(axis,method,keepdims) Rad2deg Ravel Real Reciprocal Repeat(repeats,axis) Reshape(newshape)
        RightShift Roll(shift,axis) Rot90(k,axes) Round(decimals) SearchSorted(side) Select Sign Signbit Sin Sinc
        Sinh Size Slogdet Sort(axis) Split(indices_or_sections,axis) Sqrt Square Squeeze(axis) Stack(axis)
        Std(axis,keepdims) Subtract Sum(axis,keepdims) Swapaxes(axis1,axis2) Take(axis) TakeAlongAxis(axis) Tan Tanh
        Tensordot(axes) Tile(repeats) Trace(offset,axis1,axis2) Transpose(axes) Trapezoid(x,dx,axis) Tril(k) Triu(k)
        TrueDivide Trunc Unique(sorted,return_index,return_inverse,return_counts,axis,size,fill_value)
        UnravelIndex(shape) Vander(N,increasing) Var(axis,keepdims) Vdot View(dtype) Vsplit(indices_or_sections)
        Vstack Where ZerosLike(dtype)
    """,
    "nn": """
        AdaptiveAveragePool(output_size,data_format) AdaptiveMaxPool(output_size,data_format)
        AveragePool(pool_size,strides,padding,data_format) BatchNorm(axis,epsilon) BinaryCrossentropy(from_logits)
        CTCDecode(strategy,beam_width,top_paths,merge_repeated,mask_index) CTCLoss(mask_index)
        CategoricalCrossentropy(from_logits,axis) Celu(alpha) Conv(strides,padding,data_format,dilation_rate)
        ConvTranspose(strides,padding,output_padding,data_format,dilation_rate) DepthToSpace(block_size,data_format)
        DepthwiseConv(strides,padding,data_format,dilation_rate)
        DotProductAttention(is_causal,flash_attention,attn_logits_soft_cap) Elu(alpha)
        Fold(output_size,kernel_size,dilation,padding,stride) Gelu(approximate) Glu(axis) HardShrink(threshold)
        HardSigmoid HardSilu HardTanh LayerNorm(axis,epsilon) LeakyRelu(negative_slope) LogSigmoid LogSoftmax(axis)
        MaxPool(pool_size,strides,padding,data_format) Moments(axes,keepdims,synchronized)
        MultiHot(num_classes,axis,dtype,sparse) Normalize(axis,order,epsilon) OneHot(num_classes,axis,dtype,sparse)
        PSNR(max_val) Polar RMSNorm(axis,epsilon) Relu Relu6 Selu
        SeparableConv(strides,padding,data_format,dilation_rate) Sigmoid Silu SoftShrink(threshold) Softmax(axis)
        Softplus Softsign SpaceToDepth(block_size,data_format) SparseCategoricalCrossentropy(from_logits,axis)
        SparsePlus SparseSigmoid Sparsemax(axis) Squareplus(b) TanhShrink Threshold(threshold,default_value)
        Unfold(kernel_size,dilation,padding,stride)
    """,
    "core": """
        Cast(dtype) SaturateCast(dtype) Scatter(shape) ScatterUpdate(reduction) Slice(shape) SliceUpdate
        StopGradient Unstack(num,axis) StopGradient
    """,
    "math": """
        CDist Erf Erfc Erfinv ExtractSequences(sequence_length,sequence_stride) FFT FFT2 IFFT2 IRFFT(fft_length)
        ISTFT(sequence_length,sequence_stride,fft_length,length,window,center) InTopK(k) Logdet
        Logsumexp(axis,keepdims) RFFT(fft_length) Rsqrt
        STFT(sequence_length,sequence_stride,fft_length,window,center) SegmentMax(num_segments,sorted)
        SegmentMin(num_segments,sorted) SegmentProd(num_segments,sorted) SegmentSum(num_segments,sorted)
        TopK(k,sorted) ViewAsComplex ViewAsReal
    """,
    "linalg": """
        Cholesky(upper) CholeskyInverse(upper) Det Eig Eigh Inv Lstsq(rcond) LuFactor MatrixRank(tol)
        Norm(ord,axis,keepdims) Pinv(rcond) Qr(mode) SVD(full_matrices,compute_uv) Solve SolveTriangular(lower)
    """,
    "image": """
        AffineTransform(interpolation,fill_mode,fill_value,data_format)
        CropImages(top_cropping,left_cropping,bottom_cropping,right_cropping,target_height,target_width,data_format)
        ElasticTransform(alpha,sigma,interpolation,fill_mode,fill_value,seed,data_format)
        ExtractPatches(size,strides,dilation_rate,padding,data_format) GaussianBlur(kernel_size,sigma,data_format)
        HSVToRGB(data_format) MapCoordinates(order,fill_mode,fill_value)
        PadImages(top_padding,left_padding,bottom_padding,right_padding,target_height,target_width,data_format)
        PerspectiveTransform(interpolation,fill_value,data_format) RGBToGrayscale(data_format) RGBToHSV(data_format)
        Resize(size,interpolation,antialias,crop_to_aspect_ratio,pad_to_aspect_ratio,fill_mode,fill_value,data_format)
        SSIM(max_val,filter_size,filter_sigma,k1,k2,data_format) ScaleAndTranslate(spatial_dims,method,antialias)
        SobelEdges(data_format)
    """,
}
FUNCTIONS = {  # exceptions to the class name in snake case
    **{"AllClose": "allclose", "IsIn": "isin", "SearchSorted": "searchsorted", "CDist": "cdist"},
    **{"BatchNorm": "batch_normalization", "RMSNorm": "rms_normalization", "LayerNorm": "layer_normalization"},
}
# operators and torch's functions -> functions of `ops` that take the same arguments
SAME = {
    **dict.fromkeys(("add", "__add__"), "add"),
    **dict.fromkeys(("sub", "subtract", "__sub__"), "subtract"),
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), "multiply"),
    **dict.fromkeys(("div", "true_divide", "divide", "__truediv__"), "true_divide"),
    **dict.fromkeys(("floor_divide", "__floordiv__"), "floor_divide"),
    **dict.fromkeys(("pow", "__pow__"), "power"),
    **dict.fromkeys(("matmul", "__matmul__"), "matmul"),
    **dict.fromkeys(("maximum", "minimum", "where", "logical_and", "logical_or", "logical_not"), ""),
    **{"__getitem__": "get_item", "neg": "negative", "__neg__": "negative", "__abs__": "absolute", "__radd__": "add"},
    **{"eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal"},
    **{"__eq__": "equal", "__ne__": "not_equal", "__gt__": "greater", "__ge__": "greater_equal"},
    **{"__lt__": "less", "__le__": "less_equal", "acos": "arccos", "asin": "arcsin", "atan": "arctan"},
    **dict.fromkeys(
        "abs absolute arccos arcsin arctan ceil cos cosh erf exp expm1 floor isfinite isinf isnan log log10 log1p "
        "log2 negative reciprocal rsqrt sigmoid sign sin sinh sqrt square tan tanh".split(),
        "",
    ),
}
SWAPPED = {"__rsub__": "subtract", "__rtruediv__": "true_divide", "__rpow__": "power", "__rmatmul__": "matmul"}


class Op(NamedTuple):
    """One class of Keras: its module and name, the keys of its config, and the function of `ops`."""

    module: str
    class_name: str
    settings: tuple[str, ...]
    function: Callable[..., Any]


@functools.cache
def by_class() -> dict[str, Op]:
    """Returns all operations, by the name of their class in Keras."""
    found = {}
    for module, rows in CLASSES.items():
        for class_name, settings in re.findall(r"(\w+)(?:\(([\w,]+)\))?", rows):
            name = FUNCTIONS.get(class_name, snake_case(class_name))
            function = getattr(ops, name, None) or getattr(getattr(ops, module), name)
            names = tuple(settings.split(",")) if settings else ()
            found[class_name] = Op(f"keras.src.ops.{module}", class_name, names, function)
    return found


@functools.cache
def by_function() -> dict[Callable[..., Any], Op]:
    """Returns all operations, by the function of `ops`."""
    return {**{op.function: op for op in by_class().values()}, rows_of_nonzero: by_class()["Nonzero"]}


@functools.cache
def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


# ------------------------------------------------------------------------------------------------------------- writing


class OpCall(NamedTuple):
    """A call in Keras' format."""

    op: Op
    config: dict[str, Any]
    args: list[Any]


def as_keras(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpCall | None:
    """Returns the call of a function in Keras' form; None if Keras has no such operation."""
    function, args = _function_of_ops(target, args, kwargs)
    op = by_function().get(function) if function is not None else None
    if op is None:
        return None
    assert function is not None
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    config, rest = {}, []
    for parameter in _parameters(function):
        value = bound.arguments[parameter.name]
        if parameter.name in op.settings:
            config[parameter.name] = value
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest += value
        elif parameter.kind is parameter.VAR_KEYWORD:
            if value:
                return None
        else:
            rest.append(value)
    if any(isinstance(leaf, Ref) for leaf in tree.flatten(config)):
        return None  # a symbolic value; Keras' config holds a constant
    while rest and rest[-1] is None:
        rest.pop()
    return OpCall(op, config, rest)


def _function_of_ops(
    target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any] | None, tuple[Any, ...]]:
    if (getattr(target, "__module__", None) or "").startswith("kstyle_torch.ops"):
        return target, args
    name = getattr(target, "__name__", "")
    if kwargs or (not all(isinstance(arg, (Ref, int, float, Tensor)) for arg in args) and name != "__getitem__"):
        return None, args
    if name in SWAPPED and len(args) == 2:
        return getattr(ops, SWAPPED[name]), args[::-1]
    if name in SAME:
        return getattr(ops, SAME[name] or name), args
    return None, args


# ------------------------------------------------------------------------------------------------------------- reading


def is_op(entry: dict[str, Any]) -> bool:
    """Returns whether the entry of a layer in a config is that of an operation."""
    return str(entry.get("module") or "").startswith(("keras.src.ops", "keras.src.activations"))


def function_of(entry: dict[str, Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """Returns the function for an entry, with the arguments from its config.

    Raises: ValueError: for an unknown operation.
    """
    name = entry["class_name"]
    if str(entry["module"]).startswith("keras.src.activations"):
        function = activations.get(snake_case(name) if name != "ReLU" else "relu")
    elif name in by_class():
        function = by_class()[name].function
    else:
        raise ValueError(f"The graph calls Keras' operation {name!r}, which is not supported.")
    return functools.partial(_call, function, _known_settings(function, settings))


def _known_settings(function: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    names = [parameter.name for parameter in _parameters(function)]
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items() if key in names}
    for key, value in settings.items():
        if key not in names and key not in ("name", "trainable", "dtype") and value not in (None, False):
            warnings.warn(
                f"{function.__name__}: the setting {key}={value!r} of a newer Keras is ignored.", stacklevel=2
            )
    return known


def _call(function: Callable[..., Any], settings: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function with Keras' arguments: those in the config are not among `args`."""
    if function is ops.get_item and isinstance(args[1], list):
        args = (args[0], tuple(args[1]))
    parameters = [parameter for parameter in _parameters(function) if parameter.name not in settings]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        leading = [settings[parameter.name] for parameter in _parameters(function) if parameter.name in settings]
        return function(*leading, *args, **kwargs)
    names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    if len(args) > len(names):
        raise ValueError(f"{function.__name__} takes {len(names)} tensors; the graph passes {len(args)}.")
    return function(**dict(zip(names, args)), **settings, **kwargs)
