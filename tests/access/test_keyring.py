"""What a running server knows of its keys."""

from hmac import compare_digest
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cohabit.access.errors import KeysError
from cohabit.access.keyfile import editing
from cohabit.access.keyring import LOOK_EVERY, Keyring
from cohabit.access.keys import Key, digest_of

SECRET = b"cohabit_secret-of-a"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self) -> None:
        self.now += LOOK_EVERY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "keys.json"
    put(found, "a")
    return found


def put(path: Path, *names: str) -> None:
    with editing(path) as keys:
        keys.clear()
        keys.update({name: Key(name=name, digest=digest_of(b"cohabit_secret-of-" + name.encode())) for name in names})


def test_finds_whose_secret_it_is(path: Path) -> None:
    put(path, "a", "b", "c")
    ring = Keyring(path)
    assert len(ring) == 3
    for name in "abc":
        found = ring.find(b"cohabit_secret-of-" + name.encode())
        assert found is not None
        assert found.name == name
        assert ring.named(name) is found
    for wrong in (b"", SECRET[:-1], SECRET + b"x", SECRET.upper(), digest_of(SECRET).encode(), b"\xff", b"a"):
        assert ring.find(wrong) is None
    assert ring.named("d") is None


@pytest.mark.parametrize("secret", [b"cohabit_secret-of-a", b"cohabit_secret-of-c", b"wrong", b""])
def test_every_key_is_compared_to_the_end_whatever_is_sent(
    secret: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(path, "a", "b", "c")
    ring = Keyring(path)
    compared = []

    def watched(sent: str, kept: str) -> bool:
        compared.append((sent, kept))
        return compare_digest(sent, kept)

    monkeypatch.setattr("cohabit.access.keyring.compare_digest", watched)
    ring.find(secret)
    assert [kept for _, kept in compared] == [digest_of(b"cohabit_secret-of-" + name) for name in (b"a", b"b", b"c")]
    assert {sent for sent, _ in compared} == {digest_of(secret)}, "never the secret itself"


def test_follows_the_file(path: Path) -> None:
    clock = Clock()
    ring = Keyring(path, clock)
    put(path, "b")
    assert ring.named("a"), "it is not looked at for every request"
    clock.pass_by()
    assert ring.find(SECRET) is None, "revoked"
    assert ring.named("b")
    put(path, "a", "b")
    clock.pass_by()
    assert ring.find(SECRET)


def test_there_may_be_none_yet(tmp_path: Path) -> None:
    clock = Clock()
    ring = Keyring(tmp_path / "keys.json", clock)
    assert not len(ring)
    put(tmp_path / "keys.json", "a")
    clock.pass_by()
    assert len(ring) == 1


def test_a_file_that_is_broken_opens_nothing_and_locks_nobody_out(path: Path) -> None:
    clock = Clock()
    ring = Keyring(path, clock)
    good = path.read_bytes()
    for spoil in (lambda: path.write_text("{"), path.unlink, path.mkdir):
        spoil()
        with capture_logs() as lines:
            for _ in range(3):
                clock.pass_by()
                assert ring.find(SECRET)
                assert ring.find(b"wrong") is None
        assert [(line["log_level"], line["event"]) for line in lines] == [
            ("error", "keys cannot be read, those of before still hold")
        ], "once"
        assert str(path) in lines[0]["why"]
    path.rmdir()
    path.write_bytes(good.replace(b'"a"', b'"z"'))
    clock.pass_by()
    assert ring.named("z"), "mended"


def test_does_not_begin_with_a_broken_one(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(KeysError, match="is broken"):
        Keyring(path)
