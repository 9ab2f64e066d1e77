"""The file of keys: private, whole, and changed by one at a time."""

import threading
from pathlib import Path

import pytest

from cohabit.access.errors import KeysError
from cohabit.access.keyfile import editing, read
from cohabit.access.keys import Key, digest_of


def key(name: str) -> Key:
    return Key(name=name, digest=digest_of(name.encode()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.json"


def test_what_was_kept_is_read(path: Path) -> None:
    assert read(path) == {}
    made = Key(name="a", digest=digest_of(b"a"), admin=True, models=("llm",), requests_per_minute=3, concurrent=2)
    with editing(path) as keys:
        keys["a"] = made
    with editing(path) as keys:
        keys["b"] = key("b")
    assert read(path) == {"a": made, "b": key("b")}
    assert "a" in path.read_text()


def test_it_is_nobody_elses_to_read(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    with editing(path) as keys:
        keys["a"] = key("a")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()} == {
        "keys.json": 0o600,
        "keys.lock": 0o600,
    }


def test_an_error_changes_nothing(path: Path) -> None:
    with editing(path) as keys:
        keys["a"] = key("a")
    with pytest.raises(KeyError), editing(path) as keys:
        del keys["a"], keys["b"]
    assert set(read(path)) == {"a"}


def test_what_cannot_be_written_leaves_what_there_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with editing(path) as keys:
        keys["a"] = key("a")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KeysError, match=r"keys\.json: cannot be written: No space left"), editing(path) as keys:
        keys["b"] = key("b")
    assert set(read(path)) == {"a"}
    assert {entry.name for entry in path.parent.iterdir()} == {"keys.json", "keys.lock"}


def test_nobodys_change_is_lost(path: Path) -> None:
    def change(number: int) -> None:
        for turn in range(5):
            with editing(path) as keys:
                keys[f"{number}.{turn}"] = key(f"{number}.{turn}")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(path)) == 20


GOOD = '{"name": "a", "digest": "%s"}' % ("0" * 64)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is broken"),
        ("{}", "is broken"),
        ('{"schema": 1, "keys": [{"name": "a"}]}', "is broken"),
        ('{"schema": 1, "keys": [{"name": "a", "digest": ""}]}', "is broken"),
        ('{"schema": 1, "keys": [{"name": "a", "digest": "é"}]}', "is broken"),
        (f'{{"schema": 1, "keys": [{GOOD.replace("a", "", 1)}]}}', "is broken"),
        (f'{{"schema": 1, "keys": [{GOOD}, {GOOD}]}}', "two keys of one name"),
        (f'{{"schema": 2, "keys": [{GOOD}]}}', "another version"),
    ],
)
def test_what_is_no_file_of_keys(path: Path, text: str, what: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(KeysError, match=what):
        read(path)
    with pytest.raises(KeysError, match=what), editing(path):
        pass
    assert path.read_text() == text, "it is there to be restored"


def test_what_cannot_be_read(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeysError, match="cannot be read: Is a directory"):
        read(path)
    with pytest.raises(KeysError, match="No such file"):
        read(path.parent / "other.json", missing_ok=False)
