"""A key, and what is kept of it."""

import hashlib

import pytest

from cohabit.access.keys import NAME, NOBODY, Key, digest_of, new_secret


def test_a_secret_is_new_and_long_each_time() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(secret.startswith("cohabit_") and len(secret) == 51 for secret in made)


def test_only_the_hash_is_kept_and_not_shown() -> None:
    key = Key(name="a", digest=digest_of(b"secret"))
    assert key.digest == hashlib.sha256(b"secret").hexdigest()
    assert key.digest not in repr(key)


def test_models() -> None:
    assert Key(name="a", digest="").allows("anything")
    limited = Key(name="a", digest="", models=("llm",))
    assert limited.allows("llm")
    assert not limited.allows("tts")


def test_nobody_is_found_by_no_secret() -> None:
    assert digest_of(b"") != NOBODY.digest


@pytest.mark.parametrize(
    ("name", "right"), [("a", True), ("a.b_c-1", True), ("", False), ("-a", False), ("a b", False), ("a" * 65, False)]
)
def test_names(name: str, *, right: bool) -> None:
    assert bool(NAME.fullmatch(name)) == right
