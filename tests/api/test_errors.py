"""Errors: one shape, the right status, nothing of what was sent."""

from collections.abc import MutableMapping
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from api.fake_service import CANARY, CHAT, Exchange, FakeService, at_once, failing, rejected
from cohabit.api.errors import REASONS
from cohabit.core.commands import RejectReason
from cohabit.protocol.engine import ItemError
from cohabit.runtime.requests import ModelRequest, ResponseFailed, ResponseStream

Lines = list[MutableMapping[str, Any]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", RejectReason)
async def test_every_rejection_has_its_status_and_code(
    reason: RejectReason, stream: bool, service: FakeService, http: httpx2.AsyncClient
) -> None:
    service.reply = failing(rejected(reason, retry_after=6.2))
    answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    status, kind = REASONS[reason]
    assert answer.status_code == status
    assert answer.json() == {
        "error": {"message": "what happened and what would do", "type": kind, "param": None, "code": reason.value}
    }
    assert answer.headers.get("retry-after") == ("7" if status in {429, 503} else None)


def test_each_reason_has_a_status() -> None:
    assert set(REASONS) == set(RejectReason)
    assert 500 not in {status for status, _ in REASONS.values()}


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_sent_even_if_unknown(
    status: int, service: FakeService, http: httpx2.AsyncClient
) -> None:
    reason = next(reason for reason, (code, _) in REASONS.items() if code == status)
    service.reply = failing(rejected(reason))
    assert (await http.post("/v1/chat/completions", json=CHAT)).headers["retry-after"] == "1"


@pytest.mark.parametrize("reason", RejectReason)
async def test_request_over_a_limit_is_not_to_be_retried(
    reason: RejectReason, service: FakeService, http: httpx2.AsyncClient
) -> None:
    service.reply = failing(rejected(reason))
    told = (await http.post("/v1/chat/completions", json=CHAT)).headers.get("x-should-retry")
    # ``rejected`` gives no time after which to try again: of a dead worker that is the request that killed it twice
    again = REASONS[reason][0] != 408 and reason is not RejectReason.WORKER_DIED
    assert told == (None if again else "false")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (
            ItemError(1, "too long", status=400, code="context_length_exceeded", param="messages"),
            400,
            "invalid_request",
        ),
        (ItemError(1, "it broke", status=500, code="engine_error"), 502, "server"),
    ],
)
async def test_engine_error_passes_through(
    error: ItemError, status: int, kind: str, service: FakeService, http: httpx2.AsyncClient
) -> None:
    service.reply = failing(ResponseFailed(error=error))
    answer = await http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == status
    assert answer.json()["error"] == {
        "message": error.message,
        "type": f"{kind}_error",
        "param": error.param,
        "code": error.code,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", f"/{CANARY}", 404, "unknown_url"), ("DELETE", "/v1/models", 405, "method_not_allowed")],
)
async def test_unknown_url_and_method_have_the_shape_of_errors(
    method: str, path: str, status: int, code: str, http: httpx2.AsyncClient
) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert CANARY not in answer.text
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/admin/status?limit=", "/v1/files?order=", "/v1/batches?limit="])
async def test_invalid_url_parameter_is_a_400_without_its_value(path: str, http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{path}{CANARY}")
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert CANARY not in answer.text


def broken(_call: ModelRequest, _answer: ResponseStream) -> None:
    raise RuntimeError(CANARY)


async def test_bug_is_a_500_with_a_request_id(service: FakeService, http: httpx2.AsyncClient, logged: Lines) -> None:
    service.reply = broken
    answer = await http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "abc"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "abc"
    assert answer.json()["error"]["code"] == "internal_error"
    assert "abc" in answer.json()["error"]["message"]
    bug, request = logged
    assert (bug["kind"], bug["request_id"]) == ("RuntimeError", "abc")
    assert bug["where"][0].startswith(__file__)
    assert request["status"] == 500
    assert CANARY not in answer.text + str(logged)


async def test_bug_after_the_answer_began_ends_the_connection(
    app: Starlette, service: FakeService, monkeypatch: pytest.MonkeyPatch, logged: Lines
) -> None:
    async def some(_self: ResponseStream) -> list[bytes]:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(ResponseStream, "some", some)
    service.reply = at_once(b"{}")
    async with Exchange(app, "/v1/chat/completions", {**CHAT, "stream": True}) as exchange:
        await exchange.ended()
    assert exchange.status == 200
    assert exchange.aborted
    assert not exchange.complete
    assert [line["event"] for line in logged] == ["unexpected error", "request"]
    assert CANARY not in str(logged) + str(exchange.sent)
