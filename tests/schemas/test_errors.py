"""The envelope that OpenAI's client unpacks, and what makes it try again."""

from collections.abc import Callable

import httpx2
import msgspec
import openai
import pytest

from cohabit.api.errors import ApiError, BadRequest, Refused
from cohabit.core.commands import Rejection, RejectReason
from cohabit.runtime.requests import ResponseFailed
from cohabit.schemas.answers import ErrorResponse


def answering(error: ApiError, sent: list[httpx2.Request]) -> Callable[[httpx2.Request], httpx2.Response]:
    """A server that has nothing but this error."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(error.status, json=error.body, headers=error.headers)

    return handler


def listed(error: ApiError, sent: list[httpx2.Request]) -> None:
    """Ask for the models with OpenAI's client, which may try twice."""
    http = httpx2.Client(transport=httpx2.MockTransport(answering(error, sent)))
    with openai.OpenAI(base_url="http://test/v1", api_key="x", http_client=http, max_retries=1) as client:
        client.models.list()


def test_openai_client_reads_our_errors() -> None:
    error = BadRequest("temperature must be a number", param="temperature")
    assert msgspec.to_builtins(msgspec.convert(error.body, ErrorResponse)) == error.body
    with pytest.raises(openai.BadRequestError, match="temperature must be a number") as caught:
        listed(error, [])
    told = (caught.value.param, caught.value.code, caught.value.type)
    assert told == ("temperature", "invalid_request", "invalid_request_error")


@pytest.mark.parametrize("reason", [RejectReason.DEADLINE, RejectReason.MAX_RUN])
def test_openai_client_does_not_retry_a_request_over_a_limit(reason: RejectReason) -> None:
    sent: list[httpx2.Request] = []
    with pytest.raises(openai.APIStatusError):
        listed(Refused(ResponseFailed(rejection=Rejection(reason, "too slow"))), sent)
    assert len(sent) == 1
