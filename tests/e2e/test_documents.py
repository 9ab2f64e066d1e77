"""What real models answer is what the document says, and the bodies that the interactive docs offer are answered."""

import base64
from typing import Any

import msgspec
import pytest

from api.fake_service import conforming
from cohabit.api.openapi import EXAMPLES
from cohabit.schemas.answers import ChatAnswer, CompletionAnswer, ModelList
from cohabit.schemas.embedding import EmbeddingAnswer
from cohabit.schemas.inference import (
    BatchResult,
    ChatResult,
    DescribeResult,
    EmbedResult,
    SpeakResult,
    TranscribeResult,
)
from harness import Running
from samples import asking, data_url, saved, tone, written

pytestmark = [pytest.mark.process, pytest.mark.model]

PICTURE = saved(written("Invoice no. 2026-00417"))
WORK: list[tuple[dict[str, Any], type[msgspec.Struct]]] = [
    ({"type": "chat", "data": {"prompt": "Say hello.", "max_tokens": 4}}, ChatResult),
    ({"type": "describe_image", "data": {"image": data_url(PICTURE)}}, DescribeResult),
    ({"type": "embed", "data": {"texts": ["one", "two"]}}, EmbedResult),
    ({"type": "speak", "data": {"text": "Hello."}}, SpeakResult),
    ({"type": "transcribe", "data": {"audio": base64.b64encode(tone()).decode()}}, TranscribeResult),
]


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("chat/completions", EXAMPLES["ChatRequest"], ChatAnswer),
        ("chat/completions", {"model": "vision", "messages": asking(PICTURE)}, ChatAnswer),
        ("completions", EXAMPLES["CompletionRequest"], CompletionAnswer),
        ("embeddings", EXAMPLES["EmbeddingRequest"], EmbeddingAnswer),
        ("embeddings", {**EXAMPLES["EmbeddingRequest"], "encoding_format": "base64"}, EmbeddingAnswer),
    ],
)
def test_openai_answer_matches_its_schema(
    server: Running, path: str, body: dict[str, Any], kind: type[msgspec.Struct]
) -> None:
    answer = server.http.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=kind)


@pytest.mark.parametrize(("body", "kind"), WORK)
def test_inference_result_has_its_own_shape(
    server: Running, body: dict[str, Any], kind: type[msgspec.Struct]
) -> None:
    answer = server.http.post("/inference", json=body)
    assert answer.status_code == 200
    result = msgspec.json.decode(answer.content, type=kind)
    assert answer.json().items() <= msgspec.to_builtins(result).items(), "no more than the document says"


def test_batch_route_answers_all_items(server: Running) -> None:
    answer = server.http.post("/batch", json=[*(body for body, _ in WORK), {"type": "none"}])
    results = msgspec.json.decode(answer.content, type=BatchResult).results
    for item, (_, kind) in zip(results, WORK, strict=False):
        assert msgspec.convert(item.result, kind)
    assert [item.error is msgspec.UNSET for item in results] == [True] * len(WORK) + [False]


def test_models_are_listed_with_capabilities(server: Running) -> None:
    listed = server.http.get("/v1/models")
    assert msgspec.json.decode(listed.content, type=ModelList).data
    assert {model.state for model in conforming(server.status()).models} & {"ready", "stopped"}
