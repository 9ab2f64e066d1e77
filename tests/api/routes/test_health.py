"""Alive, progress, figures."""

import httpx2

from api.fake_service import FakeService
from cohabit.core.snapshot import LISTED, MAX_LISTED
from cohabit.runtime.service import HealthReport


async def test_live_while_the_loop_runs(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.now = HealthReport(False, "requests for llm could be served and are not")
    assert (await http.get("/health/live")).json() == {"status": "ok"}


async def test_ready_says_whether_requests_are_taken(http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await http.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "detail": "ok"})
    service.now = HealthReport(False, "shutting down")
    answer = await http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["message"] == "shutting down"
    assert answer.json()["error"]["code"] == "not_ready"


async def test_metrics_are_exposed(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == "cohabit_up 1\n"


async def test_status_lists_as_many_requests_as_asked(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/admin/status")).json() == {"schema": 1, "listed": LISTED}
    assert (await http.get("/admin/status?limit=3")).json()["listed"] == 3
    for limit in ("-1", str(MAX_LISTED + 1), "many"):
        assert (await http.get("/admin/status", params={"limit": limit})).status_code == 400
