"""The file of keys: read whole, changed under a lock, put in place in one step, and nobody else's to read."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from cohabit.access.errors import KeysError
from cohabit.access.keys import NAME, Key

SCHEMA = 1

_LOCK_SECONDS = 10.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _File(msgspec.Struct):
    schema: int
    keys: list[Key]


def read(path: Path, *, missing_ok: bool = True) -> dict[str, Key]:
    """All keys by name; none where there is no file, if it may be missing. Raises KeysError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError):
            return {}
        raise KeysError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        found = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError:
        raise _broken(path) from None
    if not all(NAME.fullmatch(key.name) and _DIGEST.fullmatch(key.digest) for key in found.keys):
        raise _broken(path)
    if found.schema != SCHEMA:
        raise KeysError(f"{path}: was written by another version of cohabit, which has to be used with it")
    keys = {key.name: key for key in found.keys}
    if len(keys) < len(found.keys):
        raise KeysError(f"{path}: has two keys of one name; remove one of them")
    return keys


def _broken(path: Path) -> KeysError:
    return KeysError(f"{path}: is broken; restore it, or remove it and make the keys again")


@contextmanager
def editing(path: Path) -> Iterator[dict[str, Key]]:
    """All keys by name, to be changed; they are kept when the block ends without an error. Raises KeysError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)  # where it was there already
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_SECONDS, mode=0o600):
            keys = read(path)
            yield keys
            _write(path, keys)
    except Timeout:
        raise KeysError(f"{path}: somebody else has been changing it for {_LOCK_SECONDS:g} s; try again") from None
    except OSError as error:
        raise KeysError(f"{path}: cannot be written: {error.strerror}") from None


def _write(path: Path, keys: Mapping[str, Key]) -> None:
    data = msgspec.json.format(msgspec.json.encode(_File(SCHEMA, list(keys.values()))), indent=2)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # which makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
