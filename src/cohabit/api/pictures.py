"""Pictures are looked at before anything is queued: whole, of a kind and size that is taken, for one that sees."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from cohabit.api.errors import BadRequest, readable
from cohabit.media import pictures as media
from cohabit.media.data_url import decode
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo, Service

_two_at_once = ThreadPoolExecutor(2, "pictures")  # a decoded picture takes up to 100 MB for the moment


async def check(service: Service, info: ModelInfo, pictures: Iterable[tuple[str, str]], param: str) -> None:
    """The pictures of a conversation, if it has any: where each stands, and its URL.

    ``param`` is the field which holds the conversation. Raises BadRequest.
    """
    found = list(pictures)
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
    for place, url in found:
        await examine(url, place)


async def examine(text: str, param: str) -> str:
    """One picture, as base64 or a data URL; returns its MIME type. Raises BadRequest."""
    loop = asyncio.get_running_loop()
    with readable(param, code="invalid_image"):
        return await loop.run_in_executor(_two_at_once, lambda: media.examine(decode(text)))
