"""Keys: kept as hashes, found without telling how nearly, changed while a server runs."""

import hmac
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cohabit.access.keys import PREFIX, BrokenKeys, Key, digest_of, new_secret
from cohabit.access.keys_file import LOOK_EVERY, Keyring, edited

ANN = b'{"name": "ann", "created": 1, "digest": "%b"}' % (b"0" * 64)
TWO = b'{"version": 1, "keys": [%b, %b]}' % (ANN, ANN)
NO_HASH = b'{"version": 1, "keys": [%b]}' % ANN.replace(b"00", "é".encode())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(path: Path, *names: str) -> dict[str, str]:
    """Their secrets."""
    secrets = {name: new_secret() for name in names}
    with edited(path) as keys:
        for name, secret in secrets.items():
            keys[name] = Key(name=name, digest=digest_of(secret), created=1)
    return secrets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.json"


def test_a_secret_is_long_random_and_recognisable() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith(PREFIX)
    assert len(first) >= len(PREFIX) + 43, "256 bits"


def test_found_by_its_secret_and_by_its_name(path: Path) -> None:
    secrets = made(path, "ann", "bob")
    ring = Keyring(path)
    assert ring.find(secrets["ann"]) == ring.named("ann")
    assert ring.find(secrets["bob"]) == ring.named("bob")
    for wrong in ("", "x", secrets["ann"][:-1], secrets["ann"] + "x", digest_of(secrets["ann"])):
        assert ring.find(wrong) is None
    assert ring.named("carl") is None
    assert [key.name for key in ring.all()] == ["ann", "bob"]


def test_the_secret_is_nowhere(path: Path) -> None:
    secrets = made(path, "ann")
    kept = path.read_text()
    assert secrets["ann"] not in kept
    assert secrets["ann"].removeprefix(PREFIX) not in kept
    assert secrets["ann"] not in repr(Keyring(path).all())


@pytest.mark.parametrize("there_already", [False, True])
def test_only_its_owner_may_read_it(path: Path, *, there_already: bool) -> None:
    if there_already:
        path.parent.mkdir(mode=0o755)
    made(path, "ann")
    made(path, "bob")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("right", range(4))
def test_every_key_is_compared_to_its_end_whatever_is_right(
    right: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = list(made(path, "a", "b", "c").values())
    compared: list[str] = []
    real = hmac.compare_digest

    def counted(first: str, second: str) -> bool:
        compared.append(second)
        return real(first, second)

    monkeypatch.setattr("cohabit.access.keys_file.hmac.compare_digest", counted)
    ring = Keyring(path)
    ring.find([*secrets, "wrong"][right])
    assert compared == [key.digest for key in ring.all()]


def test_a_running_server_sees_changes_within_a_second(path: Path) -> None:
    clock = Clock()
    ring = Keyring(path, clock)
    assert not ring
    first = made(path, "ann")["ann"]
    assert ring.find(first) is None, "it is not looked at for every request"
    clock.now += LOOK_EVERY
    assert ring.find(first) is not None
    assert ring
    with edited(path) as keys:
        del keys["ann"]
    clock.now += LOOK_EVERY
    assert ring.find(first) is None
    assert ring.named("ann") is None


def test_a_file_that_is_gone_holds_no_keys(path: Path) -> None:
    clock = Clock()
    secret = made(path, "ann")["ann"]
    ring = Keyring(path, clock)
    path.unlink()
    clock.now += LOOK_EVERY
    assert ring.find(secret) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version": 1, "keys": [{"name": 7}]}', TWO, NO_HASH])
def test_a_broken_file_leaves_the_keys_as_they_were(content: bytes, path: Path) -> None:
    clock = Clock()
    secret = made(path, "ann")["ann"]
    ring = Keyring(path, clock)
    path.write_bytes(content)
    clock.now += LOOK_EVERY
    with capture_logs() as logged:
        assert ring.find(secret) is not None
        assert ring.find("x") is None
    assert [line["log_level"] for line in logged] == ["error"]
    with pytest.raises(BrokenKeys, match=r"keys\.json"):
        Keyring(path)
    with pytest.raises(BrokenKeys), edited(path):
        raise AssertionError


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BrokenKeys, match="directory"):
        Keyring(tmp_path)


def test_a_file_of_another_version(path: Path) -> None:
    made(path, "ann")
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(BrokenKeys, match="version"):
        Keyring(path)


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    made(path, "ann")

    def fails() -> None:
        with edited(path) as keys:
            keys.clear()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert Keyring(path).named("ann")


def test_a_full_disk_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path, "ann")
    before = {each.name for each in path.parent.iterdir()}

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        made(path, "bob")
    assert {each.name for each in path.parent.iterdir()} == before
    assert [key.name for key in Keyring(path).all()] == ["ann"]


def test_the_models_of_a_key() -> None:
    key = Key(name="a", digest="", created=1)
    assert key.allows("llm")
    limited = Key(name="a", digest="", created=1, models=("llm",))
    assert limited.allows("llm")
    assert not limited.allows("tts")
