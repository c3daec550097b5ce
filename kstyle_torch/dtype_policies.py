"""The default float type, and dtype policies: in which dtype a layer keeps its weights, and in which it computes."""

from __future__ import annotations

from typing import Any

import torch

from kstyle_torch._torch import pytree

__all__ = ["DTypePolicy", "Policy", "deserialize", "dtype_policy", "get", "serialize", "set_dtype_policy"]


class DTypeName(str):
    """The name of a dtype, as Keras gives it (`"float32"`), that also equals the torch dtype of that name.

    Every function of this package and every method of a symbolic tensor takes it for a dtype. torch functions raise a
    TypeError: give them `torch_dtype`. (It could override them with `__torch_function__`, but torch's parser would then
    accept it everywhere, and functions without overrides, such as `torch.finfo`, would take the memory of the string for
    another dtype.) Its hash is that of the string: a dict with torch dtypes for keys does not find it.

    Example:
        >>> DTypeName("float32") == "float32", DTypeName("float32") == torch.float32
        (True, True)
    """

    __slots__ = ()

    @property
    def torch_dtype(self) -> torch.dtype:
        """The torch dtype.

        Raises: ValueError: if torch has none of that name.
        """
        found = getattr(torch, str(self), None)
        if not isinstance(found, torch.dtype):
            raise ValueError(f"torch has no dtype {str(self)!r}.")
        return found

    @property
    def is_floating_point(self) -> bool:
        """Returns whether values have fractions."""
        return self.torch_dtype.is_floating_point

    @property
    def is_complex(self) -> bool:
        """Returns whether values are complex."""
        return self.torch_dtype.is_complex

    @property
    def is_signed(self) -> bool:
        """Returns whether values may be negative."""
        return self.torch_dtype.is_signed

    @property
    def itemsize(self) -> int:
        """The bytes of a value."""
        return self.torch_dtype.itemsize

    def __eq__(self, other: object) -> bool:
        if isinstance(other, torch.dtype):
            return getattr(torch, str(self), None) is other
        return str(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # in Python, as what is above, for torch.compile to follow
        return hash(str(self))


NAMES = {
    dtype: DTypeName(str(dtype).removeprefix("torch."))
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}


def dtype_name(dtype: torch.dtype) -> DTypeName:
    """Returns the name of a torch dtype."""
    return NAMES[dtype]


PYTHON_DTYPES = {bool: "bool", int: "int32", float: "float32", str: "string", complex: "complex64", "int": "int32"}
KERAS_DTYPES = frozenset(
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float8_e4m3fn float8_e5m2 bfloat16 float16 float32 float64 "
    "complex64 complex128 string".split()
)


def standardize_dtype(dtype: Any) -> str:
    """Returns the name of a dtype of torch, NumPy or Python; `config.floatx()` for None.

    Raises: ValueError: for anything that is not a dtype of Keras.

    Example:
        >>> standardize_dtype(torch.float16), standardize_dtype(int), standardize_dtype(np.dtype("bool"))
        ('float16', 'int32', 'bool')
    """
    if dtype is None:
        return _floatx
    known = PYTHON_DTYPES.get(dtype, dtype) if isinstance(dtype, (type, str)) else dtype
    if isinstance(known, torch.dtype):
        known = NAMES[known]
    name = getattr(known, "name", None) or getattr(known, "__name__", known)
    if name not in KERAS_DTYPES:
        raise ValueError(f"Invalid dtype {dtype!r}; expected one of {', '.join(sorted(KERAS_DTYPES))}.")
    return str(name) if name == "string" else DTypeName(name)


def in_torch_dtypes(structure: Any) -> Any:
    """Returns a nest with torch dtypes in the place of names of dtypes."""
    nest: Any = pytree.tree_map(lambda leaf: leaf.torch_dtype if isinstance(leaf, DTypeName) else leaf, structure)
    return nest


FLOATS = ("float16", "bfloat16", "float32", "float64")
_floatx = DTypeName("float32")
_chosen: DTypePolicy | None = None


def floatx() -> DTypeName:
    """Returns the default float type of weights and of floating-point input, `"float32"` unless it was set."""
    return _floatx


def set_floatx(value: str) -> None:
    """Sets the default float type.

    Args:
        value: One of `"bfloat16"`, `"float16"`, `"float32"`, `"float64"`.
    Raises: ValueError: for any other value.
    """
    global _floatx
    if value not in FLOATS:
        raise ValueError(f"floatx must be one of {', '.join(map(repr, FLOATS))}; got {value!r}.")
    _floatx = DTypeName(value)


class DTypePolicy:
    """In which dtype a layer keeps its weights, and in which it computes.

    Args:
        name: A dtype, for both; or `"mixed_bfloat16"`, `"mixed_float16"`: weights in float32, computing in the other.
    Raises: ValueError: for any other name.

    Example:
        >>> DTypePolicy("mixed_bfloat16").variable_dtype
        'float32'
    """

    def __init__(self, name: str):
        computes = name.removeprefix("mixed_") if isinstance(name, str) else name
        if computes not in FLOATS[:2] if name != computes else not _is_dtype(name):
            raise ValueError(
                f"Unknown dtype policy {name!r}; expected a dtype such as 'float32', 'mixed_bfloat16' or 'mixed_float16'."
            )
        self.name = name
        self.compute_dtype = DTypeName(computes)
        self.variable_dtype = DTypeName(computes if computes == name else "float32")

    @property
    def is_mixed(self) -> bool:
        """True if weights are kept in another dtype than computations use."""
        return self.compute_dtype != self.variable_dtype

    def get_config(self) -> dict[str, Any]:
        """Returns the name, for `from_config`."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        """Returns the policy of a config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


Policy = DTypePolicy


def _is_dtype(name: Any) -> bool:
    whole = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bool", "string")
    return name in FLOATS or name in whole or name in ("complex64", "complex128")


def get(identifier: Any) -> DTypePolicy:
    """Returns the policy that a name, a dtype, a config or None (the one that was set) means.

    Raises: ValueError: if it means none.
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    return DTypePolicy(str(identifier).removeprefix("torch."))


def dtype_policy() -> DTypePolicy:
    """Returns the policy of layers that are not given one: what `set_dtype_policy` chose, else `floatx()`."""
    return _chosen or DTypePolicy(floatx())


def set_dtype_policy(policy: Any) -> None:
    """Chooses the policy of all layers made from now on.

    Args:
        policy: A policy or its name; None goes back to `floatx()`.
    Raises: ValueError: for an unknown name.
    """
    global _chosen
    _chosen = None if policy is None else get(policy)


def serialize(policy: DTypePolicy) -> dict[str, Any]:
    """Returns the policy in Keras' JSON form."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": policy.get_config(), "registered_name": None}


def deserialize(config: dict[str, Any], custom_objects: Any = None) -> DTypePolicy:  # noqa: ARG001
    """Returns the policy that a config in Keras' JSON form describes."""
    return DTypePolicy.from_config(config.get("config", config))
