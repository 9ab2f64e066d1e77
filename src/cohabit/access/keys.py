"""A key, and the secret that is shown once."""

import hashlib
import secrets
from dataclasses import dataclass

import msgspec

PREFIX = "cohabit-"


class BrokenKeys(Exception):
    """The file of keys cannot be read; the text says which and why."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of it, and what it may do.

    Of the secret only the SHA-256 is kept. A slow hash is for passwords, which can be guessed; this has 256 random
    bits, and nobody can try them all however fast the hash is.
    """

    name: str
    digest: str  # SHA-256 of the secret, in hexadecimal
    created: int  # Unix seconds
    admin: bool = False
    models: tuple[str, ...] | None = None  # names or aliases; None for all
    requests_per_minute: int | None = None
    concurrent: int | None = None

    def allows(self, model: str) -> bool:
        """Whether it may ask this model."""
        return self.models is None or model in self.models


@dataclass(frozen=True, slots=True)
class Principal:
    """The client on whose behalf files and batches are read and written."""

    name: str  # of its key; empty where the server asks for no key
    sees_all: bool  # an admin, or any client where the server asks for no key

    @property
    def owner_filter(self) -> str | None:
        """The owner whose files and batches are visible; None for all of them."""
        return None if self.sees_all else self.name


def new_secret() -> str:
    """One that nobody has seen before; its beginning tells scanners of repositories what it is."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
