"""Measured footprints on disk: what a model needed on this device, used from the next start on.

A profile is named by all that decides it: engine, source, files, options, concurrency and device.
"""

import hashlib
import json
from pathlib import Path

import msgspec
import structlog

from cohabit.config.model import ModelConfig
from cohabit.config.writing import write
from cohabit.core.footprints import Run

log = structlog.get_logger()

SCHEMA = 1


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and seconds as measured; ``working`` is the largest that was seen. None: not measured yet."""

    model: str  # the name it had, for people who read the file
    resident: int
    load: int
    working: int = 0
    residue: int | None = None  # what stays while it sleeps
    copy: int | None = None  # in host memory, to wake from
    spawned: int | None = None  # by the process before the load
    load_seconds: float
    exit_seconds: float | None = None
    sleep_seconds: float | None = None
    wake_seconds: float | None = None
    run_seconds: float | None = None
    buckets: dict[int, Run] = {}  # the largest runs, by the power of two that bounds their units


class _File(msgspec.Struct):
    schema: int
    profiles: dict[str, Profile]


def profile_key(model: ModelConfig, device: str) -> str:
    """The name of a profile: readable, then a hash of everything that matters."""
    identity = [model.engine, model.source, model.files, model.options, model.concurrency, device]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return f"{model.engine}@{device}-{digest}"


class Footprints:
    """The file of all profiles. Read once; every change is written whole and put in place in one step."""

    def __init__(self, path: Path) -> None:
        """A file that cannot be understood is set aside, not fatal: figures can be measured again."""
        self._path = path
        self._profiles = self._read()

    def find(self, key: str) -> Profile | None:
        """What was measured under this key, if anything."""
        return self._profiles.get(key)

    def record(self, key: str, profile: Profile) -> None:
        """Keep a measurement. Failing to write is logged and loses only the memory of it."""
        if self._profiles.get(key) == profile:
            return
        self._profiles[key] = profile
        try:
            self._write()
        except OSError as error:
            log.warning("footprints cannot be kept", path=str(self._path), error=error.strerror)

    def _read(self) -> dict[str, Profile]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            log.warning("footprints cannot be read", path=str(self._path), error=error.strerror)
            return {}
        try:
            found = msgspec.json.decode(data, type=_File)
        except msgspec.DecodeError as error:
            aside = self._path.with_suffix(".broken")
            log.warning("footprints are broken and set aside", path=str(aside), error=str(error))
            self._path.replace(aside)
            return {}
        return found.profiles if found.schema == SCHEMA else {}

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write(self._path, _File(SCHEMA, self._profiles))
