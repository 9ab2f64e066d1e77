"""``/v1/batches`` over a real store, whose lines go through the app itself."""

import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from api.batch_store_app import Stored, opened
from api.fake_service import CANARY, FakeService, as_asked, failing, rejected
from cohabit.core.commands import RejectReason
from cohabit.schemas.batches import ENDPOINTS

MESSAGES = [{"role": "user", "content": CANARY}]
ASKS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-4o-mini", "messages": MESSAGES},
    "/v1/completions": {"model": "llm", "prompt": CANARY},
    "/v1/embeddings": {"model": "embeddings", "input": CANARY},
    "/v1/responses": {"model": "llm", "input": CANARY},
    "/v1/rerank": {"model": "embeddings", "query": CANARY, "documents": [CANARY]},
    "/inference": {"type": "speak", "data": {"text": CANARY}},
}


@pytest.fixture
async def stored(
    app: Starlette, http: httpx2.AsyncClient, service: FakeService, tmp_path: Path
) -> AsyncIterator[Stored]:
    service.reply = as_asked
    async with opened(app, http, tmp_path) as made:
        yield made


async def begun(stored: Stored, *lines: dict[str, Any], **fields: Any) -> httpx2.Response:
    text = "\n".join(map(json.dumps, lines))
    file = (await stored.http.post("/v1/files", data={"purpose": "batch"}, files={"file": text.encode()})).json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h", **fields}
    return await stored.http.post("/v1/batches", json=asked)


def line(number: int, url: str = "/v1/embeddings", **body: Any) -> dict[str, Any]:
    return {"custom_id": f"c{number}", "method": "POST", "url": url, "body": ASKS[url] | body}


async def lines_of(stored: Stored, file_id: str) -> list[dict[str, Any]]:
    content = await stored.http.get(f"/v1/files/{file_id}/content")
    return [json.loads(each) for each in content.text.splitlines()]


def test_every_endpoint_has_a_body() -> None:
    assert set(ASKS) == set(ENDPOINTS)


async def test_every_task_runs_in_a_batch(
    stored: Stored, service: FakeService, logged: list[MutableMapping[str, Any]]
) -> None:
    answer = await begun(stored, *(line(number, url) for number, url in enumerate(ENDPOINTS)))
    assert answer.status_code == 200
    made = answer.json()
    assert (made["object"], made["status"], made["request_counts"]["total"]) == ("batch", "validating", 0)
    batch = await stored.ended(made["id"])
    assert batch["request_counts"] == {"total": 6, "completed": 6, "failed": 0}
    found = await lines_of(stored, batch["output_file_id"])
    assert [each["custom_id"] for each in found] == [f"c{number}" for number in range(6)]
    for each, url in zip(found, ENDPOINTS, strict=True):
        direct = (await stored.http.post(url, json=ASKS[url])).json()
        assert each["response"]["status_code"] == 200
        assert each["response"]["body"].keys() == direct.keys(), url
    ours = [call for call in service.calls if call.background]
    assert {call.client for call in ours} == {batch["id"]}
    assert len(ours) >= 6
    assert all(86_000 < (call.timeout or 0) <= 86_400 for call in ours)
    assert CANARY not in str(logged)
    lines = [each for each in logged if each.get("path") in ENDPOINTS and each["log_level"] == "info"]
    assert len(lines) == len(ENDPOINTS), "those that were asked directly"


async def test_failed_lines_are_in_the_error_file(stored: Stored, service: FakeService) -> None:
    service.reply = failing(rejected(RejectReason.ENGINE))
    answer = await begun(stored, line(1), line(2, model="none"), line(3, input=7))
    batch = await stored.ended(answer.json()["id"])
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    found = await lines_of(stored, batch["error_file_id"])
    assert [each["response"]["status_code"] for each in found] == [502, 404, 400]
    assert [each["response"]["body"]["error"]["code"] for each in found] == [
        "engine_error",
        "model_not_found",
        "invalid_request",
    ]
    assert all(each["response"]["request_id"] for each in found)


async def test_batch_is_listed_cancelled_and_erased(stored: Stored, service: FakeService) -> None:
    service.reply = lambda _call, _answer: None  # it takes its time
    made = (await begun(stored, line(1), metadata={"for": "a test"})).json()
    http, path = stored.http, f"/v1/batches/{made['id']}"
    assert (await http.get(path)).json()["metadata"] == {"for": "a test"}
    listed = (await http.get("/v1/batches")).json()
    assert [each["id"] for each in listed["data"]] == [made["id"]] == [listed["first_id"]]
    refused = await http.delete(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "batch_not_ended")
    assert (await http.post(f"{path}/cancel")).json()["status"] == "cancelling"
    batch = await stored.ended(made["id"])
    assert batch["status"] == "cancelled"
    again = await http.post(f"{path}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "batch_ended")
    assert (await http.delete(path)).json() == {"id": made["id"], "object": "batch", "deleted": True}
    for answer in (await http.get(path), await http.delete(path), await http.post(f"{path}/cancel")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batch_not_found")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": 7}, "input_file_id"),
        ({"endpoint": "/v1/audio/speech"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "1s"}, "completion_window"),
        ({"completion_window": "60d"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"seconds": 1}}, "output_expires_after.seconds"),
    ],
)
async def test_invalid_batch_says_what_is_wrong(fields: dict[str, Any], param: str | None, stored: Stored) -> None:
    answer = await begun(stored, line(1), **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_unknown_fields_are_dropped_and_named(stored: Stored) -> None:
    asked = line(1)
    answer = await begun(stored, {**asked, "body": {**asked["body"], "mood": 1}}, other=1)
    assert answer.headers["x-cohabit-warning"] == "fields that are not known here were dropped: other"
    batch = await stored.ended(answer.json()["id"])
    (told,) = (await stored.http.get(f"/v1/files/{batch['output_file_id']}/content")).content.splitlines()
    assert json.loads(told)["response"]["warning"] == "fields that are not known here were dropped: mood"


async def test_output_file_is_no_input(stored: Stored) -> None:
    batch = await stored.ended((await begun(stored, line(1))).json()["id"])
    answer = await begun(stored, line(1), input_file_id=batch["output_file_id"])
    assert answer.json()["error"]["code"] == "wrong_purpose"
