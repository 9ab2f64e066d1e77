"""All keys, in one file that nobody but its owner may read.

The commands change it under a lock, a running server looks at it every second. What cannot be read never opens the
door: a server keeps the keys that it knew, and a file that is gone holds no keys.
"""

import hmac
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from cohabit.access.keys import BrokenKeys, Key, digest_of
from cohabit.config.atomic_file import stamp, write

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds
_VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


class _File(msgspec.Struct):
    version: int
    keys: list[Key]


class Keyring:
    """The keys of a file, as they are now or were a second ago."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` in seconds. Raises BrokenKeys."""
        self._path = path
        self._clock = clock
        self._seen = stamp(path)
        self._look_at = clock() + LOOK_EVERY
        self._keys = _read(path)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._keys)

    def all(self) -> list[Key]:
        """In the order in which they were made."""
        return list(self._keys.values())

    def find(self, secret: str) -> Key | None:
        """The key of this secret.

        Every key is compared, and each to its end, so that the time tells nothing of how much was right.
        """
        self._look()
        digest = digest_of(secret)
        match = None
        for key in self._keys.values():
            if hmac.compare_digest(digest, key.digest):
                match = key
        return match

    def named(self, name: str) -> Key | None:
        """The key of this name, unless it was revoked."""
        self._look()
        return self._keys.get(name)

    def _look(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        seen = stamp(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._keys = _read(self._path)
        except BrokenKeys as error:
            log.error("keys cannot be read; those that were known still hold", why=str(error))  # noqa: TRY400 - no more
        else:
            log.info("keys have changed", keys=len(self._keys))


@contextmanager
def edited(path: Path) -> Iterator[dict[str, Key]]:
    """The keys by name, to be changed; written as the block ends. Raises BrokenKeys, OSError."""
    from filelock import FileLock

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # a server that ran before may have made it with the rights of any folder
    with FileLock(path.with_name(f"{path.name}.lock"), mode=0o600):
        keys = dict(_read(path))
        yield keys
        write(path, _File(_VERSION, list(keys.values())), durable=True)


def _read(path: Path) -> Mapping[str, Key]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BrokenKeys(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError:
        raise BrokenKeys(f"{path} is not a file of keys") from None
    if found.version != _VERSION:
        raise BrokenKeys(f"{path} was written by another version of cohabit")
    keys = {key.name: key for key in found.keys}
    # One of two with a name would go unseen by `list` and `revoke`; a digest that is none cannot be compared.
    if len(keys) < len(found.keys) or not all(_DIGEST.fullmatch(key.digest) for key in found.keys):
        raise BrokenKeys(f"{path} is not a file of keys")
    return keys
