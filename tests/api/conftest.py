"""The app over a runtime that the test drives."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any

import httpx2
import pytest
import uvloop
from starlette.applications import Starlette
from structlog.testing import capture_logs

from api.fake_service import FakeService, Served
from cohabit.api.app import create_app


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def app(service: FakeService) -> Starlette:
    return create_app(service, "1.2.3")


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """A client in the same process; an exception that leaves the app fails the test."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
def served(service: FakeService, http: httpx2.AsyncClient) -> Served:
    """Both in one, for tests that have many other parameters."""
    return Served(service, http)


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Runs a coroutine on one kind of loop."""
    with asyncio.Runner(loop_factory=request.param) as found:
        yield found.run
