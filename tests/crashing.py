"""One batch, during which the server is killed again and again; at the end every line has its one answer."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from cohabit.schemas.batches import ENDED
from cohabit.server.batch_store import VARIABLE
from harness import Running, preset, serving, wait_until

if TYPE_CHECKING:
    import httpx2


def config() -> str:
    """A model that only takes its time, and two real ones."""
    models = json.loads(preset("llm", "embeddings"))
    models["models"]["quick"] = {"engine": "fake", "concurrency": 4, "options": {"run_seconds": 0.03, "tokens": 100}}
    return json.dumps(models)


def lines(count: int, padding: int) -> Iterator[tuple[str | None, bytes]]:
    """``count`` lines and their custom_id, none where the line is rubbish. Each has an answer of its own.

    ``padding`` in bytes makes them long.
    """
    for number in range(count):
        name = f"line-{number}"
        url, body = "/v1/chat/completions", {"model": "quick", "max_tokens": number % 97 + 1, "messages": _MESSAGES}
        match number % 40:
            case 7 | 17 | 27 | 37:
                url, body = (
                    "/v1/embeddings",
                    {"model": "embeddings", "input": [f"number {number}"] * (number % 3 + 1)},
                )
            case 13:
                url, body = "/v1/chat/completions", {"model": "llm", "max_tokens": 3, "messages": _MESSAGES}
            case 21:
                body = {**body, "model": "none"}
            case 33:
                yield None, b"this is no line"
                continue
        body["user"] = "x" * padding
        yield name, json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body}).encode()


_MESSAGES = [{"role": "user", "content": "Say hello."}]


@dataclass(frozen=True, slots=True)
class Survived:
    """What has been seen."""

    lines: int
    kills: int
    in_status: dict[str, int]  # how often it was killed in which
    seconds: float
    completed: int
    failed: int


def survive(
    folder: Path,
    count: int,
    kills: int,
    ready: tuple[float, float],
    *,
    seed: int,
    url: str | None = None,
    padding: int = 0,
) -> Survived:
    """Begin a batch, kill the server so often after so many seconds of being ready, and look at the answers.

    ``url`` is of a database; by default it is SQLite in the state folder. Raises AssertionError.
    """
    moments = random.Random(seed)
    expected = list(lines(count, padding))
    statuses: Counter[str] = Counter()
    began = time.monotonic()
    batch_id = ""
    with _database(url):
        for _ in range(kills):
            with serving(folder, config()) as server:
                if not batch_id:
                    batch_id = _begin(server, b"\n".join(line for _, line in expected))
                wait_until(lambda server=server: server.http.get("/health/ready").status_code == 200)  # type: ignore[misc]  # bound at once
                time.sleep(moments.uniform(*ready))  # the moment is what is random here
                statuses[server.http.get(f"/v1/batches/{batch_id}").json()["status"]] += 1
                os.kill(server.pid, signal.SIGKILL)
                server.process.wait()
        with serving(folder, config()) as server:
            wait_until(lambda: server.http.get(f"/v1/batches/{batch_id}").json()["status"] in ENDED, 1200.0)
            batch = server.http.get(f"/v1/batches/{batch_id}").json()
            assert batch["status"] == "completed", batch
            _check(server, batch, expected)
    counts = batch["request_counts"]
    return Survived(
        count, kills, dict(statuses), round(time.monotonic() - began, 1), counts["completed"], counts["failed"]
    )


@contextmanager
def _database(url: str | None) -> Iterator[None]:
    with mock.patch.dict(os.environ, {} if url is None else {VARIABLE: url}):
        yield


def _begin(server: Running, text: bytes) -> str:
    file = server.http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", text)}).json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made: dict[str, str] = server.http.post("/v1/batches", json=asked).json()
    return made["id"]


def _check(server: Running, batch: dict[str, Any], expected: list[tuple[str | None, bytes]]) -> None:
    output = _content(server, batch["output_file_id"])
    errors = _content(server, batch["error_file_id"])
    answered = [line["custom_id"] for line in output]
    found = Counter(answered) + Counter(line["custom_id"] for line in errors)
    assert found == Counter(name for name, _ in expected), "every line once, none lost"
    order = {name: place for place, (name, _) in enumerate(expected)}
    assert answered == sorted(answered, key=order.__getitem__), "in the order of the input"
    assert len({line["id"] for line in output + errors}) == len(expected)
    for line in output:
        _right(json.loads(expected[order[line["custom_id"]]][1]), line["response"])
    for line in errors:
        if line["custom_id"] is None:
            assert line["error"]["code"] == "invalid_json_line"
        else:
            assert line["response"]["body"]["error"]["code"] == "model_not_found"
    counts = batch["request_counts"]
    assert (counts["total"], counts["completed"], counts["failed"]) == (len(expected), len(output), len(errors))


def _right(asked: dict[str, Any], response: dict[str, Any]) -> None:
    """It is the answer to this line and to no other."""
    assert response["status_code"] == 200
    body = response["body"]
    assert body["model"] == asked["body"]["model"]
    if "input" in asked["body"]:
        assert len(body["data"]) == len(asked["body"]["input"])
    else:
        assert body["usage"]["completion_tokens"] == asked["body"]["max_tokens"]


def _content(server: Running, file_id: str) -> list[dict[str, Any]]:
    file = server.http.get(f"/v1/files/{file_id}").json()
    content: httpx2.Response = server.http.get(f"/v1/files/{file_id}/content")
    assert len(content.content) == file["bytes"]
    return [json.loads(line) for line in content.text.splitlines()]
