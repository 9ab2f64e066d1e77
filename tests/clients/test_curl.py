"""curl: what HTTP allows and other clients seldom do."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from clients.environments import said
from harness import Running

pytestmark = [pytest.mark.process, pytest.mark.clients, pytest.mark.needs("curl")]

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}]}
JSON = ("-H", "content-type: application/json", "--data-binary", "@-")


def curl(server: Running, path: str, *options: str, body: Any = None, repeat: int = 1) -> list[str]:
    """The answer's lines."""
    urls = [f"{server.url}{path}"] * repeat
    return said(["curl", "-sS", *options, *urls], input=None if body is None else json.dumps(body)).splitlines()


def status_of(lines: Sequence[str]) -> int:
    return int(lines[0].split()[1])


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/v1/models", "/v1/models/fake", "/metrics"])
def test_head(fake: Running, path: str) -> None:
    head = curl(fake, path, "--head")
    assert status_of(head) == 200
    assert any(line.startswith("content-length: ") for line in head)


def test_options_says_what_can_be_done(fake: Running) -> None:
    lines = curl(fake, "/v1/chat/completions", "-i", "-X", "OPTIONS")
    assert status_of(lines) == 405
    assert "allow: POST" in lines
    assert json.loads(lines[-1])["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "options",
    [
        ("-H", "transfer-encoding: chunked"),
        ("-H", "expect: 100-continue"),
        ("--compressed",),
        ("--http1.0",),
        ("-H", "authorization: Bearer x"),
        ("-H", "authorization: Basic eDp5"),
        ("-H", "authorization;"),
        ("-H", "openai-organization: org", "-H", "openai-project: p", "-H", "openai-beta: assistants=v2"),
        ("-H", "user-agent;"),
        ("-H", "content-type: text/plain"),
        ("-H", "accept: text/event-stream"),
        ("-H", "connection: close"),
    ],
)
def test_whatever_a_request_says_beside_its_body(fake: Running, options: Sequence[str]) -> None:
    lines = curl(fake, "/v1/chat/completions", *JSON, *options, body=CHAT)
    answer = json.loads(lines[-1])
    assert answer["choices"][0]["message"]["content"].startswith("word")


def test_fields_that_only_openai_knows(fake: Running) -> None:
    fields = {
        "store": True,
        "metadata": {"purpose": "test"},
        "service_tier": "auto",
        "reasoning_effort": "low",
        "verbosity": "low",
        "parallel_tool_calls": True,
        "prompt_cache_key": "key",
        "safety_identifier": "somebody",
        "user": "somebody",
        "stream_options": None,
        "stop": None,
        "tools": None,
        "max_completion_tokens": 3,
    }
    system = {"role": "system", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": " brief."}]}
    messages = [system, {"role": "developer", "content": "Be kind."}, *CHAT["messages"]]
    lines = curl(fake, "/v1/chat/completions", *JSON, body={**CHAT, **fields, "messages": messages})
    assert json.loads(lines[-1])["usage"]["completion_tokens"] == 3


def test_one_connection_serves_many_requests(fake: Running) -> None:
    told = curl(fake, "/v1/models", "-w", "\n%{num_connects} %{http_code}\n", repeat=4)
    assert [line for line in told if line[:2] in ("0 ", "1 ")] == ["1 200", "0 200", "0 200", "0 200"]


def test_a_connection_outlives_errors(fake: Running) -> None:
    wrong = {**CHAT, "model": "none"}
    told = curl(fake, "/v1/chat/completions", *JSON, "-w", "\n%{num_connects} %{http_code}\n", repeat=1, body=wrong)
    assert told[-1] == "1 404"
    several = curl(fake, "/nowhere", "-w", "\n%{num_connects} %{http_code}\n", repeat=3)
    assert [line for line in several if line[:2] in ("0 ", "1 ")] == ["1 404", "0 404", "0 404"]


def test_a_stream_can_be_read_as_it_comes(fake: Running) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    lines = [line for line in curl(fake, "/v1/chat/completions", "-N", *JSON, body=body) if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    said = [event["choices"][0]["delta"].get("content") for event in events if event["choices"]]
    assert said == [*(f"{index} " for index in range(8)), None]
    assert events[-1]["usage"]["completion_tokens"] == 8


def test_no_key_is_ever_missing_or_wrong(fake: Running) -> None:
    for key in ([], ["-H", "authorization: Bearer wrong"], ["-u", "user:password"]):
        assert status_of(curl(fake, "/v1/models", "-i", *key)) == 200
