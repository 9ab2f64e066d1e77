"""``/inference``: its own words, turned into OpenAI's and back."""

import base64
import json
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, CHAT_ANSWER, FINDING, SOUND, FakeService, Served, as_asked, at_once
from cohabit.protocol.tasks import Task
from samples import asking, clean_picture, clean_sound, data_url, picture

CHATTED = {
    "text": "Hi!",
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
MESSAGES = [{"role": "user", "content": "hello"}]
LLM_BODY = {"model": "llm", "messages": MESSAGES}


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ({"prompt": "hello"}, LLM_BODY),
        ({"messages": MESSAGES}, LLM_BODY),
        ({"prompt": "hello", "temperature": 0, "mood": 5}, {**LLM_BODY, "temperature": 0}),
    ],
)
async def test_chat_has_text_and_usage(
    data: dict[str, Any], body: Any, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    whole = await http.post("/inference", json={"type": "chat", "data": data})
    short = await http.post("/inference", params={"request_type": "chat"}, json=data)
    assert whole.json() == short.json() == CHATTED
    assert "x-cohabit-run-ms" in whole.headers
    for call in service.calls:
        assert (call.model, call.task) == ("llm", Task.CHAT)
        assert json.loads(call.body) == body


async def test_tool_calls_are_in_the_result_and_n_must_be_1(http: httpx2.AsyncClient, service: FakeService) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choice = {"index": 0, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    service.reply = at_once(json.dumps({"choices": [choice], "usage": {}}).encode())
    answer = await http.post("/inference", params={"request_type": "chat"}, json={"prompt": "hello"})
    assert answer.json() == {"text": None, "finish_reason": "tool_calls", "usage": {}, "tool_calls": [call]}
    several = await http.post("/inference", params={"request_type": "chat"}, json={"prompt": "hello", "n": 2})
    assert (several.status_code, several.json()["error"]["param"]) == (400, "data.n")


async def test_parameter_a_model_cannot_honour_is_refused_or_warned_about(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    data = {"messages": asking(picture()), "temperature": 0}
    told = await http.post("/inference", json={"type": "chat", "model": "labels", "data": data})
    assert told.headers["x-cohabit-warning"] == "labels ignores temperature"
    refused = await http.post("/inference", json={"type": "chat", "model": "labels", "data": {**data, "stop": "a"}})
    assert refused.json()["error"]["param"] == "data.stop"


@pytest.mark.parametrize(
    ("data", "texts"), [({"text": "hello"}, "hello"), ({"texts": ["hello", "you"]}, ["hello", "you"])]
)
async def test_embed_has_a_vector_for_each_text(
    data: dict[str, Any], texts: Any, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    whole = await http.post("/inference", json={"type": "embed", "data": data})
    short = await http.post("/inference", params={"request_type": "embed"}, json=data)
    assert whole.json() == short.json() == {"embeddings": [[1.0, 0.5]]}
    for call in service.calls:
        assert json.loads(call.body) == {"model": "embeddings", "input": texts}


async def test_model_can_be_chosen(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    await http.post("/inference", json={"type": "chat", "data": {"prompt": "hello"}, "model": "seer"})
    assert service.calls[0].model == "seer"


async def test_task_without_a_model_is_refused(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.models = {}
    answer = await http.post("/inference", json={"type": "chat", "data": {"prompt": "hello"}})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "no model is configured that can chat"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"data": {}}, "type is missing", "type"),
        (
            {"type": CANARY, "data": {}},
            "type must be 'chat', 'describe_image', 'embed', 'speak' or 'transcribe'",
            "type",
        ),
        ({"type": "chat", "data": CANARY}, "data must be an object", "data"),
        ({"type": "chat", "data": {}}, "data needs either prompt or messages", "data"),
        ({"type": "chat", "data": {"prompt": "a", "messages": []}}, "data needs either prompt or messages", "data"),
        ({"type": "chat", "data": {"prompt": 1}}, "data.prompt must be a string", "data.prompt"),
        (
            {"type": "chat", "data": {"prompt": "a", "stream": True}},
            "data.stream must be false: there is one answer here",
            "data.stream",
        ),
        ({"type": "chat", "data": {"messages": [1]}}, "data.messages.0 must be an object", "data.messages.0"),
        ({"type": "embed", "data": {}}, "data needs either text or texts", "data"),
        (
            {"type": "embed", "data": {"texts": ["a", ""]}},
            "data.texts.1 must not be empty",
            "data.texts.1",
        ),
    ],
)
async def test_invalid_request_is_refused(
    body: dict[str, Any], message: str, param: str | None, http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post("/inference", json=body)
    assert answer.status_code == 400
    assert (answer.json()["error"]["message"], answer.json()["error"]["param"]) == (message, param)
    assert not service.calls


@pytest.mark.parametrize("raw", [b"[]", b"7", b'"x"', b"null"])
async def test_data_alone_must_be_an_object(raw: bytes, http: httpx2.AsyncClient) -> None:
    answer = await http.post("/inference?request_type=chat", content=raw)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the body must be a JSON object"


URL = data_url(picture())
CLEAN = data_url(clean_picture(picture()))
BARE = URL.partition(",")[2]


@pytest.mark.parametrize(("image", "sent"), [(URL, CLEAN), (BARE, CLEAN), (f"data:;base64,{BARE}", CLEAN)])
@pytest.mark.parametrize("prompt", [None, "Which animal?"])
async def test_image_is_described(
    image: str, sent: str, prompt: str | None, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    data = {"image": image} if prompt is None else {"image": image, "prompt": prompt}
    answer = await http.post("/inference", json={"type": "describe_image", "data": data})
    assert answer.json() == {"text": "Hi!", "findings": FINDING}
    (call,) = service.calls
    assert (call.model, call.task) == ("seer", Task.DESCRIBE)
    text, shown = json.loads(call.body)["messages"][0]["content"]
    assert text["text"] == (prompt or "Describe this picture.")
    assert shown == {"type": "image_url", "image_url": {"url": sent}}


async def test_model_without_findings_has_empty_ones(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(CHAT_ANSWER)
    answer = await http.post("/inference", json={"type": "describe_image", "data": {"image": BARE}})
    assert answer.json() == {"text": "Hi!", "findings": {}}


async def test_speech_is_a_wav_file(http: httpx2.AsyncClient, service: FakeService) -> None:
    streamed = SOUND[:4] + b"\xff" * 4 + SOUND[8:40] + b"\xff" * 4 + SOUND[44:]
    service.reply = at_once(streamed[:100], streamed[100:])
    data = {"text": "Hello.", "voice": "nova", "speed": 1.5}
    answer = await http.post("/inference", json={"type": "speak", "data": data})
    found = answer.json()
    assert found["sample_rate"] == 24_000
    assert base64.b64decode(found["audio"]) == SOUND, "now that it is whole, its header says how long it is"
    assert "no voice of that name" in answer.headers["x-cohabit-warning"]
    told = {
        "model": "tts",
        "input": "Hello.",
        "voice": "default",
        "response_format": "wav",
        "speed": 1.5,
    }
    assert json.loads(service.calls[0].body) == told


@pytest.mark.parametrize("prefix", ["", "data:audio/wav;base64,"])
async def test_sound_is_transcribed(prefix: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    audio = prefix + base64.b64encode(SOUND).decode()
    data = {"audio": audio, "language": "en", "prompt": "Names: Bob."}
    answer = await http.post("/inference", json={"type": "transcribe", "data": data})
    assert answer.json() == {"text": "Hi there."}
    (call,) = service.calls
    assert (call.model, call.task, call.blobs) == ("stt", Task.TRANSCRIBE, {"file": clean_sound(SOUND)})
    assert json.loads(call.body) == {"language": "en", "prompt": "Names: Bob.", "temperature": 0.0}


async def test_request_without_a_model_gets_one_that_can_answer(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    service.models = {name: service.models[name] for name in ("labels", "llm", "seer")}
    await http.post("/inference", json={"type": "chat", "data": {"prompt": "hello"}})
    await http.post("/inference", json={"type": "chat", "data": {"messages": asking(picture())}})
    assert [call.model for call in service.calls] == ["llm", "labels"]


@pytest.mark.parametrize(
    ("kind", "data", "message", "param"),
    [
        ("describe_image", {}, "data.image is missing", "data.image"),
        ("describe_image", {"image": CANARY + "!"}, "data.image is not valid base64", "data.image"),
        ("describe_image", {"image": "aGVsbG8="}, "data.image is not a picture that can be read", "data.image"),
        (
            "describe_image",
            {"image": "https://example.org/a.png"},
            "data.image is a URL, and this server fetches nothing",
            "data.image",
        ),
        (
            "describe_image",
            {"image": BARE, "prompt": "x" * (1 << 21)},
            "the request holds 2097152 bytes",
            "data.prompt",
        ),
        ("speak", {"text": " \n "}, "data.text is empty; send some text", "data.text"),
        ("speak", {"text": "x" * 4097}, "data.text must have at most 4096 characters", "data.text"),
        (
            "speak",
            {"text": "x", "voice": CANARY},
            "tts has no such voice; it has default, heart, alloy",
            "data.voice",
        ),
        ("speak", {"text": "x", "speed": 3}, "data.speed must be from 0.5 to 2 for tts", "data.speed"),
        ("transcribe", {"audio": "!"}, "data.audio is not valid base64", "data.audio"),
        ("transcribe", {"audio": "aGVsbG8="}, "data.audio is not sound that can be read", "data.audio"),
        ("transcribe", {"audio": "aGVsbG8=", "language": "English"}, "data.language must match", "data.language"),
    ],
)
async def test_invalid_pictures_and_sound_are_refused(
    kind: str, data: dict[str, Any], message: str, param: str, served: Served
) -> None:
    answer = await served.http.post("/inference", json={"type": kind, "data": data})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
    assert answer.json()["error"]["param"] == param
    assert CANARY not in answer.text
    assert not served.service.calls
