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

from cohabit.protocol.engine import Derivation
from cohabit.sources.errors import SourceError
from cohabit.sources.lock import locked
from cohabit.sources.progress import Cancelled, Progress, Step, check, ignore, never

_POLL = 0.1  # seconds between two looks at whether it is still wanted


def derived(path: Path, derivation: Derivation | None, derived_dir: Path) -> Path | None:
    """What a file is to be replaced by, if that is there already; the file itself if it needs no other form."""
    if derivation is None or path.suffix != derivation.suffix:
        return path
    target = _target(path, derivation, derived_dir)
    return target if target.exists() else None


def derive(
    path: Path,
    derivation: Derivation | None,
    derived_dir: Path,
    *,
    progress: Progress = ignore,
    cancelled: Cancelled = never,
) -> Path:
    """What a file is to be replaced by, made if need be. Blocks: call it in a thread.

    Raises SourceError with the converter's own words, FetchCancelled. However it ends, nothing half done stays.
    """
    found = derived(path, derivation, derived_dir)
    if found is not None:
        return found
    assert derivation is not None
    target = _target(path, derivation, derived_dir)
    try:
        derived_dir.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock"), progress, cancelled):
            if not target.exists():
                _convert(path, derivation, target, progress, cancelled)
    except OSError as error:
        raise SourceError(f"{path.name} cannot be converted in {derived_dir}: {error.strerror or error}") from error
    return target


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
        part.replace(target)
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
            check(cancelled)
        else:
            return (output.strip().splitlines() or [""])[-1]
