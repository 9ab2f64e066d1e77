"""Pictures from outside: real files, right and wrong."""

import io
import struct
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngInfo

from cohabit.media import Unreadable
from cohabit.media.images import FORMATS, MAX_CHUNKS, MAX_PIXELS, MAX_SCANS, load, shrunk
from hostile_media import png_chunks, scans
from samples import animated, bomb, chunk, picture, saved


def opened(data: bytes, longest: int = 1000) -> tuple[Image.Image, tuple[int, int]]:
    """What a worker sees of it."""
    return load(shrunk(data, longest))


def examine(data: bytes) -> None:
    """Raises Unreadable."""
    shrunk(data, 1000)


@pytest.mark.parametrize("kind", FORMATS)
def test_supported_formats_are_opened(kind: str) -> None:
    loaded, size = opened(picture(kind))
    assert (loaded.size, loaded.mode, size) == ((64, 48), "RGB", (64, 48))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    made = Image.linear_gradient("L").convert(mode)
    loaded, _ = opened(saved(made, "JPEG" if mode == "CMYK" else "PNG"))
    assert loaded.mode == "RGB"
    rows = [loaded.getpixel((128, row)) for row in (2, 253)]
    assert [sum(pixel) // 3 for pixel in rows if isinstance(pixel, tuple)] == [
        pytest.approx(2, abs=6),
        pytest.approx(253, abs=6),
    ]


@pytest.mark.parametrize("size", [(256, 1), (2000, 8)])
def test_sixteen_bits_of_grey_keep_their_shades(size: tuple[int, int]) -> None:
    made = Image.new("I;16", size)
    made.putdata([column * 65_535 // (size[0] - 1) for _ in range(size[1]) for column in range(size[0])])
    loaded, _ = opened(saved(made), 256)
    shades = [loaded.getpixel((column, 0)) for column in (0, 64, 128, 192, 255)]
    assert [shade[0] for shade in shades if isinstance(shade, tuple)] == pytest.approx([0, 64, 128, 192, 255], abs=2)


def test_a_shade_of_sixteen_bits_may_be_transparent() -> None:
    made = Image.new("I;16", (8, 8), 12_000)
    loaded, _ = opened(saved(made, transparency=12_000))
    assert loaded.getpixel((3, 3)) == (255, 255, 255)


def test_transparent_pixels_become_white() -> None:
    loaded, _ = opened(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert loaded.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_image_is_scaled_and_keeps_its_original_size(kind: str) -> None:
    loaded, size = opened(picture(kind, (3000, 1500)), 960)
    assert (loaded.size, size) == ((960, 480), (3000, 1500))


def test_small_image_is_not_enlarged() -> None:
    assert opened(picture(size=(20, 10)), 960)[0].size == (20, 10)


@pytest.mark.parametrize("longest", [100, 4])
def test_a_photo_taken_upright_stands_upright(longest: int) -> None:
    drawn = Image.new("RGB", (16, 8), "white")
    drawn.paste("red", (0, 0, 8, 8))  # the left half; turned by 90 degrees clockwise, the upper half
    turned = Image.Exif()
    turned[0x0112] = 6
    loaded, size = opened(saved(drawn, "PNG", exif=turned), longest)
    assert size == (8, 16)
    assert loaded.height == 2 * loaded.width
    assert loaded.getpixel((1, 0)) == (255, 0, 0)
    assert loaded.getpixel((1, loaded.height - 1)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", [0, 9])
def test_invalid_orientation_is_ignored(orientation: int) -> None:
    odd = Image.Exif()
    odd[0x0112] = orientation
    loaded, size = opened(picture(exif=odd))
    assert (loaded.size, size) == ((64, 48), (64, 48))


def test_damaged_exif_data_are_no_reason_to_refuse_a_picture() -> None:
    data = picture()
    after_header = 33  # signature and IHDR
    damaged = data[:after_header] + chunk(b"eXIf", b"JUNKJUNKJUNK") + data[after_header:]
    assert opened(damaged)[0].size == (64, 48)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_refused(kind: str) -> None:
    with pytest.raises(Unreadable, match="is animated; send a single frame"):
        examine(animated(kind))


def test_a_phones_jpeg_with_a_second_picture_is_one_picture() -> None:
    assert opened(animated("MPO"))[0].getpixel((3, 3)) == (254, 0, 0)


@pytest.mark.parametrize("size", [(10_000, 10_000), (40_000, 40_000), (5001, 5000)])
def test_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    data = bomb(*size)
    assert len(data) < 1 << 20
    with pytest.raises(Unreadable, match=f"has {size[0]} x {size[1]} pixels; at most 25 megapixels are taken"):
        examine(data)


def test_largest_allowed_image_is_accepted() -> None:
    assert MAX_PIXELS == 5000 * 5000
    assert opened(bomb(5000, 5000), 100)[1] == (5000, 5000)


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_image_is_refused(kind: str) -> None:
    data = picture(kind, (600, 400))
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(Unreadable):
            examine(data[: int(len(data) * share)])


def test_damaged_image_is_refused() -> None:
    data = bytearray(picture("PNG", (600, 400)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(Unreadable, match="is a broken picture"):
        examine(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0),
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"BM" + bytes(60),
    ],
)
def test_other_data_are_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        examine(data)


def test_unlisted_formats_are_not_tried() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF")
    with pytest.raises(Unreadable, match="send PNG, JPEG, WEBP, GIF, BMP"):
        examine(file.getvalue())


def test_jpeg_of_many_scans_is_refused() -> None:
    assert opened(scans(600, 200))[1] == (600, 600)
    with pytest.raises(Unreadable, match="is a JPEG of 257 scans; save it again"):
        examine(scans(600, MAX_SCANS + 1))


def test_a_large_jpeg_may_have_few_scans_only() -> None:
    with pytest.raises(Unreadable, match="is a JPEG of 40 scans; save it again"):
        examine(scans(4000, 40))


def test_png_of_many_chunks_is_refused() -> None:
    assert opened(png_chunks(100))[1] == (8, 8)
    with pytest.raises(Unreadable, match="is a PNG of more than 20000 chunks; save it again"):
        examine(png_chunks(MAX_CHUNKS))


def test_only_pixels_are_kept() -> None:
    about = PngInfo()
    about.add_text("Comment", "kanarienvogel")
    exif = Image.Exif()
    exif[0x010E] = "kanarienvogel"
    profile = b"kanarienvogel" * 20
    data = saved(Image.new("RGB", (9, 7), "red"), pnginfo=about, exif=exif, icc_profile=profile)
    assert b"kanarienvogel" in data
    with Image.open(io.BytesIO(shrunk(data, 100))) as clean:
        clean.load()
        assert clean.info == {"Thumb::Image::Width": "9", "Thumb::Image::Height": "7"}


def test_frames_are_not_counted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a million of them."""
    looked_at: list[int] = []
    seek = GifImageFile._seek

    def noted(self: GifImageFile, frame: int, *more: bool) -> None:
        looked_at.append(frame)
        seek(self, frame, *more)

    monkeypatch.setattr(GifImageFile, "_seek", noted)
    data = picture("GIF", (1, 1))
    frame = data[data.index(b",") : -1]
    with pytest.raises(Unreadable, match="is animated"):
        examine(data[:-1] + frame * 1000 + b";")
    assert max(looked_at) == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(64 << 20), 9)),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 9)),
        (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(12) * 65535),
        (b"tEXt", b"a\0" + bytes(4 << 20)),
    ],
)
def test_metadata_are_not_decompressed(name: bytes, data: bytes) -> None:
    """Or not beyond a megabyte."""
    made = picture()
    tracemalloc.start()
    with suppress(Unreadable):
        examine(made[:33] + chunk(name, data) + made[33:])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20
