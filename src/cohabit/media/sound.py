"""Sound from outside, opened with distrust.

ffmpeg also reads formats that name other files and addresses (playlists, concatenations); only containers that
hold their sound themselves are taken.
"""

import io
from typing import TYPE_CHECKING

from cohabit.media.errors import Unreadable

if TYPE_CHECKING:
    from av.container import InputContainer

_CONTAINERS = "wav,w64,aiff,caf,flac,mp3,aac,ogg,amr,matroska,webm,mov,mp4,m4a,3gp"
TAKEN = "wav, flac, mp3, ogg or opus, m4a, aac or webm"
MOST_SECONDS = 4 * 3600  # silence packs so well that a small file can hold months


def opened(data: bytes) -> "InputContainer":
    """A container with sound and no moving pictures; close it. Raises Unreadable."""
    import av

    try:
        container = av.open(
            io.BytesIO(data),
            "r",
            metadata_errors="replace",
            options={"format_whitelist": _CONTAINERS, "protocol_whitelist": ""},
        )
    except (av.FFmpegError, ValueError):
        raise Unreadable(f"is not sound that can be read; send {TAKEN}") from None
    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.still_image
    if any(not stream.disposition & covers for stream in container.streams.video):
        container.close()
        raise Unreadable(f"is a video; send its sound alone, as {TAKEN}")
    if not container.streams.audio:
        container.close()
        raise Unreadable(f"holds no sound; send {TAKEN}")
    if (container.duration or 0) > MOST_SECONDS * av.time_base:
        container.close()
        raise too_long()
    return container


def too_long() -> Unreadable:
    """Also for whoever finds out while decoding: a header need not tell, or not the truth."""
    return Unreadable(f"is longer than {MOST_SECONDS // 3600} hours; send it in parts")


def examine(data: bytes) -> None:
    """Whether it is sound of a kind that is taken, by its headers. Raises Unreadable."""
    opened(data).close()
