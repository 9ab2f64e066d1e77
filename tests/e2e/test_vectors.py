"""Embeddings in every form and reranking by them: the real model, through the clients that people use."""

from pathlib import Path
from typing import Any

import openai
import pytest

from harness import Running, serving

pytestmark = [pytest.mark.process, pytest.mark.model]

QUERY = "How do I get my money back?"
DOCUMENTS = [
    "Our office is closed on public holidays.",
    "Refunds are paid to the card you bought with, within 14 days.",
    "The cat sleeps on the warm windowsill.",
    "You can return an item and ask for a refund in your account.",
]


def test_every_form_of_input_gives_the_same_vector(client: openai.OpenAI) -> None:
    forms: list[tuple[Any, Any]] = [
        ("hello world", "float"),
        ("hello world", "base64"),
        ([101, 7592, 2088, 102], "float"),
        ([[101, 7592, 2088, 102]], "base64"),
    ]
    found = [
        client.embeddings.with_raw_response.create(
            model="text-embedding-3-small", input=sent, encoding_format=encoding, user="u"
        ).parse()
        for sent, encoding in forms
    ]
    unasked = client.embeddings.create(model="text-embedding-3-small", input="hello world")  # base64, decoded by it
    assert {answer.usage.prompt_tokens for answer in found} == {4}
    assert len(unasked.data[0].embedding) == 384
    vectors: list[Any] = [answer.data[0].embedding for answer in found]  # of text, where base64 was asked for
    assert vectors[0] == pytest.approx(unasked.data[0].embedding, abs=1e-6)
    assert vectors[2] == pytest.approx(vectors[0], abs=1e-6)
    assert isinstance(vectors[1], str)
    assert vectors[1] == vectors[3]


def test_inputs_are_limited_as_by_openai(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="embeddings", input=[f"text {number}" for number in range(2048)])
    assert [entry.index for entry in found.data] == list(range(2048))
    with pytest.raises(openai.BadRequestError, match="input must have at most 2048 entries"):
        client.embeddings.create(model="embeddings", input=["a"] * 2049)


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"input": ["a", "word " * 300]}, "input.1 has 302 tokens and the model takes 256", "input.1"),
        ({"input": [101, 30_522]}, "outside the model's vocabulary of 30522", "input"),
        ({"input": ["a", ""]}, "input.1 must not be empty", "input.1"),
        ({"dimensions": 64}, "embeddings cannot shorten its vectors; no configured model can", "dimensions"),
    ],
)
def test_invalid_inputs_are_refused(client: openai.OpenAI, change: dict[str, Any], message: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        client.embeddings.create(**{"model": "embeddings", "input": "a", **change})
    assert refused.value.param == param


def test_best_document_comes_first(server: Running) -> None:
    body = {"query": QUERY, "documents": [*DOCUMENTS[:2], {"text": DOCUMENTS[2]}, DOCUMENTS[3]]}
    answer = server.http.post("/v1/rerank", json=body)
    found = answer.json()
    assert {result["index"] for result in found["results"][:2]} == {1, 3}
    scores = [result["relevance_score"] for result in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert scores[1] > scores[2] + 0.05
    assert found["meta"]["warnings"] == [answer.headers["x-cohabit-warning"]]
    assert found["usage"]["total_tokens"] > 40
    best = server.http.post("/v1/rerank", json={**body, "top_n": 1, "return_documents": True}).json()
    (result,) = best["results"]
    assert result["document"] == {"text": DOCUMENTS[result["index"]]}


def test_too_long_document_is_named(server: Running) -> None:
    answer = server.http.post("/v1/rerank", json={"query": "a", "documents": ["b", "word " * 300]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "documents.1")
    assert error["message"].startswith("documents.1 has 302 tokens and the model takes 256")


def test_documents_are_limited(server: Running) -> None:
    documents = [f"document number {number}" for number in range(1000)]
    found = server.http.post("/v1/rerank", json={"query": "document number 512", "documents": documents}).json()
    assert found["results"][0]["index"] == 512
    assert len(found["results"]) == 1000


def test_rerank_goes_to_a_capable_model(tmp_path: Path) -> None:
    with serving(tmp_path, "models: {judge: {engine: fake}}") as server:
        answer = server.http.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS, "top_n": 2})
        assert [result["index"] for result in answer.json()["results"]] == [3, 2]
        assert "x-cohabit-warning" not in answer.headers
        assert server.metric("cohabit_finished_total", model="judge", task="rerank", outcome="ok") == 1
