"""OpenAI's package for JavaScript."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from clients.environments import HERE, javascript
from harness import Running
from likeness import understood

pytestmark = [
    pytest.mark.process,
    pytest.mark.model,
    pytest.mark.clients,
    pytest.mark.needs("node"),
]


@pytest.fixture(scope="module")
def seen(preset: Running) -> Mapping[str, Any]:
    script = (HERE / "node" / "use.mjs").read_text()
    found: dict[str, Any] = json.loads(javascript(script, BASE_URL=f"{preset.url}/v1"))
    return found


def test_chats(seen: Mapping[str, Any]) -> None:
    assert "Paris" in seen["chat"]
    assert seen["helper"] == "".join(seen["streamed"]["pieces"]) == seen["chat"]
    assert 0 < seen["streamed"]["usage"]["completion_tokens"] <= 16


def test_a_stream_that_is_left_ends(preset: Running, seen: Mapping[str, Any]) -> None:
    assert seen["left"] == 3
    preset.until(lambda: preset.model("llm")["in_flight"] == 0)
    assert preset.metric("cohabit_finished_total", model="llm", task="chat", outcome="cancelled") >= 1


def test_sound_and_vectors(seen: Mapping[str, Any]) -> None:
    assert understood("Hello there.", seen["heard"])
    assert seen["vectors"] == [384, 384]


def test_models(seen: Mapping[str, Any]) -> None:
    assert {"llm", "gpt-4o-mini", "embeddings", "vision", "tts", "stt"} <= set(seen["models"])


def test_refusals(seen: Mapping[str, Any]) -> None:
    assert seen["no_such_model"] == ["NotFoundError", 404, "model_not_found", "model"]
    assert seen["no_messages"] == ["BadRequestError", 400, "invalid_request", "messages"]
