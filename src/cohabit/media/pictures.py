"""Pictures from outside, opened with distrust: a header may promise gigabytes, a file may end half-way."""

import io
from typing import TYPE_CHECKING

from cohabit.media.errors import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 25_000_000
_SCAN = b"\xff\xda"  # begins one; within its data there is a zero after each ff
MOST_SCANS = 256  # of a JPEG; a progressive one has about ten, and each goes over all of the picture again
_MAY_MOVE = {"PNG", "WEBP", "GIF"}  # a phone's JPEG may hold further pictures (MPO), of which the first is meant


def examine(data: bytes) -> str:
    """The MIME type of a whole picture of a kind and size that is taken. Raises Unreadable.

    Takes up to 4 bytes a pixel for the moment; a JPEG takes a sixty-fourth, being looked at in an eighth of its size.
    """
    from PIL import Image

    picture = _opened(data)
    kind = "image/jpeg" if picture.format == "MPO" else Image.MIME[picture.format or "PNG"]
    picture.draft("RGB", (1, 1))
    _decoded(picture)
    return kind


def load(data: bytes, longest: int) -> "tuple[Image, tuple[int, int]]":
    """As RGB, upright, its longer side at most ``longest``; and its own width and height. Raises Unreadable."""
    from PIL import Image, ImageOps

    picture = _opened(data)
    orientation = _orientation(picture)
    size = picture.size if orientation < 5 else picture.size[::-1]
    picture.draft("RGB", (longest, longest))  # a JPEG is decoded near the size that is needed
    picture = _decoded(picture)
    picture.thumbnail((longest, longest))
    if orientation > 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture.convert("RGBA"))
        picture = page
    return picture.convert("RGB"), size


def _orientation(picture: "Image") -> int:
    """EXIF's number for how it was held, 1 (upright) to 8; 1 too where that cannot be told."""
    try:
        found = picture.getexif().get(0x0112)
    except Exception:  # damaged EXIF data are no reason to refuse a good picture, however Pillow says so
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _opened(data: bytes) -> "Image":
    """By its header alone."""
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # ours is lower, and says what would do
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        moves = getattr(picture, "is_animated", False)  # n_frames would read through all of them
    except UnidentifiedImageError:
        raise Unreadable(f"is not a picture that can be read; send {', '.join(FORMATS)}") from None
    except Exception:  # Pillow's readers raise whatever a broken header makes them
        raise Unreadable("is a broken picture") from None
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise Unreadable(
            f"has {width} x {height} pixels; at most {MOST_PIXELS // 1_000_000} megapixels are taken, make it smaller"
        )
    if moves and picture.format in _MAY_MOVE:
        raise Unreadable("is animated; send a single frame")
    if picture.format in {"JPEG", "MPO"} and data.count(_SCAN) > MOST_SCANS:
        raise Unreadable(f"is a JPEG of more than {MOST_SCANS} scans; save it again")
    return picture


def _decoded(picture: "Image") -> "Image":
    try:
        picture.load()
    except Exception:  # as above: truncated and broken data end in a dozen kinds of errors
        raise Unreadable("is a broken picture: its data ends too early or makes no sense") from None
    return picture
