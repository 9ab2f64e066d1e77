"""Transcripts in every format, as they are heard, and translations: the real models, through OpenAI's client."""

import base64
import json
import re

import openai
import pytest

from harness import Running
from likeness import understood

pytestmark = [pytest.mark.process, pytest.mark.model]

SENTENCES = [
    "The ship left the harbour at dawn.",
    "Please send me the signed contract before the end of the week.",
    "She opened the letter slowly, read it twice, and put it back into her pocket.",
    "The committee will meet again in June to discuss the budget.",
]
SAID = " ".join(SENTENCES * 3)
CUE = re.compile(r"(\d\d):(\d\d):(\d\d)[.,](\d{3}) --> (\d\d):(\d\d):(\d\d)[.,](\d{3})")


@pytest.fixture(scope="module")
def speech(client: openai.OpenAI) -> tuple[str, bytes]:
    """Some 45 s of it: more than one window."""
    answer = client.audio.speech.create(model="tts", voice="default", input=SAID, response_format="flac")
    return "speech.flac", answer.content


def cues(written: str) -> list[tuple[float, float, str]]:
    """Start, end and text of each block that has a line of times, as a player would read them."""
    found = []
    for block in written.split("\n\n"):
        lines = block.strip().splitlines()
        place = next((place for place, line in enumerate(lines) if "-->" in line), None)
        if place is not None:
            times = CUE.fullmatch(lines[place])
            assert times, lines[place]
            h, m, s, ms, *end = map(int, times.groups())
            found.append(
                (
                    h * 3600 + m * 60 + s + ms / 1000,
                    end[0] * 3600 + end[1] * 60 + end[2] + end[3] / 1000,
                    " ".join(lines[place + 1 :]),
                )
            )
    return found


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_speech_becomes_subtitles(client: openai.OpenAI, speech: tuple[str, bytes], form: str) -> None:
    written = str(
        client.audio.transcriptions.create(
            model="stt",
            file=speech,
            response_format=form,  # type: ignore[call-overload]  # a literal to the type checker
        )
    )
    assert written.startswith("1\n" if form == "srt" else "WEBVTT\n\n")
    found = cues(written)
    assert len(found) > 2
    assert understood(SAID, " ".join(text for _, _, text in found))
    assert all(start < end for start, end, _ in found)
    starts = [start for start, _, _ in found]
    assert starts == sorted(starts)
    assert found[0][0] < 10
    assert found[-1][1] > 30, "beyond the first window"


def test_times_of_words_rise(client: openai.OpenAI, speech: tuple[str, bytes]) -> None:
    found = client.audio.transcriptions.create(
        model="stt", file=speech, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert found.segments is None
    assert found.words
    assert understood(SAID, " ".join(word.word for word in found.words))
    starts = [word.start for word in found.words]
    assert starts == sorted(starts)
    assert found.usage
    assert found.usage.seconds == found.duration


def test_transcript_is_streamed(server: Running, client: openai.OpenAI, speech: tuple[str, bytes]) -> None:
    events = client.audio.transcriptions.create(model="stt", file=speech, stream=True)
    first = next(events)
    assert first.type == "transcript.text.delta"
    assert server.model("stt")["in_flight"] == 1, "it still listens"
    deltas, done = [first.delta], None
    for event in events:
        if event.type == "transcript.text.delta":
            deltas.append(event.delta)
        else:
            done = event
    assert done is not None
    assert done.type == "transcript.text.done"
    assert done.text == "".join(deltas)
    assert len(deltas) > 2
    assert understood(SAID, done.text)


def test_disconnect_stops_transcription(server: Running, client: openai.OpenAI, speech: tuple[str, bytes]) -> None:
    with client.audio.transcriptions.create(model="stt", file=speech, stream=True) as events:
        next(events)
    server.until(lambda: server.model("stt")["in_flight"] == 0)
    assert server.metric("cohabit_finished_total", model="stt", task="transcribe", outcome="cancelled") == 1


@pytest.mark.filterwarnings("ignore:deprecated")  # the client's word for the whole route
def test_english_only_model_refuses_translation(client: openai.OpenAI, speech: tuple[str, bytes]) -> None:
    with pytest.raises(openai.BadRequestError, match="stt hears English only and cannot translate") as refused:
        client.audio.translations.create(model="whisper-1", file=speech)
    assert (refused.value.param, refused.value.code) == ("model", "unsupported_task")


def test_sound_as_events_equals_plain_sound(server: Running) -> None:
    body = {"model": "tts", "input": SAID, "response_format": "wav"}
    plain = server.http.post("/v1/audio/speech", json=body).content
    with server.http.stream("POST", "/v1/audio/speech", json={**body, "stream_format": "sse"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    *deltas, done = events
    assert len(deltas) > 1
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": len(SAID), "output_tokens": 0, "total_tokens": len(SAID)}


def test_short_inference_types_still_work(server: Running, speech: tuple[str, bytes]) -> None:
    data = {"audio": base64.b64encode(speech[1]).decode()}
    answer = server.http.post("/inference", json={"type": "transcribe", "data": data})
    assert understood(SAID, answer.json()["text"])
    items = [{"type": "transcribe", "data": data}, {"type": "embed", "data": {"text": "a"}}]
    heard, embedded = server.http.post("/batch", json=items).json()["results"]
    assert heard["result"] == answer.json()
    assert len(embedded["result"]["embeddings"][0]) == 384
