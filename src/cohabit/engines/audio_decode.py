"""Sound that an inspector let through as samples, in windows of bounded length, however long it is."""

from collections.abc import Iterator
from typing import Any

from cohabit.media.audio import frames, mono

RATE = 16_000  # Hz, what speech models hear
WINDOW_SECONDS = 30  # of sound in memory at once, which is also what Whisper hears at once
_SEARCH_SECONDS = 10  # at its end a window is cut where it is quietest within so many
_QUIET_SECONDS = 0.1


def windows(data: bytes) -> Iterator[tuple[float, Any]]:
    """Where each window begins in seconds, and its samples (n,) float32 mono at RATE.

    ``data`` is what ``media.sound.repacked`` has made. Frames that cannot be decoded are left out, as players do.
    """
    import numpy as np

    kept = np.zeros(0, np.float32)
    began = 0  # samples
    for samples in _samples(data):
        kept = np.concatenate([kept, samples])
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


def _samples(data: bytes) -> Iterator[Any]:
    """In pieces of a second, between -1 and 1."""
    import numpy as np

    for frame in mono(frames(data), RATE, frame_size=RATE):
        samples = frame.to_ndarray().reshape(-1).astype(np.float32, copy=False)
        # Files with floating point numbers may hold anything, infinity too.
        yield np.clip(np.nan_to_num(samples), -1.0, 1.0)
