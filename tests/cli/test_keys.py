"""``cohabit keys``, and what needs keys, as a user types it."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cohabit.access.keyring import Keyring
from cohabit.cli.access import is_loopback
from cohabit.cli.main import app


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where keys will be."""
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path))
    return tmp_path / "state" / "keys.json"


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(app, list(arguments))


def table() -> dict[str, list[str]]:
    """What ``list`` shows, by name."""
    _, *lines = run("keys", "list").stdout.splitlines()
    return {line.split()[0]: line.split()[1:-1] for line in lines}


def test_a_new_key_is_printed_once_and_alone(file: Path) -> None:
    done = run("keys", "add", "alice")
    assert done.exit_code == 0
    secret = done.stdout.removesuffix("\n")
    assert re.fullmatch(r"cohabit_[A-Za-z0-9_-]{43}", secret)
    found = Keyring(file).find(secret.encode())
    assert found is not None
    assert (found.name, found.admin) == ("alice", False)
    for text in (file.read_text(), done.stderr, run("keys", "list").output):
        assert secret not in text
        assert secret.removeprefix("cohabit_") not in text


def test_limits(file: Path) -> None:
    run("keys", "add", "a", "--models", "llm, tts", "--requests-per-minute", "60", "--concurrent", "4")
    run("keys", "add", "b", "--admin")
    assert table() == {"a": ["no", "llm,tts", "60", "4"], "b": ["yes", "all", "-", "-"]}
    before = json.loads(file.read_text())["keys"][0]["digest"]
    assert run("keys", "set", "a", "--models", "all", "--concurrent", "0").exit_code == 0
    assert table()["a"] == ["no", "all", "60", "-"]
    assert json.loads(file.read_text())["keys"][0]["digest"] == before


def test_revoke(file: Path) -> None:
    secret = run("keys", "add", "a").stdout.strip().encode()
    assert run("keys", "revoke", "a").exit_code == 0
    assert Keyring(file).find(secret) is None
    assert table() == {}
    again = run("keys", "add", "a").stdout.strip().encode()
    assert again != secret
    assert Keyring(file).find(secret) is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "a"], 1, "there is a key of that name"),
        (["add", "a b"], 2, "NAME: use up to 64 letters"),
        (["add", "x" * 65], 2, "NAME: use up to 64 letters"),
        (["add", "b", "--models", ","], 2, "--models: name some"),
        (["add", "b", "--models", "llm", "--admin"], 2, "--models: an admin key may use all models"),
        (["add", "b", "--concurrent", "-1"], 2, "--concurrent"),
        (["set", "b"], 1, "there is no key of that name"),
        (["revoke", "b"], 1, "there is no key of that name"),
    ],
)
def test_what_cannot_be_done_changes_nothing(file: Path, arguments: list[str], code: int, message: str) -> None:
    run("keys", "add", "a")
    before = file.read_bytes()
    done = run("keys", *arguments)
    assert done.exit_code == code
    assert done.stdout == ""
    assert message in done.stderr
    assert file.read_bytes() == before


def test_a_broken_file_is_one_line(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("{")
    for arguments in (["list"], ["add", "a"], ["set", "a"], ["revoke", "a"]):
        done = run("keys", *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.endswith("is broken; restore it, or remove it and make the keys again\n")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - what is tested
        ("::", False),
        ("192.168.1.5", False),
        ("::ffff:192.168.1.5", False),
        ("fe80::1%eth0", False),
    ],
)
def test_which_addresses_answer_this_machine_only(address: str, *, only_here: bool) -> None:
    assert is_loopback(address) == only_here


CONFIG = (
    "server: {{host: '{host}'{more}}}\ndevice: {{budget: 300MiB, keep_free: 0}}\nmodels: {{a: {{engine: fake}}}}\n"
)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - what is tested
def test_check_looks_for_keys_where_they_are_needed(host: str, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(CONFIG.format(host=host, more=""))
    done = run("check", str(path))
    assert done.exit_code == 2
    assert "make one with `cohabit keys add NAME`, or let everybody in with `server.keys: false`" in done.stderr
    run("keys", "add", "a")
    assert run("check", str(path)).exit_code == 0


def test_check_where_they_are_not(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(CONFIG.format(host="localhost", more=""))
    assert run("check", str(path)).exit_code == 0
    path.write_text(CONFIG.format(host="localhost", more=", keys: true"))
    assert "server.keys is true and there is no key yet" in run("check", str(path)).stderr
    path.write_text(CONFIG.format(host="0.0.0.0", more=", keys: false"))  # noqa: S104 - what is tested
    done = run("check", str(path))
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: whoever reaches 0.0.0.0 may use this server")
    file.parent.mkdir(exist_ok=True)
    file.write_text("{")
    path.write_text(CONFIG.format(host="localhost", more=", keys: true"))
    done = run("check", str(path))
    assert done.exit_code == 2
    assert "is broken" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["load", "a"], ["pin", "a"]])
def test_a_key_is_never_shown(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(*command, "--url", "http://x:cohabit_secret@127.0.0.1:9")
    assert done.exit_code == 2
    assert done.stderr == "--url: keys in an address can be seen by others; use COHABIT_API_KEY\n"
    monkeypatch.setenv("COHABIT_API_KEY", "cohabit_\nsecret")
    done = run(*command, "--url", "http://127.0.0.1:9")
    assert (done.exit_code, done.stderr) == (2, "COHABIT_API_KEY: has characters that no key has\n")
    monkeypatch.setenv("COHABIT_API_KEY", "cohabit_secret")
    done = run(*command, "--url", "http://127.0.0.1:9")
    assert done.exit_code == 1
    assert "secret" not in done.output
