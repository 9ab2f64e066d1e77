"""Sound in windows: nothing lost, nothing twice, cut where it is quiet, damage survived."""

import math
import struct

import numpy as np
import pytest

from cohabit.engines.audio_decode import RATE, WINDOW_SECONDS, quietest, windows
from cohabit.engines.audio_encode import Encoder
from samples import clean_sound, tone, wav


def file_of(samples: np.ndarray, kind: str = "flac", rate: int = RATE) -> bytes:
    """As a file."""
    encoder = Encoder(kind, rate)
    return b"".join(encoder.feed(samples[at : at + rate]) for at in range(0, len(samples), rate)) + encoder.close()


def noise(seconds: float) -> np.ndarray:
    """Loud."""
    return np.random.default_rng(1).uniform(-0.5, 0.5, int(seconds * RATE)).astype(np.float32)


def test_short_sound_is_one_window() -> None:
    ((began, samples),) = windows(clean_sound(tone(1.5)))
    assert began == 0
    assert len(samples) == int(1.5 * RATE)
    assert samples.dtype == np.float32


def test_long_sound_is_cut_at_quiet_places_without_loss() -> None:
    sound = noise(75)
    pauses = (24.0, 49.0)
    for pause in pauses:
        sound[int(pause * RATE) : int((pause + 0.5) * RATE)] = 0
    found = list(windows(clean_sound(file_of(sound))))
    assert np.allclose(np.concatenate([samples for _, samples in found]), sound, atol=1e-4)
    assert all(len(samples) <= WINDOW_SECONDS * RATE for _, samples in found)
    for (began, _), pause in zip(found[1:], pauses, strict=False):
        assert pause <= began <= pause + 0.5
    ends = np.cumsum([len(samples) / RATE for _, samples in found])
    assert [began for began, _ in found] == pytest.approx([0, *ends[:-1]])


def test_cut_is_searched_only_at_the_end_of_a_window() -> None:
    sound = noise(WINDOW_SECONDS)
    sound[: RATE * 5] = 0
    assert quietest(sound) > 20 * RATE


@pytest.mark.parametrize(("kind", "rate"), [("wav", 8000), ("mp3", 24_000), ("opus", 48_000)])
def test_sound_of_any_rate_is_resampled(kind: str, rate: int) -> None:
    sound = np.sin(np.arange(rate * 3) * 440 * 2 * np.pi / rate).astype(np.float32) / 2
    ((_, samples),) = windows(clean_sound(file_of(sound, kind, rate)))
    assert len(samples) == pytest.approx(3 * RATE, abs=RATE // 5)
    assert np.abs(np.fft.rfft(samples[RATE : 2 * RATE])).argmax() == pytest.approx(440, abs=1)


def test_damaged_packet_loses_only_its_own_sound() -> None:
    data = bytearray(file_of(noise(10), "mp3"))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    seconds = sum(len(samples) for _, samples in windows(clean_sound(bytes(data)))) / RATE
    assert 9 < seconds < 10.5


def test_uninspected_sound_has_no_windows() -> None:
    assert list(windows(b"text")) == []


def test_nan_samples_become_numbers() -> None:
    data = bytearray(wav([0.0] * RATE * 2))
    struct.pack_into("<HH", data, 20, 3, 1)  # floating point
    struct.pack_into("<IHH", data, 28, RATE * 4, 4, 32)
    struct.pack_into("<4f", data, 44, math.nan, math.inf, -math.inf, 3e38)
    ((_, samples),) = windows(clean_sound(bytes(data)))
    assert len(samples) == RATE
    assert samples[:4].tolist() == [0.0, 1.0, -1.0, 1.0]
