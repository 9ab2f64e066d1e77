"""Reads the metadata of a GGUF file, to tell what its context will take without loading it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_KEYS = 10_000
_LONGEST = 64 << 20  # bytes of one string


class NotGguf(ValueError):
    """The file is not GGUF, or is broken."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Scalars and strings by key; arrays are skipped, since vocabularies are long. Raises NotGguf, OSError."""
    with path.open("rb") as file:
        magic, version, _tensors, count = struct.unpack("<4sIQQ", _take(file, 24))
        if magic != b"GGUF" or version < 2 or count > _MOST_KEYS:
            raise NotGguf(f"{path.name} is not a GGUF file of version 2 or later")
        found: dict[str, Any] = {}
        for _ in range(count):
            key = _string(file)
            value = _value(file, _scalar(file, 4))
            if value is not None:
                found[key] = value
        return found


def kv_bytes(metadata: dict[str, Any], tokens: int) -> int:
    """Bytes of a 16-bit key and value cache for ``tokens``: 2 * layers * kv heads * head size * 2 bytes each.

    The formula that gives 128 KiB a token for Llama 3.1 8B. Raises KeyError if the header lacks a figure.
    """
    architecture = metadata["general.architecture"]
    layers = metadata[f"{architecture}.block_count"]
    heads = metadata[f"{architecture}.attention.head_count"]
    kv_heads = metadata.get(f"{architecture}.attention.head_count_kv", heads)
    width = metadata.get(
        f"{architecture}.attention.key_length", metadata[f"{architecture}.embedding_length"] // heads
    )
    return 2 * int(layers) * int(kv_heads) * int(width) * 2 * tokens


def head_bytes(metadata: dict[str, Any]) -> int:
    """Bytes of an output head of 16 bits: vocabulary * width * 2. 0 if the header lacks a figure."""
    architecture = metadata.get("general.architecture")
    vocabulary = metadata.get(f"{architecture}.vocab_size", 0)
    return int(vocabulary) * int(metadata.get(f"{architecture}.embedding_length", 0)) * 2


def _take(file: BinaryIO, size: int) -> bytes:
    data = file.read(size) if size <= _LONGEST else b""
    if len(data) < size:
        raise NotGguf("the file ends within its header")
    return data


def _scalar(file: BinaryIO, kind: int) -> Any:
    form = _SCALARS.get(kind)
    if form is None:
        raise NotGguf(f"unknown value type {kind}")
    return struct.unpack(form, _take(file, struct.calcsize(form)))[0]


def _string(file: BinaryIO) -> str:
    return _take(file, _scalar(file, 10)).decode("utf-8", errors="replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _scalar(file, kind)
    inner, count = _scalar(file, 4), _scalar(file, 10)
    if inner in _SCALARS:
        file.seek(struct.calcsize(_SCALARS[inner]) * count, 1)
    else:
        for _ in range(count):
            _value(file, inner)
    return None
