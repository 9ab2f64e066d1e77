"""The control plane's end of the link, over a real socket pair."""

import asyncio
import socket
from collections.abc import Iterable

import pytest

from cohabit.protocol.messages import (
    HEADER,
    CancelRun,
    End,
    Hello,
    Pong,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from cohabit.runtime.workers.native_link import NativeLink
from harness import PATIENCE


async def test_frames_both_ways_however_they_are_cut() -> None:
    heard: list[object] = []
    ours, theirs = socket.socketpair()
    link = await NativeLink.connect(ours, heard.append, decode_from_worker)
    data = encode(Hello(1, 2)) + encode(Pong(5)) + encode(End(3))
    for cut in (1, 3, 9):
        theirs.sendall(data[:cut])
        await asyncio.sleep(0)
        data = data[cut:]
    theirs.sendall(data)
    link.send(CancelRun(4))
    theirs.setblocking(True)
    received = await asyncio.to_thread(theirs.recv, 100)
    assert decode_to_worker(received[HEADER.size :]) == CancelRun(4)
    theirs.close()
    await asyncio.wait_for(link.closed, PATIENCE)
    assert heard == [Hello(1, 2), Pong(5), End(3)]
    link.send(CancelRun(5))  # goes nowhere, and says nothing: the exit event will


async def test_giant_frame_ends_the_link() -> None:
    ours, theirs = socket.socketpair()
    link = await NativeLink.connect(ours, print, decode_from_worker)
    theirs.sendall(HEADER.pack(1 << 31))
    await asyncio.wait_for(link.closed, PATIENCE)
    theirs.close()


async def test_messages_of_a_leaving_worker_arrive_although_it_is_still_written_to() -> None:
    heard: list[object] = []
    ours, theirs = socket.socketpair()
    link = await NativeLink.connect(ours, heard.append, decode_from_worker)
    theirs.sendall(encode(Pong(5)) * 2000)
    theirs.shutdown(socket.SHUT_WR)
    link.send(CancelRun(4))
    await asyncio.wait_for(link.closed, PATIENCE)
    assert len(heard) == 2000
    assert await asyncio.to_thread(theirs.recv, 1000) == encode(CancelRun(4))
    assert await asyncio.to_thread(theirs.recv, 1) == b"", "it hung up, so the worker may go"
    theirs.close()


async def test_messages_of_one_round_of_the_event_loop_are_sent_together() -> None:
    ours, theirs = socket.socketpair()
    link = await NativeLink.connect(ours, print, decode_from_worker)
    theirs.setblocking(False)
    for request in (4, 5):
        link.send(CancelRun(request))
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    await asyncio.sleep(0)
    assert theirs.recv(100) == encode(CancelRun(4)) + encode(CancelRun(5))
    theirs.close()
    await asyncio.wait_for(link.closed, PATIENCE)


class Written(asyncio.Transport):
    """Notes what it is given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.pieces.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return False


async def test_it_is_one_write() -> None:
    link, written = NativeLink(print, decode_from_worker), Written()
    link.connection_made(written)
    for request in (4, 5):
        link.send(CancelRun(request))
    await asyncio.sleep(0)
    assert written.pieces == [encode(CancelRun(4)) + encode(CancelRun(5))]
    await asyncio.sleep(0)
    assert len(written.pieces) == 1


async def test_messages_before_the_end_of_the_link_are_sent() -> None:
    ours, theirs = socket.socketpair()
    link = await NativeLink.connect(ours, print, decode_from_worker)
    link.send(CancelRun(4))
    link.close()
    assert await asyncio.to_thread(theirs.recv, 100) == encode(CancelRun(4))
    assert await asyncio.to_thread(theirs.recv, 1) == b""
    theirs.close()
