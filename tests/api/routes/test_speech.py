"""``/v1/audio/speech``: voices, formats, sound as it comes, failures early and late."""

import base64
import json
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from api.fake_service import CANARY, Exchange, FakeService, Served, at_once, failing, rejected
from cohabit.api.app import create_app
from cohabit.api.routes.speech import MEDIA_TYPES
from cohabit.api.streams import StreamTimeouts
from cohabit.core.commands import RejectReason
from cohabit.engines.audio_encode import FORMATS
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest, ResponseStream
from cohabit.schemas.speech import VOICES

PATH = "/v1/audio/speech"
SPEAK: dict[str, Any] = {"model": "tts-1", "input": "Hello there.", "voice": "default"}


def test_every_format_an_engine_makes_has_its_media_type() -> None:
    assert set(MEDIA_TYPES) == set(FORMATS)


@pytest.mark.parametrize(("kind", "media_type"), MEDIA_TYPES.items())
async def test_sound_is_passed_on_unchanged(
    kind: str, media_type: str, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = at_once(b"one", b"two")
    answer = await http.post(PATH, json={**SPEAK, "response_format": kind})
    assert answer.content == b"onetwo"
    assert answer.headers["content-type"] == media_type
    assert {"x-cohabit-queue-ms", "x-cohabit-load-ms"} <= set(answer.headers)
    assert "x-cohabit-run-ms" not in answer.headers
    assert "x-cohabit-warning" not in answer.headers
    (call,) = service.calls
    assert (call.model, call.task) == ("tts", Task.SPEAK)
    told = {"model": "tts", "input": "Hello there.", "voice": "default", "response_format": kind, "speed": 1.0}
    assert json.loads(call.body) == told


@pytest.mark.parametrize(
    ("asked", "given", "warned"),
    [
        ("default", "default", False),
        ("heart", "heart", False),
        ("alloy", "heart", False),  # mapped in the config
        ("boss", "default", False),
        *((name, "default", True) for name in sorted(VOICES - {"alloy"})),
    ],
)
async def test_voices_are_mapped(
    asked: str, given: str, warned: bool, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = at_once(b"sound")
    answer = await http.post(PATH, json={**SPEAK, "voice": asked})
    assert json.loads(service.calls[0].body)["voice"] == given
    assert ("x-cohabit-warning" in answer.headers) is warned


async def test_voice_is_optional(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(b"sound")
    await http.post(PATH, json={"model": "tts", "input": "Hello."})
    told = json.loads(service.calls[0].body)
    assert (told["voice"], told["response_format"], told["speed"]) == ("default", "mp3", 1.0)


async def test_warnings_share_one_header(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(b"sound")
    answer = await http.post(PATH, json={**SPEAK, "voice": "nova", "instructions": f"like a {CANARY}"})
    warning = answer.headers["x-cohabit-warning"]
    assert "tts has no voice of that name; its default was used" in warning
    assert "instructions are not supported" in warning
    assert "instructions" not in json.loads(service.calls[0].body)


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"input": ""}, "input must not be empty", "input"),
        ({"input": " \t\n"}, "input is empty; send some text", "input"),
        ({"input": "x" * 32_769}, "input must have at most 32768 characters", "input"),
        ({"input": 7}, "input must be a string", "input"),
        ({"voice": CANARY}, "tts has no such voice; it has default, heart, alloy, boss", "voice"),
        ({"speed": 0.3}, "speed must be from 0.5 to 2 for tts", "speed"),
        ({"speed": 5}, "speed must be at most 4.0", "speed"),
        ({"response_format": "midi"}, "response_format must be 'aac', 'flac', 'mp3', 'opus', 'pcm' or 'wav'", None),
        ({"stream_format": "ws"}, "stream_format must be 'audio' or 'sse'", "stream_format"),
        ({"model": "llm"}, "llm cannot speak; models that can speak: tts", "model"),
    ],
)
async def test_invalid_request_is_refused(
    change: dict[str, Any], message: str, param: str | None, served: Served
) -> None:
    answer = await served.http.post(PATH, json={**SPEAK, **change})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["message"], error["param"]) == (message, param or "response_format")
    assert CANARY not in answer.text
    assert not served.service.calls


async def test_failure_before_the_first_sound_has_its_status(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(rejected(RejectReason.QUEUE_FULL))
    assert (await http.post(PATH, json=SPEAK)).status_code == 429


async def test_sound_is_sent_as_it_is_made(app: Starlette, service: FakeService) -> None:
    async with Exchange(app, PATH, SPEAK) as exchange:
        _, answer = await service.asked.get()
        assert exchange.sent == [], "nothing is promised before there is sound"
        answer.put(b"one")
        await exchange.until(2)
        assert exchange.bodies == [b"one"]
        answer.put(b"two")
        answer.complete()
        await exchange.ended()
    assert exchange.bodies == [b"one", b"two", b""]
    assert exchange.complete
    assert service.cancelled == []


async def test_sound_can_be_sent_as_events(app: Starlette, service: FakeService) -> None:
    body = {**SPEAK, "stream_format": "sse", "instructions": "gently"}
    async with Exchange(app, PATH, body) as exchange:
        call, answer = await service.asked.get()
        assert "stream_format" not in json.loads(call.body)
        answer.put(b"one")
        await exchange.until(2)
        answer.put(b"two")
        answer.complete()
        await exchange.ended()
    events = [json.loads(part.removeprefix(b"data: ")) for part in exchange.bodies]
    assert [(event["type"], event.get("audio")) for event in events] == [
        ("speech.audio.delta", base64.b64encode(b"one").decode()),
        ("speech.audio.delta", base64.b64encode(b"two").decode()),
        ("speech.audio.done", None),
    ]
    assert events[-1]["usage"] == {"input_tokens": 12, "output_tokens": 0, "total_tokens": 12}
    headers = dict(exchange.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"instructions are not supported" in headers[b"x-cohabit-warning"]


async def test_events_report_sound_that_breaks_off(http: httpx2.AsyncClient, service: FakeService) -> None:
    def reply(_call: ModelRequest, answer: ResponseStream) -> None:
        answer.put(b"one")
        answer.fail(rejected(RejectReason.WORKER_DIED))

    service.reply = reply
    answer = await http.post(PATH, json={**SPEAK, "stream_format": "sse"})
    first, last = [json.loads(part.removeprefix("data: ")) for part in answer.text.strip().split("\n\n")]
    assert first["type"] == "speech.audio.delta"
    assert last["error"]["code"] == "worker_died"


async def test_truncated_sound_ends_the_connection(app: Starlette, service: FakeService) -> None:
    async with Exchange(app, PATH, SPEAK) as exchange:
        _, answer = await service.asked.get()
        answer.put(b"one")
        await exchange.until(2)
        answer.fail(rejected(RejectReason.WORKER_DIED))
        await exchange.ended()
    assert exchange.aborted
    assert not exchange.complete


@pytest.mark.parametrize("begun", [True, False])
async def test_request_is_cancelled_when_its_client_leaves(app: Starlette, service: FakeService, begun: bool) -> None:
    async with Exchange(app, PATH, SPEAK) as exchange:
        _, answer = await service.asked.get()
        if begun:
            answer.put(b"one")
            await exchange.until(2)
        exchange.leave()
        await exchange.ended()
    assert service.cancelled == [1]


async def test_client_that_reads_nothing_is_cut_off(service: FakeService) -> None:
    async with Exchange(create_app(service, timeouts=StreamTimeouts(stall_timeout=0.01)), PATH, SPEAK) as exchange:
        exchange.stop_reading()
        _, answer = await service.asked.get()
        answer.put(b"one")
        await exchange.ended()
    assert service.cancelled == [1]
    assert exchange.aborted
