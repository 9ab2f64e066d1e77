"""Pictures and sound of one request: fetched where it holds an address, and opened by an inspector, never here."""

import asyncio
import base64
import re
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request

from cohabit.api.context import service_of
from cohabit.api.errors import ApiError, BadRequest, Refused
from cohabit.api.middleware.disconnects import Watch
from cohabit.api.submission import client_of, timeout_of
from cohabit.core.commands import Rejection, RejectReason
from cohabit.media import Unreadable
from cohabit.protocol.inspection import Picture, Piece, Sound
from cohabit.protocol.tasks import Task
from cohabit.runtime.inspectors import RETRY_AFTER, TooBusy
from cohabit.runtime.requests import ResponseFailed
from cohabit.runtime.service import ModelInfo, Service
from cohabit.runtime.supervision import awaited

MAX_PICTURES = 32  # in one chat

T = TypeVar("T")

MAX_ADDRESSES = 8  # in one request
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Remote(Protocol):
    """What fetches from elsewhere: ``media_fetch``, whose HTTP client few servers need to load."""

    async def fetch(self, url: str, param: str) -> bytes:
        """What is there; ``param`` is the field that points to it. Raises BadRequest."""


def is_address(text: str) -> bool:
    """Whether it is the address of something rather than the thing itself."""
    return _ADDRESS.match(text) is not None


def not_fetched(param: str, why: str) -> BadRequest:
    """Why something is not there; ``param`` is the field that points to it."""
    return BadRequest(f"{param} {why}", param=param, code="media_not_fetched")


class Fetcher:
    """For one request, which may hold only so many addresses."""

    def __init__(self, remote: Remote | None) -> None:
        """Has fetched nothing. Without ``remote`` it never will."""
        self._remote = remote
        self._count = 0

    async def fetch(self, url: str, param: str) -> bytes:
        """What is there; ``param`` is the field that points to it. Raises BadRequest."""
        if self._remote is None:
            raise not_fetched(
                param,
                "is a URL, and this server fetches nothing; send the data itself as a data URL, or let the operator "
                "set server.remote_media.enabled in the config",
            )
        self._count += 1
        if self._count > MAX_ADDRESSES:
            raise not_fetched(param, f"is one URL too many: at most {MAX_ADDRESSES} are fetched for one request")
        return await self._remote.fetch(url, param)

    async def fetch_all(self, places: Mapping[str, str]) -> dict[str, bytes]:
        """Of URLs by the place where they stand, those that are addresses, fetched. Raises BadRequest."""
        wanted = {place: url for place, url in places.items() if is_address(url)}
        tasks = [awaited(self.fetch(url, place)) for place, url in wanted.items()]
        try:
            return dict(zip(wanted, await asyncio.gather(*tasks), strict=True))
        finally:
            while tasks:
                tasks.pop().cancel()  # an error would hold this frame, and it the task with the error


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
    return Media(service_of(request), Fetcher(request.app.state.remote), client_of(request))


async def attended(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, as long as the client waits for it: until it leaves, or his x-request-timeout is over.

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
                raise Refused(ResponseFailed(rejection=late)) from None
            raise
        finally:
            # What the task raised holds this frame: together they would keep all that was sent until the garbage
            # collector comes.
            del task, watch


async def check_pictures(
    media: Media, info: ModelInfo, pictures: Iterable[tuple[str, str]], param: str
) -> Mapping[str, str]:
    """Data URLs of pictures that a worker may open, by the place where they stand, for ``put_pictures``.

    ``pictures`` are those of a conversation, if it has any: where each stands, and its URL; ``param`` is the field
    which holds the conversation. Raises ApiError.
    """
    images = dict(pictures)
    if images and Task.DESCRIBE not in info.tasks:
        seeing = [other.name for other in media.service.models.values() if Task.DESCRIBE in other.tasks]
        can = f"models that can: {', '.join(seeing)}" if seeing else "no configured model can"
        raise BadRequest(f"{info.name} cannot see pictures; {can}", param=param, code="unsupported_content")
    if info.needs_picture and not images:
        raise BadRequest(
            f"{info.name} only tells of pictures; add an image_url part with a data URL",
            param=param,
            code="unsupported_content",
        )
    if len(images) > MAX_PICTURES:
        raise BadRequest(f"{param} may hold at most {MAX_PICTURES} pictures", param=param)
    return await media.pictures(images, info.longest_picture)


def put_pictures(body: Any, urls: Mapping[str, str]) -> None:
    """Put URLs where they belong in the plain data of a request."""
    for place, url in urls.items():
        *path, last = place.split(".")
        part = body
        for step in path:
            part = part[int(step) if step.isdecimal() else step]
        part[last] = url
