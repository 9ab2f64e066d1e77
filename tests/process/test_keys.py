"""Keys on a real server: made and revoked from the command line while it runs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from harness import Running, cohabit, home, serving, wait_until

pytestmark = pytest.mark.process

CONFIG = """
server: {keys: true, log_level: debug}
models:
  quick: {engine: fake}
  slow: {engine: fake, concurrency: 4, options: {tokens: 1000, token_seconds: 0.02}}
"""


def keys(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``cohabit keys ...`` for the server of this folder."""
    return cohabit("keys", *arguments, env=os.environ | {"COHABIT_HOME": str(folder)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def ann(folder: Path) -> str:
    made = keys(folder, "add", "ann", "--concurrent", "2")
    assert (made.returncode, made.stderr) == (0, "")
    return made.stdout.strip()


@pytest.fixture
def server(folder: Path, ann: str) -> Iterator[Running]:
    with serving(folder, CONFIG) as running:
        yield running


def chat(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(model="quick", messages=[{"role": "user", "content": "one two"}])
    return answer.choices[0].message.content or ""


def test_a_key_opens_and_a_revoked_one_does_not(server: Running, folder: Path, ann: str) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        chat(client)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=ann, max_retries=0) as client:
        assert chat(client)
        assert client.models.list().data[0].id == "quick"
        with pytest.raises(openai.PermissionDeniedError):
            client.get("/../admin/status", cast_to=object)
        assert keys(folder, "revoke", "ann").returncode == 0
        with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {ann}"}) as http:
            wait_until(lambda: http.get("/v1/models").status_code == 401)
        with pytest.raises(openai.AuthenticationError):
            chat(client)


def test_a_stream_counts_until_it_has_ended(server: Running, ann: str) -> None:
    headers = {"authorization": f"Bearer {ann}"}
    body = {"model": "slow", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=30) as http:
        with (
            http.stream("POST", "/v1/chat/completions", json=body) as first,
            http.stream("POST", "/v1/chat/completions", json=body) as second,
        ):
            pieces = first.iter_bytes(), second.iter_bytes()  # which end the stream when they are dropped
            assert all(map(next, pieces))
            third = http.get("/v1/models")
            assert (third.status_code, third.json()["error"]["code"]) == (429, "too_many_concurrent")
            assert int(third.headers["retry-after"]) >= 1
        wait_until(lambda: http.get("/v1/models").status_code == 200)


def test_the_commands_of_an_owner(server: Running, folder: Path, ann: str) -> None:
    admin = keys(folder, "add", "root", "--admin").stdout.strip()
    wait_until(lambda: httpx2.get(f"{server.url}/metrics", headers={"x-api-key": admin}).status_code == 200)
    for key, code in ((admin, 0), (ann, 1), ("", 1)):
        environment = os.environ | {"COHABIT_API_KEY": key}
        for command in (["status"], ["load", "quick"]):
            asked = cohabit(*command, "--url", server.url, env=environment)
            assert asked.returncode == code, asked.stderr
            assert code == 0 or "set COHABIT_API_KEY to an admin key" in asked.stderr


def test_a_key_is_nowhere(server: Running, folder: Path, ann: str) -> None:
    headers = {"authorization": f"Bearer {ann}"}
    httpx2.get(f"{server.url}/v1/models", headers=headers)
    httpx2.get(f"{server.url}/nothing", headers=headers)
    httpx2.get(f"{server.url}/v1/models", headers={"authorization": f"Bearer {ann}x"})
    httpx2.post(f"{server.url}/v1/chat/completions", headers=headers, content=b"{")
    seen = subprocess.run(["ps", "auxwwe"], capture_output=True, text=True, check=True).stdout
    assert ann not in seen
    assert server.stop() == 0
    log = server.log.read_text()
    assert '"key":"ann"' in log
    for each in folder.rglob("*"):
        if each.is_file() and "cache" not in each.parts:
            assert ann.encode() not in each.read_bytes(), each


@pytest.mark.parametrize(
    ("config", "arguments", "code", "said"),
    [
        ("models: {quick: {engine: fake}}", ["--host", "0.0.0.0"], 2, "cohabit keys add NAME"),  # noqa: S104 - refused
        ("models: {quick: {engine: fake}}", ["--host", "::"], 2, "cohabit keys add NAME"),
        ("{server: {keys: true}, models: {quick: {engine: fake}}}", [], 2, "cohabit keys add NAME"),
        ("{server: {host: no.such.host.invalid}, models: {quick: {engine: fake}}}", [], 1, "cannot listen"),
    ],
)
def test_it_does_not_start_open(config: str, arguments: list[str], code: int, said: str, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(config)
    environment = os.environ | {"COHABIT_HOME": str(home(folder))}
    ended = cohabit("serve", path, "--port", "0", *arguments, env=environment)
    assert ended.returncode == code, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert said in line


def test_it_starts_open_if_told_so(folder: Path) -> None:
    with serving(folder, "{server: {keys: false}, models: {quick: {engine: fake}}}", "--host", "0.0.0.0") as running:  # noqa: S104 - the point
        wait_until(lambda: "every client that reaches 0.0.0.0 may use this server" in running.log.read_text())
