"""Reads the tensors of a ``.pth`` file without torch and without running what is in it.

A ``.pth`` is a pickle, which is a program. This reader knows the three kinds of things that a file of plain tensors
is made of and refuses everything else before it is looked up, let alone called. Format: torch's "legacy" one
(torch/serialization.py, ``_legacy_load``): pickles of a magic number, a version, the writer's machine and the
object, then a pickled list of storage keys, then each storage as an element count (int64) and its raw elements.
"""

import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
_COUNT = struct.Struct("<q")
_ELEMENTS = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class RefusedFile(ValueError):
    """It holds something else than tensors, or contradicts itself. The text says what."""


@dataclass(slots=True)
class _Storage:
    """Raw elements of one or several tensors; read from the end of the file."""

    dtype: np.dtype[Any]
    count: int
    elements: "np.ndarray[Any, Any] | None" = None


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> "np.ndarray[Any, Any]":
        """Its elements. Raises RefusedFile if they would not lie within the storage, or be more than it has."""
        elements = self.storage.elements
        assert elements is not None
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > len(elements) or (0 not in self.shape and last >= len(elements)):
            raise RefusedFile("a tensor reaches beyond its storage")
        strides = [step * elements.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides, writeable=False)


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *_hooks: object) -> _Tensor:
    """Stands in for ``torch._utils._rebuild_tensor_v2``."""
    shape, strides = _sizes(shape), _sizes(strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise RefusedFile("a tensor is not described as torch does")
    (offset,) = _sizes((offset,))
    return _Tensor(storage, offset, shape, strides)


def _sizes(found: object) -> tuple[int, ...]:
    if not isinstance(found, tuple) or not all(type(size) is int and size >= 0 for size in found):
        raise RefusedFile("a tensor has sizes that are none")
    return found


class _Reader(pickle.Unpickler):
    """Resolves ordered dictionaries, tensors and storages; nothing else has a meaning here."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Called for every name in the pickle."""
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _rebuild_tensor
            case "torch", name if name in _ELEMENTS:
                return name
        raise RefusedFile(f"it asks for {module}.{name}, which no file of plain tensors needs")

    def persistent_load(self, pid: Any) -> _Storage:
        """``("storage", kind, key, place, count, view)``."""
        match pid:
            case ("storage", str(kind), str(key), str(), int(count), *_) if kind in _ELEMENTS and count >= 0:
                return self.storages.setdefault(key, _Storage(np.dtype(_ELEMENTS[kind]), count))
        raise RefusedFile("it refers to something that is not a storage")


def read_tensors(path: Path) -> "dict[str, np.ndarray[Any, Any]]":
    """All tensors of a saved ``state_dict`` by name. Raises RefusedFile, OSError."""
    with path.open("rb") as file:
        try:
            return _read(file)
        except RefusedFile:
            raise
        except MemoryError:
            raise RefusedFile("it claims sizes beyond all reason") from None
        except Exception:  # a damaged pickle fails in as many ways as there are instructions
            raise RefusedFile("it is damaged, or not a file of tensors") from None


def _read(file: BinaryIO) -> "dict[str, np.ndarray[Any, Any]]":
    if file.read(2) == b"PK":
        raise RefusedFile("it is in torch's newer zip format; convert it to safetensors")
    file.seek(0)
    if (_Reader(file).load(), _Reader(file).load()) != (MAGIC, VERSION):
        raise RefusedFile("it is not a file that torch saved")
    _Reader(file).load()  # the writer's byte order and sizes: all are little-endian by now
    reader = _Reader(file)
    tensors = reader.load()
    keys = _Reader(file).load()
    _fill(file, reader.storages, keys)
    if not isinstance(tensors, dict):
        raise RefusedFile("it is not a state_dict")
    return {_name(name): _tensor(tensor) for name, tensor in tensors.items()}


def _fill(file: BinaryIO, storages: dict[str, _Storage], keys: Sequence[Any]) -> None:
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise RefusedFile("its storages are not the ones its tensors name")
    for key in keys:
        storage = storages[key]
        (count,) = _COUNT.unpack(file.read(_COUNT.size).ljust(_COUNT.size, b"\0"))
        raw = file.read(storage.count * storage.dtype.itemsize) if count == storage.count else b""
        if len(raw) != storage.count * storage.dtype.itemsize:
            raise RefusedFile("a storage has not the size it says")
        storage.elements = np.frombuffer(raw, storage.dtype)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise RefusedFile("a tensor has no name")
    return name


def _tensor(tensor: object) -> "np.ndarray[Any, Any]":
    if not isinstance(tensor, _Tensor):
        raise RefusedFile("it holds something else than tensors")
    return tensor.array()
