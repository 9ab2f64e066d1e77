"""Samples as a file: the same sound in every format, sent as it is made."""

import io

import av
import numpy as np
import pytest

from cohabit.engines.audio_encode import FORMATS, Encoder

RATE = 24_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)


def encoded(kind: str) -> tuple[list[bytes], bytes]:
    """What each half second made ready, and all of it."""
    encoder = Encoder(kind, RATE)
    made = [encoder.feed(TONE[start : start + RATE // 2]) for start in range(0, len(TONE), RATE // 2)]
    return made, b"".join(made) + encoder.close()


def decoded(data: bytes) -> np.ndarray:
    """Samples at RATE."""
    with av.open(io.BytesIO(data), "r") as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "pcm"])
def test_encoded_sound_decodes_to_the_input(kind: str) -> None:
    sound = decoded(encoded(kind)[1])
    assert len(sound) == pytest.approx(len(TONE), abs=0.1 * RATE), "codecs pad"
    spectrum = np.abs(np.fft.rfft(sound[RATE // 2 : RATE]))
    assert spectrum.argmax() * 2 == 440
    assert np.abs(sound[RATE // 2 : RATE]).max() == pytest.approx(0.5, abs=0.05)


def test_pcm_is_bare_samples() -> None:
    _, data = encoded("pcm")
    assert np.frombuffer(data, "<i2").tolist() == (TONE * 32767).astype(np.int16).tolist()


@pytest.mark.parametrize("kind", FORMATS)
def test_most_sound_can_be_sent_before_the_end(kind: str) -> None:
    made, whole = encoded(kind)
    assert all(len(part) > 0.7 * len(whole) / 4 - 2000 for part in made), [len(part) for part in made]


def test_a_wav_file_has_a_plain_header() -> None:
    _, data = encoded("wav")
    assert data[:4] == b"RIFF"
    assert data[36:44] == b"data\xff\xff\xff\xff", "the length is not known at the start"
    assert len(data) == 44 + 2 * len(TONE)


def test_loud_samples_are_clipped() -> None:
    encoder = Encoder("pcm", RATE)
    data = encoder.feed(np.array([2.0, -2.0], np.float32)) + encoder.close()
    assert np.frombuffer(data, "<i2").tolist() == [32767, -32767]
