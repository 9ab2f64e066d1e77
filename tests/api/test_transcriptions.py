"""``/v1/audio/transcriptions``: forms, right and wrong, and every shape of the answer."""

import json
import tempfile
from typing import Any

import httpx2
import pytest

from api.driving import CANARY, HEARD, SOUND, FakeService, Served, as_asked, failing, rejected
from cohabit.api import uploads
from cohabit.core.reasons import RejectReason
from cohabit.protocol.tasks import Task
from samples import film, tone

PATH = "/v1/audio/transcriptions"
FILE = {"file": ("speech.wav", SOUND, "audio/wav")}


async def asked(http: httpx2.AsyncClient, files: Any = FILE, **fields: Any) -> httpx2.Response:
    return await http.post(PATH, data={"model": "whisper-1", **fields}, files=files)


async def test_json_is_the_text_alone(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await asked(http)
    assert answer.json() == {"text": "Hi there."}
    assert {"x-cohabit-queue-ms", "x-cohabit-load-ms", "x-cohabit-run-ms"} <= set(answer.headers)
    (call,) = service.calls
    assert (call.model, call.task, call.blobs) == ("stt", Task.TRANSCRIBE, {"file": SOUND})
    assert json.loads(call.body) == {"temperature": 0.0}


async def test_text_is_no_json(http: httpx2.AsyncClient, service: FakeService) -> None:
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
    assert answer.json() == {key: value for key, value in HEARD.items() if key not in without}
    assert json.loads(service.calls[0].body).get("timestamp_granularities", []) == granularities


async def test_fields_reach_the_engine_as_what_they_are(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    await asked(http, language="en", prompt="Bob, Alice", temperature="0.2")
    assert json.loads(service.calls[0].body) == {"language": "en", "prompt": "Bob, Alice", "temperature": 0.2}


async def test_a_failure_has_its_status(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(rejected(RejectReason.QUEUE_FULL))
    assert (await asked(http)).status_code == 429


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"model": "tts"}, "tts cannot transcribe; models that can transcribe: stt", "model"),
        ({"response_format": "srt"}, "response_format must be 'json', 'text' or 'verbose_json'", "response_format"),
        ({"temperature": CANARY}, "temperature must be a number", "temperature"),
        ({"temperature": "2"}, "temperature must be at most 1.0", "temperature"),
        ({"language": CANARY}, "language must match ^[a-z]{2,3}$", "language"),
        ({"prompt": "x" * 5000}, "prompt must have at most 4096 characters", "prompt"),
        ({CANARY: "1"}, "the body has a field that is not known here", None),
        (
            {"timestamp_granularities[]": ["word"]},
            "timestamp_granularities needs response_format verbose_json",
            "timestamp_granularities",
        ),
    ],
)
async def test_what_is_wrong(fields: dict[str, Any], message: str, param: str | None, served: Served) -> None:
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
        ({"sound": ("a.wav", SOUND)}, "file is missing: send the sound itself"),
        ([("file", ("a.wav", SOUND)), ("file", ("b.wav", SOUND))], "the form cannot be read: it takes one file"),
    ],
)
async def test_a_file_that_is_wrong(files: Any, message: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await asked(http, files)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
    assert answer.json()["error"]["param"] in {"file", None}
    assert CANARY not in answer.text
    assert not service.calls


async def test_no_file(http: httpx2.AsyncClient) -> None:
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
async def test_what_is_no_form(headers: dict[str, str], body: bytes, message: str, http: httpx2.AsyncClient) -> None:
    answer = await http.post(PATH, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def form(model: bytes = b"stt", extra: bytes = b"") -> bytes:
    """By hand, its boundary x; ``extra`` are headers of the file."""
    head = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n' % model
    file = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n%b\r\n%b\r\n' % (extra, SOUND)
    return head + file + b"--x--\r\n"


@pytest.mark.parametrize("charset", ["punycode", "undefined", "\0"])
async def test_a_charset_that_is_none(charset: str, http: httpx2.AsyncClient) -> None:
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
async def test_a_part_that_is_packed(
    extra: bytes, status: int, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await http.post(PATH, content=form(extra=extra), headers=headers)
    assert answer.status_code == status
    assert bool(service.calls) == (status == 200)


async def test_an_upload_that_is_too_large_is_not_read_on(
    http: httpx2.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_UPLOAD", 1000)
    answer = await asked(http, {"file": ("a.wav", tone(1))})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert not service.calls


async def test_an_upload_is_never_on_disk(
    http: httpx2.AsyncClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # a file there cannot be made
    service.reply = as_asked
    large = tone(70)
    assert len(large) > 2 << 20, "Starlette would spool it from one megabyte on"
    assert (await asked(http, {"file": ("a.wav", large)})).status_code == 200
    assert service.calls[0].blobs["file"] == large
