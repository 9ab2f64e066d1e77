"""Whatever a request is made of, be it no form, no address or no header: never a 500, and not a word of it told.

What JSON can hold is in test_properties.py.
"""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api.fake_service import CANARY, CHAT, FakeService, as_asked
from cohabit.api.app import create_app
from samples import tone

BLIP = tone(0.02)
ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/audio/speech", "/inference", "/batch"]
ROUTES += ["/v1/audio/transcriptions", "/v1/models", "/v1/models/llm", "/health/live", "/health/ready", "/metrics"]
ROUTES += ["/v1/responses", "/admin/status", "/openapi.json", "/", "/v1"]
ROUTES += ["/admin/models/llm/pin", "/admin/models/llm/log"]
REFUSED = {400, 404, 405, 409, 413, 415}

words = st.sampled_from(
    [b"form-data", b"name", b"filename", b"filename*", b"file", b"model", b"stt", b'"', b";", b"="]
)
pieces = words | st.sampled_from([b"\r\n", b"--x", b"--x--", b"\r", b"\n", b"\0", b"\xff", b" ", CANARY.encode()])
noise = st.lists(pieces | st.binary(max_size=4), max_size=8).map(b"".join)
names = st.sampled_from([b"file", b"model", b"language", b"prompt", b"temperature", b"", b"a[]"]) | noise
dispositions = st.builds(
    lambda name, filename: b'form-data; name="%b"' % name + (b'; filename="%b"' % filename if filename else b""),
    names,
    st.none() | st.sampled_from([b"a.wav", b"../../etc/passwd"]) | noise,
)
encodings = st.sampled_from([b"content-encoding", b"content-transfer-encoding"])
headers = st.tuples(
    st.sampled_from([b"content-disposition", b"content-type"]) | encodings | noise,
    dispositions | noise | st.sampled_from([b"gzip", b"base64", b"audio/wav", b"text/plain; charset=punycode"]),
)
parts = st.builds(
    lambda disposition, more, data: (
        b"--x\r\n"
        + b"".join(b"%b: %b\r\n" % header for header in [(b"content-disposition", disposition), *more])
        + b"\r\n%b\r\n" % data
    ),
    dispositions,
    st.lists(headers, max_size=2),
    st.sampled_from([BLIP, b"stt", b"en", CANARY.encode()]) | noise,
)
KINDS = ["multipart/form-data; boundary=x", "multipart/form-data; boundary=x; charset=undefined"]
KINDS += ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="x', "text/plain"]
KINDS += [f"multipart/form-data; boundary={CANARY}", "multipart/form-data; boundary=x; charset=" + "a" * 100]


def answered(method: str, path: str, **sent: Any) -> httpx2.Response:
    """An exception that leaves the app fails the test; so does a log that knows what was sent."""

    async def exchanged() -> httpx2.Response:
        service = FakeService()
        service.reply = as_asked
        transport = httpx2.ASGITransport(app=create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.request(method, path, **sent)

    with capture_logs() as lines:
        answer = asyncio.run(exchanged())
    assert [line["event"] for line in lines] == ["request"]
    assert CANARY not in answer.text + str(lines)
    return answer


def is_told(answer: httpx2.Response, method: str = "POST") -> None:
    """A refusal has the one shape, but where there is no body."""
    if answer.status_code in REFUSED and method != "HEAD":
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["code"]


@settings(max_examples=settings().max_examples * 2)
@given(made=st.lists(parts, max_size=4), spoilt=noise, at=st.integers(0, 400), kind=st.sampled_from(KINDS))
def test_any_form(made: list[bytes], spoilt: bytes, at: int, kind: str) -> None:
    body = b"".join(made) + b"--x--\r\n"
    body = body[:at] + spoilt + body[at:]
    answer = answered("POST", "/v1/audio/transcriptions", content=body, headers={"content-type": kind})
    assert answer.status_code in {200, *REFUSED}
    is_told(answer)


HEADERS = ["x-request-timeout", "authorization", "accept", "content-encoding", "content-type", "host", "te", "range"]
HEADERS += ["transfer-encoding", "content-length", "expect", "cookie", "origin", "x-forwarded-for"]
VALUES = ["", "1", "-1", "1e9", "9" * 400, "gzip", "identity", "application/x-ndjson", "a,b", "\x00", "é", "bytes=0-"]
texts = st.text(st.characters(codec="latin-1"), max_size=20)
asked_headers = st.dictionaries(
    st.sampled_from(HEADERS), st.sampled_from(VALUES) | texts | texts.map(CANARY.__add__), max_size=4
)
encoded = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(quote)
QUERIES = ["request_type=", "request_type=chat", f"request_type={CANARY}", f"key={CANARY}", "%00=%ff", "&&=&", "%"]
BODIES = [
    b"",
    b"{}",
    b"[]",
    json.dumps(CHAT).encode(),
    b'{"type": "chat", "data": {"prompt": "a"}}',
    b'{"prompt": "a"}',
]


@settings(max_examples=settings().max_examples * 2)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"]),
    path=st.sampled_from(ROUTES) | encoded.map("/v1/models/{}".format) | encoded.map("/{}/".format),
    query=encoded | st.sampled_from(QUERIES),
    sent=asked_headers,
    body=st.sampled_from(BODIES),
)
def test_any_address_and_headers(method: str, path: str, query: str, sent: dict[str, str], body: bytes) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
    answer = answered(method, f"http://test{path}?{query}", headers=raw, content=body)
    assert answer.status_code in {200, 307, 403, *REFUSED}  # 403 of pages that are not ours
    is_told(answer, method)
    assert answer.headers["x-request-id"]
    if answer.status_code != 307:  # which leads to where the client has asked for
        assert CANARY not in str(answer.headers)
