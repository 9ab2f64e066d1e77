"""Whatever JSON comes: never a 500, always the one shape, and not a word of it in the answer or the log."""

import asyncio
import json
import re
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api.fake_service import CANARY, CHAT, FakeService, as_asked
from cohabit.api.app import create_app
from cohabit.schemas.chat import ChatRequest, CompletionRequest
from cohabit.schemas.embedding import EmbeddingRequest
from cohabit.schemas.inference import (
    ChatData,
    DescribeData,
    EmbedData,
    InferenceRequest,
    SpeakData,
    TranscribeData,
)
from cohabit.schemas.rerank import RerankRequest
from cohabit.schemas.speech import SpeechRequest
from cohabit.schemas.transcription import TranscriptionRequest
from samples import asking, data_url, picture, tone

KINDS = (
    *(ChatRequest, CompletionRequest, EmbeddingRequest, SpeechRequest, TranscriptionRequest, InferenceRequest),
    RerankRequest,
    *(ChatData, DescribeData, EmbedData, SpeakData, TranscribeData),
)
FIELDS = sorted(
    {name for kind in KINDS for name in kind.__struct_fields__}
    | {"role", "content", "type", "text", "function", "name"}
)
# Right values in wrong places get further than wrong ones anywhere.
WORDS = ["user", "assistant", "tool", "text", "image_url", "function", "json_schema", "chat", "embed", "auto", "llm"]
WORDS += ["seer", "embeddings", "base64", "hello", "tts", "stt", "default", "alloy", "wav", "speak", "transcribe"]
WORDS += ["describe_image", data_url(picture()), "data:image/png;base64,"]
canaries = st.sampled_from(["", "\n", "'", '"', "}", "\x00", "é", "." * 300]).map(CANARY.__add__)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 20)
    | st.sampled_from([2**31, 2**63, 2**64, 10**400, -(2**63) - 1, 1e308, 0.5])
    | st.sampled_from(WORDS)
    | canaries
)
keys = st.sampled_from(FIELDS) | canaries
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=15
)
BASES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        CHAT,
        {**CHAT, "stream": True},
        {"model": "seer", "messages": asking(picture())},
    ],
    "/v1/completions": [{"model": "llm", "prompt": "Once"}],
    "/v1/responses": [
        {"model": "llm", "input": "Once"},
        {"model": "seer", "input": [{"role": "user", "content": "hello"}], "stream": True},
    ],
    "/v1/embeddings": [{"model": "embeddings", "input": ["hello"]}],
    "/v1/rerank": [{"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1}],
    "/v1/audio/speech": [{"model": "tts", "input": "Hello."}, {"model": "tts", "input": "a", "stream_format": "sse"}],
    "/inference": [{"type": "chat", "data": {"prompt": "a"}}, {"type": "embed", "data": {"text": "a"}}],
    "/inference?request_type=speak": [{"text": "Hello.", "voice": "alloy"}],
    "/inference?request_type=describe_image": [{"image": data_url(picture())}],
    "/inference?request_type=transcribe": [{"audio": data_url(tone(0.02), "audio/wav")}],
    "/inference?request_type=chat": [{"prompt": "a"}, {"messages": CHAT["messages"]}],
    "/inference?request_type=embed": [{"texts": ["a"]}],
}


@st.composite
def bodies(draw: st.DrawFn, path: str) -> Any:
    """Anything, or a good body of which something was changed."""
    if draw(st.sampled_from([True, False, False, False])):
        return draw(values)
    body = json.loads(json.dumps(draw(st.sampled_from(BASES[path]))))
    inside = draw(st.sampled_from([body, *(part for part in body.values() if isinstance(part, dict))]))
    inside.update(draw(st.dictionaries(keys, values, min_size=1, max_size=3)))
    return body


def spoiled(raw: bytes, at: int, what: bytes) -> bytes:
    """A body in which some bytes stand where they should not."""
    at %= len(raw) + 1
    return raw[:at] + what + raw[at:]


async def posted(path: str, raw: bytes) -> httpx2.Response:
    service = FakeService()
    service.reply = as_asked
    transport = httpx2.ASGITransport(app=create_app(service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post(path, content=raw)


def check(path: str, raw: bytes) -> None:
    with capture_logs() as lines:
        answer = asyncio.run(posted(path, raw))
    assert answer.status_code in {200, 400, 404}
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        assert error["code"]
        assert error["param"] is None or re.fullmatch(r"[a-z0-9_.-]+", error["param"])
    told = answer.headers.pop("x-cohabit-warning", "")  # which names fields that were dropped
    assert re.fullmatch(r"[ -~]{0,2048}", told)
    assert len(told.partition("dropped: ")[2].split(", ")) <= 9
    assert CANARY not in answer.text + str(answer.headers) + str(lines)
    assert [line["event"] for line in lines] == ["request"]


@pytest.mark.parametrize("path", BASES)
@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_any_json_has_a_proper_answer(path: str, data: st.DataObject) -> None:
    check(path, json.dumps(data.draw(bodies(path))).encode())


@pytest.mark.parametrize("path", BASES)
@settings(max_examples=settings().max_examples // 5)
@given(at=st.integers(0, 500), what=st.binary(max_size=3) | st.sampled_from([b"NaN", b"1e999", b"[" * 500, b"\xff"]))
def test_any_bytes_have_a_proper_answer(path: str, at: int, what: bytes) -> None:
    check(path, spoiled(json.dumps(BASES[path][0]).encode(), at, what))


@settings(max_examples=settings().max_examples // 2)
@given(items=st.lists(bodies("/inference") | values, min_size=1, max_size=4))
def test_any_batch_has_a_proper_answer(items: list[Any]) -> None:
    with capture_logs() as lines:
        answer = asyncio.run(posted("/batch", json.dumps(items).encode()))
    assert CANARY not in answer.text + str(lines)
    if answer.status_code == 200:
        results = answer.json()["results"]
        assert len(results) == len(items)
        assert all(set(one) in ({"result"}, {"error"}) for one in results)
    else:
        assert answer.json()["error"]["code"] == "invalid_json"


FORM_FIELDS = [*TranscriptionRequest.__struct_fields__, "timestamp_granularities[]", "include[]", "file", "model"]
FORM_FIELDS += ["chunking_strategy[type]"]
BLIP = tone(0.02)
FORM_WORDS = ["0.5", "json", "verbose_json", "srt", "true", "auto", "word", "en", "whisper-1", "stt", "1e999"]
form_values = canaries | st.sampled_from(FORM_WORDS)


@settings(max_examples=settings().max_examples)
@given(
    fields=st.dictionaries(st.sampled_from(FORM_FIELDS) | canaries, form_values, max_size=5),
    sound=st.just(BLIP) | st.binary(max_size=200) | st.integers(0, len(BLIP)).map(lambda end: BLIP[:end]),
    name=st.sampled_from(["a.wav", "../../etc/passwd", "", "a\r\nx: y", "é" * 300]),
)
def test_any_form_has_a_proper_answer(fields: dict[str, str], sound: bytes, name: str) -> None:
    async def sent() -> httpx2.Response:
        service = FakeService()
        service.reply = as_asked
        transport = httpx2.ASGITransport(app=create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
            path = "/v1/audio/transcriptions"
            return await http.post(path, data={"model": "stt", **fields}, files={"file": (name, sound)})

    with capture_logs() as lines:
        answer = asyncio.run(sent())
    assert answer.status_code in {200, 400, 404}
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert CANARY not in answer.text + str(lines)
