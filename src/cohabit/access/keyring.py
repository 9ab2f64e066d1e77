"""The keys as a running server sees them."""

import time
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path

import structlog

from cohabit.access.errors import KeysError
from cohabit.access.keyfile import read
from cohabit.access.keys import Key, digest_of

log = structlog.get_logger()

LOOK_EVERY = 0.5  # seconds; a look is one stat


class Keyring:
    """Follows the file of keys without being told.

    A file that cannot be used any more changes nothing: who had a key still has it, nobody else comes in, and the
    log says so. It is looked at when somebody asks, on the event loop: a stat takes some microseconds, and the file
    is small and rarely changes.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the file. Raises KeysError."""
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._seen = self._signature()
        self._keys = read(path)

    def __len__(self) -> int:
        """How many there are."""
        self._look()
        return len(self._keys)

    def find(self, secret: bytes) -> Key | None:
        """Whose secret it is.

        It is compared with every key and each time to the end, so that the time tells nothing of what was right.
        """
        self._look()
        digest = digest_of(secret)
        found = None
        for key in self._keys.values():
            if compare_digest(digest, key.digest):
                found = key
        return found

    def named(self, name: str) -> Key | None:
        """The key of that name, unless it has been revoked."""
        self._look()
        return self._keys.get(name)

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            keys = read(self._path, missing_ok=False)
        except KeysError as error:
            # No traceback: it is of a file, and what is to be done stands in the error.
            log.error("keys cannot be read, those of before still hold", why=str(error))  # noqa: TRY400 - see above
            return
        self._keys = keys
        log.info("keys have changed", keys=len(keys))

    def _signature(self) -> tuple[int, int, int] | None:
        """Changes when the file does, since it is always replaced by another. None if it cannot be looked at."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
