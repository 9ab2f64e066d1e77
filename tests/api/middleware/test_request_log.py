"""Request ids and the line in the log."""

import re
from collections.abc import MutableMapping
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, CHAT, FakeService, as_asked

Lines = list[MutableMapping[str, Any]]


@pytest.mark.parametrize("given", ["abc", "A-1_b.c:2", "x" * 128])
async def test_valid_request_id_is_kept(given: str, http: httpx2.AsyncClient, logged: Lines) -> None:
    answer = await http.get("/v1/models", headers={"x-request-id": given})
    assert answer.headers.get_list("x-request-id") == [given]
    assert logged[-1]["id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a\tb"])
async def test_invalid_request_id_is_replaced(given: str, http: httpx2.AsyncClient, logged: Lines) -> None:
    answers = [await http.get("/v1/models", headers={"x-request-id": given}) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{16}", made) for made in ids)
    assert len(set(ids)) == 2
    assert [line["id"] for line in logged] == ids


async def test_every_request_has_one_line(http: httpx2.AsyncClient, service: FakeService, logged: Lines) -> None:
    service.reply = as_asked
    await http.post("/v1/chat/completions", json={**CHAT, "model": "gpt-4o-mini"})
    [line] = logged
    assert line.pop("ms") >= 0
    assert line.pop("id")
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "model": "llm",
    }


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (f"/{CANARY}", "-"),
        (f"/health/{CANARY}", "-"),
        (f"/v1/models/{CANARY}", "/v1/models/{name:path}"),
        (f"/v1/models?name={CANARY}", "/v1/models"),
        (f"/v1/models?key={CANARY}", "-"),
        (f"/inference/?request_type={CANARY}", "-"),
    ],
)
async def test_log_has_the_route_and_not_what_the_client_wrote(
    path: str, route: str, http: httpx2.AsyncClient, logged: Lines
) -> None:
    await http.get(path)
    [line] = logged
    assert line["path"] == route
    assert CANARY not in str(line)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/admin/status"])
async def test_polled_routes_are_logged_at_debug(path: str, http: httpx2.AsyncClient, logged: Lines) -> None:
    await http.get(path)
    assert [line["log_level"] for line in logged] == ["debug"]


@pytest.mark.parametrize("path", ["/health/live", "/v1/models", "/v1/models/llm", "/metrics"])
async def test_head_works_where_get_does(path: str, http: httpx2.AsyncClient, logged: Lines) -> None:
    got, head = await http.get(path), await http.head(path)
    assert head.status_code == got.status_code == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    assert [line["method"] for line in logged] == ["GET", "HEAD"]
    assert logged[0]["path"] == logged[1]["path"]
    assert (await http.head("/v1/chat/completions")).status_code == 405
