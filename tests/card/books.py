"""What every process holds of a card that is not there: a file each, in the folder that the environment names."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "STAND_IN_CARD"  # the environment's name for it
LINGERS = 1.0  # seconds after the end of a process in which a card still shows its memory as used


def folder() -> Path:
    """Of the card."""
    return Path(os.environ[FOLDER])


def make(where: Path, *, total: int) -> None:
    """A card with so many bytes."""
    where.mkdir()
    (where / "total").write_text(str(total))


def total(where: Path) -> int:
    """Bytes of the card."""
    return int((where / "total").read_text())


def held(where: Path) -> dict[int, int]:
    """Bytes by pid, of those that live."""
    return {pid: size for pid, size in _files(where) if _lives(pid)}


def used(where: Path) -> int:
    """Bytes that are not free, of the dead too for a moment."""
    every = 0
    for pid, size in _files(where):
        file = where / f"{pid}.pid"
        if not _lives(pid):
            if not file.with_suffix(".dead").exists():
                file.with_suffix(".dead").touch()
            if time.time() - file.with_suffix(".dead").stat().st_mtime > LINGERS:
                file.unlink(missing_ok=True)
                continue
        every += size
    return every


@contextmanager
def changing(where: Path) -> Iterator[None]:
    """Nobody else changes anything meanwhile."""
    with (where / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(where: Path, size: int) -> None:
    """This process holds so much now."""
    file = where / f"{os.getpid()}.pid"
    file.with_suffix(".new").write_text(str(size))
    file.with_suffix(".new").rename(file)


def _files(where: Path) -> list[tuple[int, int]]:
    found = []
    for file in where.glob("*.pid"):
        try:
            found.append((int(file.stem), int(file.read_text())))
        except FileNotFoundError:
            continue  # another one has seen it go
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):  # the second while it is being read
        return False
