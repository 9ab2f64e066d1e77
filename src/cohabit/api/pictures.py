"""Pictures are looked at before anything is queued: whole, of a kind and size that is taken, for one that sees."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from cohabit.api.addresses import Fetcher
from cohabit.api.errors import BadRequest, readable
from cohabit.media import pictures as media
from cohabit.media.data_url import decode
from cohabit.protocol.tasks import Task
from cohabit.runtime.executors import PARSING
from cohabit.runtime.service import ModelInfo, Service

MOST_PICTURES = 32  # in one chat: looking at one takes up to half a second


async def check(
    service: Service, fetcher: Fetcher, info: ModelInfo, pictures: Iterable[tuple[str, str]], param: str
) -> Mapping[str, str]:
    """The pictures of a conversation, if it has any: where each stands, and its URL.

    ``param`` is the field which holds the conversation. Returns data URLs for those that had to be fetched, by the
    place where they stand, for ``put``. Raises BadRequest.
    """
    found = dict(pictures)
    if found and Task.DESCRIBE not in info.tasks:
        seeing = [other.name for other in service.models.values() if Task.DESCRIBE in other.tasks]
        can = f"models that can: {', '.join(seeing)}" if seeing else "no configured model can"
        raise BadRequest(f"{info.name} cannot see pictures; {can}", param=param, code="unsupported_content")
    if info.needs_picture and not found:
        raise BadRequest(
            f"{info.name} only tells of pictures; add an image_url part with a data URL",
            param=param,
            code="unsupported_content",
        )
    if len(found) > MOST_PICTURES:
        raise BadRequest(f"{param} may hold at most {MOST_PICTURES} pictures", param=param)
    fetched = await fetcher.fetch_all(found)
    urls = {}
    for place, url in found.items():
        if place in fetched:
            urls[place] = await examined(fetched[place], place)
        else:
            await examine(url, place)
    return urls


def put(body: Any, urls: Mapping[str, str]) -> None:
    """Put URLs where they belong in the plain data of a request."""
    for place, url in urls.items():
        *path, last = place.split(".")
        part = body
        for step in path:
            part = part[int(step) if step.isdecimal() else step]
        part[last] = url


async def examine(text: str, param: str) -> str:
    """One picture, as base64 or a data URL; returns its MIME type. Raises BadRequest."""
    with readable(param, code="invalid_image"):
        return await PARSING.run(lambda: media.examine(decode(text)))


async def examined(data: bytes, param: str) -> str:
    """One picture as a data URL. Raises BadRequest."""
    with readable(param, code="invalid_image"):
        kind = await PARSING.run(media.examine, data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
