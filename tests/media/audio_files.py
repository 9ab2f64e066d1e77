"""Sound files of every kind."""

import io
import math
from typing import Any

import av
import numpy as np


def sine(seconds: float, rate: int, pitch: int = 440) -> np.ndarray:
    """Samples (n,) float32."""
    return (np.sin(np.arange(int(seconds * rate)) * pitch * math.tau / rate) / 2).astype(np.float32)


def muxed(
    form: str, codec: str, rate: int, layout: str, length: float = 2.0, *, options: dict[str, str] | None = None
) -> bytes:
    """A tone as a file of any kind."""
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.layout = layout
        source = av.AudioFrame.from_ndarray(sine(length, rate)[None], format="fltp", layout="mono")
        source.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
        for frame in [*resampler.resample(source), *resampler.resample(None)]:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


PLAIN = {"write_xing": "0", "id3v2_version": "0"}
