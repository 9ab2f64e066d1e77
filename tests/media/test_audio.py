"""Sound from outside: what is taken, what only looks like it, and what is made of it."""

import io
import math
import struct
import wave

import av
import numpy as np
import pytest

from cohabit.engines.audio_encode import Encoder
from cohabit.media import Unreadable
from cohabit.media.audio import HIGHEST_RATE, LOWEST_RATE, MAX_SECONDS, check, frames, mono, repacked
from hostile_media import flac, mkv
from media.audio_files import PLAIN, muxed, sine
from samples import album, film, tagged, tone, wav


def heard(data: bytes) -> list[np.ndarray]:
    """What a worker hears of an upload, in pieces of a second at 16 kHz, after all checks."""
    made = repacked(data, lambda _: None)
    check(made, lambda _: None)
    return [frame.to_ndarray().reshape(-1) for frame in mono(frames(made), 16_000, frame_size=16_000)]


def seconds(data: bytes) -> float:
    """How much of it is heard."""
    return sum(map(len, heard(data))) / 16_000


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "opus", "aac"])
def test_supported_formats_decode_completely(kind: str) -> None:
    encoder = Encoder(kind, 24_000)
    data = encoder.feed(sine(3, 24_000)) + encoder.close()
    pieces = heard(data)
    assert sum(map(len, pieces)) / 16_000 == pytest.approx(3, abs=0.15)
    assert np.abs(np.fft.rfft(pieces[1])).argmax() == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    ("form", "codec", "rate", "layout"),
    [
        ("wav", "pcm_mulaw", 8000, "mono"),
        ("wav", "pcm_f64le", 48_000, "mono"),
        ("wav", "pcm_s24le", 48_000, "5.1"),
        ("wav", "adpcm_ima_wav", 16_000, "mono"),
        ("wav", "adpcm_ms", 16_000, "stereo"),
        ("aiff", "pcm_s16be", 22_050, "mono"),
        ("ipod", "aac", 44_100, "stereo"),
        ("ipod", "alac", 44_100, "stereo"),
        ("webm", "libopus", 48_000, "stereo"),
        ("matroska", "ac3", 48_000, "stereo"),
    ],
)
def test_every_codec_is_decoded(form: str, codec: str, rate: int, layout: str) -> None:
    pieces = heard(muxed(form, codec, rate, layout))
    assert sum(map(len, pieces)) / 16_000 == pytest.approx(2, abs=0.1)
    assert np.abs(np.fft.rfft(pieces[0])).argmax() == pytest.approx(440, abs=1)


def test_tags_may_be_in_any_encoding() -> None:
    assert heard(tagged("Café".encode("latin-1")))


def test_cover_picture_is_ignored() -> None:
    assert seconds(album(sound=True)) > 0.4


@pytest.mark.parametrize("sound", [True, False])
def test_a_video_is_refused(sound: bool) -> None:
    with pytest.raises(Unreadable, match="is a video; send its sound alone"):
        heard(film(sound=sound))


def test_container_without_sound_is_refused() -> None:
    with pytest.raises(Unreadable, match="holds no sound"):
        heard(album(sound=False))


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
def test_other_data_are_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match="is not sound that can be read; send wav"):
        heard(data)


@pytest.mark.parametrize("data", [wav([]), mkv(chapters=3, sound=b""), flac(16_000, frames=0)])
def test_empty_sound_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match="holds no sound that could be decoded"):
        heard(data)


def test_header_claiming_too_much_is_refused() -> None:
    with pytest.raises(Unreadable, match="is longer than 4 hours; send it in parts"):
        repacked(wav(bytes((MAX_SECONDS + 60) * 4), 4), lambda _: None)


def test_header_without_a_length_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohabit.media.audio.MAX_SECONDS", 60)
    assert seconds(flac(16_000, frames=14)) == pytest.approx(57.3, abs=0.1)
    with pytest.raises(Unreadable, match="send it in parts"):
        heard(flac(16_000, frames=15))


@pytest.mark.parametrize("rate", [1, 50, LOWEST_RATE - 1, HIGHEST_RATE + 1, 2**31 - 1])
def test_low_sample_rate_is_refused(rate: int) -> None:
    with pytest.raises(Unreadable, match=r"at 4000 to 384000 Hz|longer than 4 hours"):
        heard(wav([0.0] * 14_400, rate))


def test_a_frame_of_14400_seconds_is_not_resampled() -> None:
    """55 bytes, of which a worker once made 5 GiB."""
    with pytest.raises(Unreadable, match="at 4000 to 384000 Hz"):
        heard(flac(1, frames=1, block=14_400))


@pytest.mark.parametrize("channels", [2, 3, 7, 9, 16, 60])
def test_channels_without_a_layout_are_decoded(channels: int) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(16_000)
        mono_ = (sine(1.5, 16_000) * 2**15).astype(np.int16)
        written.writeframes(np.repeat(mono_[:, None], channels, 1).tobytes())
    pieces = heard(file.getvalue())
    assert sum(map(len, pieces)) == 24_000
    assert np.abs(np.fft.rfft(pieces[0])).argmax() == pytest.approx(440, abs=1)


def test_too_many_channels_are_refused() -> None:
    data = bytearray(wav([0.0] * 65_535 * 2))
    struct.pack_into("<H", data, 22, 65_535)
    struct.pack_into("<H", data, 32, 65_534)
    with pytest.raises(Unreadable, match="of up to 64 channels"):
        heard(bytes(data))


@pytest.mark.parametrize(("rate", "layout"), [(24_000, "mono"), (24_000, "stereo"), (44_100, "stereo")])
@pytest.mark.parametrize(("form", "codec", "options"), [("mp3", "libmp3lame", PLAIN), ("adts", "aac", {})])
def test_concatenated_files_are_decoded_to_the_end(
    form: str, codec: str, options: dict[str, str], rate: int, layout: str
) -> None:
    first = muxed(form, codec, 24_000, "mono", options=options)
    second = muxed(form, codec, rate, layout, options=options)
    pieces = heard(first + second)
    assert sum(map(len, pieces)) / 16_000 == pytest.approx(4, abs=0.3)
    assert np.abs(np.fft.rfft(pieces[-2])).argmax() == pytest.approx(440, abs=1)


def test_a_chain_of_another_kind_ends_the_sound() -> None:
    first = muxed("ogg", "libopus", 48_000, "mono")
    assert seconds(first + first) == pytest.approx(4, abs=0.1)
    assert seconds(first + muxed("ogg", "libopus", 48_000, "stereo")) >= 1.9


@pytest.mark.parametrize(
    ("form", "codec", "rate"), [("adts", "aac", 44_100), ("mp3", "libmp3lame", 24_000), ("ogg", "libopus", 48_000)]
)
def test_an_upload_that_broke_off_is_heard_as_far_as_it_goes(form: str, codec: str, rate: int) -> None:
    data = muxed(form, codec, rate, "mono")
    for cut in range(len(data) // 2, len(data), len(data) // 40):
        assert 0.5 < seconds(data[:cut]) < 2.1


def test_nan_samples_do_not_stop_decoding() -> None:
    data = muxed("wav", "pcm_f32le", 16_000, "mono")
    odd = struct.pack("<4f", math.nan, math.inf, -math.inf, 3e38)
    assert seconds(data[:-1600] + odd * 100) == pytest.approx(2, abs=0.1)


def test_progress_is_in_seconds_of_sound() -> None:
    told: list[float] = []
    check(repacked(tone(2.0), told.append), told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2.0)
    coded: list[float] = []
    repacked(muxed("wav", "adpcm_ms", 16_000, "mono"), coded.append)
    assert coded[-1] == pytest.approx(2.0, abs=0.1)


def test_packets_are_copied_where_they_can_be() -> None:
    data = muxed("mp3", "libmp3lame", 24_000, "mono", 30.0)
    assert len(repacked(data, lambda _: None)) < 1.1 * len(data)
    with av.open(io.BytesIO(repacked(data, lambda _: None)), format="nut") as container:
        assert container.streams.audio[0].codec_context.name.startswith("mp3")
