"""Pictures from outside, in two steps.

``shrunk`` opens what a client sent, with distrust: a header may promise gigabytes, a file may end half-way. It meets
the readers of many formats, so it runs in an inspector only, within limits of memory and time. What it makes is a PNG
of our own, upright, RGB, no larger than an engine can use; ``load`` opens that in a worker.
"""

import io
import struct
from typing import TYPE_CHECKING

from cohabit.media import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image, Transpose

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 25_000_000
_SCAN = b"\xff\xda"  # begins one; within its data there is a zero after each ff
MAX_SCANS = 256  # of a JPEG; a progressive one has about ten, and each goes over all of the picture again
MAX_SCANNED = 20 * MAX_PIXELS  # pixels of all scans; a second of the processor has about 1,000 million
_PNG = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 20_000  # of a PNG; one of 40 MiB has 5,000 of the usual 8 KiB, and each is looked at in Python
_MAY_MOVE = {"PNG", "WEBP", "GIF"}  # a phone's JPEG may hold further pictures (MPO), of which the first is meant
_OWN_SIZE = ("Thumb::Image::Width", "Thumb::Image::Height")  # names of freedesktop.org's thumbnail standard


def shrunk(data: bytes, longest: int) -> bytes:
    """A PNG: RGB, upright, its longer side at most ``longest`` pixels; ``load`` reads it.

    Takes up to 12 bytes a pixel for the moment; a JPEG is decoded near the size that is needed. Raises Unreadable,
    MemoryError.
    """
    from PIL.PngImagePlugin import PngInfo

    picture = _opened(data)
    size = picture.size
    try:
        picture.draft("RGB", (longest, longest))
        picture.load()
        turned = _turned(picture)
        page = _flat(picture, longest, turned)
    except MemoryError:
        raise
    except Exception:  # truncated and broken data end in a dozen kinds of errors
        raise Unreadable("is a broken picture: its data ends too early or makes no sense") from None
    if turned is not None and turned >= 5:
        size = size[::-1]
    about = PngInfo()
    for name, side in zip(_OWN_SIZE, size, strict=True):
        about.add_text(name, str(side))
    file = io.BytesIO()
    page.save(file, "PNG", compress_level=1, pnginfo=about, exif=b"", icc_profile=None)
    return file.getvalue()


def load(data: bytes) -> "tuple[Image, tuple[int, int]]":
    """What ``shrunk`` has made; and the width and height of the picture it was made from."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data), formats=("PNG",))
    picture.load()
    width, height = (int(picture.info[name]) for name in _OWN_SIZE)
    return picture.convert("RGB"), (width, height)


def _flat(picture: "Image", longest: int, turned: int | None) -> "Image":
    """As RGB; what is transparent is white."""
    from PIL import Image

    if picture.mode.startswith("I"):
        picture = _in_eight_bits(picture)
    picture.thumbnail((longest, longest))
    if turned is not None:
        picture = picture.transpose(_upright()[turned])
    if picture.has_transparency_data:
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture.convert("RGBA"))
        picture = page
    return picture.convert("RGB")


def _in_eight_bits(picture: "Image") -> "Image":
    """Of 16 bits of grey; Pillow's own ``convert`` would make everything above 255 white."""
    transparent = picture.info.get("transparency")
    grey = picture.point(lambda value: value * (1 / 257)).convert("L")
    if isinstance(transparent, int):
        grey.info["transparency"] = transparent // 257
    return grey


def _upright() -> "Mapping[int, Transpose]":
    """What makes a picture upright, by EXIF's number for how it was held."""
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


def _turned(picture: "Image") -> int | None:
    """EXIF's number for how it was held, 2 to 8; None if it is upright, or where that cannot be told.

    Of a picture that is loaded: Pillow would load a PNG for this, and what is wrong with its data would not be seen.
    """
    try:
        orientation = picture.getexif().get(0x0112)
    except Exception:  # damaged EXIF data are no reason to refuse a good picture, however Pillow says so
        return None
    return orientation if isinstance(orientation, int) and 2 <= orientation <= 8 else None


def _opened(data: bytes) -> "Image":
    """By its header alone."""
    from PIL import Image, UnidentifiedImageError

    if _many_chunks(data):
        raise Unreadable(f"is a PNG of more than {MAX_CHUNKS} chunks; save it again")
    Image.MAX_IMAGE_PIXELS = None  # ours is lower, and says what would do
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        moves = getattr(picture, "is_animated", False)  # n_frames would read through all of them
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise Unreadable(f"is not a picture that can be read; send {', '.join(FORMATS)}") from None
    except Exception:  # Pillow's readers raise whatever a broken header makes them
        raise Unreadable("is a broken picture") from None
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise Unreadable(
            f"has {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are taken, make it smaller"
        )
    if moves and picture.format in _MAY_MOVE:
        raise Unreadable("is animated; send a single frame")
    if picture.format in {"JPEG", "MPO"}:
        scans = data.count(_SCAN)
        if scans > MAX_SCANS or scans * width * height > max(MAX_SCANNED, width * height):
            raise Unreadable(f"is a JPEG of {scans} scans; save it again with fewer, or make it smaller")
    return picture


def _many_chunks(data: bytes) -> bool:
    """Whether it is a PNG of more chunks than are taken; by their headers alone."""
    if not data.startswith(_PNG):
        return False
    place = len(_PNG)
    for _ in range(MAX_CHUNKS):
        if place + 12 > len(data):
            return False
        (size,) = struct.unpack_from(">I", data, place)
        place += 12 + size
    return place < len(data)
