"""Pictures and sound made on the spot, right and wrong."""

import base64
import io
import math
import struct
import zlib
from array import array
from collections.abc import Iterable
from typing import Any

import av
from PIL import Image, ImageDraw

from cohabit.inspector.pieces import cleaned
from cohabit.protocol.engine import LONGEST_PICTURE
from cohabit.protocol.inspection import Picture, Sound


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    """A file with a gradient in it."""
    drawn = Image.linear_gradient("L").resize(size).convert(mode)
    return saved(drawn, kind, **options)


def saved(drawn: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """As a file."""
    file = io.BytesIO()
    drawn.save(file, kind, **options)
    return file.getvalue()


def written(*lines: str, size: tuple[int, int] = (800, 600)) -> Image.Image:
    """Black text on white, a line below the other."""
    page = Image.new("RGB", size, "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(page).text((50, 60 + row * 110), line, fill="black", font_size=50)
    return page


def animated(kind: str) -> bytes:
    """Two frames."""
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int = 10_000, height: int = 10_000) -> bytes:
    """A PNG of so many pixels in a few kilobytes: its header tells the truth, its data is a run of zeros."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def data_url(data: bytes, kind: str = "image/png") -> str:
    """For an image_url part."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asking(data: bytes, text: str = "What is this?") -> list[dict[str, Any]]:
    """The messages of a chat about a picture."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": data_url(data)}}]
    return [{"role": "user", "content": parts}]


def clean_picture(data: bytes, longest: int = LONGEST_PICTURE) -> bytes:
    """What an inspector makes of a picture."""
    return cleaned(Picture(data, longest), lambda _seconds: None)


def clean_sound(data: bytes) -> bytes:
    """What an inspector makes of sound."""
    return cleaned(Sound(data), lambda _seconds: None)


def tone(seconds: float = 0.5, rate: int = 16_000) -> bytes:
    """A wav file with a tone in it."""
    return wav([8000 / 2**15 * math.sin(index * 440 * math.tau / rate) for index in range(int(seconds * rate))], rate)


def wav(samples: Iterable[float], rate: int = 16_000) -> bytes:
    """A wav file of samples between -1 and 1."""
    raw = array("h", (int(2**15 * sample) for sample in samples)).tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(raw), b"WAVE") + form + struct.pack("<4sI", b"data", len(raw))
    return head + raw


def tagged(title: bytes) -> bytes:
    """A wav file with a title, in whatever encoding."""
    sound = tone()
    entry = b"INFOINAM" + struct.pack("<I", len(title)) + title
    listed = b"LIST" + struct.pack("<I", len(entry)) + entry
    return sound[:4] + struct.pack("<I", len(sound) - 8 + len(listed)) + sound[8:36] + listed + sound[36:]


def film(*, sound: bool = False) -> bytes:
    """Moving pictures, with or without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska" if sound else "mp4") as container:
        pictures = container.add_stream("mpeg4", rate=10, width=64, height=64, pix_fmt="yuv420p")
        voice = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for _ in range(3):
            container.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(pictures.encode(None))
        if voice is not None:
            container.mux(voice.encode(silence(8000)))
    return file.getvalue()


def album(*, sound: bool) -> bytes:
    """A cover, with or without the sound it belongs to."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        cover = container.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic
        voice = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        container.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        container.mux(cover.encode(None))
        if voice is not None:
            container.mux(voice.encode(silence(8000)))
            container.mux(voice.encode(None))
    return file.getvalue()


def silence(rate: int, seconds: float = 0.5) -> av.AudioFrame:
    """A frame of nothing."""
    frame = av.AudioFrame("s16", "mono", int(rate * seconds))
    frame.sample_rate = rate
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    return frame
