"""``/v1/audio/transcriptions``: forms, right and wrong, and every shape of the answer."""

import json
import tempfile
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from api.fake_service import CANARY, HEARD, SOUND, Exchange, FakeService, Served, as_asked, failing, rejected
from cohabit.api import uploads
from cohabit.core.commands import RejectReason
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest, ResponseStream
from samples import clean_sound, film, tone

PATH = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
FILE = {"file": ("speech.wav", SOUND, "audio/wav")}


async def asked(http: httpx2.AsyncClient, files: Any = FILE, **fields: Any) -> httpx2.Response:
    return await http.post(PATH, data={"model": "whisper-1", **fields}, files=files)


async def test_json_has_the_text_alone(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await asked(http)
    assert answer.json() == {"text": "Hi there.", "usage": {"type": "duration", "seconds": 0.5}}
    assert {"x-cohabit-queue-ms", "x-cohabit-load-ms", "x-cohabit-run-ms"} <= set(answer.headers)
    (call,) = service.calls
    assert (call.model, call.task, call.blobs) == ("stt", Task.TRANSCRIBE, {"file": clean_sound(SOUND)})
    assert json.loads(call.body) == {"temperature": 0.0}


async def test_text_format_is_plain_text(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await asked(http, response_format="text")
    assert answer.text == "Hi there.\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("granularities", "without"), [([], set()), (["segment", "word"], set()), (["word"], {"segments"})]
)
async def test_verbose_json_has_the_times(
    granularities: list[str], without: set[str], http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    fields: dict[str, Any] = {"timestamp_granularities[]": granularities} if granularities else {}
    answer = await asked(http, response_format="verbose_json", **fields)
    told = {**HEARD, "usage": {"type": "duration", "seconds": 0.5}}
    assert answer.json() == {key: value for key, value in told.items() if key not in without}
    assert json.loads(service.calls[0].body).get("timestamp_granularities", []) == granularities


async def test_fields_reach_the_engine_with_their_types(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    await asked(http, language="en", prompt="Bob, Alice", temperature="0.2")
    assert json.loads(service.calls[0].body) == {"language": "en", "prompt": "Bob, Alice", "temperature": 0.2}


@pytest.mark.parametrize(
    ("form", "media_type", "written"),
    [
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:00,500\nHi there.\n"),
        ("vtt", "text/vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\nHi there.\n"),
    ],
)
@pytest.mark.parametrize("path", [PATH, TRANSLATIONS])
async def test_subtitles_are_made(path: str, form: str, media_type: str, written: str, served: Served) -> None:
    served.service.reply = as_asked
    answer = await served.http.post(path, data={"model": "stt", "response_format": form}, files=FILE)
    assert answer.text == written
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert "x-cohabit-run-ms" in answer.headers


async def test_harmless_fields_are_accepted(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await asked(http, chunking_strategy="auto", stream="false", user="u")
    assert answer.status_code == 200
    assert json.loads(service.calls[0].body) == {"temperature": 0.0}


async def test_stream_sends_text_as_it_is_transcribed(app: Starlette, service: FakeService) -> None:
    field = '--x\r\ncontent-disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    file = '--x\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    head = field.format("model", "stt") + field.format("stream", "true") + file
    body = head.encode() + SOUND + b"\r\n--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    async with Exchange(app, PATH, body, headers=headers) as exchange:
        call, answer = await service.asked.get()
        assert json.loads(call.body) == {"temperature": 0.0, "stream": True}
        answer.put(b'{"type":"transcript.text.delta","delta":"Hi"}')
        await exchange.until(2)
        assert exchange.bodies == [b'data: {"type":"transcript.text.delta","delta":"Hi"}\n\n']
        answer.put(b'{"type":"transcript.text.done","text":"Hi"}')
        answer.complete()
        await exchange.ended()
    assert exchange.bodies[1:] == [b'data: {"type":"transcript.text.done","text":"Hi"}\n\n', b""]
    assert exchange.complete


async def test_stream_that_breaks_off_reports_it(http: httpx2.AsyncClient, service: FakeService) -> None:
    def reply(_call: ModelRequest, answer: ResponseStream) -> None:
        answer.put(b'{"type":"transcript.text.delta","delta":"Hi"}')
        answer.fail(rejected(RejectReason.WORKER_DIED))

    service.reply = reply
    lines = (await asked(http, stream="true")).text.strip().split("\n\n")
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "worker_died"


async def test_translation_sends_its_task_to_the_engine(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await http.post(TRANSLATIONS, data={"model": "whisper-1", "language": "de"}, files=FILE)
    assert answer.json()["text"] == "Hi there."
    (call,) = service.calls
    assert (call.model, call.task, call.blobs) == ("stt", Task.TRANSCRIBE, {"file": clean_sound(SOUND)})
    assert json.loads(call.body) == {"task": "translate", "language": "de", "temperature": 0.0}


@pytest.mark.parametrize("field", ["include[]", "stream", "timestamp_granularities[]"])
async def test_translation_drops_fields_of_transcriptions(
    field: str, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    answer = await http.post(TRANSLATIONS, data={"model": "stt", field: "en"}, files=FILE)
    assert answer.status_code == 200
    assert field.removesuffix("[]") in answer.headers["x-cohabit-warning"]
    (call,) = service.calls
    assert field.removesuffix("[]") not in json.loads(call.body)


@pytest.mark.parametrize("field", ["known_speaker_names[]", "known_speaker_references[]"])
async def test_known_speakers_are_refused(field: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await http.post(PATH, data={"model": "stt", field: CANARY}, files=FILE)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert CANARY not in answer.text
    assert not service.calls


async def test_unsupported_parameter_is_refused(http: httpx2.AsyncClient, service: FakeService) -> None:
    able = replace(service.models["stt"], name="better")
    service.models = {"stt": replace(able, name="stt", capabilities=frozenset()), "better": able}
    refused = await http.post(TRANSLATIONS, data={"model": "stt"}, files=FILE)
    assert refused.json()["error"]["message"] == "stt cannot translate speech; models that can: better"
    words = {"response_format": "verbose_json", "timestamp_granularities[]": ["word"]}
    error = (await asked(http, **{"model": "stt", **words})).json()["error"]
    assert error["message"] == "stt cannot tell when each word was said; models that can: better"
    assert (error["param"], error["code"]) == ("timestamp_granularities", "unsupported_parameter")
    assert not service.calls


async def test_failure_has_its_status(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(rejected(RejectReason.QUEUE_FULL))
    assert (await asked(http)).status_code == 429


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"model": "tts"}, "tts cannot transcribe; models that can transcribe: stt", "model"),
        (
            {"response_format": "diarized_json"},
            "response_format must be 'json', 'srt', 'text', 'verbose_json' or 'vtt'",
            "response_format",
        ),
        ({"stream": CANARY}, "stream must be true or false", "stream"),
        ({"stream": "true", "response_format": "srt"}, "stream needs response_format json or text", "stream"),
        (
            {"stream": "true", "response_format": "verbose_json"},
            "stream needs response_format json or text",
            "stream",
        ),
        ({"include[]": ["logprobs"], "response_format": "text"}, "include needs response_format json", "include"),
        ({"include[]": [CANARY]}, "include.0 must be 'logprobs'", "include.0"),
        ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy must be 'auto'", "chunking_strategy"),
        ({"chunking_strategy": '{"type": "server_vad"}'}, "chunking_strategy must be 'auto'", "chunking_strategy"),
        ({"include[]": ["logprobs"]}, "stt cannot give log probabilities; no configured model can", "include"),
        ({"temperature": CANARY}, "temperature must be a number", "temperature"),
        ({"temperature": "2"}, "temperature must be at most 1.0", "temperature"),
        ({"language": CANARY}, "language must match ^[a-z]{2,3}(?!\\n)$", "language"),
        ({"prompt": "x" * 5000}, "prompt must have at most 4096 characters", "prompt"),
        (
            {"timestamp_granularities[]": ["word"]},
            "timestamp_granularities needs response_format verbose_json",
            "timestamp_granularities",
        ),
    ],
)
async def test_invalid_field_is_refused(
    fields: dict[str, Any], message: str, param: str | None, served: Served
) -> None:
    answer = await asked(served.http, **fields)
    assert answer.status_code == 400
    assert (answer.json()["error"]["message"], answer.json()["error"]["param"]) == (message, param)
    assert CANARY not in answer.text
    assert not served.service.calls


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"file": ("a.wav", CANARY.encode())}, "file is not sound that can be read; send wav"),
        ({"file": ("a.wav", b"")}, "file is not sound that can be read; send wav"),
        ({"file": ("../../a.mp4", film())}, "file is a video; send its sound alone"),
        ({"sound": ("a.wav", SOUND)}, "file is missing: send the audio"),
        ([("file", ("a.wav", SOUND)), ("file", ("b.wav", SOUND))], "the form cannot be read: it takes one file"),
    ],
)
async def test_invalid_file_is_refused(
    files: Any, message: str, http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await asked(http, files)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
    assert answer.json()["error"]["param"] in {"file", None}
    assert CANARY not in answer.text
    assert not service.calls


async def test_missing_file_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post(PATH, files={"model": (None, "stt")})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("file is missing")


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({"content-type": "application/json"}, b'{"model": "stt"}', "the body must be a form"),
        ({}, b"", "the body must be a form"),
        ({"content-type": "multipart/form-data"}, b"x", "the form cannot be read"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"\r\n--y\r\n", "the form cannot be read"),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b"--x\r\nno colon\r\n\r\n--x--",
            "the form cannot be read",
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n' + b"y" * (80 << 10) + b"\r\n--x--\r\n",
            "the form cannot be read: it takes one file and 32 fields of up to 64 KiB",
        ),
    ],
)
async def test_body_that_is_no_form_is_refused(
    headers: dict[str, str], body: bytes, message: str, http: httpx2.AsyncClient
) -> None:
    answer = await http.post(PATH, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def form(model: bytes = b"stt", extra: bytes = b"") -> bytes:
    """By hand, its boundary x; ``extra`` are headers of the file."""
    head = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n' % model
    file = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n%b\r\n%b\r\n' % (extra, SOUND)
    return head + file + b"--x--\r\n"


@pytest.mark.parametrize("charset", ["punycode", "undefined", "\0"])
async def test_unknown_charset_is_refused(charset: str, http: httpx2.AsyncClient) -> None:
    headers = {"content-type": f'multipart/form-data; boundary=x; charset="{charset}"'}
    answer = await http.post(PATH, content=form(b"xn--\xff-a..+"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        (b"content-encoding: gzip\r\n", 415),
        (b"Content-Transfer-Encoding: base64\r\n", 415),
        (b"content-transfer-encoding: Binary\r\n", 200),
    ],
)
async def test_encoded_part_is_refused(
    extra: bytes, status: int, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await http.post(PATH, content=form(extra=extra), headers=headers)
    assert answer.status_code == status
    assert bool(service.calls) == (status == 200)


async def test_too_large_upload_is_not_read_on(
    http: httpx2.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOAD", 1000)
    answer = await asked(http, {"file": ("a.wav", tone(1))})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert not service.calls


async def test_upload_is_never_on_disk(
    http: httpx2.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # a file there cannot be made
    service.reply = as_asked
    large = tone(70)
    assert len(large) > 2 << 20, "Starlette would spool it from one megabyte on"
    assert (await asked(http, {"file": ("a.wav", large)})).status_code == 200
    assert service.calls[0].blobs["file"] == clean_sound(large)
