"""Ending a connection that cannot be ended in order.

Returning from ASGI without the end of an answer makes uvicorn close the transport, which first waits until all
that is buffered is written: for ever, if the client reads nothing. Nor may the end be written then, since the
client would take a part for the whole.
"""

from typing import Final

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ABORT: Final = "cohabit.abort"


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with a way for the app to drop the connection: ``uvicorn.Config(http=Connection)``."""

    def on_message_begin(self) -> None:
        """Put the way into each request's scope."""
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: self.transport.abort}  # type: ignore[dict-item]  # typed as plain data


async def drop(scope: Scope, receive: Receive) -> None:
    """End the connection now and wait until it has ended. Under another server, leave that to it."""
    abort = (scope.get("extensions") or {}).get(_ABORT)
    if abort is None:
        return
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass
