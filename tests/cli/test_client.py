"""The commands that ask a running server: what they send, and that nobody gets to see the key."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner, Result

from cohabit.cli.main import app

KEY = "cohabit-kanarienvogel"
COMMANDS = [["status"], ["load", "a"], ["sleep", "a"], ["unload", "a"], ["pin", "a"], ["unpin", "a"]]


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def seen() -> list[str | None]:
    """The keys that were sent."""
    return []


@pytest.fixture
def url(seen: list[str | None]) -> Iterator[str]:
    """A server that lets nobody in."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["authorization"])
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"error": {"message": "no"}}')

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Quietly."""

    with HTTPServer(("127.0.0.1", 0), Refuses) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("around", ["{}", "{}\r", " {}\n"])
def test_the_key_of_the_environment_is_sent(
    command: list[str], around: str, url: str, seen: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHABIT_API_KEY", around.format(KEY))
    done = run(*command, "--url", url)
    assert seen == [f"Bearer {KEY}"]
    assert (done.exit_code, done.output) == (1, "no; set COHABIT_API_KEY to an admin key\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("spoilt", [f"{KEY}\nx", f"x\r{KEY}", f"{KEY}\x01", f"{KEY}é", f"a {KEY}"])
def test_one_that_cannot_be_sent_is_not_shown(
    command: list[str], spoilt: str, url: str, seen: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHABIT_API_KEY", spoilt)
    done = run(*command, "--url", url)
    assert (done.exit_code, done.output) == (2, "COHABIT_API_KEY: has characters that no key has\n")
    assert not seen


@pytest.mark.parametrize("command", COMMANDS)
def test_nor_is_one_in_an_address(command: list[str], url: str, seen: list[str | None]) -> None:
    done = run(*command, "--url", url.replace("://", f"://x:{KEY}@"))
    assert (done.exit_code, done.output) == (2, "--url: others can see a key in an address; use COHABIT_API_KEY\n")
    assert not seen


def test_without_one_nothing_is_sent(url: str, seen: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHABIT_API_KEY", raising=False)
    run("status", "--url", url)
    assert seen == [None]
