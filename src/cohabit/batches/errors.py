"""What can go wrong with where batches are kept.

StorageError          the database did not take or give what it was asked for; ``trouble`` says why
Missing               there is no such file or batch
Conflict              it cannot be done as things are
TooMuch               more than may be stored
Left                  whoever sends something has hung up
"""

from enum import StrEnum


class Trouble(StrEnum):
    FULL = "storage_full"
    BUSY = "storage_busy"
    UNREACHABLE = "storage_unreachable"


_SAYS = {
    Trouble.FULL: "the disk that keeps files and batches is full; free some space or delete files, then try again",
    Trouble.BUSY: "the database of files and batches is locked by something else; try again",
    Trouble.UNREACHABLE: "the database of files and batches cannot be used now; the server's log says why",
}


class StorageError(Exception):
    """Nothing was changed. The text is for clients and holds nothing that was stored."""

    def __init__(self, trouble: Trouble) -> None:
        """For ``trouble``."""
        super().__init__(_SAYS[trouble])
        self.trouble = trouble


class Missing(Exception):
    """Or it belongs to somebody else, which is told in the same words."""

    def __init__(self, what: str) -> None:
        """``what`` is a file or a batch."""
        super().__init__(f"there is no such {what}")
        self.what = what


class Conflict(Exception):
    """The text says what would do."""

    def __init__(self, message: str, code: str) -> None:
        """``code`` is for programs."""
        super().__init__(message)
        self.code = code


class TooMuch(Exception):
    """The text says how much is too much."""


class Left(Exception):
    """Its client has hung up."""
