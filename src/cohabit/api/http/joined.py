"""An answer's head and what follows it, in one piece."""

import asyncio

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Joined(asyncio.Transport):
    """What an answer is written through until its head is out.

    uvicorn writes the head by itself. Each of two writes is a call of the kernel, and wakes the client: the first
    one for nothing, and where cores are few it takes that of the server, which has the rest still to write.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        """Of one request."""
        super().__init__()
        self._cycle = cycle
        self._transport = cycle.transport
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write; keep a head that something is sure to follow, which tells its length, until then."""
        cycle = self._cycle
        if self._transport.is_closing():  # its client has hung up, which uvicorn hears of later
            return
        if not cycle.response_started:  # 100 Continue
            self._transport.write(data)
        elif self._head or not cycle.expected_content_length or cycle.scope["method"] == "HEAD":
            cycle.transport = self._transport
            self._transport.write(self._head + data)
        else:
            self._head = bytes(data)

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close it. A head alone is no answer."""
        self._transport.close()
