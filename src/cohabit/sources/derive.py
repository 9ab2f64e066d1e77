"""Weights in the form that an engine reads, made once out of the form they came in.

The converter is the engine's; it runs in a process of its own, since it needs libraries that the control plane never
imports and reads files that nobody vouches for. What it makes is kept under a name that says what it was made of.
"""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from cohabit.protocol.engine import Derivation
from cohabit.sources.progress import Cancelled, Progress, SourceError, Step, ignore, locked, never
from cohabit.sources.progress import check as check_cancelled
from cohabit.sources.wheel_store import sha256_of, sync

_POLL = 0.1  # seconds between two looks at whether it is still wanted


def derived(path: Path, derivation: Derivation | None, derived_dir: Path) -> Path | None:
    """What a file is to be replaced by, if that is there already; the file itself if it needs no other form."""
    if derivation is None or path.suffix != derivation.suffix:
        return path
    try:
        target = _target(path, derivation, derived_dir)
        return target if _Record.beside(target).holds(target) else None
    except OSError:
        return None  # ``derive`` says why


def derive(
    path: Path,
    derivation: Derivation | None,
    derived_dir: Path,
    *,
    progress: Progress = ignore,
    cancelled: Cancelled = never,
    check: bool = False,
) -> Path:
    """What a file is to be replaced by, made if need be, and anew if it is not as it was made. Blocks: call it in a
    thread.

    Its size is looked at each time; with ``check`` it is hashed too. Raises SourceError with the converter's own
    words, FetchCancelled. However it ends, nothing half done stays.
    """
    if derivation is None or path.suffix != derivation.suffix:
        return path
    target = _target(path, derivation, derived_dir)
    try:
        if _Record.beside(target).holds(target, hashed=check):
            return target
        derived_dir.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock"), progress, cancelled):
            if not _Record.beside(target).holds(target, hashed=check):
                _convert(path, derivation, target, progress, cancelled)
    except OSError as error:
        raise SourceError(f"{path.name} cannot be converted in {derived_dir}: {error.strerror or error}") from error
    return target


class _Record(msgspec.Struct, frozen=True):
    """What a file was when it was made; beside it, and written after it."""

    size: int  # bytes
    sha256: str

    @staticmethod
    def place(target: Path) -> Path:
        """Of the record of a file."""
        return target.with_name(f"{target.name}.json")

    @classmethod
    def beside(cls, target: Path) -> "_Record":
        """The record of a file; one that no file fits if there is none, or it is damaged. Raises OSError."""
        try:
            return msgspec.json.decode(cls.place(target).read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return cls(-1, "")

    def holds(self, target: Path, *, hashed: bool = False) -> bool:
        """Whether the file is as it was made."""
        return (
            target.is_file()
            and target.stat().st_size == self.size
            and (not hashed or sha256_of(target) == self.sha256)
        )

    def write(self, target: Path) -> None:
        """Put it beside the file, on the disk."""
        place = self.place(target)
        draft = place.with_name(f".{place.name}.part")
        draft.write_bytes(msgspec.json.encode(self))
        sync(draft)
        draft.replace(place)
        sync(place.parent)


def _target(path: Path, derivation: Derivation, derived_dir: Path) -> Path:
    status = path.stat()
    made_of = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {derivation.module} {derivation.version}"
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    return derived_dir / f"{path.stem}-{digest}{derivation.to}"


def _convert(path: Path, derivation: Derivation, target: Path, progress: Progress, cancelled: Cancelled) -> None:
    part = target.with_name(f".{target.name}.part")
    converter = subprocess.Popen(
        [sys.executable, "-P", "-m", derivation.module, str(path), str(part)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C reaches us, and we end it
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        said = _watch(converter, progress, cancelled)
        if converter.returncode != 0:
            raise SourceError(f"{path.name} cannot be converted to {derivation.to}: {said or 'the converter failed'}")
        sync(part)
        record = _Record(part.stat().st_size, sha256_of(part))
        part.replace(target)
        record.write(target)
    finally:
        if converter.poll() is None:
            os.killpg(converter.pid, signal.SIGKILL)
            converter.communicate()
        part.unlink(missing_ok=True)


def _watch(converter: "subprocess.Popen[str]", progress: Progress, cancelled: Cancelled) -> str:
    """Until it has ended; its last line."""
    while True:
        progress(Step.CONVERTING, 0, None)
        try:
            output, _ = converter.communicate(timeout=_POLL)
        except subprocess.TimeoutExpired:
            check_cancelled(cancelled)
        else:
            return (output.strip().splitlines() or [""])[-1]
