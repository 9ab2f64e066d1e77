"""LlamaIndex: its models for servers like OpenAI's."""

from collections.abc import Mapping
from typing import Any

import pytest

from clients.environments import used
from harness import Running

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.clients]


@pytest.fixture(scope="module")
def seen(preset: Running) -> Mapping[str, Any]:
    return used("llama_index", preset.url)


def test_chats_and_completions(seen: Mapping[str, Any]) -> None:
    assert "Paris" in seen["chat"]
    assert "".join(seen["streamed"]) == seen["awaited"] == seen["chat"]
    assert sum(map(bool, seen["streamed"])) > 1
    assert "Paris" in seen["completed"]
    assert "".join(seen["streamed_completion"]) == seen["completed"]


def test_embeddings(seen: Mapping[str, Any]) -> None:
    assert [len(vector) for vector in seen["vectors"]] == [384] * 3
    assert seen["query"] == pytest.approx(seen["vectors"][0], abs=1e-2)


def test_refusals(seen: Mapping[str, Any]) -> None:
    assert seen["no_such_model"] == [404, "model_not_found", "model"]
