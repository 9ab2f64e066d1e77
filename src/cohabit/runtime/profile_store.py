"""Measured footprints on disk: what a model needed on this device, used from the next start on.

A profile is named by all that decides it: engine, source, files, options, concurrency and device.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
from filelock import FileLock
from msgspec import Meta

from cohabit.config.atomic_file import write
from cohabit.config.model import ModelConfig
from cohabit.core.footprints import MeasuredRun

log = structlog.get_logger()

SCHEMA = 2
LOCK_SECONDS = 0.5  # to wait for another process that writes the file
MAX_BYTES = 1 << 46  # 64 TiB: no device has more
MAX_SECONDS = 86400.0

_Bytes = Annotated[int, Meta(ge=0, le=MAX_BYTES)]
_Seconds = Annotated[float, Meta(ge=0.0, le=MAX_SECONDS)]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and seconds as measured; ``activation`` is the largest that was seen. None: not measured yet."""

    model: str  # the name it had, for people who read the file
    idle: _Bytes
    load: _Bytes
    activation: _Bytes = 0
    sleep_resident: _Bytes | None = None  # what stays while it sleeps
    host_copy: _Bytes | None = None  # in host memory, to wake from
    prewarmed: _Bytes | None = None  # by the process before the load
    load_seconds: _Seconds
    exit_seconds: _Seconds | None = None
    sleep_seconds: _Seconds | None = None
    wake_seconds: _Seconds | None = None
    run_seconds: _Seconds | None = None
    buckets: dict[int, MeasuredRun] = {}  # the largest runs, by the power of two that bounds their units


class _File(msgspec.Struct):
    schema: int
    profiles: dict[str, msgspec.Raw]
    measured: dict[str, int] = {}


class _Kept(msgspec.Struct):
    schema: int
    profiles: dict[str, Profile]
    measured: dict[str, int]  # Unix seconds of each profile's last change


class FootprintsUnwritable(Exception):
    """The file of footprints cannot be changed; the text says which and why."""


def profile_key(model: ModelConfig, device: str) -> str:
    """The name of a profile: readable, then a hash of everything that matters."""
    identity = [model.engine, model.source, model.files, model.options, model.concurrency, device]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return f"{model.engine}@{device}-{digest}"


class ProfileStore:
    """The file of all profiles. Every change is written whole and put in place in one step.

    Several processes may use one file: each change is made to what the file holds at that moment.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """A file that cannot be understood is set aside, not fatal: figures can be measured again.

        ``clock`` gives Unix seconds.
        """
        self.path = path
        self._clock = clock
        self._profiles: dict[str, Profile] = {}
        self._measured: dict[str, int] = {}
        self._read()

    def find(self, key: str) -> Profile | None:
        """What was measured under this key, if anything."""
        return self._profiles.get(key)

    def all(self) -> dict[str, Profile]:
        """By key."""
        return dict(self._profiles)

    def measured_at(self, key: str) -> int | None:
        """Unix seconds of the last change; None if that is not known."""
        return self._measured.get(key)

    def record(self, key: str, profile: Profile) -> None:
        """Keep a measurement. Failing to write is logged and loses only the memory of it."""
        if self._profiles.get(key) == profile:
            return
        try:
            with self._edited():
                self._profiles[key] = profile
                self._measured[key] = int(self._clock())
        except FootprintsUnwritable as error:
            self._profiles[key] = profile
            log.warning("footprints cannot be kept", why=str(error))

    def forget(self, chosen: Callable[[str, Profile], bool]) -> list[Profile]:
        """Drop those that are chosen, by key and profile; returns them. Raises FootprintsUnwritable."""
        if not any(chosen(key, profile) for key, profile in self._profiles.items()):
            return []
        with self._edited():
            gone = [key for key, profile in self._profiles.items() if chosen(key, profile)]
            return [self._profiles.pop(key) for key in gone]

    @contextmanager
    def _edited(self) -> Iterator[None]:
        """The block changes what the file holds now; it is written as the block ends. Raises FootprintsUnwritable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=LOCK_SECONDS, mode=0o600):
                self._read()
                yield
                measured = {key: at for key, at in self._measured.items() if key in self._profiles}
                write(self.path, _Kept(SCHEMA, self._profiles, measured))
        except TimeoutError:
            raise FootprintsUnwritable(f"{self.path}: another process is writing it") from None
        except OSError as error:
            raise FootprintsUnwritable(f"{self.path}: {error.strerror or error}") from None

    def _read(self) -> None:
        file = self._file()
        profiles = {key: _profile(key, raw) for key, raw in file.profiles.items()}
        self._profiles = {key: profile for key, profile in profiles.items() if profile is not None}
        self._measured = file.measured

    def _file(self) -> _File:
        nothing = _File(SCHEMA, {})
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return nothing
        except OSError as error:
            log.warning("footprints cannot be read", path=str(self.path), error=error.strerror)
            return nothing
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self._set_aside()
            return nothing
        if file.schema == 1:
            file.profiles = {key: _converted(raw) for key, raw in file.profiles.items()}
            file.schema = SCHEMA
        return file if file.schema == SCHEMA else nothing

    def _set_aside(self) -> None:
        aside = self.path.with_suffix(".broken")
        try:
            self.path.replace(aside)
        except OSError as error:
            log.warning("footprints are broken and not used", path=str(self.path), error=error.strerror)
        else:
            log.warning("footprints are broken and set aside", path=str(aside))


_NAMES_OF_1 = {
    "resident": "idle",
    "working": "activation",
    "residue": "sleep_resident",
    "copy": "host_copy",
    "spawned": "prewarmed",
}


def _converted(raw: msgspec.Raw) -> msgspec.Raw:
    """A profile of schema 1 with today's names. What is no object stays, to be refused."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return raw
    return msgspec.Raw(msgspec.json.encode({_NAMES_OF_1.get(name, name): value for name, value in fields.items()}))


def _profile(key: str, raw: msgspec.Raw) -> Profile | None:
    """None for one whose figures nothing can have measured; they are measured again."""
    try:
        profile = msgspec.json.decode(raw, type=Profile)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        log.warning("a footprint makes no sense and is not used", key=key)
        return None
    for bucket, run in profile.buckets.items():
        if not (0 <= bucket < 64 and 0 < run.units <= 1 << bucket and 0 <= run.size <= MAX_BYTES):
            log.warning("a footprint makes no sense and is not used", key=key)
            return None
    return profile
