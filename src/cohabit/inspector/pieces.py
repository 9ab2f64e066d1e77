"""One piece: from what a client sent to what a worker can open safely."""

from collections.abc import Callable

from cohabit.media import Unreadable, audio, images
from cohabit.media.data_url import decode
from cohabit.protocol.inspection import Picture, Piece
from cohabit.protocol.memory import peak_and_resident, reset_peak
from cohabit.protocol.messages import MAX_FRAME

MAX_CLEAN = MAX_FRAME - (1 << 20)  # bytes; it goes to a worker in one frame, beside what is asked about it
MAX_DECODING = 64 << 20  # bytes that a decoder may take; a few are usual, but a header of some codecs asks for 1 GiB


def cleaned(piece: Piece, progress: Callable[[float], object]) -> bytes:
    """A file of our own making. ``progress`` is told how many seconds of sound have been decoded.

    Raises Unreadable, MemoryError.
    """
    data = decode(piece.data.decode()) if piece.text else piece.data
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
