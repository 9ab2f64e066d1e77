"""The pictures of a conversation: for a model that sees, not too many, and put back as what a worker may open."""

from collections.abc import Iterable, Mapping
from typing import Any

from cohabit.api.errors import BadRequest
from cohabit.api.media.media_inputs import Media
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo

MAX_PICTURES = 32  # in one chat


async def check(media: Media, info: ModelInfo, pictures: Iterable[tuple[str, str]], param: str) -> Mapping[str, str]:
    """Data URLs of pictures that a worker may open, by the place where they stand, for ``put``.

    ``pictures`` are those of a conversation, if it has any: where each stands, and its URL; ``param`` is the field
    which holds the conversation. Raises ApiError.
    """
    found = dict(pictures)
    if found and Task.DESCRIBE not in info.tasks:
        seeing = [other.name for other in media.service.models.values() if Task.DESCRIBE in other.tasks]
        can = f"models that can: {', '.join(seeing)}" if seeing else "no configured model can"
        raise BadRequest(f"{info.name} cannot see pictures; {can}", param=param, code="unsupported_content")
    if info.needs_picture and not found:
        raise BadRequest(
            f"{info.name} only tells of pictures; add an image_url part with a data URL",
            param=param,
            code="unsupported_content",
        )
    if len(found) > MAX_PICTURES:
        raise BadRequest(f"{param} may hold at most {MAX_PICTURES} pictures", param=param)
    return await media.pictures(found, info.longest_picture)


def put(body: Any, urls: Mapping[str, str]) -> None:
    """Put URLs where they belong in the plain data of a request."""
    for place, url in urls.items():
        *path, last = place.split(".")
        part = body
        for step in path:
            part = part[int(step) if step.isdecimal() else step]
        part[last] = url
