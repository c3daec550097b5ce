"""The hashes of strings in TensorFlow and Keras: FarmHash64 and SipHash-2-4.

Strings of equal length are hashed together: each function takes bytes of shape (strings, length) and gives uint64.
Source: github.com/google/farmhash (farmhashna, Fingerprint64); Aumasson & Bernstein 2012 (SipHash).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

K0, K1, K2 = np.array([0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F], dtype=np.uint64)
CROSS = np.uint64(0xC6A4A7935BD1E995)
SIP_START = np.array([0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573], dtype=np.uint64)
Pair = tuple[np.ndarray, np.ndarray]


def hash_text(texts: Sequence[str], salt: Sequence[int] | None = None) -> np.ndarray:
    """Returns a uint64 for each text: FarmHash64, or with a salt (two ints) SipHash."""
    words = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    hashes = np.empty(len(words), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for length in np.unique(lengths):
            chosen = np.flatnonzero(lengths == length)
            joined = b"".join(words[number] for number in chosen)
            rows = np.frombuffer(joined, np.uint8).reshape(len(chosen), length)
            hashes[chosen] = farmhash64(rows) if salt is None else siphash64(rows, salt)
    return hashes


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Combines two hashes (TensorFlow's FingerprintCat64)."""
    with np.errstate(over="ignore"):
        mixed = ((first ^ CROSS) ^ (_shift_mix(second * CROSS) * CROSS)) * CROSS
        return _shift_mix(_shift_mix(mixed) * CROSS)


# ------------------------------------------------------------------------------------------------------- FarmHash64


def farmhash64(rows: np.ndarray) -> np.ndarray:
    """Returns the FarmHash64 of each row."""
    length = rows.shape[1]
    return next(function for limit, function in _BY_LENGTH if length <= limit)(rows)


def _word(rows: np.ndarray, start: int, size: int = 8) -> np.ndarray:
    """Returns the little-endian number at `start`, from the end if negative."""
    start %= rows.shape[1]
    chunk = np.ascontiguousarray(rows[:, start : start + size])
    return chunk.view(f"<u{size}")[:, 0].astype(np.uint64)


def _number(value: int) -> np.uint64:
    return np.uint64(value & 0xFFFFFFFFFFFFFFFF)


def _rotate(value: np.ndarray, by: int) -> np.ndarray:
    return (value >> np.uint64(by)) | (value << np.uint64(64 - by))


def _rotate_left(value: np.ndarray, by: int) -> np.ndarray:
    return _rotate(value, 64 - by)


def _shift_mix(value: np.ndarray) -> np.ndarray:
    return value ^ (value >> np.uint64(47))


def _join(first: np.ndarray, second: np.ndarray, factor: np.ndarray | np.uint64) -> np.ndarray:
    mixed = _shift_mix((first ^ second) * factor)
    return _shift_mix((second ^ mixed) * factor) * factor


def _hash_to_3(rows: np.ndarray) -> np.ndarray:
    length = rows.shape[1]
    if length == 0:
        return np.full(len(rows), K2)
    first, middle, last = (rows[:, place].astype(np.uint64) for place in (0, length >> 1, length - 1))
    y, z = first + (middle << np.uint64(8)), _number(length) + (last << np.uint64(2))
    return _shift_mix((y * K2) ^ (z * K0)) * K2


def _hash_to_7(rows: np.ndarray) -> np.ndarray:
    length = rows.shape[1]
    factor = K2 + _number(2 * length)
    return _join(_number(length) + (_word(rows, 0, 4) << np.uint64(3)), _word(rows, -4, 4), factor)


def _hash_to_16(rows: np.ndarray) -> np.ndarray:
    factor = K2 + _number(2 * rows.shape[1])
    a, b = _word(rows, 0) + K2, _word(rows, -8)
    return _join(_rotate(b, 37) * factor + a, (_rotate(a, 25) + b) * factor, factor)


def _hash_to_32(rows: np.ndarray) -> np.ndarray:
    factor = K2 + _number(2 * rows.shape[1])
    a, b = _word(rows, 0) * K1, _word(rows, 8)
    c, d = _word(rows, -8) * factor, _word(rows, -16) * K2
    return _join(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + K2, 18) + c, factor)


def _hash_to_64(rows: np.ndarray) -> np.ndarray:
    factor = K2 + _number(2 * rows.shape[1])
    a, b = _word(rows, 0) * K2, _word(rows, 8)
    c, d = _word(rows, -8) * factor, _word(rows, -16) * K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _join(y, a + _rotate(b + K2, 18) + c, factor)
    e, f = _word(rows, 16) * factor, _word(rows, 24)
    g, h = (y + _word(rows, -32)) * factor, (z + _word(rows, -24)) * factor
    return _join(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, factor)


def _hash_long(rows: np.ndarray) -> np.ndarray:
    length = rows.shape[1]
    zero = np.zeros(len(rows), dtype=np.uint64)
    seed = np.uint64(81)
    y = zero + seed * K1 + np.uint64(113)
    x, z = _word(rows, 0) + seed * K2, _shift_mix(y * K2 + np.uint64(113)) * K2
    v, w = (zero, zero), (zero, zero)
    last = (length - 1) // 64 * 64
    for start in range(0, last, 64):
        x = _rotate(x + y + v[0] + _word(rows, start + 8), 37) * K1
        y = _rotate(y + v[1] + _word(rows, start + 48), 42) * K1
        x, y, z = x ^ w[1], y + v[0] + _word(rows, start + 40), _rotate(z + w[0], 33) * K1
        v = _weak_hash(rows, start, v[1] * K1, x + w[0])
        w = _weak_hash(rows, start + 32, z + w[1], y + _word(rows, start + 16))
        z, x = x, z
    factor = K1 + ((z & np.uint64(255)) << np.uint64(1))
    start = length - 64
    w = (w[0] + _number((length - 1) & 63), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x = _rotate(x + y + v[0] + _word(rows, start + 8), 37) * factor
    y = _rotate(y + v[1] + _word(rows, start + 48), 42) * factor
    x, y = x ^ (w[1] * np.uint64(9)), y + v[0] * np.uint64(9) + _word(rows, start + 40)
    z = _rotate(z + w[0], 33) * factor
    v = _weak_hash(rows, start, v[1] * factor, x + w[0])
    w = _weak_hash(rows, start + 32, z + w[1], y + _word(rows, start + 16))
    z, x = x, z
    return _join(_join(v[0], w[0], factor) + _shift_mix(y) * K0 + z, _join(v[1], w[1], factor) + x, factor)


def _weak_hash(rows: np.ndarray, start: int, a: np.ndarray, b: np.ndarray) -> Pair:
    first, second, third, fourth = (_word(rows, start + offset) for offset in (0, 8, 16, 24))
    a = a + first
    b = _rotate(b + a + fourth, 21)
    total = a + second + third
    return total + fourth, b + _rotate(total, 44) + a


_BY_LENGTH: tuple[tuple[float, Callable[[np.ndarray], np.ndarray]], ...] = (
    (3, _hash_to_3),
    (7, _hash_to_7),
    (16, _hash_to_16),
    (32, _hash_to_32),
    (64, _hash_to_64),
    (float("inf"), _hash_long),
)


# -------------------------------------------------------------------------------------------------------- SipHash


def siphash64(rows: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Returns the SipHash-2-4 of each row, with a key of two ints."""
    count, length = rows.shape
    padded = np.zeros((count, (length // 8 + 1) * 8), dtype=np.uint8)
    padded[:, :length] = rows
    padded[:, -1] = length & 255
    keys = [_number(key[0]), _number(key[1])] * 2
    state = [np.full(count, start ^ part) for start, part in zip(SIP_START, keys, strict=True)]
    for start in range(0, padded.shape[1], 8):
        word = _word(padded, start)
        state[3] = state[3] ^ word
        state = _sip_round(_sip_round(state))
        state[0] = state[0] ^ word
    state[2] = state[2] ^ np.uint64(255)
    for _ in range(4):
        state = _sip_round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _sip_round(state: list[np.ndarray]) -> list[np.ndarray]:
    a, b, c, d = state
    a, c = a + b, c + d
    b, d = _rotate_left(b, 13) ^ a, _rotate_left(d, 16) ^ c
    a = _rotate_left(a, 32)
    c, a = c + b, a + d
    b, d = _rotate_left(b, 17) ^ c, _rotate_left(d, 21) ^ a
    return [a, b, _rotate_left(c, 32), d]
