"""Whatever values the declared fields of engines have: no worker dies, none hangs, and honest requests are answered.

``COHABIT_FUZZ=1000`` asks each engine so often; by default a hundred times, always the same.
"""

import json
import os
from collections.abc import Mapping
from random import Random
from typing import Any

import httpx2
import msgspec
import pytest

from cohabit.protocol.tasks import Task
from cohabit.schemas.chat import ChatRequest, CompletionRequest
from cohabit.schemas.embedding import EmbeddingRequest
from cohabit.schemas.responses import ResponseRequest
from cohabit.schemas.speech import SpeechRequest
from cohabit.schemas.transcription import TranscriptionRequest
from fuzzing import as_form, changed, fields
from harness import Running, preset, serving
from samples import asking, picture, tone

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.timeout(3000)]

COUNT = int(os.environ.get("COHABIT_FUZZ", "100"))
LONGEST = 60.0  # seconds of one request; a hang takes ten minutes
MESSAGES = [{"role": "user", "content": "Say hello."}]
CHAT = {"model": "llm", "messages": MESSAGES, "max_tokens": 4}

ROUTES: dict[str, list[tuple[str, type[msgspec.Struct], Task, dict[str, Any]]]] = {
    "llm": [
        ("/v1/chat/completions", ChatRequest, Task.CHAT, CHAT),
        ("/v1/completions", CompletionRequest, Task.COMPLETE, {"model": "llm", "prompt": "Once", "max_tokens": 4}),
        (
            "/v1/responses",
            ResponseRequest,
            Task.CHAT,
            {"model": "llm", "input": "Say hello.", "max_output_tokens": 4},
        ),
    ],
    "embeddings": [("/v1/embeddings", EmbeddingRequest, Task.EMBED, {"model": "embeddings", "input": "hello"})],
    "vision": [
        ("/v1/chat/completions", ChatRequest, Task.CHAT, {"model": "vision", "messages": asking(picture())}),
    ],
    "tts": [("/v1/audio/speech", SpeechRequest, Task.SPEAK, {"model": "tts", "input": "Hello."})],
    "stt": [("/v1/audio/transcriptions", TranscriptionRequest, Task.TRANSCRIBE, {"model": "stt"})],
}
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def config(name: str) -> str:
    """That model alone; where it can, with grammars of clients."""
    found = json.loads(preset(name))
    if name == "llm":
        found["models"][name]["options"]["grammar"] = True
    return json.dumps(found)


def short(body: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as long as the context is no hang, and takes a while: the values that allow it are left out."""
    long = [name for name in LENGTHS if isinstance(body.get(name), int) and body[name] > 8]
    kept = {name: given for name, given in body.items() if name not in long}
    whole = {**kept, **dict.fromkeys(long, 8)}
    if ("messages" in whole or "prompt" in whole) and not any(whole.get(name) for name in LENGTHS):
        whole["max_tokens"] = 8
    if "input" in whole and "max_output_tokens" in whole and not whole["max_output_tokens"]:
        whole["max_output_tokens"] = 8
    return whole


def sent(server: Running, path: str, body: Mapping[str, Any]) -> httpx2.Response:
    headers = {"x-request-timeout": f"{LONGEST:g}"}
    if path == "/v1/audio/transcriptions":
        files = {"file": ("a.wav", tone(0.3))}
        return server.http.post(path, data=as_form(body), files=files, headers=headers, timeout=2 * LONGEST)
    raw = json.dumps(short(body)).encode()
    return server.http.post(path, content=raw, headers=headers, timeout=2 * LONGEST)


@pytest.mark.parametrize("name", ROUTES)
def test_no_declared_field_ends_or_hangs_a_worker(name: str, tmp_path: Any) -> None:
    random = Random(18)
    with serving(tmp_path, config(name)) as server:
        routes = [
            (path, base, fields(kind, server.model(name)["engine"], task)) for path, kind, task, base in ROUTES[name]
        ]
        assert sent(server, routes[0][0], routes[0][1]).status_code == 200
        before = server.workers()
        codes: dict[int, int] = {}
        for number in range(COUNT):
            path, base, known = random.choice(routes)
            body = changed(random, base, known)
            answer = sent(server, path, body)
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
            what = f"request {number}: {path} {json.dumps(body)[:2000]}"
            assert answer.status_code in {200, 400}, f"{answer.status_code} {answer.text[:500]} of {what}"
            assert server.workers() == before, what
        assert codes[200] >= COUNT // 20, codes
        assert codes[400] >= COUNT // 20, codes
        assert sent(server, routes[0][0], routes[0][1]).status_code == 200
        print(f"{name}: {codes}")  # noqa: T201 - shown with -s, where it is run longer
