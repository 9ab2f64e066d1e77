"""Keys on a real server: made, used through the official client, revoked while it runs, and never seen again."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import openai
import psutil
import pytest

from harness import COMMAND, Running, home, serving, wait_until

pytestmark = pytest.mark.process

MODELS = """
device: {budget: 500MiB, keep_free: 0}
models: {a: {engine: fake, options: {run_seconds: 0.2}}, b: {engine: fake}}
"""
CONFIG = f"server: {{keys: true}}\n{MODELS}"
REFUSED = f"server: {{host: 0.0.0.0}}\n{MODELS}"


def cohabit(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    environment = os.environ | {"COHABIT_HOME": str(folder)} | variables
    return subprocess.run(
        [str(COMMAND), *arguments], capture_output=True, text=True, timeout=30, env=environment, check=False
    )


def made(folder: Path, *arguments: str) -> str:
    """A new key."""
    done = cohabit(folder, "keys", "add", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Two, before the server is there."""
    return {"user": made(tmp_path, "user"), "owner": made(tmp_path, "owner", "--admin")}


@pytest.fixture
def server(tmp_path: Path, keys: dict[str, str]) -> Iterator[Running]:
    assert keys
    with serving(tmp_path, CONFIG) as running:
        yield running


def asking(server: Running, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def chat(client: openai.OpenAI, model: str = "a") -> str:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
    return answer.choices[0].message.content or ""


def everywhere(folder: Path, server: Running) -> str:
    """What others on this machine can read of our processes, and all that was written."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    seen = [" ".join(process.cmdline()) for process in family]
    files = [
        path for path in folder.rglob("*") if path.is_file() and "cache" not in path.relative_to(folder).parts[:1]
    ]
    return "\n".join(seen) + "\n".join(path.read_bytes().decode("latin-1") for path in files)


def test_the_official_client(tmp_path: Path, server: Running, keys: dict[str, str]) -> None:
    with asking(server, "none") as stranger, pytest.raises(openai.AuthenticationError) as refused:
        chat(stranger)
    assert refused.value.code == "invalid_api_key"
    assert server.http.get("/health/live").status_code == 401
    with asking(server, keys["user"]) as user:
        assert chat(user)
        assert {model.id for model in user.models.list()} == {"a", "b"}
        stream = user.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert [chunk for chunk in stream if chunk.choices[0].delta.content]
    assert cohabit(tmp_path, "keys", "set", "user", "--models", "b").returncode == 0
    with asking(server, keys["user"]) as user:
        wait_until(lambda: {model.id for model in user.models.list()} == {"b"}, seconds=2)
        with pytest.raises(openai.PermissionDeniedError) as denied:
            chat(user)
    assert denied.value.code == "model_not_allowed"
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {line.get("key") for line in lines if line["event"] == "request"} == {None, "user"}


def test_revoked_within_two_seconds_and_nowhere_to_be_seen(
    tmp_path: Path, server: Running, keys: dict[str, str]
) -> None:
    with asking(server, keys["user"]) as user:
        assert chat(user)
        assert cohabit(tmp_path, "keys", "revoke", "user").returncode == 0
        end = time.monotonic() + 2
        errors: list[openai.AuthenticationError] = []
        while not errors:
            try:
                chat(user)
            except openai.AuthenticationError as error:
                errors.append(error)
            assert time.monotonic() < end
    new = made(tmp_path, "new", "--concurrent", "1")
    with asking(server, new) as late:
        wait_until(lambda: server.http.get("/v1/models", headers={"api-key": new}).status_code == 200, seconds=2)
        assert chat(late)
    seen = everywhere(tmp_path, server)
    printed = [str(error) + str(error.response.headers) + error.response.text for error in errors]
    for key in (*keys.values(), new):
        assert key.removeprefix("cohabit_") not in seen + "".join(printed)
    assert "cohabit" in seen, "there was something to look through"
    assert server.process.poll() is None, "all without a restart"


def test_our_own_commands_take_the_key_from_the_environment(
    tmp_path: Path, server: Running, keys: dict[str, str]
) -> None:
    for command in (["status"], ["load", "b"]):
        without = cohabit(tmp_path, *command, "--url", server.url)
        assert (without.returncode, without.stderr.count("\n")) == (1, 1)
        assert "a key is needed" in without.stderr
        user = cohabit(tmp_path, *command, "--url", server.url, COHABIT_API_KEY=keys["user"])
        assert (user.returncode, user.stderr) == (1, "this needs an admin key\n")
        owner = cohabit(tmp_path, *command, "--url", server.url, COHABIT_API_KEY=keys["owner"])
        assert owner.returncode == 0, owner.stderr


def test_a_batch_is_its_keys(tmp_path: Path, server: Running, keys: dict[str, str]) -> None:
    other = made(tmp_path, "other", "--models", "b", "--requests-per-minute", "1000")
    wait_until(lambda: server.http.get("/v1/models", headers={"api-key": other}).status_code == 200, seconds=2)
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}]}
    lines = [{"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(3)]
    lines[2]["body"] = {**body, "model": "b"}
    text = "\n".join(map(json.dumps, lines)).encode()
    found = {}
    for name, key in (("user", keys["user"]), ("other", other)):
        with asking(server, key) as client:
            file = client.files.create(file=("lines.jsonl", text), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            while batch.status in {"validating", "in_progress", "finalizing"}:
                time.sleep(0.1)
                batch = client.batches.retrieve(batch.id)
            found[name] = batch
            counts = batch.request_counts
            assert counts is not None
            assert (counts.completed, counts.failed) == ((3, 0) if name == "user" else (1, 2))
    with asking(server, other) as client, pytest.raises(openai.NotFoundError):
        client.batches.retrieve(found["user"].id)
    with asking(server, keys["owner"]) as client:
        assert client.batches.retrieve(found["user"].id).status == "completed"


@pytest.mark.parametrize(
    ("config", "arguments"),
    [(REFUSED, []), (MODELS, ["--host", "0.0.0.0"]), (MODELS, ["--host", "::"]), (CONFIG, [])],  # noqa: S104 - tested
)
def test_does_not_start_where_nobody_could_come_in(tmp_path: Path, config: str, arguments: list[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config)
    done = cohabit(home(tmp_path), "serve", str(path), "--port", "0", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no key yet: make one with `cohabit keys add NAME`" in done.stderr
    assert "listening" not in done.stdout


def test_on_every_address_with_keys_and_without(tmp_path: Path) -> None:
    key = made(tmp_path, "a")
    with serving(tmp_path, REFUSED) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - what is tested
        assert httpx2.get(f"{url}/v1/models").status_code == 401
        assert httpx2.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
    (tmp_path / "open").mkdir()
    with serving(tmp_path / "open", REFUSED.replace("0.0.0.0}", "0.0.0.0, keys: false}")) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - what is tested
        assert httpx2.get(f"{url}/v1/models").status_code == 200
        assert server.log.read_text().startswith("warning: whoever reaches 0.0.0.0 may use this server")


def test_a_broken_file_opens_nothing(tmp_path: Path, server: Running, keys: dict[str, str]) -> None:
    file = tmp_path / "state" / "keys.json"
    good = file.read_bytes()
    for number, bad in enumerate((b"", b"{}", b'{"schema": 1, "keys": []'), start=1):
        file.write_bytes(bad)
        wait_until(partial(_alerted, server, keys["user"], number))
        assert _models(server, "cohabit_wrong") == 401
    file.write_bytes(good)
    assert _models(server, keys["user"]) == 200


def _alerted(server: Running, key: str, times: int) -> bool:
    """Whether the log has told of it so often, while the key is always right."""
    assert _models(server, key) == 200
    return server.log.read_text().count("those of before still hold") == times


def _models(server: Running, key: str) -> int:
    return server.http.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code
