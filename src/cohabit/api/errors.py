"""Every error in OpenAI's shape, from one place.

ApiError                    whose fault it is shows in the status
├── BadRequest              400  the client can mend it
├── NotFound                404  no such model or route
└── Refused                 what the core rejected or an engine refused, see REASONS

Messages never hold what was sent.
"""

import math
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.core.commands import RejectReason
from cohabit.observability.logs import log_bug
from cohabit.runtime.requests import ResponseFailed

REASONS: dict[RejectReason, tuple[int, str]] = {
    RejectReason.UNKNOWN_MODEL: (404, "invalid_request_error"),
    RejectReason.NEVER_FITS: (503, "server_error"),
    RejectReason.QUEUE_FULL: (429, "rate_limit_error"),
    RejectReason.DEADLINE: (408, "timeout_error"),
    RejectReason.SHUTTING_DOWN: (503, "server_error"),
    RejectReason.DEVICE_UNREADABLE: (503, "server_error"),
    RejectReason.SERVER_FAILED: (503, "server_error"),
    RejectReason.MODEL_FAILED: (503, "server_error"),
    RejectReason.WORKER_DIED: (503, "server_error"),
    RejectReason.OUT_OF_MEMORY: (503, "server_error"),
    RejectReason.MEMORY_LIMIT: (413, "invalid_request_error"),
    RejectReason.MAX_RUN: (408, "timeout_error"),
    RejectReason.STALLED: (408, "timeout_error"),
    RejectReason.ENGINE: (502, "server_error"),
}
"""Status and type of each reason; its value is the code."""

_NEEDS_RETRY_AFTER = {429, 503}
_NO_RETRY = {RejectReason.DEADLINE, RejectReason.MAX_RUN, RejectReason.STALLED}
"""A limit that passed would pass again. OpenAI's clients send a 408 or a 503 anew unless they are told not to."""


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """``retry_after`` in seconds; 429 and 503 always carry one."""
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers: dict[str, str] = {}
        if status in _NEEDS_RETRY_AFTER:
            self.headers["retry-after"] = str(max(1, math.ceil(retry_after or 1.0)))

    def response(self) -> JSONResponse:
        """As HTTP."""
        return JSONResponse(self.body, self.status, self.headers)


class BadRequest(ApiError):
    """The client can mend it."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_request") -> None:
        """``param`` names the field."""
        super().__init__(400, message, param=param, code=code)


class NotFound(ApiError):
    """There is no such thing."""

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        """``code`` says what kind of thing."""
        super().__init__(404, message, param=param, code=code)


class Refused(ApiError):
    """A request that was accepted and ended without its answer."""

    def __init__(self, failure: ResponseFailed) -> None:
        """From the runtime's word."""
        if failure.error is not None:
            error = failure.error
            kind = "invalid_request_error" if error.status < 500 else "server_error"
            status = error.status if error.status < 500 else REASONS[RejectReason.ENGINE][0]
            super().__init__(status, error.message, kind=kind, code=error.code, param=error.param)
            return
        rejection = failure.rejection
        if rejection is None:
            raise AssertionError("a failed call has a reason")
        status, kind = REASONS[rejection.reason]
        super().__init__(
            status, rejection.detail, kind=kind, code=rejection.reason, retry_after=rejection.retry_after
        )
        the_cause = rejection.reason is RejectReason.WORKER_DIED and rejection.retry_after is None
        if the_cause or rejection.reason in _NO_RETRY:
            self.headers["x-should-retry"] = "false"


_HTTP_CODES: Mapping[int, str] = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}


_HTTP_MESSAGES: Mapping[int, str] = {404: "there is no such URL", 405: "this URL does not take that method"}


async def handle(_request: Request, error: Exception) -> Response:
    """The answer to an error, of the app or of Starlette, in the one shape."""
    match error:
        case ApiError():
            return error.response()
        case ResponseFailed():
            return Refused(error).response()
        case HTTPException(status_code=status):
            message = _HTTP_MESSAGES.get(status, "the request cannot be served")
            answer = ApiError(status, message, code=_HTTP_CODES.get(status, "invalid_request")).response()
            answer.headers.update(error.headers or {})
            return answer
        case ClientDisconnect():
            return Response(status_code=CLIENT_GONE)
        case _:
            raise error


HANDLED = (ApiError, ResponseFailed, HTTPException, ClientDisconnect)
"""What ``handle`` answers."""


def unexpected(error: Exception, request_id: str) -> JSONResponse:
    """A bug of ours: where it happened is logged, what was sent is not."""
    log_bug(error, request_id=request_id)
    message = f"the server failed on this request; its log has more under the request id {request_id}"
    return ApiError(500, message, kind="server_error", code="internal_error").response()
