"""Addresses in place of pictures and sound: what a request may hold of them."""

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import Request

from cohabit.api.errors import BadRequest
from cohabit.runtime.supervision import awaited

if TYPE_CHECKING:
    from cohabit.api.media.media_fetch import RemoteMedia  # loads an HTTP client, which few servers need

MOST_ADDRESSES = 8  # in one request
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_address(text: str) -> bool:
    """Whether it is the address of something rather than the thing itself."""
    return _ADDRESS.match(text) is not None


def not_fetched(param: str, why: str) -> BadRequest:
    """Why something is not there; ``param`` is the field that points to it."""
    return BadRequest(f"{param} {why}", param=param, code="media_not_fetched")


class Fetcher:
    """For one request, which may hold only so many addresses."""

    def __init__(self, remote: "RemoteMedia | None") -> None:
        """Has fetched nothing. Without ``remote`` it never will."""
        self._remote = remote
        self._count = 0

    async def fetch(self, url: str, param: str) -> bytes:
        """What is there; ``param`` is the field that points to it. Raises BadRequest."""
        if self._remote is None:
            raise not_fetched(
                param,
                "is an address, and this server fetches nothing from elsewhere; send the data itself as a data URL, "
                "or let the owner set server.remote_media.enabled in the config",
            )
        self._count += 1
        if self._count > MOST_ADDRESSES:
            raise not_fetched(param, f"is one address too many: at most {MOST_ADDRESSES} are fetched for one request")
        return await self._remote.fetched(url, param)

    async def fetch_all(self, places: Mapping[str, str]) -> dict[str, bytes]:
        """Of URLs by the place where they stand, those that are addresses, fetched. Raises BadRequest."""
        wanted = {place: url for place, url in places.items() if is_address(url)}
        tasks = [awaited(self.fetch(url, place)) for place, url in wanted.items()]
        try:
            return dict(zip(wanted, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()


def fetcher_of(request: Request) -> Fetcher:
    """For this request."""
    return Fetcher(request.app.state.remote)
