"""The worker's end of the link over a real socket pair: credits, order, what a slow reader costs."""

import socket
import threading
from collections.abc import Iterator

import pytest

from cohabit.protocol.engine import Chunk
from cohabit.protocol.messages import (
    CREDIT_CHUNKS,
    HEADER,
    Credit,
    End,
    Finished,
    FrameTooLarge,
    FromWorker,
    Ping,
    Pong,
    decode_from_worker,
    encode,
)
from cohabit.protocol.tasks import Task
from cohabit.worker.link import BUFFER_CAP, Link
from harness import wait_until


class Peer:
    """The control plane's end, reading whole frames."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(2)
        self.socket = sock

    def frames(self, count: int) -> list[FromWorker]:
        """So many messages."""
        return [self._frame() for _ in range(count)]

    def silent(self) -> bool:
        """Nothing has been sent that was not read."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(2)

    def _frame(self) -> FromWorker:
        (size,) = HEADER.unpack(self._exactly(HEADER.size))
        message: FromWorker = decode_from_worker(self._exactly(size))
        return message

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data))
        return data


@pytest.fixture
def pair() -> Iterator[tuple[Link, Peer]]:
    """Both ends."""
    ours, theirs = socket.socketpair()
    link = Link(theirs.detach())
    with ours:
        yield link, Peer(ours)
    link.close()


def test_message_split_into_pieces_arrives_whole(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    frame = encode(Ping())

    def dribble() -> None:
        for place in range(len(frame)):
            peer.socket.sendall(frame[place : place + 1])

    sender = threading.Thread(target=dribble)
    sender.start()
    assert link.receive() == Ping()
    sender.join()
    peer.socket.sendall(encode(Ping())[:-1])
    peer.socket.shutdown(socket.SHUT_WR)
    assert link.receive() is None, "a link that ends within a frame has ended"


def test_giant_frame_is_refused_before_it_is_read(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    peer.socket.sendall(HEADER.pack(1 << 31))
    with pytest.raises(FrameTooLarge):
        link.receive()


def done(request: int, *, cancelled: bool = False) -> Finished:
    """What the engine's thread says at the end."""
    return Finished(request, Task.CHAT, seconds=0.1, peak=2, idle=1, cancelled=cancelled)


def test_chunks_beyond_the_credit_wait_and_come_in_order(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    link.open(1)
    for number in range(CREDIT_CHUNKS + 3):
        link.put(Chunk(1, b"%d" % number))
    link.finish(done(1))
    *sent, finished = peer.frames(CREDIT_CHUNKS + 1)
    assert finished == done(1), "the model is free, whatever its reader does"
    assert peer.silent()
    link.credit(Credit(1, chunks=2, size=4))
    sent += peer.frames(2)
    assert peer.silent()
    link.credit(Credit(1, chunks=5, size=10))
    *chunk, end = peer.frames(2)
    assert [one.data for one in [*sent, *chunk] if isinstance(one, Chunk)] == [
        b"%d" % number for number in range(CREDIT_CHUNKS + 3)
    ]
    assert end == End(1)


def test_an_answer_of_use_only_as_a_whole_goes_out_with_its_end(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    link.open(1)
    link.put(Chunk(1, b"a"), whole=True)
    assert peer.silent()
    link.finish(done(1))
    assert peer.socket.recv(1 << 16) == encode(Chunk(1, b"a")) + encode(done(1)) + encode(End(1))


def test_whole_response_does_not_wait_for_credit(
    pair: tuple[Link, Peer],
) -> None:
    link, peer = pair
    link.open(1)
    for number in range(CREDIT_CHUNKS + 1):
        link.put(Chunk(1, b"%d" % number), whole=True)
    assert len(peer.frames(CREDIT_CHUNKS)) == CREDIT_CHUNKS


def test_slow_reader_does_not_delay_another(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    link.open(1)
    link.open(2)
    for _ in range(CREDIT_CHUNKS + 50):
        link.put(Chunk(1, b"slow"))
    link.put(Chunk(2, b"fast"))
    assert peer.frames(CREDIT_CHUNKS + 1)[-1] == Chunk(2, b"fast")


def test_the_engine_waits_only_when_a_megabyte_is_unread_and_is_freed_by_a_drop(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    reader = threading.Thread(target=lambda: peer.frames(1))
    reader.start()
    link.open(1)
    link.put(Chunk(1, b"x" * (2 << 20)))  # uses up all credit
    reader.join()
    link.put(Chunk(1, b"y" * BUFFER_CAP))  # may wait
    blocked = threading.Thread(target=link.put, args=(Chunk(1, b"z"),))
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive()
    assert link.held_up == 1
    link.drop(1)
    blocked.join(2)
    assert not blocked.is_alive()
    assert link.held_up == 0
    link.put(Chunk(1, b"late"))
    assert peer.silent(), "what was dropped is not sent"


def test_waiting_chunks_are_sent_before_the_worker_exits(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    link.open(1)
    for _ in range(CREDIT_CHUNKS + 2):
        link.put(Chunk(1, b"a"))
    link.finish(done(1))
    leaving = threading.Thread(target=link.leave)
    leaving.start()
    peer.socket.sendall(encode(Credit(1, 1, 1)))  # too late, and it must not break the connection
    assert peer.frames(CREDIT_CHUNKS + 4)[-1] == End(1)
    assert peer.socket.recv(1) == b"", "its last word"
    leaving.join(0.1)
    assert leaving.is_alive(), "it waits until everything was taken"
    peer.socket.close()
    leaving.join(2)
    assert not leaving.is_alive()


def test_nothing_more_is_sent_of_an_answer_that_was_cancelled(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    link.open(1)
    for _ in range(CREDIT_CHUNKS + 1):
        link.put(Chunk(1, b"a"))
    link.finish(done(1, cancelled=True))
    link.credit(Credit(1, 1, 1))
    assert peer.frames(CREDIT_CHUNKS + 1)[-1] == done(1, cancelled=True)
    assert peer.silent()


def test_credit_for_an_answer_that_has_ended_is_nothing(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    link.credit(Credit(9, 1, 1))
    link.send(Pong(15))
    assert peer.frames(1) == [Pong(15)]


def test_messages_of_several_threads_arrive_whole_and_in_order(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    threads, count = 8, CREDIT_CHUNKS
    for request in range(threads):
        link.open(request)

    def speak(request: int) -> None:
        for number in range(count):
            link.put(Chunk(request, b"%d" % number))
        link.finish(done(request))

    speakers = [threading.Thread(target=speak, args=(request,)) for request in range(threads)]
    for speaker in speakers:
        speaker.start()
    said = peer.frames(threads * (count + 2))
    for speaker in speakers:
        speaker.join()
    for request in range(threads):
        mine = [message for message in said if message.id == request]  # type: ignore[union-attr]  # all have one
        assert mine == [*(Chunk(request, b"%d" % number) for number in range(count)), done(request), End(request)]


def test_a_full_socket_holds_up_only_the_thread_that_writes(pair: tuple[Link, Peer]) -> None:
    link, peer = pair
    big = Chunk(1, bytes(1 << 20))
    link.open(1)
    link.open(2)
    writer = threading.Thread(target=lambda: link.put(big))
    writer.start()
    wait_until(lambda: link._writing)
    link.put(Chunk(2, b"x"))
    link.send(Pong(0))
    assert writer.is_alive(), "nobody has read"
    assert peer.frames(3) == [big, Chunk(2, b"x"), Pong(0)]
    writer.join()
