"""``/v1/rerank``: with a model that can, with the vectors of one that embeds, and what is refused."""

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, FakeService, Served, at_once, failing, packed, rejected
from cohabit.core.commands import RejectReason
from cohabit.protocol.engine import ItemError
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ResponseFailed
from cohabit.schemas.rerank import MAX_DOCUMENTS

PATH = "/v1/rerank"
ASKED: dict[str, Any] = {"query": "q", "documents": ["away", {"text": "near"}, "across"]}
VECTORS = packed((2.0, 0.0), (-1.0, 0.0), (3.0, 0.0), (0.0, 5.0))


def with_reranker(service: FakeService) -> None:
    judge = replace(
        service.models["embeddings"], name="judge", tasks=frozenset({Task.RERANK}), aliases=("rerank-v3",)
    )
    service.models = {**service.models, "judge": judge}


async def test_embedding_model_reranks_with_a_warning(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(VECTORS)
    answer = await http.post(PATH, json=ASKED)
    found = answer.json()
    assert found["results"] == [
        {"index": 1, "relevance_score": 1.0},
        {"index": 2, "relevance_score": 0.5},
        {"index": 0, "relevance_score": 0.0},
    ]
    assert found["model"] == "embeddings"
    assert found["id"].startswith("rerank-")
    assert found["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert found["meta"]["tokens"] == {"input_tokens": 7, "output_tokens": 0}
    (warning,) = found["meta"]["warnings"]
    assert warning == answer.headers["x-cohabit-warning"]
    assert "no model that can rerank is configured" in warning
    assert "x-cohabit-run-ms" in answer.headers
    (call,) = service.calls
    assert (call.model, call.task) == ("embeddings", Task.EMBED)
    asked = {"model": "embeddings", "input": ["q", "away", "near", "across"], "encoding_format": "base64"}
    assert json.loads(call.body) == asked


async def test_zero_vector_has_similarity_zero_which_is_a_score_of_one_half(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = at_once(packed((1.0, 0.0), (0.0, 0.0)))
    answer = await http.post(PATH, json={"query": "q", "documents": ["d"]})
    assert answer.json()["results"] == [{"index": 0, "relevance_score": 0.5}]


async def test_top_n_and_return_documents(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(VECTORS)
    body = {**ASKED, "model": "embeddings", "top_n": 1, "return_documents": True, "user": "u"}
    (best,) = (await http.post(PATH, json=body)).json()["results"]
    assert best == {"index": 1, "relevance_score": 1.0, "document": {"text": "near"}}


async def test_top_n_above_the_count_returns_all(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(VECTORS)
    assert len((await http.post(PATH, json={**ASKED, "top_n": 99})).json()["results"]) == 3


@pytest.mark.parametrize("named", [{}, {"model": "judge"}, {"model": "rerank-v3"}])
async def test_reranking_model_is_preferred(
    named: dict[str, str], http: httpx2.AsyncClient, service: FakeService
) -> None:
    with_reranker(service)
    results = [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    results.append({"index": 1, "relevance_score": 0.3})
    service.reply = at_once(json.dumps({"results": results, "usage": {"total_tokens": 9}}).encode())
    answer = await http.post(PATH, json={**ASKED, **named, "top_n": 2})
    found = answer.json()
    assert [result["index"] for result in found["results"]] == [2, 1]
    assert found["model"] == "judge"
    assert "warnings" not in found["meta"]
    assert "x-cohabit-warning" not in answer.headers
    (call,) = service.calls
    assert (call.model, call.task) == ("judge", Task.RERANK)
    assert json.loads(call.body) == {"model": "judge", "query": "q", "documents": ["away", "near", "across"]}


async def test_embedding_model_is_not_used_where_one_reranks(http: httpx2.AsyncClient, service: FakeService) -> None:
    with_reranker(service)
    error = (await http.post(PATH, json={**ASKED, "model": "embeddings"})).json()["error"]
    assert error["message"] == "embeddings cannot rerank; models that can rerank: judge"
    assert not service.calls


async def test_server_without_a_suitable_model_refuses(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.models = {"llm": service.models["llm"]}
    error = (await http.post(PATH, json=ASKED)).json()["error"]
    assert (error["message"], error["param"]) == ("no model is configured that can rerank", "model")
    assert error["code"] == "unsupported_task"


async def test_failure_has_its_status(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(rejected(RejectReason.QUEUE_FULL))
    assert (await http.post(PATH, json=ASKED)).status_code == 429


@pytest.mark.parametrize(("place", "ours"), [("input.0", "query"), ("input.2", "documents.1")])
async def test_engine_error_names_the_field_of_the_request(
    place: str, ours: str, http: httpx2.AsyncClient, service: FakeService
) -> None:
    said = ItemError(1, f"{place} has 300 tokens; split it", code="context_length_exceeded", param=place)
    service.reply = failing(ResponseFailed(error=said))
    answer = await http.post(PATH, json=ASKED)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["message"], error["param"]) == (f"{ours} has 300 tokens; split it", ours)
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"query": ""}, "query must not be empty", "query"),
        ({"documents": []}, "documents must not be empty", "documents"),
        ({"documents": ["x", ""]}, "documents.1 must not be empty", "documents.1"),
        ({"documents": [7]}, "documents.0 must be a string or an object", "documents.0"),
        ({"documents": [{"text": ""}]}, "documents.0.text must not be empty", "documents.0.text"),
        ({"documents": ["x"] * (MAX_DOCUMENTS + 1)}, "documents must have at most 1000 entries", "documents"),
        ({"documents": ["x" * (1 << 20)]}, "the request holds 1048577 bytes of text", "documents"),
        ({"top_n": 0}, "top_n must be at least 1", "top_n"),
        ({"return_documents": "yes"}, "return_documents must be true or false", "return_documents"),
        ({"model": CANARY}, "there is no such model", "model"),
        ({"model": "llm"}, "llm cannot make embeddings; models that can make embeddings: embeddings", "model"),
    ],
)
async def test_invalid_request_is_refused(
    change: dict[str, Any], message: str, param: str | None, served: Served
) -> None:
    answer = await served.http.post(PATH, json={**ASKED, **change})
    assert 400 <= answer.status_code < 500
    error = answer.json()["error"]
    assert error["message"].startswith(message)
    assert error["param"] == param
    assert CANARY not in answer.text
    assert not served.service.calls
