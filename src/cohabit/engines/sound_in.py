"""Uploaded sound as samples, in windows of bounded length, however long it is."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cohabit.media.sound import MOST_SECONDS, opened, too_long

if TYPE_CHECKING:
    from av import AudioFrame

RATE = 16_000  # Hz, what speech models hear
WINDOW_SECONDS = 30  # of sound in memory at once, which is also what Whisper hears at once
_SEARCH_SECONDS = 10  # at its end a window is cut where it is quietest within so many
_QUIET_SECONDS = 0.1


def windows(data: bytes) -> "Iterator[tuple[float, Any]]":
    """Where each window begins in seconds, and its samples (n,) float32 mono at RATE. Raises Unreadable.

    Frames that cannot be decoded are left out, as players do.
    """
    import numpy as np

    kept = np.zeros(0, np.float32)
    began = 0  # samples
    for frame in _frames(data):
        if began + len(kept) > MOST_SECONDS * RATE:
            raise too_long()
        kept = np.concatenate([kept, frame])
        while len(kept) >= WINDOW_SECONDS * RATE:
            end = quietest(kept[: WINDOW_SECONDS * RATE])
            yield began / RATE, kept[:end]
            kept = kept[end:]
            began += end
    if len(kept):
        yield began / RATE, kept


def quietest(samples: Any) -> int:
    """A place in the last _SEARCH_SECONDS of samples (n,) where cutting hurts least."""
    import numpy as np

    step = int(_QUIET_SECONDS * RATE)
    tail = samples[-_SEARCH_SECONDS * RATE :]
    loudness = np.square(tail[: len(tail) // step * step].reshape(-1, step)).mean(1)
    return len(samples) - len(tail) + int(loudness.argmin()) * step + step // 2


def _frames(data: bytes) -> Iterator[Any]:
    """Samples in pieces of about a second."""
    import av
    import numpy as np

    with opened(data) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE, frame_size=RATE)
        stream = container.streams.audio[0]

        def samples(frame: "AudioFrame | None") -> Iterator[Any]:
            for part in resampler.resample(frame):
                yield part.to_ndarray().reshape(-1).astype(np.float32, copy=False)

        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue  # a damaged packet costs its own sound only
            for frame in frames:
                frame.pts = None  # gaps in a damaged file would make the resampler refuse
                yield from samples(frame)
        yield from samples(None)
