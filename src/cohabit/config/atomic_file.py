"""Small files of the state folder: written whole or not at all, and noticed when they have changed."""

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec


def write(path: Path, value: Any, *, durable: bool = False) -> None:
    """As JSON that people can read, in place of what was there; for nobody else's eyes (0600). Raises OSError.

    ``durable``: it is on the disk before it takes the place, so that a power failure leaves the one or the other.
    """
    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")  # which makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink()
        raise


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Another one once the file has changed; None where there is none that can be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
