"""The default float type, and dtype policies: in which dtype a layer keeps its weights, and in which it computes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any

import torch

from kstyle_torch._torch import pytree
from kstyle_torch.arrays import from_array

__all__ = [
    "DTypePolicy",
    "DTypePolicyMap",
    "FloatDTypePolicy",
    "Policy",
    "deserialize",
    "dtype_policy",
    "get",
    "serialize",
    "set_dtype_policy",
]


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
    """Dtypes in which a layer keeps its weights and computes.

    Args:
        name: A dtype, for both; or `"mixed_bfloat16"`, `"mixed_float16"`: weights in float32, computing in the other. That of
            the policy that was set if None.
    Raises: ValueError: for any other name. TypeError: for what is not a string.

    Example:
        >>> DTypePolicy("mixed_bfloat16").variable_dtype
        'float32'
    """

    quantization_mode: str | None = None

    def __init__(self, name: str | None = None):
        self._name = dtype_policy().name if name is None else name
        if not isinstance(self._name, str):
            raise TypeError(f"The name of a dtype policy must be a string such as 'mixed_float16'; got {name!r}.")
        computes = self._name.removeprefix("mixed_")
        is_mixed = computes != self._name
        if computes not in FLOATS[:2] if is_mixed else not _is_dtype(computes):
            raise ValueError(
                f"Unknown dtype policy {name!r}; expected a dtype such as 'float32', 'mixed_bfloat16' or 'mixed_float16'."
            )
        self._compute_dtype = standardize_dtype(computes)
        self._variable_dtype = DTypeName("float32") if is_mixed else self._compute_dtype

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def compute_dtype(self) -> DTypeName:
        """The dtype in which a layer computes."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> DTypeName:
        """The dtype of a layer's weights."""
        return self._variable_dtype

    @property
    def is_mixed(self) -> bool:
        """True if weights are kept in another dtype than computations use."""
        return self.compute_dtype != self.variable_dtype

    def convert_input(self, x: Any, autocast: bool, dtype: Any) -> Any:
        """Returns an input of a layer: arrays as tensors, and what is floating-point in a dtype.

        Args:
            x: Tensor, symbolic tensor or array; anything else is returned as it is.
            autocast: False to keep the dtype.
            dtype: The dtype of floats; integers and bools keep theirs.
        """
        if hasattr(x, "__array__") and not hasattr(x, "torch_dtype") and not isinstance(x, torch.Tensor):
            x = from_array(x)
        found = getattr(x, "torch_dtype", getattr(x, "dtype", None))
        if autocast and isinstance(found, torch.dtype) and found.is_floating_point:
            wanted = standardize_dtype(dtype).torch_dtype
            return x if found is wanted else x.to(wanted)
        return x

    def get_config(self) -> dict[str, Any]:
        """Returns the name, for `from_config`."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns the policy of a config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        alike = (DTypePolicy, FloatDTypePolicy)
        same = type(other) in alike if type(self) in alike else type(other) is type(self)
        return same and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


class FloatDTypePolicy(DTypePolicy):
    """Older name of `DTypePolicy`."""


Policy = DTypePolicy


class DTypePolicyMap(DTypePolicy, MutableMapping[str, DTypePolicy]):
    """Policies of the layers in a layer or model, by their paths.

    Args:
        default_policy: Of the layers that the map does not name; the policy that was set if None.
        policy_map: `{path: policy}`; a path may be a regular expression that the whole of it matches.
    Raises: ValueError: if `default_policy` is a map itself. TypeError: if `policy_map` is not a dict.

    Example:
        >>> policies = DTypePolicyMap("float32", {"encoder/.*": DTypePolicy("mixed_bfloat16")})
        >>> policies["encoder/dense"], policies["decoder"]
        (<DTypePolicy "mixed_bfloat16">, <DTypePolicy "float32">)
    """

    def __init__(self, default_policy: Any = None, policy_map: dict[str, Any] | None = None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError("The default policy of a DTypePolicyMap cannot be a map itself; pass a DTypePolicy.")
        if policy_map is not None and not isinstance(policy_map, dict):
            raise TypeError(f"policy_map must be a dict of paths and policies; got {policy_map!r}.")
        self._given, self._default = default_policy, get(default_policy)
        self._policies: dict[str, DTypePolicy] = policy_map or {}

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of layers that the map does not name."""
        return self._default

    @property
    def name(self) -> str:
        """`"map_"` and the default policy's name."""
        return f"map_{self._default.name}"

    @property
    def compute_dtype(self) -> DTypeName:
        """The default policy's."""
        return self._default.compute_dtype

    @property
    def variable_dtype(self) -> DTypeName:
        """The default policy's."""
        return self._default.variable_dtype

    def __getitem__(self, key: str) -> DTypePolicy:
        if key in self._policies:
            return self._policies[key]
        found = [pattern for pattern in self._policies if re.fullmatch(pattern, key)]
        if len(found) > 1:
            raise ValueError(
                f"The path {key!r} matches several keys of a DTypePolicyMap: {found}. Make them exclusive."
            )
        return self._policies[found[0]] if found else self._default

    def __setitem__(self, key: str, policy: Any) -> None:
        if key in self._policies:
            raise ValueError(f"{key!r} is in the DTypePolicyMap already, as {self._policies[key]}. Delete it first.")
        try:
            self._policies[key] = get(policy)
        except (ValueError, TypeError) as error:
            raise ValueError(f"The policy of {key!r} must be a dtype policy or its name; got {policy!r}.") from error

    def __delitem__(self, key: str) -> None:
        del self._policies[key]

    def __contains__(self, key: object) -> bool:
        return key in self._policies

    def __len__(self) -> int:
        return len(self._policies)

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __bool__(self) -> bool:
        return True  # as a policy, also while it is empty

    def __hash__(self) -> int:
        return id(self)

    def get_config(self) -> dict[str, Any]:
        """Returns the default policy and the policies by path, for `from_config`."""
        default = serialize(self._given) if isinstance(self._given, DTypePolicy) else self._given
        return {"default_policy": default, "policy_map": {key: serialize(each) for key, each in self._policies.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Returns the map of a config."""
        policies = {key: deserialize(each, custom_objects) for key, each in config["policy_map"].items()}
        default = config["default_policy"]
        return cls(deserialize(default) if isinstance(default, dict) else default, policies)

    def __repr__(self) -> str:
        mapping = [(key, policy.name) for key, policy in self._policies.items()]
        return f"<DTypePolicyMap default_policy={self._default.name}, mapping={mapping}>"


WHOLE = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
ALLOWED = (*FLOATS, *WHOLE, "bool", "string", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2")
PYTHON_TYPES = {bool: "bool", int: "int32", "int": "int32", float: "float32", str: "string", complex: "complex64"}


def _is_dtype(name: Any) -> bool:
    return PYTHON_TYPES.get(name, name) in ALLOWED


def standardize_dtype(dtype: Any) -> DTypeName:
    """Returns the name of a dtype: of torch, NumPy, Python or a name itself; None is `floatx()`.

    Raises: ValueError: for what is not a dtype that Keras knows.

    Example:
        >>> standardize_dtype(torch.int8), standardize_dtype(np.float64), standardize_dtype(int)
        ('int8', 'float64', 'int32')
    """
    if dtype is None:
        return floatx()
    if isinstance(dtype, torch.dtype):
        dtype = NAMES[dtype]
    elif isinstance(dtype, Hashable) and dtype in PYTHON_TYPES:
        dtype = PYTHON_TYPES[dtype]
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", dtype))
    name = name.removeprefix("torch.") if isinstance(name, str) else name
    if name not in ALLOWED:
        raise ValueError(f"Unknown dtype {dtype!r}; expected one of {', '.join(ALLOWED)}.")
    return DTypeName(name)


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
    name = identifier.removeprefix("torch.") if isinstance(identifier, str) else standardize_dtype(identifier)
    return DTypePolicy(name)


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


def serialize(dtype_policy: DTypePolicy) -> dict[str, Any]:
    """Returns the policy in Keras' JSON form."""
    name = type(dtype_policy).__name__
    module = "keras.dtype_policies" if isinstance(dtype_policy, DTypePolicyMap) else "keras"
    return {"module": module, "class_name": name, "config": dtype_policy.get_config(), "registered_name": None}


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> DTypePolicy:
    """Returns the policy that a config in Keras' JSON form describes; the config alone will do.

    Args:
        config: What `serialize` gave.
        custom_objects: `{name: class}` of policies of the caller's own.
    Raises: ValueError: for a class that is unknown.
    """
    if "class_name" not in config:
        return DTypePolicy.from_config(config.get("config", config))
    known = {each.__name__: each for each in (DTypePolicy, FloatDTypePolicy, DTypePolicyMap)} | (custom_objects or {})
    cls = known.get(config["class_name"])
    if cls is None:
        raise ValueError(f"Unknown dtype policy {config['class_name']!r}; known: {', '.join(known)}.")
    made: DTypePolicy = cls.from_config(config["config"])
    return made
