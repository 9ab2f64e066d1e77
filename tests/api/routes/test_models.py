"""Names, aliases and tasks of models."""

import httpx2
import pytest

from api.fake_service import CANARY, CHAT, FakeService
from samples import asking, picture

NAMES = ("llm", "gpt-4o-mini", "seer", "labels", "embeddings", "tts", "tts-1", "stt", "whisper-1")


async def test_all_models_and_aliases_are_listed(http: httpx2.AsyncClient) -> None:
    answer = (await http.get("/v1/models")).json()
    assert answer["object"] == "list"
    assert [entry["id"] for entry in answer["data"]] == list(NAMES)
    assert answer["data"][0] == {"id": "llm", "object": "model", "created": 1_700_000_000, "owned_by": "cohabit"}
    assert answer["data"][1]["root"] == "llm"


@pytest.mark.parametrize("name", ["llm", "gpt-4o-mini"])
async def test_model_is_found_by_name_or_alias(name: str, http: httpx2.AsyncClient) -> None:
    assert (await http.get(f"/v1/models/{name}")).json()["id"] == name


@pytest.mark.parametrize("name", [CANARY, f"org/{CANARY}"])
async def test_unknown_model_is_a_404(name: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    for answer in (
        await http.get(f"/v1/models/{name}"),
        await http.post("/v1/chat/completions", json={**CHAT, "model": name}),
        await http.post("/v1/embeddings", json={"model": name, "input": "hello"}),
        await http.post("/inference", json={"type": "chat", "data": {"prompt": "hello"}, "model": name}),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"] == {
            "message": "there is no such model; configured are llm, seer, labels, embeddings, tts, stt",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    assert not service.calls


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/v1/chat/completions",
            {**CHAT, "model": "embeddings"},
            "embeddings cannot chat; models that can chat: llm, seer, labels",
        ),
        (
            "/v1/completions",
            {"model": "seer", "prompt": "Once"},
            "seer cannot complete text; models that can complete text: llm",
        ),
        (
            "/v1/embeddings",
            {"model": "gpt-4o-mini", "input": "hello"},
            "llm cannot make embeddings; models that can make embeddings: embeddings",
        ),
    ],
)
async def test_model_without_the_task_is_refused(
    path: str, body: dict[str, object], message: str, http: httpx2.AsyncClient
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["code"] == "unsupported_task"


PICTURE = asking(picture())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "llm", "messages": PICTURE}),
        ("/inference", {"type": "chat", "model": "llm", "data": {"messages": PICTURE}}),
    ],
)
async def test_picture_for_a_model_that_cannot_see_is_refused(
    path: str, body: dict[str, object], http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "llm cannot see pictures; models that can: seer, labels"
    assert answer.json()["error"]["code"] == "unsupported_content"
    service.models = {"llm": service.models["llm"]}
    answer = await http.post(path, json=body)
    assert answer.json()["error"]["message"] == "llm cannot see pictures; no configured model can"
    assert not service.calls


async def test_picture_for_a_model_that_sees_is_accepted(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = lambda _call, answer: answer.complete()
    body = {"model": "seer", "messages": PICTURE}
    assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
