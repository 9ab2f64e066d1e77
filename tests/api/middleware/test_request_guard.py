"""What is turned away whatever the route, and what is not."""

from collections.abc import MutableMapping
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, CHAT, FakeService, as_asked
from cohabit.api.middleware.request_guard import KEYS

Lines = list[MutableMapping[str, Any]]


@pytest.mark.parametrize("name", [*sorted(KEYS), "API-Key", " token", "x-api-key"])
async def test_key_in_the_url_is_refused(name: str, http: httpx2.AsyncClient, logged: Lines) -> None:
    answer = await http.get("/v1/models", params={"a": "b", name: CANARY})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "key_in_address"
    assert "authorization: Bearer KEY" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"] == logged[-1]["id"]
    assert CANARY not in answer.text + str(answer.headers) + str(logged)


@pytest.mark.parametrize("query", ["", "?", "?request_type=chat", "?keys=1&monkey=2", "?a=key", "?%"])
async def test_url_without_a_key_passes(query: str, http: httpx2.AsyncClient) -> None:
    assert (await http.get(f"/v1/models{query}")).status_code == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("content-encoding", "gzip", 415),
        ("content-encoding", "identity, br", 415),
        ("content-encoding", "Identity", 200),
        ("content-encoding", "", 200),
        ("transfer-encoding", "gzip, chunked", 415),
        ("transfer-encoding", "Chunked", 200),
    ],
)
async def test_compressed_body_is_refused(
    header: str, value: str, status: int, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    answer = await http.post("/v1/chat/completions", json=CHAT, headers={header: value})
    assert answer.status_code == status
    assert bool(service.calls) == (status == 200)
    if status == 415:
        assert answer.json()["error"]["code"] == "compressed_body"
