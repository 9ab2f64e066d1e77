"""Reads the metadata of a GGUF file, to tell what its context will take without loading it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import msgspec

_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SCALARS = {kind: struct.Struct("<" + form) for kind, form in _FORMS.items()}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_HEAD = struct.Struct("<4sIQQ")
_ARRAY_HEAD = struct.Struct("<IIQ")  # that it is one, the type of its entries, their number
_STRING, _ARRAY = 8, 9
_MAX_CONTROL = 1024  # control tokens that are kept: Llama 3 has 256
_MAX_KEYS = 10_000
_LONGEST = 64 << 20  # bytes of one string that is kept


_CONTROL = 3  # the type of tokens such as <|im_end|>
_LONGEST_TOKEN = 256  # bytes, where the file does not tell


class Vocabulary(msgspec.Struct, frozen=True):
    """What is known of the tokens of a model without loading it."""

    longest: int = _LONGEST_TOKEN  # bytes of the longest, or more
    control: tuple[str, ...] = ()  # tokens such as <|im_end|>


class NotGguf(ValueError):
    """The file is not GGUF, or is broken."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Scalars and strings by key; arrays are skipped, since vocabularies are long. Raises NotGguf, OSError."""
    with _opened(path) as header:
        return header.metadata()


def read_vocabulary(path: Path) -> Vocabulary:
    """The tokens of a GGUF file, as far as it has them. Raises NotGguf, OSError."""
    with _opened(path) as header:
        return header.vocabulary()


@contextmanager
def _opened(path: Path) -> Iterator["_Header"]:
    with path.open("rb") as file:
        try:
            data = mmap(file.fileno(), 0, access=ACCESS_READ)
        except ValueError:
            raise NotGguf(f"{path.name} is empty") from None
    with data:
        yield _Header(path.name, data)


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


class _Header:
    """A place in a mapped file, and what is read there. A vocabulary has 100,000 strings: none costs a call."""

    def __init__(self, name: str, data: mmap) -> None:
        self._name = name
        self._data = data
        self._at = 0
        self._places: dict[str, int] = {}  # of values, by key

    def vocabulary(self) -> Vocabulary:
        self.metadata()
        try:
            lengths, begins = self._tokens(self._places["tokenizer.ggml.tokens"])
            kinds = self._numbers(self._places.get("tokenizer.ggml.token_type"))
        except KeyError:
            return Vocabulary()
        except (struct.error, OverflowError):
            raise NotGguf(f"{self._name} has a broken header") from None
        control = [
            self._data[begin : begin + length].decode("utf-8", errors="replace")
            for begin, length, kind in zip(begins, lengths, kinds, strict=False)
            if kind == _CONTROL and length
        ]
        return Vocabulary(max(lengths, default=_LONGEST_TOKEN), tuple(control[:_MAX_CONTROL]))

    def _tokens(self, at: int) -> tuple[list[int], list[int]]:
        """Lengths of strings in bytes, and where each begins."""
        _, kind, count = _ARRAY_HEAD.unpack_from(self._data, at)
        if kind != _STRING:
            raise KeyError
        data, length, at = self._data, _U64.unpack_from, at + _ARRAY_HEAD.size
        lengths, begins = [], []
        for _ in range(count):
            (size,) = length(data, at)
            lengths.append(size)
            begins.append(at + 8)
            at += 8 + size
        return lengths, begins

    def _numbers(self, at: int | None) -> tuple[int, ...]:
        if at is None:
            return ()
        _, kind, count = _ARRAY_HEAD.unpack_from(self._data, at)
        if kind not in (4, 5) or count > len(self._data):
            return ()
        return struct.unpack_from(f"<{count}{_FORMS[kind]}", self._data, at + _ARRAY_HEAD.size)

    def metadata(self) -> dict[str, Any]:
        try:
            magic, version, _tensors, count = self._unpack(_HEAD)
            if magic != b"GGUF" or version < 2 or count > _MAX_KEYS:
                raise NotGguf(f"{self._name} is not a GGUF file of version 2 or later")
            pairs = [self._pair() for _ in range(count)]
        except (struct.error, OverflowError, RecursionError):  # beyond its end, or arrays in arrays without one
            raise NotGguf(f"{self._name} has a broken header") from None
        return {key: value for key, value in pairs if value is not None}

    def _pair(self) -> tuple[str, Any]:
        key = self._string()
        self._places[key] = self._at
        return key, self._value()

    def _value(self) -> Any:
        (kind,) = self._unpack(_U32)
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._unpack(self._form(kind))[0]
        self._skip_array()
        return None

    def _skip_array(self) -> None:
        (kind,), (count,) = self._unpack(_U32), self._unpack(_U64)
        if kind == _STRING:
            self._skip_strings(count)
        elif kind == _ARRAY:
            for _ in range(count):
                self._skip_array()
        else:
            self._at += self._form(kind).size * count

    def _skip_strings(self, count: int) -> None:
        data, at, length = self._data, self._at, _U64.unpack_from
        for _ in range(count):
            at += 8 + length(data, at)[0]
        self._at = at

    def _string(self) -> str:
        (size,) = self._unpack(_U64)
        begin, self._at = self._at, self._at + size
        if size > _LONGEST or self._at > len(self._data):
            raise NotGguf(f"{self._name} has a broken header")
        return self._data[begin : self._at].decode("utf-8", errors="replace")

    def _unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        found = form.unpack_from(self._data, self._at)
        self._at += form.size
        return found

    def _form(self, kind: int) -> struct.Struct:
        form = _SCALARS.get(kind)
        if form is None:
            raise NotGguf(f"{self._name} has a value of the unknown type {kind}")
        return form
