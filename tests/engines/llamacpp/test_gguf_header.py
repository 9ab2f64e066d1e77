"""The header reader on a file made by hand, whole and broken."""

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from cohabit.engines.llamacpp.gguf_header import NotGguf, kv_bytes, read_metadata

LLAMA: dict[str, str | int] = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.embedding_length": 4096,
}


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value)) + value.encode()


def header(values: Mapping[str, str | int]) -> bytes:
    """Key, type, value of each, behind an array of strings, one of floats and one of arrays."""
    entries = [text("skipped") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")]
    entries.append(text("floats") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3))
    entries.append(text("nested") + struct.pack("<IIQ", 9, 9, 2) + 2 * struct.pack("<IQ2H", 2, 2, 1, 2))
    for key, value in values.items():
        typed = struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
        entries.append(text(key) + typed)
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(entries)) + b"".join(entries)


def test_scalars_and_strings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(header(LLAMA))
    assert read_metadata(path) == LLAMA


def test_llama_8b_takes_128_kib_a_token() -> None:
    assert kv_bytes(dict(LLAMA), 1) == 128 * 1024
    assert kv_bytes(dict(LLAMA), 8192) == 1 << 30


def test_without_grouped_heads_every_head_has_its_own() -> None:
    plain = {key: value for key, value in LLAMA.items() if "kv" not in key}
    assert kv_bytes(plain, 1) == 512 * 1024


@pytest.mark.parametrize("broken", [b"", b"GGUF", b"NOPE" + header(LLAMA)[4:], header(LLAMA)[:60]])
def test_a_broken_file_is_named_as_such(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(broken)
    with pytest.raises(NotGguf):
        read_metadata(path)


def test_an_unknown_type_and_a_giant_string_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    start = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text("k")
    past = struct.pack("<IIQQ", 9, 8, 2, 1 << 63)  # an array's first string, of which the second would lie beyond all
    deep = struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100_000
    cut = struct.pack("<IIQ", 9, 9, 1)
    for rest in (struct.pack("<I", 99), struct.pack("<IQ", 8, 1 << 60), cut, past, deep):
        path.write_bytes(start + rest)
        with pytest.raises(NotGguf):
            read_metadata(path)


def test_long_string_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    size = 65 << 20
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text("k") + struct.pack("<IQ", 8, size))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)
    with pytest.raises(NotGguf):
        read_metadata(path)
