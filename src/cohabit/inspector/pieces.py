"""An inspector's life: piece after piece, from what a client sent to what a worker can open safely.

The kernel keeps its limits, whatever a library is doing.
"""

import gc
import resource
import socket
from collections.abc import Callable

from cohabit.media import Unreadable, audio, decode_data_url, images
from cohabit.protocol.inspection import (
    Clean,
    FromInspector,
    InspectorReady,
    Picture,
    Piece,
    PieceRefused,
    Progress,
    decode_piece,
)
from cohabit.protocol.memory import give_back, peak_and_resident, reset_peak
from cohabit.protocol.messages import MAX_FRAME, encode, read_frame
from cohabit.worker.child_process import report

MAX_CLEAN = MAX_FRAME - (1 << 20)  # bytes; it goes to a worker in one frame, beside what is asked about it
MAX_DECODING = 64 << 20  # bytes that a decoder may take; a few are usual, but a header of some codecs asks for 1 GiB

_TOO_LARGE = "takes too much memory to open; save it again, or make it smaller"

MEMORY = 1 << 30  # bytes of address space, of which 130 MiB are Python and the libraries
CPU_SECONDS = 10  # for a piece
SOUND_SECONDS = 120.0  # of sound that was decoded, for which another second of the processor is allowed
# Four hours of stereo Opus take 28 s to decode, 500 times as fast as they play; MP3 and AAC take a third of that. So
# a limit of ten seconds alone would refuse honest recordings; and what gets nowhere still ends after ten.


def cleaned(piece: Piece, progress: Callable[[float], object]) -> bytes:
    """A file of our own making. ``progress`` is told how many seconds of sound have been decoded.

    Raises Unreadable, MemoryError.
    """
    data = decode_data_url(piece.data.decode()) if piece.text else piece.data
    if isinstance(piece, Picture):
        return images.shrunk(data, piece.longest)
    made = audio.repacked(data, progress)
    if len(made) > MAX_CLEAN:
        raise Unreadable("is too large; send it in parts, or as mp3, ogg or m4a")
    reset_peak()
    before = peak_and_resident()[1]
    audio.check(made, progress)
    if peak_and_resident()[0] - before > MAX_DECODING:  # a worker, which decodes it again, has no such limit
        raise Unreadable("takes too much memory to decode; save it again, or send it as wav or mp3")
    return made


def confine() -> None:
    """For good: this much memory, and no core dumps, which would put what a client sent on the disk."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Allowance:
    """Processor time for one piece: SIGXCPU ends the process when it is used up."""

    def __init__(self) -> None:
        """Begins now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._began = used.ru_utime + used.ru_stime
        self._stretches = 0
        self._limit()

    def extend(self, seconds: float) -> bool:
        """So many seconds of sound have been decoded so far. True if that has earned more time."""
        stretches = int(seconds / SOUND_SECONDS)
        if stretches <= self._stretches:
            return False
        self._stretches = stretches
        self._limit()
        return True

    def _limit(self) -> None:
        # The kernel counts in whole seconds.
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(self._began) + 1 + CPU_SECONDS + self._stretches, hard))


def serve(fd: int) -> None:
    """Answer what comes over the socket ``fd``."""
    import av  # noqa: F401 - now, so that the first piece does not wait for it
    import PIL.Image

    PIL.Image.init()
    confine()
    link = socket.socket(fileno=fd)
    with link, link.makefile("rb") as reader:
        _send(link, InspectorReady())
        while (frame := read_frame(reader.read)) is not None:
            piece = decode_piece(frame)
            del frame  # each may have 60 MiB, and would be there until the next one comes
            answer = _inspected(link, piece)
            del piece
            _send(link, answer)
            del answer
            gc.collect()
            give_back()


def _inspected(link: socket.socket, piece: Piece) -> FromInspector:
    allowance = Allowance()

    def on_progress(seconds: float) -> None:
        if allowance.extend(seconds):
            _send(link, Progress())

    try:
        return Clean(cleaned(piece, on_progress))
    except Unreadable as error:
        return PieceRefused(str(error))
    except MemoryError:
        return PieceRefused(_TOO_LARGE, limit=True)
    except Exception as error:  # a library's, on something that a client sent
        report(error)
        return PieceRefused("cannot be opened; save it again, or send it in another format")


def _send(link: socket.socket, message: FromInspector) -> None:
    link.sendall(encode(message))
