"""The worker's end of the link: whole frames over a blocking socket, written from several threads."""

import socket
import threading
from collections import deque

from cohabit.protocol.engine import Chunk
from cohabit.protocol.messages import (
    CREDIT_BYTES,
    CREDIT_CHUNKS,
    Credit,
    End,
    Finished,
    FromWorker,
    ToWorker,
    decode_to_worker,
    encode,
    read_frame,
)

BUFFER_CAP = 1 << 20  # bytes of one answer that may wait here for its reader before the engine is held up


class _Stream:
    """One answer on its way out: what has credit goes at once, the rest waits in order."""

    def __init__(self) -> None:
        self.chunks = CREDIT_CHUNKS
        self.size = CREDIT_BYTES
        self.pending: deque[Chunk] = deque()
        self.pending_size = 0
        self.ending = False


class Link:
    """Frames to and from the control plane, with the credits of every stream.

    A client who does not read uses up his credits; his chunks then wait here, so the engine goes on and is free
    for others, until BUFFER_CAP bytes wait (text never gets there; audio may).
    """

    def __init__(self, fd: int) -> None:
        """Takes the socket over."""
        self._socket = socket.socket(fileno=fd)
        self._reader = self._socket.makefile("rb", buffering=1 << 16)
        self._condition = threading.Condition()
        self._streams: dict[int, _Stream] = {}
        self._outgoing = bytearray()
        self._writing = False
        self.held_up = 0
        """How many threads wait for a reader who does not take his answer."""

    def receive(self) -> ToWorker | None:
        """The next message; None at the end of the link."""
        payload = read_frame(self._reader.read)
        return None if payload is None else decode_to_worker(payload)

    def send(self, message: FromWorker) -> None:
        """Send one message now, in one piece."""
        with self._condition:
            self._send(message)
        self._write()

    def open(self, request: int) -> None:
        """A new answer begins with full credit."""
        with self._condition:
            self._streams[request] = _Stream()

    def put(self, chunk: Chunk, *, whole: bool = False) -> None:
        """Send a chunk, or keep it until its reader has taken earlier ones. Blocks while BUFFER_CAP bytes wait.

        Of an answer that is of use only as a ``whole`` it goes out with what is sent next, at the latest its end.
        """
        with self._condition:
            stream = self._streams.get(chunk.id)
            if stream is None:
                return  # dropped meanwhile: its client is gone
            stream.pending.append(chunk)
            stream.pending_size += len(chunk.data)
            self._flush(stream)
            if whole and not stream.pending:
                return
        self._write()
        if stream.pending_size > BUFFER_CAP:
            with self._condition:
                self.held_up += 1
                self._condition.wait_for(
                    lambda: stream.pending_size <= BUFFER_CAP or self._streams.get(chunk.id) is not stream
                )
                self.held_up -= 1

    def finish(self, finished: Finished) -> None:
        """The engine is done with a request: say so now, and let End go out behind the last chunk.

        Of one that failed or was cancelled nothing more is sent. One step, since whoever hears Finished may tell
        this worker to leave, and the answer must be known to be whole by then.
        """
        with self._condition:
            if finished.error is not None or finished.cancelled:
                self._drop(finished.id)
            self._send(finished)
            stream = self._streams.get(finished.id)
            if stream is not None:
                stream.ending = True
                self._close_if_done(finished.id, stream)
        self._write()

    def drop(self, request: int) -> None:
        """Forget what of an answer has not been sent."""
        with self._condition:
            self._drop(request)

    def credit(self, credit: Credit) -> None:
        """The reader has taken so much."""
        with self._condition:
            stream = self._streams.get(credit.id)
            if stream is None:
                return
            stream.chunks += credit.chunks
            stream.size += credit.size
            self._flush(stream)
            self._close_if_done(credit.id, stream)
            self._condition.notify_all()
        self._write()

    def leave(self) -> None:
        """Send everything that waits, whatever the credits, and wait until the control plane has taken it all.

        It hangs up when it has read to the end. Were this end closed first, a credit that is on its way would
        break the connection, and what was not read yet would be lost.
        """
        with self._condition:
            for request, stream in list(self._streams.items()):
                while stream.pending:
                    self._send(stream.pending.popleft())
                self._close_if_done(request, stream)
        while not self._written():
            self._write()
        self._socket.shutdown(socket.SHUT_WR)
        self._reader.read()

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()

    def _drop(self, request: int) -> None:
        self._streams.pop(request, None)
        self._condition.notify_all()

    def _flush(self, stream: _Stream) -> None:
        # A chunk larger than all credit may still go when the reader has taken everything before it.
        while stream.pending and stream.chunks > 0 and stream.size > 0:
            chunk = stream.pending.popleft()
            stream.pending_size -= len(chunk.data)
            stream.chunks -= 1
            stream.size -= len(chunk.data)
            self._send(chunk)

    def _close_if_done(self, request: int, stream: _Stream) -> None:
        if stream.ending and not stream.pending:
            del self._streams[request]
            self._send(End(request))

    def _send(self, message: FromWorker) -> None:
        self._outgoing += encode(message)

    def _written(self) -> bool:
        """Whether all has gone out, once no other thread is at it."""
        with self._condition:
            self._condition.wait_for(lambda: not self._writing)
            return not self._outgoing

    def _write(self) -> None:
        """Write what is to go out; or leave it to the thread that is at it, so that none waits for another's."""
        while True:
            with self._condition:
                if self._writing or not self._outgoing:
                    return
                self._writing = True
                data, self._outgoing = self._outgoing, bytearray()
            try:
                self._socket.sendall(data)
            finally:
                with self._condition:
                    self._writing = False
                    self._condition.notify_all()
