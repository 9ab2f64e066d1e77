"""Sound from outside: what is taken, and what only looks like it."""

import pytest

from cohabit.engines.sound_out import Encoder
from cohabit.media.errors import Unreadable
from cohabit.media.sound import MOST_SECONDS, examine
from samples import album, film, tagged, tone


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "opus", "aac"])
def test_what_is_taken(kind: str) -> None:
    import numpy as np

    encoder = Encoder(kind, 24_000)
    examine(encoder.feed(np.zeros(24_000, np.float32)) + encoder.close())


def test_a_wav_file() -> None:
    examine(tone())


def test_tags_may_be_in_any_encoding() -> None:
    examine(tagged("Café".encode("latin-1")))


def test_sound_with_a_cover() -> None:
    examine(album(sound=True))


@pytest.mark.parametrize("sound", [True, False])
def test_a_video_is_refused(sound: bool) -> None:
    with pytest.raises(Unreadable, match="is a video; send its sound alone"):
        examine(film(sound=sound))


def test_a_container_without_sound() -> None:
    with pytest.raises(Unreadable, match="holds no sound"):
        examine(album(sound=False))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"some text, and then some more of it " * 50,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"[InternetShortcut]\nURL=http://127.0.0.1/\n",
        tone()[:20],
        b"\xff" * 4000,
    ],
)
def test_what_is_no_sound(data: bytes) -> None:
    with pytest.raises(Unreadable, match="is not sound that can be read; send wav"):
        examine(data)


def test_what_is_too_long() -> None:
    seconds = MOST_SECONDS + 60
    with pytest.raises(Unreadable, match="is longer than 4 hours; send it in parts"):
        examine(tone(seconds, rate=1))
    examine(tone(MOST_SECONDS - 60, rate=1))
