"""The safetensors format in plain Python: no torch, one tensor or item read without the rest, no trust in the header.

Eight bytes (little endian) say how long the JSON header is; it names each tensor's dtype, shape and place in the bytes
that follow, which must be covered without holes. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# safetensors itself allows 100 MB; a record's provenance takes a few kilobytes.
MAX_HEADER_BYTES = 1 << 20
MAX_DIMENSION = 1 << 31

_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
DTYPES = tuple(_CODES)
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
_NUMPY_DTYPES = {"float32": "<f4", "float16": "<f2"}
_VALUE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class InvalidTensorFile(ValueError):
    """The bytes are not a safetensors file of floating point tensors."""


@dataclass(frozen=True)
class RawTensor:
    """A tensor as bytes, first dimension outermost."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview

    def item(self, index: int) -> memoryview:
        item_bytes = len(self.data) // self.shape[0]
        return self.data[index * item_bytes : (index + 1) * item_bytes]

    def is_finite(self) -> bool:
        if self.dtype == "bfloat16":  # unknown to numpy; the exponent is all ones for inf and NaN only
            return not bool(((np.frombuffer(self.data, "<u2") & 0x7F80) == 0x7F80).any())
        return bool(np.isfinite(np.frombuffer(self.data, _NUMPY_DTYPES[self.dtype])).all())

    def to_numpy(self) -> NDArray[np.float32]:
        """Return the values as float32, without a copy where they are so already."""
        if self.dtype == "bfloat16":  # the upper half of a float32
            values = (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(self.data, _NUMPY_DTYPES[self.dtype]).astype("<f4", copy=False)
        return values.reshape(self.shape)


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor's bytes are, counted from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def item(self, index: int) -> TensorPlace:
        """Return the place of one index of the first dimension, which stays with length one."""
        item_bytes = (self.end - self.start) // self.shape[0]
        start = self.start + index * item_bytes
        return TensorPlace(self.dtype, (1, *self.shape[1:]), start, start + item_bytes)

    def read(self, file: IO[bytes]) -> RawTensor:
        """Read these bytes and no others."""
        data = bytearray(self.end - self.start)  # writable, so that torch can use it without a copy
        file.seek(self.start)
        if file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise InvalidTensorFile("it ends too early")
        return RawTensor(self.dtype, self.shape, memoryview(data))


@dataclass(frozen=True)
class Header:
    tensors: dict[str, TensorPlace]
    metadata: dict[str, str]


def build(tensors: Mapping[str, RawTensor], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a file with these tensors in this order."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + len(tensor.data)
        entries[name] = {"dtype": _CODES[tensor.dtype], "shape": tensor.shape, "data_offsets": [start, end]}
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-len(header) % 8)  # tensors start aligned
    return b"".join([len(header).to_bytes(8, "little"), header, *(tensor.data for tensor in tensors.values())])


def read_header(file: IO[bytes], size_bytes: int, *, may_be_empty: str = "") -> Header:
    """Read and check the header of a file of `size_bytes`; one tensor may be there for its name only."""
    file.seek(0)
    header_bytes = int.from_bytes(file.read(8), "little")
    if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, size_bytes - 8):
        raise InvalidTensorFile(f"it is not a safetensors file, or its header is larger than {MAX_HEADER_BYTES} bytes")
    entries = _parse_json(file.read(header_bytes))
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidTensorFile("its metadata are not text")
    data_start = 8 + header_bytes
    tensors = {
        name: _place(name, entry, data_start, smallest=0 if name == may_be_empty else 1)
        for name, entry in entries.items()
    }
    _check_cover(tensors, data_start, size_bytes)
    return Header(tensors, metadata)


def _parse_json(text: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(text, object_pairs_hook=_unique_keys)
    except InvalidTensorFile:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidTensorFile("its header is not JSON") from error
    if not isinstance(entries, dict):
        raise InvalidTensorFile("its header is not a JSON object")
    return entries


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise InvalidTensorFile("its header names something twice")
    return entries


def _place(name: str, entry: Any, data_start: int, smallest: int) -> TensorPlace:
    what = f"tensor {name[:40]!r}"  # not more of what a stranger wrote, and nothing that a terminal obeys
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InvalidTensorFile(f"{what} is not described as the format demands")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise InvalidTensorFile(f"{what} has another dtype than {', '.join(_DTYPES)}")
    if not _is_list_of_sizes(shape, minimum=smallest):
        raise InvalidTensorFile(f"{what} has no possible shape")
    if not _is_list_of_sizes(offsets, minimum=0) or len(offsets) != 2:
        raise InvalidTensorFile(f"{what} has no possible place")
    start, end = offsets
    if end - start != math.prod(shape) * _VALUE_BYTES[_DTYPES[dtype]]:
        raise InvalidTensorFile(f"{what} has {end - start} bytes, which is not what its shape needs")
    return TensorPlace(_DTYPES[dtype], tuple(shape), data_start + start, data_start + end)


def _is_list_of_sizes(value: Any, minimum: int) -> bool:
    # type(), because True is an int
    return (
        isinstance(value, list)
        and len(value) <= 8
        and all(type(size) is int and minimum <= size <= MAX_DIMENSION for size in value)
    )


def _check_cover(tensors: Mapping[str, TensorPlace], data_start: int, size_bytes: int) -> None:
    covered = data_start
    for place in sorted(tensors.values(), key=lambda place: place.start):
        if place.start != covered:
            raise InvalidTensorFile("its tensors overlap or leave holes")
        covered = place.end
    if covered != size_bytes:
        raise InvalidTensorFile(f"it has {size_bytes} bytes, its header says {covered}")
