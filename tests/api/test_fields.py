"""One rule for fields: known ones are validated, those of the engine too, and all others are dropped and named."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

import httpx2
import msgspec
import pytest
from msgspec import Meta

from api.fake_service import CANARY, CHAT, SOUND, FakeService, as_asked
from cohabit.api.bodies import LARGE
from cohabit.api.fields import MAX_CONTAINERS, MAX_NAMED, MAX_VALUES, dropped_warning, split, validate
from cohabit.protocol.parameters import BadParameter, Declared
from cohabit.protocol.tasks import Task
from cohabit.schemas.chat import ChatRequest
from cohabit.schemas.responses import ResponseRequest

WARNING = "x-cohabit-warning"
MESSAGE = {"role": "user", "content": "hello"}
ITEM = {"type": "chat", "data": {"prompt": "hello"}}


class Own(msgspec.Struct):
    """What the models here declare."""

    depth: Annotated[int, Meta(ge=0, le=9)] | None = None


def refusing(given: Mapping[str, Any]) -> None:
    if given.get("depth") == 9:
        raise BadParameter("depth must be at most 8 for this model", param="depth")


@pytest.fixture
def service() -> FakeService:
    """All its models declare one field, and refuse another."""
    service = FakeService()
    service.reply = as_asked
    declared = Declared(dict.fromkeys(Task, Own), {"dangerous": "it ends the worker"}, refusing)
    for name, info in service.models.items():
        object.__setattr__(info, "declared", declared)
        assert service.models[name].declared is declared
    return service


ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "completion": ("/v1/completions", {"model": "llm", "prompt": "Once"}),
    "response": ("/v1/responses", {"model": "llm", "input": "hello"}),
    "embedding": ("/v1/embeddings", {"model": "embeddings", "input": "hello"}),
    "rerank": ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    "speech": ("/v1/audio/speech", {"model": "tts", "input": "hello"}),
    "inference chat": ("/inference?request_type=chat", {"prompt": "hello"}),
    "inference embed": ("/inference?request_type=embed", {"text": "hello"}),
    "inference speak": ("/inference?request_type=speak", {"text": "hello"}),
}
every_route = pytest.mark.parametrize(("path", "body"), ROUTES.values(), ids=ROUTES)


@every_route
async def test_unknown_field_is_dropped_and_named(
    path: str, body: dict[str, Any], http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(path, json={**body, "mood": CANARY, "depth": 3})
    assert answer.status_code == 200, answer.text
    assert answer.headers[WARNING].split("; ")[-1] == "fields that are not known here were dropped: mood"
    (call,) = service.calls
    assert CANARY.encode() not in call.body
    assert json.loads(call.body)["depth"] == 3, "the engine declares it"
    assert CANARY not in str(answer.headers)


@every_route
@pytest.mark.parametrize("depth", [10, -1, 1.5, CANARY, [], True, 9])
async def test_invalid_engine_parameter_is_refused(
    depth: Any, path: str, body: dict[str, Any], http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(path, json={**body, "depth": depth})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"].removeprefix("data.") == "depth"
    assert error["message"].removeprefix("data.").startswith("depth must be ")
    assert CANARY not in answer.text
    assert not service.calls


@every_route
async def test_dangerous_engine_parameter_is_refused(
    path: str, body: dict[str, Any], http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(path, json={**body, "dangerous": CANARY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert CANARY not in answer.text
    assert not service.calls
    assert (await http.post(path, json={**body, "dangerous": None})).status_code == 200


@every_route
async def test_request_of_known_fields_has_no_warning(
    path: str, body: dict[str, Any], http: httpx2.AsyncClient
) -> None:
    answer = await http.post(path, json=body)
    assert "dropped" not in answer.headers.get(WARNING, "")


async def test_form_drops_and_names_unknown_fields(http: httpx2.AsyncClient, service: FakeService) -> None:
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations"):
        form = {"model": "stt", "mood": CANARY, "moods[]": [CANARY], "deep[inside]": CANARY, "x\r\ny: z": "1"}
        answer = await http.post(path, data=form, files={"file": ("a.wav", SOUND)})
        assert answer.status_code == 200, answer.text
        assert answer.headers[WARNING].endswith("were dropped: mood, moods, deep, 1 more")
        assert CANARY.encode() not in service.calls[-1].body


async def test_batch_drops_unknown_fields_of_each_item(http: httpx2.AsyncClient, service: FakeService) -> None:
    items = [{**ITEM, "mood": 1}, {**ITEM, "data": {"prompt": "hello", "tone": CANARY}}, ITEM]
    for accept in ("application/json", "application/x-ndjson"):
        answer = await http.post("/batch", json=items, headers={"accept": accept})
        assert answer.status_code == 200
        assert "were dropped: mood" in answer.headers[WARNING]
        assert "were dropped: tone" in answer.headers[WARNING]
    assert not [call for call in service.calls if CANARY.encode() in call.body]


async def test_nested_unknown_fields_are_dropped(http: httpx2.AsyncClient, service: FakeService) -> None:
    part = {"type": "text", "text": "hello", "cache_control": {"type": CANARY}}
    messages = [{**MESSAGE, "content": [part], "mood": CANARY}, {**MESSAGE, "mood": CANARY}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"anything": 1}, "mood": CANARY}}
    answer = await http.post("/v1/chat/completions", json={"model": "llm", "messages": messages, "tools": [tool]})
    assert answer.status_code == 200, answer.text
    names = answer.headers[WARNING].partition("dropped: ")[2].split(", ")
    assert names == ["messages.content.cache_control", "messages.mood", "tools.function.mood"]
    (call,) = service.calls
    assert CANARY.encode() not in call.body
    assert json.loads(call.body)["tools"][0]["function"]["parameters"] == {"anything": 1}, "a schema is kept whole"


async def test_message_of_an_openai_answer_can_be_sent_back(http: httpx2.AsyncClient) -> None:
    called = {"id": "1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None}
    messages = [MESSAGE, {**said, "function_call": None, "tool_calls": [called]}]
    more = {"metadata": {"a": "b"}, "service_tier": "auto", "reasoning_effort": "low", "user": "ann"}
    answer = await http.post("/v1/chat/completions", json={"model": "llm", "messages": messages, **more})
    assert answer.status_code == 200
    assert WARNING not in answer.headers


@pytest.mark.parametrize(
    "name", ["x\r\nset-cookie: a=b", "\u2028", "é" * 10, "a" * 65, "", " ", "a b", "<script>", '"', "\x00"]
)
async def test_field_name_cannot_inject_into_the_header(name: str, http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json={**CHAT, name: 1, "mood": 1})
    assert answer.status_code == 200
    assert answer.headers[WARNING] == "fields that are not known here were dropped: mood, 1 more"
    assert "set-cookie" not in answer.headers


def test_warning_names_at_most_eight_fields() -> None:
    told = dropped_warning([f"field{number}" for number in range(1000)])
    assert told is not None
    assert told.count("field") == MAX_NAMED + 1
    assert told.endswith(f"{1000 - MAX_NAMED} more")


def worth(text: str, count: int) -> str:
    return "[" + ",".join([text] * count) + "]"


def body(**fields: str) -> bytes:
    """A chat with these fields, given as JSON."""
    return (
        json.dumps(CHAT)[:-1].encode()
        + b"".join(f', "{name}": {text}'.encode() for name, text in fields.items())
        + b"}"
    )


@pytest.mark.parametrize(
    "raw",
    [
        body(mood=worth("[]", 5_000_000)),
        body(mood=worth("{}", 5_000_000)),
        body(metadata=worth("0", 9_000_000)),
        body(**{f"mood{number}": "1" for number in range(500_000)}),
        body(mood="[" * 500 + worth("1", LARGE) + "]" * 500),
    ],
    ids=["arrays", "objects", "numbers", "fields", "deep"],
)
def test_unknown_fields_are_not_decoded(raw: bytes) -> None:
    began = time.thread_time()
    taken = validate(ChatRequest, split(raw, ChatRequest))
    took = time.thread_time() - began
    assert taken.plain == CHAT
    assert took < len(raw) / 10e6, "several times the speed at which they could be made"


def _chat(content: str) -> bytes:
    return f'{{"model": "llm", "messages": [{{"role": "user", "content": {content}}}]}}'.encode()


PART = '{"type": "text", "text": "a"}'
ITEMS = worth('{"role": "user", "content": [{"type": "input_text", "text": "a"}]}', 4000)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (ChatRequest, _chat(worth(PART, MAX_CONTAINERS))),
        (ChatRequest, _chat(worth(PART, 10 * MAX_CONTAINERS))),
        (ChatRequest, body(tools=worth("{}", 4 * MAX_CONTAINERS))),
        (ChatRequest, body(stop=worth('"a"', MAX_VALUES + 2))),
        (ChatRequest, _chat(worth('{"type": "text", "text": "a", "mood": []}', MAX_CONTAINERS // 2 + 1))),
    ],
)
def test_too_many_values_are_refused_before_they_are_decoded(
    kind: type[ChatRequest], raw: bytes, refused: Callable[[type[ChatRequest], bytes], str]
) -> None:
    assert "more than" in refused(kind, raw)


@pytest.fixture
def refused() -> Callable[[type[ChatRequest], bytes], str]:
    """Why a body is refused."""

    def why(kind: type[ChatRequest], raw: bytes) -> str:
        from cohabit.api.errors import BadRequest

        with pytest.raises(BadRequest) as caught:
            validate(kind, split(raw, kind))
        return str(caught.value)

    return why


def test_brackets_inside_text_are_not_counted() -> None:
    text = json.dumps("[{,:" * MAX_CONTAINERS + '"\\')
    assert len(validate(ChatRequest, split(_chat(text), ChatRequest)).text_bytes * "x") == 4 * MAX_CONTAINERS + 2


def test_long_conversation_is_accepted() -> None:
    raw = f'{{"model": "llm", "input": {ITEMS}}}'.encode()
    assert len(validate(ResponseRequest, split(raw, ResponseRequest)).body.input) == 4000


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (body(mood=worth("[]", 10_000_000)), 200),
        (body(**{f"mood{number}": "1" for number in range(1_000_000)}), 200),
        (_chat(worth(PART, 500_000)), 400),
        (_chat(worth(PART, MAX_CONTAINERS - 10)), 200),
    ],
    ids=["arrays", "fields", "too many parts", "parts"],
)
async def test_no_body_blocks_the_event_loop(
    raw: bytes, status: int, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        steps.append(time.thread_time() - began)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(raw), 1 << 16):
            yield raw[at : at + (1 << 16)]

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    answer = await http.post("/v1/chat/completions", content=pieces())
    assert answer.status_code == status
    assert max(steps) < 0.05
