"""One key: what is kept of it, and what whoever has it may do."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PREFIX = "cohabit_"  # so that people, and programs that look for leaked secrets, know one when they see it


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is kept of a key. None stands for no limit."""

    name: str
    digest: str = field(repr=False)  # of the secret, see ``digest_of``
    admin: bool = False
    models: tuple[str, ...] | None = None  # names or aliases
    requests_per_minute: int | None = None
    concurrent: int | None = None  # requests that are not answered to their end
    created: float = 0.0  # Unix seconds

    def allows(self, model: str) -> bool:
        """Whether it may use a model of this name."""
        return self.models is None or model in self.models


NOBODY = Key(name="", digest="")
"""Stands for who left work here while there were no keys. No secret has an empty digest."""


def new_secret() -> str:
    """What a client sends: 256 random bits behind a prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: bytes) -> str:
    """SHA-256 in hex: all that is kept of a secret.

    A slow hash with salt is for passwords, which people choose, so that they can be guessed. These are 256 random
    bits, which nobody guesses however fast the hash is, and it is computed for every request.
    """
    return hashlib.sha256(secret).hexdigest()
