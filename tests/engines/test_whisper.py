"""Speech to text for real: what the voice says is heard, with times, whatever its length."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cohabit.engines.audio_decode import WINDOW_SECONDS
from cohabit.engines.hibari import Hibari
from cohabit.engines.whisper import Whisper
from cohabit.protocol.engine import Chunk, EngineError, EngineRequest, ItemError
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from engines.engine_calls import loaded, run
from likeness import understood
from samples import clean_sound, tone, wav

pytestmark = pytest.mark.model

SENTENCES = [
    "The ship left the harbour at dawn.",
    "Please send me the signed contract before the end of the week.",
    "She opened the letter slowly, read it twice, and put it back into her pocket.",
    "The committee will meet again in June to discuss the budget.",
]
SAID = " ".join(SENTENCES * 3)


@pytest.fixture(scope="module")
def engine(preset_specs: dict[str, ModelSpec]) -> Iterator[Whisper]:
    with loaded(Whisper(), preset_specs["stt"]) as made:
        yield made


@pytest.fixture(scope="module")
def speech() -> bytes:
    """All sentences three times, some 45 s."""
    voice = Hibari()
    voice.load(ModelSpec(name="tts", engine="hibari"), Device("cpu"))
    body = {"input": SAID, "response_format": "wav"}
    return b"".join(output.data for output in run(voice, Task.SPEAK, body)[0] if isinstance(output, Chunk))


def outputs(engine: Whisper, sound: bytes, cancelled: Any = lambda _: False, **body: Any) -> list[Chunk | ItemError]:
    request = EngineRequest(1, Task.TRANSCRIBE, json.dumps(body).encode(), {"file": clean_sound(sound)})
    return list(engine.run([request], cancelled))


def heard(engine: Whisper, sound: bytes, **body: Any) -> dict[str, Any]:
    (output,) = outputs(engine, sound, **body)
    assert isinstance(output, Chunk), output
    found: dict[str, Any] = json.loads(output.data)
    return found


def test_transcript_has_segments_with_times(engine: Whisper, speech: bytes) -> None:
    found = heard(engine, speech)
    assert understood(SAID, found["text"])
    seconds = (len(speech) - 44) / 2 / 24_000
    assert seconds > WINDOW_SECONDS, "more than one window"
    assert found["duration"] == pytest.approx(seconds, abs=0.1)
    assert found["language"] == "en"
    segments = found["segments"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    assert all(segment["start"] < segment["end"] <= seconds + 1 for segment in segments)
    starts = [segment["start"] for segment in segments]
    assert starts == sorted(starts)
    assert segments[-1]["end"] > WINDOW_SECONDS, "the times go on in the second window"
    assert "words" not in found


def test_words_have_times(engine: Whisper, speech: bytes) -> None:
    found = heard(engine, speech, timestamp_granularities=["word"])
    assert understood(SAID, " ".join(word["word"] for word in found["words"]))
    starts = [word["start"] for word in found["words"]]
    assert starts == sorted(starts)
    assert all("words" not in segment for segment in found["segments"])


def test_stream_sends_segments_as_they_are_transcribed(
    engine: Whisper, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = heard(engine, speech)["text"]
    windows = []
    transcribe = engine._model.transcribe

    def counted(samples: np.ndarray, **settings: Any) -> Any:
        windows.append(len(samples))
        return transcribe(samples, **settings)

    monkeypatch.setattr(engine._model, "transcribe", counted)
    request = EngineRequest(1, Task.TRANSCRIBE, b'{"stream": true}', {"file": clean_sound(speech)})
    events, heard_before = [], []
    for output in engine.run([request], lambda _: False):
        assert isinstance(output, Chunk)
        events.append(json.loads(output.data))
        heard_before.append(len(windows))
    assert heard_before[0] == 1, "the words of the first window, before the second one is heard"
    assert heard_before[-1] > 1
    *deltas, done = events
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert done == {"type": "transcript.text.done", "text": "".join(delta["delta"] for delta in deltas)}
    assert done["text"] == whole


def test_a_stream_of_silence_ends_at_once(engine: Whisper) -> None:
    (only,) = outputs(engine, tone(0.01) + b"\0" * 64_000, stream=True)
    assert isinstance(only, Chunk)
    assert json.loads(only.data) == {"type": "transcript.text.done", "text": ""}


def test_translation_is_passed_to_a_multilingual_model(
    engine: Whisper, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset's weights know no other language, so that here it is only seen what the library is told."""
    tasks = []
    transcribe = engine._model.transcribe

    def noted(samples: np.ndarray, *, task: str, **settings: Any) -> Any:
        tasks.append(task)
        return transcribe(samples, task=task, **settings)

    monkeypatch.setattr(engine._model, "transcribe", noted)
    monkeypatch.setattr(engine, "_check", lambda _: None)
    found = heard(engine, speech, task="translate")
    assert set(tasks) == {"translate"}
    assert (found["task"], found["language"]) == ("translate", "english")


def test_silence_has_an_empty_transcript(engine: Whisper) -> None:
    found = heard(engine, tone(0.01) + b"\0" * 64_000)
    assert found["text"] == ""
    assert found["segments"] == []


def test_cancelled_request_has_no_answer(engine: Whisper, speech: bytes) -> None:
    assert outputs(engine, speech, cancelled=lambda _: True) == []


@pytest.mark.parametrize(
    ("sound", "body", "param", "why"),
    [
        (tone(), {"language": "de"}, "language", "this model hears en only"),
        (tone(), {"task": "translate"}, "model", "stt hears English only and cannot translate"),
    ],
)
def test_unsupported_requests_are_refused(
    engine: Whisper, sound: bytes, body: dict[str, Any], param: str, why: str
) -> None:
    (error,) = outputs(engine, sound, **body)
    assert isinstance(error, ItemError)
    assert (error.status, error.param) == (400, param)
    assert why in error.message


def test_undecodable_sound_is_a_client_error(engine: Whisper) -> None:
    (error,) = engine.run([EngineRequest(1, Task.TRANSCRIBE, b"{}", {"file": b"some text"})], lambda _: False)
    assert isinstance(error, ItemError)
    assert (error.status, error.param) == (400, "file")
    assert error.message == "file holds no sound that could be decoded"


def test_cancel_takes_effect_before_each_decoding(
    engine: Whisper, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def cancelled(_: int) -> bool:
        nonlocal asked
        asked += 1
        return asked >= 2

    class Undecoding:
        """The model, but that it decodes nothing."""

        def __init__(self, model: Any) -> None:
            self._model = model

        def __getattr__(self, name: str) -> Any:
            assert name != "generate"
            return getattr(self._model, name)

    monkeypatch.setattr(engine._decoder, "_model", Undecoding(engine._decoder._model))
    assert outputs(engine, speech, cancelled=cancelled) == []
    assert asked == 2, "before the window, and before it is decoded"


def test_silence_is_cancelled_before_its_next_window(engine: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no segments, between which it could be asked whether anybody waits."""
    windows = []
    transcribe = engine._model.transcribe

    def noted(samples: np.ndarray, **settings: Any) -> Any:
        windows.append(len(samples))
        return transcribe(samples, **settings)

    monkeypatch.setattr(engine._model, "transcribe", noted)
    assert outputs(engine, wav(np.zeros(16_000 * 200)), cancelled=lambda _: len(windows) >= 2) == []
    assert len(windows) == 2


def test_prompt_is_used_until_there_is_a_transcript(
    engine: Whisper, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hints: list[str | None] = []
    transcribe = engine._model.transcribe

    def noted(samples: np.ndarray, **settings: Any) -> Any:
        hints.append(settings["initial_prompt"])
        assert settings["temperature"] == 0.4
        return transcribe(samples, **settings)

    monkeypatch.setattr(engine._model, "transcribe", noted)
    heard(engine, speech, prompt="A talk on ships.", temperature=0.4, language="en")
    assert hints[0] == "A talk on ships."
    assert hints[1] not in {None, hints[0]}, "what was heard in the first window"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "there is no model.bin in"),
        (["model.bin"], "there is no tokenizer.json in"),
        (["model.bin", "tokenizer.json"], "the model cannot be loaded"),
    ],
)
def test_incomplete_model_is_not_loaded(tmp_path: Path, there: list[str], said: str) -> None:
    for name in there:
        (tmp_path / name).write_bytes(b"junk")
    spec = ModelSpec(name="stt", engine="whisper", source=str(tmp_path), options={"compute_type": "float128"})
    with pytest.raises(EngineError, match=said):
        Whisper().load(spec, Device("cpu"))
