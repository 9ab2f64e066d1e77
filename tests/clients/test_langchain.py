"""LangChain: its chat models, with what they send beside the question, and its embeddings."""

from collections.abc import Mapping
from typing import Any

import pytest

from clients.environments import ROOT, used
from harness import Running
from likeness import contains
from programs import CLIENTS
from samples import data_url

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.clients]

# LangChain cuts texts with OpenAI's tokenizer, which is fetched from the network; LlamaIndex ships it.
TOKENIZER = "lib/python*/site-packages/llama_index/core/_static/tiktoken_cache"


@pytest.fixture(scope="module")
def seen(preset: Running) -> Mapping[str, Any]:
    (tokenizer,) = (CLIENTS / "llama_index").glob(TOKENIZER)
    picture = data_url((ROOT / "docs" / "invoice.png").read_bytes())
    return used("langchain", preset.url, picture, TIKTOKEN_CACHE_DIR=str(tokenizer))


def test_chats(seen: Mapping[str, Any]) -> None:
    assert all("Paris" in said for said in (seen["invoked"], seen["awaited"], seen["laden"], *seen["batch"]))
    assert len(seen["batch"]) == 3
    assert seen["usage"]["output_tokens"] > 0
    assert seen["after_tool"]
    assert "Paris" in seen["parts"]


def test_a_tool_is_called(seen: Mapping[str, Any]) -> None:
    (call,) = seen["tool"]
    assert call["name"] == "weather"
    assert isinstance(call["args"]["city"], str)


def test_streams(seen: Mapping[str, Any]) -> None:
    assert "".join(seen["streamed"]) == seen["invoked"]
    assert sum(map(bool, seen["streamed"])) > 1
    assert seen["streamed_usage"]["output_tokens"] > 0


def test_completions_and_pictures(seen: Mapping[str, Any]) -> None:
    assert "Paris" in seen["completed"]
    assert contains(seen["picture"], "2026-00417")


def test_embeddings(seen: Mapping[str, Any]) -> None:
    meal, like, unlike = seen["vectors"]
    assert [len(vector) for vector in seen["vectors"]] == [384] * 3
    assert dot(meal, like) > dot(meal, unlike) + 0.3


def test_refusals(seen: Mapping[str, Any]) -> None:
    assert seen["no_such_model"] == [404, "model_not_found", "model"]
    assert seen["blind"] == [400, "unsupported_content", "messages"]
    assert seen["foreign_tokens"] == [400, "invalid_request", "input.0"]


def dot(one: list[float], other: list[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))
