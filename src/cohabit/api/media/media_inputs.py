"""Pictures and sound of one request: fetched where it holds an address, and opened by an inspector, never here."""

import asyncio
import base64
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from cohabit.api.answers import client_of, timeout_of
from cohabit.api.errors import ApiError, BadRequest, Refused
from cohabit.api.media.addresses import Fetcher, fetcher_of, is_address
from cohabit.api.middleware.disconnects import Watch
from cohabit.api.routes.models import service_of
from cohabit.core.reasons import Rejection, RejectReason
from cohabit.media.errors import Unreadable
from cohabit.protocol.inspection import Picture, Piece, Sound
from cohabit.runtime.inspectors import RETRY_AFTER, TooBusy
from cohabit.runtime.requests import CallFailed
from cohabit.runtime.service import Service
from cohabit.runtime.supervision import awaited

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Media:
    """What one request sent. Everything raises ApiError: 400 for what cannot be taken, 503 if too much waits."""

    service: Service
    fetcher: Fetcher
    client: str

    async def picture(self, url: str, longest: int, param: str) -> str:
        """A picture that a worker may open, as a data URL; ``param`` is the field it stands in."""
        return (await self.pictures({param: url}, longest))[param]

    async def pictures(self, urls: Mapping[str, str], longest: int) -> dict[str, str]:
        """Several, by the place where they stand; addresses are fetched at once, pictures looked at in turn."""
        fetched = await self.fetcher.fetch_all(urls)
        clean = {}
        for place, url in urls.items():
            file = fetched.pop(place, None)
            piece = Picture(url.encode(), longest, text=True) if file is None else Picture(file, longest)
            data = await self._inspected(piece, place, code="invalid_image")
            clean[place] = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return clean

    async def sound(self, data: bytes | str, param: str) -> bytes:
        """Sound that a worker may open; a text is a data URL, base64 or an address."""
        if isinstance(data, str) and is_address(data):
            data = await self.fetcher.fetch(data, param)
        piece = Sound(data.encode(), text=True) if isinstance(data, str) else Sound(data)
        return await self._inspected(piece, param, code="invalid_audio")

    async def _inspected(self, piece: Piece, param: str, *, code: str) -> bytes:
        try:
            return await self.service.inspect(piece, self.client)
        except Unreadable as error:
            raise BadRequest(f"{param} {error}", param=param, code=code) from None
        except TooBusy:
            message = "too many pictures and sounds wait to be looked at; send it again in a few seconds"
            raise ApiError(
                503, message, kind="server_error", code="too_busy", param=param, retry_after=RETRY_AFTER
            ) from None


def media_of(request: Request) -> Media:
    """For this request."""
    return Media(service_of(request), fetcher_of(request), client_of(request))


async def attended(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, as long as the client waits for it: until he leaves, or his x-request-timeout is over.

    Raises ClientDisconnect, ApiError, and as ``work`` does.
    """
    task = awaited(work)
    with Watch(request.receive, task) as watch:
        try:
            async with asyncio.timeout(timeout_of(request)) as deadline:
                return await task
        except asyncio.CancelledError:
            if watch.gone:
                raise ClientDisconnect from None
            raise
        except TimeoutError:
            if deadline.expired():
                late = Rejection(RejectReason.DEADLINE, "the request's time limit passed before it was opened")
                raise Refused(CallFailed(rejection=late)) from None
            raise
