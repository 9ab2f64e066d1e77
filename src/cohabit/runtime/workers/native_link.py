"""The control plane's end of the link of a worker or an inspector."""

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from cohabit.protocol.messages import HEADER, MAX_FRAME, encode

Received = TypeVar("Received")


class NativeLink(asyncio.Protocol, Generic[Received]):
    """Frames in both directions over one socket. Callbacks run in the event loop, in order of arrival."""

    def __init__(self, on_message: Callable[[Received], None], decode: Callable[[memoryview], Received]) -> None:
        """Not connected yet; see ``connect``. ``decode`` makes a message of a frame's payload."""
        self._decode = decode
        self._on_message = on_message
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        """Done when the worker has closed its end and everything it sent was handed on."""

    @classmethod
    async def connect(
        cls,
        sock: socket.socket,
        on_message: Callable[[Received], None],
        decode: Callable[[memoryview], Received],
    ) -> "NativeLink[Received]":
        """Speak over a connected socket, which the link then owns."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: cls(on_message, decode), sock=sock)
        return link

    def send(self, message: msgspec.Struct) -> None:
        """Send one message. After the end of the link it goes nowhere: the exit event tells of it.

        It goes out in the next round of the loop, with all else that is sent in this one: of requests that come
        together each would wake the worker by itself, which on few cores takes this process's own from under it.
        Raises FrameTooLarge.
        """
        frame = encode(message)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(frame)

    def close(self) -> None:
        """Hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        frames, self._outgoing = self._outgoing, []
        if frames and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(frames)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand on every whole frame."""
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= HEADER.size:
            (size,) = HEADER.unpack_from(buffer, start)
            if size > MAX_FRAME:
                self.close()  # a broken worker; its end is dealt with like a death
                return
            stop = start + HEADER.size + size
            if stop > end:
                break
            with memoryview(buffer)[start + HEADER.size : stop] as frame:
                message = self._decode(frame)
            start = stop
            self._on_message(message)
        del buffer[:start]

    def eof_received(self) -> None:
        """The worker has said its last word: hang up, which lets it go (``worker.link.Link.leave``)."""
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        if not self.closed.done():
            self.closed.set_result(None)
