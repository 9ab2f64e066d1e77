"""Whether an answer to a line is its last, or is to be asked for again, and when.

What the request itself brought about stands. What is the server's matter is tried again: too many that wait, a model
that cannot be had just now and a server that stops as often as it takes until the batch expires; what may well be
the request's own doing, such as a worker that died of it, a few times.
"""

from collections import Counter
from math import inf

import msgspec

from cohabit.batches.asgi_client import AppResponse
from cohabit.core.commands import RejectReason

LONGEST_PAUSE = 300.0  # seconds
_TRIES: dict[str | None, float] = {
    RejectReason.WORKER_DIED: 2,
    RejectReason.OUT_OF_MEMORY: 3,
    "internal_error": 2,
    RejectReason.DEADLINE: inf,  # the one that came with it is the batch's, which says so itself
}
_LATER = {429, 503}


class _Error(msgspec.Struct):
    code: str | None = None


class _Body(msgspec.Struct):
    error: _Error


_decoder = msgspec.json.Decoder(_Body)


class RetryPolicy:
    def __init__(self) -> None:
        """It has not been asked yet."""
        self._tries: Counter[str | None] = Counter()

    def pause(self, response: AppResponse) -> float | None:
        """Seconds until it is to be asked again; None if this answer stands."""
        if response.status < 400:
            return None
        code = _code(response.body)
        if response.final and code == RejectReason.WORKER_DIED:
            return None  # it died of this request, twice
        self._tries[code] += 1
        tried = self._tries[code]
        if tried >= _TRIES.get(code, inf if response.status in _LATER else 0):
            return None
        return min(LONGEST_PAUSE, max(response.retry_after, 2.0 ** (tried - 1)))


def _code(body: bytes) -> str | None:
    try:
        return _decoder.decode(body).error.code
    except msgspec.DecodeError:
        return None
