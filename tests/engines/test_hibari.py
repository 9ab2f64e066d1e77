"""The voice for real: sound for any text, sentence by sentence, the same each time."""

from collections.abc import Iterator

import numpy as np
import pytest

from cohabit.engines.hibari import LONGEST_WORD, MAX_CHARACTERS, MAX_PHONEMES, RATE, UNSPEAKABLE, Hibari
from cohabit.protocol.engine import Chunk
from cohabit.protocol.spec import ModelSpec
from cohabit.protocol.tasks import Task
from engines.engine_calls import loaded, refusal, request_of, run

pytestmark = pytest.mark.model

SENTENCE = "The meeting is moved to Thursday at half past nine. "


@pytest.fixture(scope="module")
def engine() -> Iterator[Hibari]:
    with loaded(Hibari(), ModelSpec(name="tts", engine="hibari")) as made:
        yield made


def asked(text: str, **more: object) -> dict[str, object]:
    return {"model": "tts", "input": text, "voice": "default", "response_format": "pcm", "speed": 1.0, **more}


def spoken(engine: Hibari, text: str, **more: object) -> list[bytes]:
    outputs = run(engine, Task.SPEAK, asked(text, **more))[0]
    assert all(isinstance(output, Chunk) for output in outputs), outputs
    return [output.data for output in outputs if isinstance(output, Chunk)]


def seconds(data: list[bytes]) -> float:
    return len(b"".join(data)) / 2 / RATE


def test_a_sentence_is_spoken(engine: Hibari) -> None:
    data = spoken(engine, SENTENCE)
    assert 2 < seconds(data) < 6
    samples = np.frombuffer(b"".join(data), "<i2")
    assert np.abs(samples).max() > 2000, "it is no silence"
    assert b"".join(spoken(engine, SENTENCE)) == b"".join(data), "the same text sounds the same"


def test_sound_comes_sentence_by_sentence(engine: Hibari) -> None:
    outputs = engine.run([request_of(Task.SPEAK, asked(SENTENCE * 20))], lambda _: False)
    first = next(outputs)
    assert isinstance(first, Chunk)
    assert seconds([first.data]) < 6
    assert len(list(outputs)) >= 19


def test_speed_changes_the_length(engine: Hibari) -> None:
    assert seconds(spoken(engine, SENTENCE, speed=0.5)) > 1.5 * seconds(spoken(engine, SENTENCE, speed=1.5))


def test_cancel_takes_effect_between_sentences(engine: Hibari) -> None:
    heard = 0

    def cancelled(_: int) -> bool:
        nonlocal heard
        heard += 1
        return heard > 3

    outputs = run(engine, Task.SPEAK, asked(SENTENCE * 20), cancelled=cancelled)[0]
    assert 1 <= len(outputs) <= 3, "of twenty"


@pytest.mark.parametrize("text", ["word " * 400, "pneumonoultramicroscopicsilicovolcanoconiosis" * 20])
def test_a_sentence_without_an_end_is_spoken_in_parts(
    engine: Hibari, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0
    synthesized = engine._synthesized

    def noted(ids: np.ndarray, speed: float, random: np.random.Generator) -> np.ndarray:
        nonlocal longest
        longest = max(longest, ids.shape[1])
        found: np.ndarray = synthesized(ids, speed, random)
        return found

    monkeypatch.setattr(engine, "_synthesized", noted)
    assert seconds(spoken(engine, text)) > 1
    assert longest <= MAX_PHONEMES + 2


@pytest.mark.parametrize("text", ["日本語です", "\n \n", "1" * 3000])
def test_unspeakable_text_is_refused(engine: Hibari, text: str) -> None:
    error = refusal(engine, Task.SPEAK, asked(text))
    assert (error.message, error.param, error.status) == (UNSPEAKABLE, "input", 400)


def test_each_request_of_a_batch_has_its_own_answer(engine: Hibari) -> None:
    outputs = run(engine, Task.SPEAK, asked("日本語"), asked("Hello."))
    assert not isinstance(outputs[0][0], Chunk)
    assert isinstance(outputs[1][0], Chunk)


@pytest.mark.parametrize("text", ["a-" * 16_000, "{" * 32_000, "well-known " * 2_900])
def test_looking_up_any_text_is_fast(engine: Hibari, text: str) -> None:
    """A word of 1,000 characters with hyphens once took two minutes and a half, and no cancel was heard."""
    pieces = list(engine._pieces(text))
    assert "".join("".join(pieces).split()) == "".join(text.split()), "nothing is left out"
    assert max(map(len, pieces)) <= MAX_CHARACTERS
    assert max(len(word) for piece in pieces for word in piece.split()) <= LONGEST_WORD


def test_cancel_takes_effect_within_unspeakable_text(engine: Hibari) -> None:
    heard = 0

    def cancelled(_: int) -> bool:
        nonlocal heard
        heard += 1
        return heard > 3

    assert run(engine, Task.SPEAK, asked("{" * 20_000), cancelled=cancelled)[0] == []
    assert heard < 10, "of some forty pieces"
