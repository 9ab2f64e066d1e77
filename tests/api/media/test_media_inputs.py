"""What a request sent is held no longer than it is needed."""

import asyncio
import gc
import weakref
from contextlib import suppress

from starlette.requests import Request
from starlette.types import Message

from cohabit.api.errors import BadRequest
from cohabit.api.media.media_inputs import attended


class Sent:
    """Stands for many MiB."""


async def refused(_sent: Sent) -> None:
    raise BadRequest("no")


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_refused_media_is_freed_without_the_garbage_collector() -> None:
    sent = Sent()
    freed = weakref.ref(sent)
    gc.disable()
    try:
        with suppress(BadRequest):
            await attended(Request({"type": "http", "headers": []}, never), refused(sent))
        del sent
        for _ in range(3):
            await asyncio.sleep(0)  # the watch ends
        assert freed() is None
    finally:
        gc.enable()
