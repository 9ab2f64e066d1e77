"""Vision, speech and transcription through the official openai client: real models, real answers."""

import io
import json
import wave
from pathlib import Path
from typing import Any

import openai
import pytest

from harness import Running, photos, serving
from likeness import contains, understood
from samples import animated, asking, bomb, data_url, film, picture, saved, tone, written

pytestmark = [pytest.mark.process, pytest.mark.model]

SAID = "The quick brown fox jumps over the lazy dog while the sun sets behind the mountains."
CANARY = "Xylophonecanary"


@pytest.fixture(scope="module")
def coffee() -> bytes:
    """The photo of a cup that scikit-image ships."""
    return (photos() / "coffee.png").read_bytes()


def describe(client: openai.OpenAI, data: bytes) -> str:
    answer = client.chat.completions.create(
        model="vision",
        messages=asking(data),  # type: ignore[arg-type]  # plain data
        temperature=0,
        seed=1,
    )
    return answer.choices[0].message.content or ""


def test_the_number_of_an_invoice_is_read(client: openai.OpenAI) -> None:
    page = saved(written("ACME Tools Ltd", "Invoice no. 2026-00417", "Total due: 1,249.50 EUR"))
    assert contains(describe(client, page), "2026-00417")


def test_picture_of_coffee_is_labelled(client: openai.OpenAI, coffee: bytes) -> None:
    assert "espresso" in describe(client, coffee)


def test_a_description_has_its_findings(server: Running, coffee: bytes) -> None:
    answer = server.http.post("/inference", json={"type": "describe_image", "data": {"image": data_url(coffee)}})
    found = answer.json()
    assert "espresso" in found["text"]
    assert "espresso" in {label["label"] for label in found["findings"]["labels"]}
    assert (found["findings"]["width"], found["findings"]["height"]) == (600, 400)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "aac", "pcm"])
def test_speech_is_transcribed_back(client: openai.OpenAI, kind: Any) -> None:
    sound = client.audio.speech.create(model="tts", voice="default", input=SAID, response_format=kind).content
    if kind == "pcm":  # has no header to tell what it is
        file = io.BytesIO()
        with wave.open(file, "wb") as header:
            header.setnchannels(1)
            header.setsampwidth(2)
            header.setframerate(24_000)
            header.writeframes(sound)
        sound = file.getvalue()
    heard = client.audio.transcriptions.create(model="stt", file=(f"speech.{kind}", sound), temperature=0)
    assert understood(SAID, heard.text), heard.text


def test_transcript_has_every_response_format(client: openai.OpenAI) -> None:
    sound = client.audio.speech.create(model="tts-1", voice="alloy", input=SAID, response_format="wav").content
    file = ("speech.wav", sound)
    plain = client.audio.transcriptions.create(model="whisper-1", file=file, response_format="text")
    assert understood(SAID, str(plain))
    verbose = client.audio.transcriptions.create(
        model="whisper-1",
        file=file,
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    seconds = (len(sound) - 44) / 2 / 24_000
    assert float(verbose.duration) == pytest.approx(seconds, abs=0.1)
    assert verbose.segments
    assert verbose.segments[-1].end <= seconds + 0.5
    assert verbose.words
    assert understood(SAID, " ".join(word.word for word in verbose.words))
    assert verbose.words[0].start < verbose.words[-1].start < seconds


def test_sound_is_streamed_sentence_by_sentence(server: Running) -> None:
    server.http.post("/v1/audio/speech", json={"model": "tts", "input": "Hello."})
    body = {"model": "tts", "input": f"{SAID} " * 60, "response_format": "pcm"}
    with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
        chunks = answer.iter_bytes()
        first = next(chunks)
        busy = server.model("tts")["in_flight"]
        rest = sum(map(len, chunks))
    assert busy == 1, "it was still speaking"
    assert len(first) < rest / 20


def test_disconnect_stops_speech(server: Running) -> None:
    body = {"model": "tts", "input": f"{SAID} " * 300, "response_format": "pcm"}
    with server.http.stream("POST", "/v1/audio/speech", json=body) as answer:
        next(answer.iter_bytes())
    server.until(lambda: server.model("tts")["in_flight"] == 0)
    assert server.metric("cohabit_finished_total", model="tts", task="speak", outcome="cancelled") >= 1


def test_unknown_voice_is_a_warning(server: Running) -> None:
    answer = server.http.post("/v1/audio/speech", json={"model": "tts", "voice": "nova", "input": "Hello."})
    assert "no voice of that name" in answer.headers["x-cohabit-warning"]


def test_batch_lines_run_on_real_models(server: Running) -> None:
    items = [
        {"type": "embed", "data": {"text": "hello"}},
        {"type": "speak", "data": {"text": "Hello there."}},
        {"type": "describe_image", "data": {"image": "no"}},
    ]
    answer = server.http.post("/batch", json=items, headers={"accept": "application/x-ndjson"})
    lines = {line["index"]: line for line in map(json.loads, answer.text.splitlines())}
    assert len(lines[0]["result"]["embeddings"][0]) == 384
    assert lines[1]["result"]["sample_rate"] == 24_000
    assert lines[2]["error"]["param"] == "data.image"


def seen(data: bytes) -> dict[str, Any]:
    return {"model": "vision", "messages": asking(data, CANARY)}


CHAT, SPEECH, HEAR = "/v1/chat/completions", "/v1/audio/speech", "/v1/audio/transcriptions"
SPEAK = {"model": "tts", "voice": "default", "input": CANARY}
WRONG: list[tuple[str, dict[str, Any], str, str | None]] = [
    (CHAT, {"json": seen(b"no picture")}, "is not a picture", "messages.0.content.1.image_url.url"),
    (CHAT, {"json": seen(bomb())}, "at most 25 megapixels", "messages.0.content.1.image_url.url"),
    (CHAT, {"json": seen(animated("GIF"))}, "is animated", "messages.0.content.1.image_url.url"),
    (
        CHAT,
        {"json": seen(picture("JPEG", (400, 300))[:-900])},
        "is a broken picture",
        "messages.0.content.1.image_url.url",
    ),
    (
        CHAT,
        {"json": {**seen(picture()), "model": "llm"}},
        "llm cannot see pictures; models that can: vision",
        "messages",
    ),
    (
        CHAT,
        {"json": {"model": "vision", "messages": [{"role": "user", "content": CANARY}]}},
        "add an image_url",
        "messages",
    ),
    (
        CHAT,
        {"json": {"model": CANARY, "messages": [{"role": "user", "content": "x"}]}},
        "there is no such model",
        "model",
    ),
    (
        CHAT,
        {"json": {"model": "llm", "messages": [{"role": "user", "content": CANARY * (1 << 17)}]}},
        "shorten",
        "messages",
    ),
    (CHAT, {"json": {"model": "llm", "messages": CANARY}}, "messages must be an array", "messages"),
    (CHAT, {"content": CANARY.encode()}, "not valid JSON", None),
    (SPEECH, {"json": {**SPEAK, "input": " "}}, "input is empty", "input"),
    (SPEECH, {"json": {**SPEAK, "voice": CANARY}}, "tts has no such voice; it has default, heart", "voice"),
    (SPEECH, {"json": {**SPEAK, "speed": "fast"}}, "speed must be a number", "speed"),
    (SPEECH, {"json": {**SPEAK, "speed": 4}}, "speed must be from 0.5 to 2 for tts", "speed"),
    (SPEECH, {"json": {**SPEAK, "response_format": "midi"}}, "response_format must be", "response_format"),
    (SPEECH, {"json": {**SPEAK, "model": "stt"}}, "stt cannot speak; models that can speak: tts", "model"),
    (HEAR, {"data": {"model": "stt"}, "files": {"file": ("a.mp4", film())}}, "file is a video", "file"),
    (HEAR, {"data": {"model": "stt"}, "files": {"file": ("a.wav", CANARY.encode())}}, "file is not sound", "file"),
    (HEAR, {"data": {"model": "llm"}, "files": {"file": ("a.wav", tone())}}, "llm cannot transcribe", "model"),
    (HEAR, {"json": {"model": "stt", "file": CANARY}}, "the body must be a form", None),
    (HEAR, {"data": {"model": "stt"}, "files": {"model": (None, "stt")}}, "file is missing", "file"),
]


def test_invalid_media_are_refused_before_they_queue(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for path, sent, message, param in WRONG:
            answer = server.http.post(path, **sent)
            assert 400 <= answer.status_code < 500, (path, message)
            error = answer.json()["error"]
            assert message in error["message"]
            assert error["param"] == param
            assert CANARY not in answer.text
        state = server.status()
        figures = server.http.get("/metrics").text
    assert all((model["loads"], model["state"], model["waiting"]) == (0, "stopped", 0) for model in state["models"])
    assert "cohabit_requests_total{" not in figures, "nothing was queued"
    assert CANARY not in server.log.read_text()


def test_engine_refusal_does_not_end_the_worker(server: Running) -> None:
    asked = {"data": {"model": "stt", "language": "de"}, "files": {"file": ("a.wav", tone())}}
    answer = server.http.post(HEAR, **asked)  # type: ignore[arg-type]  # keywords
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "language")
    unspeakable = server.http.post(SPEECH, json={**SPEAK, "input": "日本語です"})
    assert (unspeakable.status_code, unspeakable.json()["error"]["param"]) == (400, "input")
    assert all(model["loads"] <= 1 for model in server.status()["models"])
