"""Samples as an audio file, encoded as they come: what was fed can be sent at once."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from av import AudioStream


class _Coding(NamedTuple):
    container: str
    codec: str
    options: Mapping[str, str] = MappingProxyType({})


_CODINGS = {  # by OpenAI's response_format
    "mp3": _Coding("mp3", "libmp3lame", {"write_xing": "0"}),
    "opus": _Coding("ogg", "libopus", {"page_duration": "20000"}),  # microseconds; else a page holds a second
    "aac": _Coding("adts", "aac"),
    "flac": _Coding("flac", "flac"),
    "wav": _Coding("wav", "pcm_s16le", {"fflags": "+bitexact"}),  # else a tag stands before the samples
    "pcm": _Coding("s16le", "pcm_s16le"),
}
FORMATS = tuple(_CODINGS)


class Encoder:
    """One file of mono sound. The length is not known at the start, so headers say nothing of it."""

    def __init__(self, kind: str, rate: int) -> None:
        """``kind`` is one of FORMATS, ``rate`` in Hz."""
        import av

        coding = _CODINGS[kind]
        self._made = bytearray()
        self._container = av.open(
            self, "w", format=coding.container, options={"flush_packets": "1", **coding.options}, buffer_size=4096
        )
        stream = self._container.add_stream(coding.codec, rate=rate, layout="mono")
        self._stream = cast("AudioStream", stream)  # typed by the codec's name, which is not known there
        self._rate = rate
        self._fed = 0  # samples

    def write(self, data: bytes) -> int:
        """What the muxer calls."""
        self._made += data
        return len(data)

    def feed(self, samples: Any) -> bytes:
        """Samples (n,) in [-1, 1]; returns what they make ready, which may be nothing yet."""
        import av
        import numpy as np

        pcm = (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._fed
        self._fed += len(pcm)
        self._container.mux(self._stream.encode(frame))
        return self._taken()

    def close(self) -> bytes:
        """The end of the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._taken()

    def _taken(self) -> bytes:
        made = bytes(self._made)
        self._made.clear()
        return made
