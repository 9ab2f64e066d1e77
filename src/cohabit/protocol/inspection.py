"""What is said on the link of an inspector: the process that opens the pictures and the sound of clients.

Framed like a worker's link (``protocol.messages``). It is given one piece at a time and answers with what is clean,
or with why there is nothing. It ends with its link, or by the kernel's hand when a piece takes more processor time
than allowed.
"""

import msgspec


class Picture(msgspec.Struct, frozen=True, tag="picture"):
    """A picture as its client sent it: a file, or with ``text`` a data URL or bare base64.

    ``longest`` is what an engine can use of its longer side, in pixels. Answered by a PNG that
    ``media.pictures.load`` reads.
    """

    data: bytes
    longest: int
    text: bool = False


class Sound(msgspec.Struct, frozen=True, tag="sound"):
    """Sound as its client sent it, as above. Answered by a file that ``media.sound.frames`` reads."""

    data: bytes
    text: bool = False


Piece = Picture | Sound


class InspectorReady(msgspec.Struct, frozen=True, tag="ready"):
    """The first word: it has imported what it needs."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Another stretch of sound has been decoded, so more time is allowed."""


class Clean(msgspec.Struct, frozen=True, tag="clean"):
    """A file of our own making, which cannot hurt a worker."""

    data: bytes


class PieceRefused(msgspec.Struct, frozen=True, tag="refused"):
    """It cannot be taken. ``why`` is the end of a sentence that says what would do, and quotes nothing.

    ``limit``: it took more memory than allowed, so this process is not to be used any more.
    """

    why: str
    limit: bool = False


FromInspector = InspectorReady | Progress | Clean | PieceRefused

decode_piece = msgspec.msgpack.Decoder(Piece).decode
decode_from_inspector = msgspec.msgpack.Decoder(FromInspector).decode
