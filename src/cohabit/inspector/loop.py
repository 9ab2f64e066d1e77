"""An inspector's life: piece after piece, until its link ends."""

import gc
import socket

from cohabit.inspector.limits import Allowance, confine
from cohabit.inspector.pieces import cleaned
from cohabit.media import Unreadable
from cohabit.protocol.inspection import (
    Clean,
    FromInspector,
    InspectorReady,
    Piece,
    PieceRefused,
    Progress,
    decode_piece,
)
from cohabit.protocol.memory import give_back
from cohabit.protocol.messages import encode, read_frame
from cohabit.worker.reporting import report

_TOO_LARGE = "takes too much memory to open; save it again, or make it smaller"


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

    def heard(seconds: float) -> None:
        if allowance.heard(seconds):
            _send(link, Progress())

    try:
        return Clean(cleaned(piece, heard))
    except Unreadable as error:
        return PieceRefused(str(error))
    except MemoryError:
        return PieceRefused(_TOO_LARGE, limit=True)
    except Exception as error:  # a library's, on something that a client sent
        report(error)
        return PieceRefused("cannot be opened; save it again, or send it in another format")


def _send(link: socket.socket, message: FromInspector) -> None:
    link.sendall(encode(message))
