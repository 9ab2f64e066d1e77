"""OpenAI's own package for Python: what it raises, when it tries again, and many of its calls at once.

What it gets of real models is in tests/e2e/.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest

from harness import Running

pytestmark = [pytest.mark.process, pytest.mark.clients]

ASKED: Mapping[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


class Attempts:
    """Counts what goes over the wire, whatever the package makes of it."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def __call__(self, response: httpx2.Response) -> None:
        self.statuses.append(response.status_code)


@pytest.fixture
def attempts() -> Attempts:
    return Attempts()


@pytest.fixture
def client(fake: Running, attempts: Attempts) -> Iterator[openai.OpenAI]:
    """As it comes, so with two retries."""
    http = openai.DefaultHttpxClient(event_hooks={"response": [attempts]})
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key="none", http_client=http) as made:
        yield made


@dataclass(frozen=True)
class Case:
    """What is asked, what is raised, and the statuses of all attempts."""

    model: str
    error: type[openai.APIStatusError]
    code: str
    statuses: list[int]
    settings: Mapping[str, Any] = field(default_factory=dict)


TOO_LATE = {"extra_headers": {"x-request-timeout": "0.05"}, "extra_body": {"fake": {"run_seconds": 30}}}
CASES = [
    Case("none", openai.NotFoundError, "model_not_found", [404]),
    Case("refusing", openai.BadRequestError, "fake_refusal", [400]),
    Case("fake", openai.BadRequestError, "invalid_request", [400], {"temperature": 3}),
    Case("crashing", openai.InternalServerError, "engine_error", [502] * 3),
    Case("fake", openai.APIStatusError, "deadline_exceeded", [408], TOO_LATE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_what_it_raises_and_how_often_it_tries(client: openai.OpenAI, attempts: Attempts, case: Case) -> None:
    with pytest.raises(case.error) as raised:
        client.chat.completions.create(model=case.model, **ASKED, **case.settings)
    assert raised.value.code == case.code
    assert raised.value.request_id
    assert attempts.statuses == case.statuses


def test_a_stream_that_fails_raises_with_its_code(client: openai.OpenAI, attempts: Attempts) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="refusing", stream=True, **ASKED)
    assert raised.value.code == "fake_refusal"
    assert attempts.statuses == [400]


def test_a_stream_that_breaks_off_raises_and_never_looks_whole(client: openai.OpenAI) -> None:
    breaks = {"fake": {"fail": "die", "die_after_tokens": 3}}
    stream = client.chat.completions.create(model="fake", stream=True, extra_body=breaks, **ASKED)
    heard: list[str | None] = []
    with pytest.raises(openai.APIError) as raised:
        heard.extend(chunk.choices[0].delta.content for chunk in stream)
    assert raised.value.code == "worker_died"
    assert heard == ["0 ", "1 ", "2 "]


async def test_a_full_queue_is_waited_out(fake: Running) -> None:
    """Of six at once one runs and one waits; the others come again when they were told to, until they are served."""
    before = fake.metric("cohabit_rejections_total", reason="queue_full")
    async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="none", max_retries=10) as client:
        calls = [client.chat.completions.create(model="narrow", **ASKED) for _ in range(6)]
        answers = await asyncio.gather(*calls)
    assert len({answer.id for answer in answers}) == 6
    assert fake.metric("cohabit_rejections_total", reason="queue_full") - before >= 4


async def test_an_async_stream_that_is_left_is_cancelled(fake: Running) -> None:
    cancelled = {"model": "fake", "task": "chat", "outcome": "cancelled"}
    before = fake.metric("cohabit_finished_total", **cancelled)
    endless = {"fake": {"tokens": 100_000, "token_seconds": 0.01}}
    async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(model="fake", stream=True, extra_body=endless, **ASKED)
        async with stream:
            async for _ in stream:
                break
    fake.until(lambda: fake.metric("cohabit_finished_total", **cancelled) == before + 1)
