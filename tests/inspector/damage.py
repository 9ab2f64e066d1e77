"""Random damage to real pictures and sounds, of fixed seeds.

`make test` has a few hundred; `make fuzz` has COHABIT_FUZZ of each kind, with another COHABIT_FUZZ_SEED in every run.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

from PIL import Image

from cohabit.engines.scene.engine import Scene
from cohabit.media import Unreadable
from cohabit.protocol.inspection import Picture, Piece, Sound
from cohabit.runtime.inspectors import Inspectors
from media.audio_files import PLAIN, muxed
from samples import saved

COUNT = int(os.environ.get("COHABIT_FUZZ", "25"))
SEED = os.environ.get("COHABIT_FUZZ_SEED", "0")
AT_ONCE = 8


def pictures(count: int) -> Iterator[Piece]:
    """Damaged ones, ``count`` of each kind."""
    return _all(_pictures(), _picture, count)


def sounds(count: int) -> Iterator[Piece]:
    """Damaged ones, ``count`` of each kind."""
    return _all(_sounds(), Sound, count)


def _pictures() -> dict[str, bytes]:
    page = Image.effect_noise((160, 120), 80).convert("RGB")
    return {
        "png": saved(page),
        "interlaced 16 bits": saved(Image.linear_gradient("L").convert("I;16")),
        "palette": saved(page.convert("P"), transparency=3),
        "jpeg": saved(page, "JPEG"),
        "progressive": saved(page, "JPEG", progressive=True),
        "webp": saved(page, "WEBP"),
        "gif": saved(page.convert("P"), "GIF"),
        "bmp": saved(page, "BMP"),
    }


def _sounds() -> dict[str, bytes]:
    mp3 = muxed("mp3", "libmp3lame", 24_000, "mono", options=PLAIN)
    return {
        "wav": muxed("wav", "pcm_s16le", 8000, "mono"),
        "float wav": muxed("wav", "pcm_f32le", 16_000, "5.1"),
        "adpcm": muxed("wav", "adpcm_ima_wav", 16_000, "mono"),
        "mp3": mp3 + muxed("mp3", "libmp3lame", 44_100, "stereo", options=PLAIN),
        "adts": muxed("adts", "aac", 24_000, "mono") + muxed("adts", "aac", 48_000, "stereo"),
        "m4a": muxed("ipod", "aac", 44_100, "stereo"),
        "fragments": muxed("mp4", "aac", 48_000, "mono", options={"movflags": "frag_keyframe+empty_moov"}),
        "alac": muxed("ipod", "alac", 44_100, "stereo"),
        "ogg": muxed("ogg", "libopus", 48_000, "mono") + muxed("ogg", "libopus", 48_000, "stereo"),
        "webm": muxed("webm", "libopus", 48_000, "stereo"),
        "flac": muxed("flac", "flac", 48_000, "stereo"),
        "aiff": muxed("aiff", "pcm_s24be", 22_050, "stereo"),
    }


def damaged(data: bytes, seed: str) -> bytes:
    """Bytes changed, most of them near the front where headers are; some cut off, doubled or left out."""
    rng = random.Random(seed)
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        reach = len(made) if rng.random() < 0.5 else min(len(made), 400)
        at = rng.randrange(reach)
        match rng.randrange(4):
            case 0:
                made[at] = rng.randrange(256)
            case 1:
                made[at] ^= 1 << rng.randrange(8)
            case 2:
                size = rng.choice((1, 2, 4, 8))
                made[at : at + size] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
            case 3:
                made[at : at + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(64))
    if rng.random() < 0.2:
        del made[rng.randrange(1, len(made)) :]
    return bytes(made)


async def passed(pieces: Iterator[Piece]) -> list[bytes]:
    """What inspectors let through; all else they must refuse."""
    inspectors = Inspectors()
    clean: list[bytes] = []

    async def inspect() -> None:
        for piece in pieces:
            with suppress(Unreadable):
                clean.append(await inspectors.inspect(piece, "a"))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(inspect())
    finally:
        await inspectors.close()
    return clean


def _all(made: dict[str, bytes], piece: Callable[[bytes], Piece], count: int) -> Iterator[Piece]:
    for number in range(count):
        for name, data in made.items():
            yield piece(damaged(data, f"{SEED} {name} {number}"))


def _picture(data: bytes) -> Piece:
    return Picture(data, Scene.longest_picture)
